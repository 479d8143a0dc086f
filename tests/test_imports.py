"""What each entry point imports, and what that costs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import import_module
from pkgutil import iter_modules

import pytest

HEAVY = {"numba", "numpy", "llvmlite"}


def _run(*arguments: str, cwd=None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-X", "importtime", *arguments], capture_output=True, text=True, cwd=cwd, check=False
    )


def _modules(done: subprocess.CompletedProcess[str]) -> set[str]:
    """Top-level names of every module that -X importtime lists."""
    return {
        line.rsplit("|", 1)[1].strip().split(".")[0]
        for line in done.stderr.splitlines()
        if line.startswith("import time:")
    }


def _microseconds(code: str) -> int:
    """What the imports of `code` take together beyond the interpreter's own, the best of five."""
    best = 10**9
    for _ in range(5):
        lines = _run("-c", f"import sys; sys.modules['started'] = sys; import zipimport; {code}").stderr.splitlines()
        after = lines[next(i for i, line in enumerate(lines) if line.endswith("zipimport")) + 1 :]
        best = min(best, sum(int(re.match(r"import time:\s+(\d+)", line)[1]) for line in after))
    return best


def test_import_is_fast() -> None:
    """`import edgeq` takes less than 50 ms beyond the interpreter, and imports nothing heavy."""
    assert _microseconds("import edgeq") < 50_000
    assert not _modules(_run("-c", "import edgeq")) & (HEAVY | {"click", "rich", "cryptography"})


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["--help"], id="help"),
        pytest.param(["--version"], id="version"),
        pytest.param(["verify", "digits.eqb", "--trust", "publisher.pub"], id="verify"),
        pytest.param(["inspect", "digits.eqb"], id="inspect a bundle"),
        pytest.param(["keys", "new", "device", "fresh"], id="keys"),
        pytest.param(
            ["grant", "digits.eqb", "--key", "publisher.key", "--to", "device.pub", "-o", "fresh.eqg"], id="grant"
        ),
        pytest.param(["unpack", "digits.eqb", "-o", "fresh"], id="unpack"),
        pytest.param(["device", "init", "--identity", "device.key", "--state", "state"], id="device"),
        pytest.param(["audit", "show", "."], id="audit"),
        pytest.param(
            ["status", "issue", "--key", "publisher.key", "--expires", "9d", "-o", "status.json"], id="status"
        ),
        pytest.param(
            ["root", "init", "--owner", "publisher.pub", "--threshold", "1", "-o", "root.json"], id="root"
        ),
        pytest.param(
            ["unseal", "digits.eqb", "--grant", "device.eqg", "--identity", "device.key", "--trust", "publisher.pub", "-o", "x"],
            id="unseal",
        ),
    ],
)  # fmt: skip
def test_trust_commands_import_no_numbers(arguments, demo_folder, tmp_path) -> None:
    """Neither help nor any command that only handles trust imports NumPy or Numba."""
    for path in demo_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    found = _modules(_run("-m", "edgeq", *arguments, cwd=tmp_path))
    assert "edgeq" in found
    assert not found & HEAVY


def test_quantizing_imports_nothing_of_trust(demo_folder, tmp_path) -> None:
    """A plain model is quantized without what opens bundles, OpenSSL, or what NumPy need not have."""
    for name in ("digits.tflite", "calibration.npz"):
        (tmp_path / name).write_bytes((demo_folder / name).read_bytes())
    arguments = ["quantize", "digits.tflite", "-d", "calibration.npz", "-o", "out.tflite", "--effort", "fast"]
    done = _run("-m", "edgeq", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "edgeq.quantize.steps" in found
    assert not found & {"cryptography", "edgeq.opening", "_hashlib", "secrets", "numba", "rich"}


RUN = """
import sys
import numpy as np
before = set(sys.modules)
import edgeq
from edgeq import machine
from edgeq.kernels import isa
ready = machine.Machine(lambda frame, thread: 0, isa.ALL["avx2"], "", "built", "", 0.0, (), 0, "digest")
machine.get = lambda progress=None: ready
model = edgeq.load("digits.eqb", grant="device.eqg", identity="device.key", trust="publisher.pub")
model(np.zeros(model.inputs[0].shape, np.float32))
print(*sorted(sys.modules.keys() - before), sep="\\n", file=sys.stderr)
"""

RUN_INTEGERS = RUN.replace("np.float32", "model.inputs[0].dtype")

AGAIN = {
    "edgeq.check": "the file was checked",
    "edgeq.graph": "nobody looks at it",
    "edgeq.tflite": "it was read",
    "edgeq.plan.build": "it was planned",
    "edgeq.plan.types": "the same",
    "edgeq.quantmod": "integers are fed",
}
"""What a start with a kept plan must not import beside UNWANTED, and what was done before."""

UNWANTED = {
    "email": "importlib.metadata, for versions that nobody asks for here",
    "zipfile": "the same",
    "json": "patterns that edgeq.spelling does not need",
    "edgeq.refusals": "errors that nobody raised",
    "dataclasses": "edgeq.records are enough",
    "cryptography.hazmat.primitives.serialization": "SSH's keys and what they need",
    "cryptography.hazmat.backends.openssl.backend": "what key classes start",
    "cryptography.hazmat.primitives.ciphers": "every cipher",
    "numpy.typing": "only type checkers look at it",
    "edgeq.fallback": "another runtime",
    "edgeq.shapes": "other shapes",
    "edgeq.audit": "a device that keeps no state",
    "edgeq.root": "a device that believes a key",
    "edgeq.overlay": "a model as it was sealed",
    "edgeq.tflite.writer": "a device reads",
    "edgeq.plan.lower.lstm": "an operation that this model does not have",
}
"""What a sealed model's first answer must not import, and what that would be for."""


def test_a_first_answer_imports_little(demo_folder) -> None:
    """From NumPy to a sealed model's first answer, at most 100 modules of edgeq are imported, none in vain."""
    done = subprocess.run([sys.executable, "-c", RUN], capture_output=True, text=True, cwd=demo_folder, check=False)
    assert done.returncode == 0, done.stderr
    found = set(done.stderr.split())
    assert "edgeq.engine" in found
    assert not found & UNWANTED.keys()
    assert not {name.split(".")[0] for name in found} & {"numba", "llvmlite", "click", "rich", "flatbuffers"}
    own = {name for name in found if name.split(".")[0] == "edgeq"}  # what NumPy imports on the way differs by version
    assert len(own) <= 100, len(own)


def test_a_later_answer_imports_less(demo_folder, tmp_path) -> None:
    """Where the plan was kept, at most 51 modules of edgeq are imported, and none that reads, checks or plans."""
    environment = {**os.environ, "EDGEQ_PLANS": str(tmp_path)}
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", RUN_INTEGERS], capture_output=True, text=True, cwd=demo_folder, env=environment, check=False
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    found = set(done.stderr.split())
    assert "edgeq.resume" in found
    assert not found & (UNWANTED.keys() | AGAIN.keys())
    own = {name for name in found if name.split(".")[0] == "edgeq"}
    assert len(own) <= 51, len(own)


def test_public_names_are_there() -> None:
    """Every name that the package lists can be had from it, and no other."""
    import edgeq

    for name in edgeq.__all__:
        assert getattr(edgeq, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = edgeq.nothing


def test_families_say_what_is_in_their_modules() -> None:
    """The table by which lowerings are found names every one of them, and each in the module that has it."""
    from edgeq.plan import lower

    custom = ("known", "mediapipe")  # found by the name that a custom operation carries
    modules = {m.name: import_module(f"{lower.__name__}.{m.name}") for m in iter_modules(lower.__path__)}
    held = {name: tuple(m.LOWERINGS) for name, m in modules.items() if hasattr(m, "LOWERINGS") and name not in custom}
    assert held == dict(lower.FAMILIES)

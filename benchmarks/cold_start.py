"""From the start of Python to the first answer: edgeq from a sealed bundle, tflite-runtime from the plain file.

    python benchmarks/cold_start.py MODEL.tflite [--rounds 15] [--aot] [--json FILE]

Each start is a process of its own that reads the model, opens it (signature, grant and decryption included for edgeq), runs it
once on zeros, says so and ends. Starts take turns; the medians over rounds are printed of the time to the answer, of the time to
the end of the process, of processor time and of peak memory, with the ratios to tflite-runtime.

The ways of edgeq: a sealed bundle with kernels built ahead, at its first start on this machine, which plans and keeps the plan
sealed (edgeq/resume.py), and at later starts, which take it; both from this source tree and from a slim wheel, as on a device; a
later start with kernels that were compiled here before (a warm cache); and a plain file, whose plan nobody keeps. These programs
import NumPy and then edgeq; in "edgeq brings NumPy" the model is loaded first, which imports NumPy, with what edgeq does at a
start (edgeq/lasting.py). The object for this processor is built first if it is not there. "NumPy and cryptography" is a bound:
nothing of edgeq, only what opening a bundle asks of `cryptography` (keys, three signatures, HPKE, the payload), from its
extension module alone.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from cryptography.hazmat.primitives import hashes, hpke, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from edgeq.cli import main as edgeq
from edgeq.targets.build import build
from edgeq.targets.detect import detect
from edgeq.targets.identity import source_digest
from edgeq.targets.objects import built_folder
from edgeq.targets.table import TARGETS
from edgeq.targets.wheel import slim

ANSWERED = "\nprint(flush=True)"
"""What a program says when it has its answer."""

PEAK = "\nprint(next(x for x in open('/proc/self/status') if x.startswith('VmHWM')).split()[1])"
"""What a program ends with: its own peak. The system's figure for a child begins with what its parent had."""

RUN = "\nm(np.zeros(m.inputs[0].shape, m.inputs[0].dtype))\n"
SEALED = "import numpy as np, edgeq\nm = edgeq.load('m.eqb', grant='d.eqg', identity='d.key', trust='p.pub')" + RUN
BRINGS = SEALED.replace("import numpy as np, edgeq", "import edgeq").replace(RUN, "\nimport numpy as np" + RUN)
BOUND = """
import numpy, hashlib
from cryptography.hazmat.bindings._rust import openssl as o
def load(name, of):
    return [of(block.encode()) for block in open(name).read().split("\\n\\n")]
signing, *_ = load("p.pem", o.keys.load_pem_public_key)
agreeing, kem = load("d.pem", lambda block: o.keys.load_pem_private_key(block, None))
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
class Ecdsa(ec.ECDSA):
    __init__ = lambda self: None
    algorithm, deterministic_signing = hashes.SHA256(), False
for _ in range(3):
    signing.verify(open("signature", "rb").read(), b"message", Ecdsa())
h = o.hpke
suite = h.Suite(h.KEM.MLKEM768_X25519, h.KDF.HKDF_SHA256, h.AEAD.CHACHA20_POLY1305)
key = suite.decrypt(open("wrapped", "rb").read(), h.MLKEM768X25519PrivateKey(kem, agreeing), info=b"")
key = o.kdf.HKDF(algorithm=hashes.SHA256(), length=32, salt=b"salt", info=b"").derive(key)
sealed = open("sealed", "rb").read()
model = o.aead.ChaCha20Poly1305(key).decrypt(bytes(12), sealed, None)
hashlib.sha256(sealed).digest(), hashlib.sha256(model).digest()
"""
"""What opening a bundle asks of cryptography, with nothing around it."""

PLAIN = "import numpy as np, edgeq\nm = edgeq.load('m.tflite')" + RUN
TFLITE = """
import numpy as np
from tflite_runtime.interpreter import Interpreter
i = Interpreter("m.tflite")
i.allocate_tensors()
d = i.get_input_details()[0]
i.set_tensor(d["index"], np.zeros(d["shape"], d["dtype"]))
i.invoke()
i.get_tensor(i.get_output_details()[0]["index"])
"""


FIRST = "empty"
"""The folder for plans that is removed before each start."""

WHEEL = "site"
"""The folder with a slim wheel's content."""


@dataclass(frozen=True)
class Start:
    """One process: seconds to its answer, seconds to its end, seconds of the processor, bytes at the peak."""

    answer: float
    end: float
    busy: float
    peak: int


def start(code: str, folder: Path, **variables: str) -> Start:
    """Run a program in a process of its own."""
    if variables.get("EDGEQ_PLANS") == FIRST:
        shutil.rmtree(folder / FIRST, ignore_errors=True)
    environment = {
        n: v for n, v in os.environ.items() if n not in ("PYTHONDONTWRITEBYTECODE", "EDGEQ_MACHINE", "EDGEQ_ISA")
    }
    before = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, "-c", code + ANSWERED + PEAK], cwd=folder, env=environment | variables, stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    child.stdout.readline()
    answer = time.perf_counter() - before
    printed = child.stdout.read()
    _, status, used = os.wait4(child.pid, 0)
    end = time.perf_counter() - before
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"a start ended with {child.returncode}")
    return Start(answer, end, used.ru_utime + used.ru_stime, int(printed) * 1024)


def prepare(model: Path, folder: Path) -> None:
    """The model, a sealed bundle of it and what opens that; the object that fits this processor best."""
    (folder / "m.tflite").write_bytes(model.read_bytes())
    here = Path.cwd()
    os.chdir(folder)
    try:
        for line in (
            "keys new publisher p",
            "keys new device d",
            "seal m.tflite --key p.key --model-id bench/cold --version 1 -o m.eqb",
            "grant m.eqb --key p.key --to d.pub --allow load --expires 1d -o d.eqg",
        ):
            if edgeq(line.split()) != 0:
                raise SystemExit(f"edgeq {line} failed")
    finally:
        os.chdir(here)
    prepare_bound(model.read_bytes(), folder)
    cpu = detect()
    fitting = [t for t in TARGETS.values() if t.architecture == cpu.architecture and not cpu.lacks(t.needs)]
    if not fitting:
        raise SystemExit("no target is for this processor")
    best = min(fitting, key=lambda t: (cpu.part not in t.parts, -t.order))
    built = built_folder(source_digest())
    build([best], built, lambda *_: None)
    with zipfile.ZipFile(io.BytesIO(slim(built, best)[1])) as wheel:
        wheel.extractall(folder / WHEEL)


def prepare_bound(model: bytes, folder: Path) -> None:
    """What BOUND opens: keys of the same kinds, a signature, a wrapped key and an encrypted model."""
    pem, spki = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    pkcs8, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    signing, agreeing, kem = (
        ec.generate_private_key(ec.SECP256R1()),
        X25519PrivateKey.generate(),
        MLKEM768PrivateKey.generate(),
    )
    public, private = (signing, agreeing, kem), (agreeing, kem)
    (folder / "p.pem").write_bytes(b"\n".join(key.public_key().public_bytes(pem, spki) for key in public))
    (folder / "d.pem").write_bytes(b"\n".join(key.private_bytes(pem, pkcs8, plain) for key in private))
    (folder / "signature").write_bytes(signing.sign(b"message", ec.ECDSA(hashes.SHA256())))
    suite = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305)
    recipient = hpke.MLKEM768X25519PublicKey(kem.public_key(), agreeing.public_key())
    (folder / "wrapped").write_bytes(suite.encrypt(bytes(32), recipient, info=b""))
    key = HKDF(algorithm=hashes.SHA256(), length=32, salt=b"salt", info=b"").derive(bytes(32))
    (folder / "sealed").write_bytes(ChaCha20Poly1305(key).encrypt(bytes(12), model, None))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    parser.add_argument(
        "--aot", action="store_true", help="leave out kernels compiled here: the first start takes a minute"
    )
    given = parser.parse_args()
    ways: dict[str, tuple[str, dict[str, str]]] = {
        "edgeq, sealed, first start": (SEALED, {"EDGEQ_MACHINE": "aot", "EDGEQ_PLANS": FIRST}),
        "edgeq, sealed, later starts": (SEALED, {"EDGEQ_MACHINE": "aot", "EDGEQ_PLANS": "kept"}),
        "edgeq wheel, sealed, first": (SEALED, {"EDGEQ_MACHINE": "aot", "EDGEQ_PLANS": FIRST, "PYTHONPATH": WHEEL}),
        "edgeq wheel, sealed, later": (SEALED, {"EDGEQ_MACHINE": "aot", "EDGEQ_PLANS": "kept", "PYTHONPATH": WHEEL}),
        "edgeq brings NumPy, first": (BRINGS, {"EDGEQ_MACHINE": "aot", "EDGEQ_PLANS": FIRST}),
        "edgeq brings NumPy, later": (BRINGS, {"EDGEQ_MACHINE": "aot", "EDGEQ_PLANS": "kept"}),
        "edgeq wheel brings NumPy, later": (
            BRINGS,
            {"EDGEQ_MACHINE": "aot", "EDGEQ_PLANS": "kept", "PYTHONPATH": WHEEL},
        ),
        "edgeq, sealed, later, compiled": (SEALED, {"EDGEQ_MACHINE": "jit", "EDGEQ_PLANS": "kept"}),
        "edgeq, plain, built ahead": (PLAIN, {"EDGEQ_MACHINE": "aot"}),
        "NumPy and cryptography": (BOUND, {}),
        "import numpy": ("import numpy", {}),
    }
    if given.aot:
        ways = {way: how for way, how in ways.items() if how[1].get("EDGEQ_MACHINE") != "jit"}
    if find_spec("tflite_runtime"):
        ways["tflite-runtime, plain"] = (TFLITE, {})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(given.model, folder)
        for code, variables in ways.values():  # byte code, kernels and files into caches
            start(code, folder, **variables)
        found: dict[str, list[Start]] = {way: [] for way in ways}
        for _ in range(given.rounds):
            for way, (code, variables) in ways.items():
                found[way].append(start(code, folder, **variables))
    base = found.get("tflite-runtime, plain", found["import numpy"])
    rows = []
    for way, starts in found.items():
        pairs = list(zip(starts, base, strict=True))
        rows.append({
            "way": way,
            "answer_ms": 1000 * statistics.median(s.answer for s in starts),
            "end_ms": 1000 * statistics.median(s.end for s in starts),
            "busy_ms": 1000 * statistics.median(s.busy for s in starts),
            "peak_mb": statistics.median(s.peak for s in starts) / 1e6,
            "answer_ratio": statistics.median(s.answer / b.answer for s, b in pairs),
            "end_ratio": statistics.median(s.end / b.end for s, b in pairs),
            "busy_ratio": statistics.median(s.busy / b.busy for s, b in pairs),
            "peak_ratio": statistics.median(s.peak / b.peak for s, b in pairs),
        })  # fmt: skip
    print(f"{'':32}{'answer':>9}{'end':>9}{'CPU':>9}{'peak':>9}   ratios to {list(found)[-1]}")
    for r in rows:
        print(f"{r['way']:32}{r['answer_ms']:6.0f} ms{r['end_ms']:6.0f} ms{r['busy_ms']:6.0f} ms{r['peak_mb']:6.1f} MB   "
              f"{r['answer_ratio']:.2f} {r['end_ratio']:.2f} {r['busy_ratio']:.2f} {r['peak_ratio']:.2f}")  # fmt: skip
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())

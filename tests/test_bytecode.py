"""The file of a start's byte code (edgeq/bytecode.py): what comes from it is what Python would have found, or it is not used."""

from __future__ import annotations

import ast
import marshal
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import edgeq
from edgeq import bytecode, gathered
from tests.test_imports import RUN_INTEGERS

ASKED = """
import inspect, traceback
about = {}
for name, module in sorted(sys.modules.items()):
    if name.startswith("edgeq.") and name not in ("edgeq.gathered", "edgeq.folded"):  # there where something was missing
        functions = [f for f in vars(module).values() if inspect.isfunction(f) and f.__module__ == name]
        about[name] = (
            module.__file__, module.__cached__, module.__package__, module.__spec__.origin, module.__spec__.has_location,
            getattr(module, "__path__", None), inspect.getsource(module), module.__loader__.get_source(name),
            [(f.__code__.co_filename, f.__code__.co_firstlineno) for f in functions],
        )
print(about)
from edgeq import strict
try:
    strict.parse(b"[", 9, "it")
except Exception as error:
    print([(f.filename, f.lineno, f.line) for f in traceback.extract_tb(error.__traceback__)])
"""
COUNT = """
from edgeq import bytecode
print(sum(isinstance(m.__loader__, bytecode.Loader) for n, m in sys.modules.items() if n.startswith("edgeq.")))
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Path:
    """A copy of the package, where a model was loaded once."""
    where = tmp_path_factory.mktemp("copy")
    shutil.copytree(Path(edgeq.__file__).parent, where / "edgeq", ignore=shutil.ignore_patterns("__pycache__", "built"))
    return where


@pytest.fixture
def started(package, demo_folder):
    """Run a program that loads a model with this copy of the package; gives what it prints."""

    def run(more: str = COUNT, **variables: str) -> str:
        environment = {n: v for n, v in os.environ.items() if n != "PYTHONDONTWRITEBYTECODE"}
        environment |= {"PYTHONPATH": str(package), "EDGEQ_PLANS": "off"} | variables
        done = subprocess.run(
            [sys.executable, "-c", RUN_INTEGERS + more], cwd=demo_folder, env=environment, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def kept(package, started) -> Path:
    """The file, complete."""
    where = package / "edgeq/__pycache__" / Path(bytecode.path()).name
    if not where.exists():
        started()
    return where


def test_the_second_start_finds_its_modules_there(started, kept) -> None:
    """What the first start imported while it loaded a model, the second takes from the file, nine in ten of its modules."""
    assert int(started()) > 80


def test_calibrating_finds_its_modules_there(package, tmp_path) -> None:
    """What one `edgeq calibrate` imported, the next takes from the file, where it ends early, too."""
    line = ["calibrate", "missing.tflite", "-d", "missing.npy", "-o", "out.tflite"]
    code = f"import sys\nfrom edgeq.cli import main\nassert main({line}) == 1{COUNT}"
    environment = {n: v for n, v in os.environ.items() if n != "PYTHONDONTWRITEBYTECODE"} | {"PYTHONPATH": str(package)}
    counts = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        counts.append(int(done.stdout))
    assert counts[1] > max(counts[0], 20)


def test_modules_are_what_python_finds(started, kept) -> None:
    """Names, places, sources, line numbers and tracebacks are those of modules that Python imports itself."""
    found = started(ASKED).splitlines()
    kept.unlink()
    expected = started(ASKED).splitlines()
    assert len(ast.literal_eval(found[0])) > 80
    assert found == expected


def test_an_edited_module_is_imported_from_its_source(package, started, kept) -> None:
    """A module whose source was changed is not taken from the file, and is in it again after the next start."""
    source = package / "edgeq/limits.py"
    before = source.read_text()
    assert started("from edgeq import limits\nprint(hasattr(limits, 'NEW'))") == "False\n"
    source.write_text(before + "\nNEW = 1\n")
    told = COUNT + "from edgeq import limits\nprint(limits.NEW, type(limits.__loader__).__name__)"
    count, first = started(told).splitlines()
    again, second = started(told).splitlines()
    assert (first, second) == ("1 SourceFileLoader", "1 Loader")
    assert int(again) == int(count) + 1
    source.write_text(before)


def test_what_others_import_stays(package, started, kept, tmp_path) -> None:
    """A start that imports fewer modules than an earlier one, and finds one changed, leaves the others in the file."""
    started(EDGEQ_PLANS=str(tmp_path))
    few = int(started(EDGEQ_PLANS=str(tmp_path)))
    (package / "edgeq/limits.py").touch()
    started(EDGEQ_PLANS=str(tmp_path))
    assert int(started(EDGEQ_PLANS=str(tmp_path))) == few
    assert int(started()) > few + 30


def test_nothing_new_writes_nothing(tmp_path) -> None:
    """Modules of which Python keeps no byte code are no reason to write the file again at each start."""
    where = tmp_path / "it.start"
    gathered.write(str(where), ["edgeq.nothing", "os", "math"])
    assert not where.exists()


def _listed(content: bytes, change) -> bytes:
    """With another head of the index: its place, its Python, its entries."""
    at = bytecode.HEAD + int.from_bytes(content[len(bytecode.MAGIC) : bytecode.HEAD], "little")
    listed = marshal.dumps(change(*marshal.loads(content[bytecode.HEAD : at])))
    return bytecode.MAGIC + len(listed).to_bytes(8, "little") + listed + content[at:]


def _other_place(content: bytes) -> bytes:
    return _listed(content, lambda place, version, index: (f"{place}/other", version, index))


def _other_python(content: bytes) -> bytes:
    return _listed(content, lambda place, version, index: (place, f"other {version}", index))


def _other_entries(content: bytes) -> bytes:
    return _listed(content, lambda place, version, index: (place, version, {n: e[:3] for n, e in index.items()}))


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda content: b"", id="empty"),
        pytest.param(lambda content: content[:20], id="a piece of the head"),
        pytest.param(lambda content: content[:2000], id="a piece of the index"),
        pytest.param(lambda content: b"another " + content, id="another format"),
        pytest.param(_other_place, id="made for another place"),
        pytest.param(_other_python, id="made by another Python"),
        pytest.param(_other_entries, id="other entries"),
    ],
)
def test_what_does_not_fit_is_not_used(damage, started, kept) -> None:
    """A file that is not whole, or of another Python or place, is left alone, and written anew."""
    whole = kept.read_bytes()
    assert damage(whole) != whole
    kept.write_bytes(damage(whole))
    assert int(started()) == 0
    assert int(started()) > 80


def test_nothing_is_written_where_python_writes_nothing(package, started, kept, tmp_path) -> None:
    """With PYTHONDONTWRITEBYTECODE nothing is kept; with PYTHONPYCACHEPREFIX it lies where Python's own files lie."""
    kept.unlink()
    started(PYTHONDONTWRITEBYTECODE="1")
    assert not kept.exists()
    assert [int(started(PYTHONPYCACHEPREFIX=str(tmp_path))) for _ in range(2)][1] > 80
    assert not kept.exists()
    assert len(list(tmp_path.rglob("*.start"))) == 1


def test_the_finder_is_gone_when_the_model_is_there(started, kept) -> None:
    """Nothing is left in sys.meta_path after the first model was loaded, nor after one that was refused."""
    left = "print([type(f).__module__ for f in sys.meta_path if type(f).__module__.startswith('edgeq')])"
    assert started(left) == "[]\n"
    refused = "import sys, edgeq\ntry:\n    edgeq.load('nowhere')\nexcept edgeq.EdgeqError:\n    " + left
    done = subprocess.run([sys.executable, "-c", refused], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_its_end_disturbs_nobody(monkeypatch) -> None:
    """A thread that goes through the finders while the start ends meets all of them."""
    finder = bytecode.Finder(None, {})
    monkeypatch.setattr(bytecode, "_finder", finder)
    monkeypatch.setattr(sys, "meta_path", [finder, *sys.meta_path])
    before = sys.meta_path
    bytecode.end()
    assert finder in before
    assert sys.meta_path == before[1:]

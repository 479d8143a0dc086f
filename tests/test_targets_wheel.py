"""Objects and wheels: what they hold, and a device's commands without anything that compiles."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib import import_module
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

import edgeq
from edgeq.targets import archive as archives
from edgeq.targets import closure, fold, link, objects, strip, wheel
from edgeq.targets.identity import ABI, source_digest
from edgeq.targets.table import TARGETS
from tests.built import HERE, folder_with

pytestmark = pytest.mark.skipif(HERE is None, reason="no target is for this machine")

BLOCKER = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("numba", "llvmlite", "rich", "tflite_runtime", "ai_edge_litert"):
            raise ModuleNotFoundError(f"{name} is not on a device", name=name)
sys.meta_path.insert(0, Blocker())
"""


@pytest.fixture(scope="module")
def built() -> Path:
    """A folder with the object that runs here; `make arm` builds the others."""
    return folder_with(HERE)


@pytest.fixture(scope="module")
def slim(built: Path) -> tuple[str, bytes]:
    """Name and content of its slim wheel."""
    return wheel.slim(built, TARGETS[HERE])


def test_an_object_is_what_its_manifest_says(built: Path) -> None:
    """One ELF file of the target's machine that wants nothing but memory moves and names no library."""
    manifest = objects.Manifest.from_json((built / f"{HERE}.json").read_bytes())
    content = (built / f"{HERE}.so").read_bytes()
    assert (manifest.abi, manifest.kernels, manifest.size) == (ABI, source_digest(), len(content))
    assert manifest.sha256 == hashlib.sha256(content).hexdigest()
    assert content[:4] == b"\x7fELF"
    assert int.from_bytes(content[18:20], "little") == {"x86_64": 62, "aarch64": 183}[TARGETS[HERE].architecture]
    assert link.undefined(content) <= {"memcpy", "memset", "memmove"}
    assert b".so" not in content.partition(b"edgeq_run")[2][:200]


@pytest.fixture(scope="module")
def device(
    slim: tuple[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs Python in a folder where the slim wheel is installed and nothing that compiles can be imported."""
    folder = tmp_path_factory.mktemp("device")
    name, content = slim
    (folder / name).write_bytes(content)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        str(folder / "site"),
    ]
    subprocess.run([*pip, str(folder / name)], check=True, capture_output=True)
    (folder / "site/sitecustomize.py").write_text(BLOCKER)

    def run(*arguments: str, cwd: Path = folder, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {n: v for n, v in os.environ.items() if not n.startswith("EDGEQ_")}
        environment |= {"PYTHONPATH": str(folder / "site"), "EDGEQ_CACHE": str(folder / "cache"), **variables}
        return subprocess.run(
            [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False
        )

    return run


def test_a_slim_wheel_is_small_and_asks_for_no_compiler(slim: tuple[str, bytes]) -> None:
    """At most 500 KB, the right platform, one object, no kernels' sources, no Numba among the requirements.

    What is not the object is the same for all targets but for some hundred bytes, and at most 325 KB (335 without zopfli): that
    leaves each of them more than the largest object takes. `make arm` weighs all ten wheels.
    """
    name, content = slim
    assert len(content) <= 500_000
    with zipfile.ZipFile(BytesIO(content)) as archive:
        (packed,) = (entry.compress_size for entry in archive.infolist() if entry.filename.endswith(".so"))
    assert len(content) - packed <= 335_000
    assert name == f"edgeq-{edgeq.__version__}-1{HERE.replace('-', '_')}-py3-none-{TARGETS[HERE].platform}.whl"
    with zipfile.ZipFile(BytesIO(content)) as archive:
        names = archive.namelist()
        (about,) = {n.split("/")[0] for n in names if ".dist-info/" in n}
        required = [x for x in archive.read(f"{about}/METADATA").decode().split("\n") if x.startswith("Requires-Dist")]
    assert [n for n in names if n.endswith(".so")] == [f"edgeq/targets/built/{HERE}.so"]
    assert not {"edgeq/kernels/simd.py", "edgeq/kernels/conv.py", "edgeq/targets/emit.py"} & set(names)
    assert sorted(r.split()[1].split(">")[0].split("<")[0] for r in required) == sorted(wheel.DEVICE_NEEDS)


def test_nothing_that_wants_a_compiler_is_on_a_device() -> None:
    """No module of a slim wheel imports Numba or llvmlite when it is imported itself."""
    found = []
    for name, content in wheel.device_files(TARGETS[HERE]).items():
        for node in ast.parse(content).body if name.endswith(".py") else ():
            wanted = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            wanted += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found += [name for module in wanted if module.split(".")[0] in ("numba", "llvmlite")]
    assert not found


def test_the_same_inputs_give_the_same_wheel(built: Path, slim: tuple[str, bytes]) -> None:
    """Byte for byte."""
    assert wheel.slim(built, TARGETS[HERE]) == slim


def test_the_plain_wheel_carries_the_objects_and_everything_else(built: Path) -> None:
    """All modules with their words, the demo, and each target's object; for any platform."""
    name, content = wheel.plain(built, [TARGETS[HERE]])
    assert name == f"edgeq-{edgeq.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(BytesIO(content)) as archive:
        names = set(archive.namelist())
        assert archive.read("edgeq/kernels/simd.py") == Path(wheel.PACKAGE, "kernels/simd.py").read_bytes()
    assert {f"edgeq/targets/built/{HERE}{end}" for end in (".so", ".json")} <= names
    assert "edgeq/demo/digits.tflite" in names


def test_all_objects_together_stay_well_under_two_megabytes(built: Path) -> None:
    """Ten objects as large as this processor's add less than 1.5 MB to the plain wheel."""
    without, with_one = (len(wheel.plain(built, targets)[1]) for targets in ([], [TARGETS[HERE]]))
    assert len(TARGETS) * (with_one - without) < 1_500_000


@pytest.mark.parametrize("zopfli", [True, False], ids=["zopfli where it is", "without zopfli"])
def test_archives_hold_what_was_put_in(zopfli: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The standard library reads every entry back, sorted, dated 1980, and only shared objects may be executed."""
    if zopfli:
        pytest.importorskip("zopfli")
    else:
        monkeypatch.setattr(archives, "find_spec", lambda name: None)
    files = {"b/ä.py": b"x = 1\n" * 500, "a.so": np.random.default_rng(0).bytes(3000), "empty": b"", "c.txt": b"c"}
    content = archives.archive(files)
    assert content == archives.archive(dict(reversed(files.items())))
    with zipfile.ZipFile(BytesIO(content)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == sorted(files)
        assert {n: archive.read(n) for n in files} == files
        assert {i.date_time for i in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert [i.filename for i in archive.infolist() if i.external_attr >> 16 & 0o111] == ["a.so"]


COMMANDS = [
    "device init --state state",
    "inspect digits.eqb --plan",
    "inspect digits.eqb",
    "run digits.eqb -i held_out.npz -o out.npz",
    "bench digits.eqb",
    "keys new device cellar",
    "device show --state state",
    "verify digits.eqb --trust publisher.pub",
    "eval digits.eqb -d held_out.npz",
    "audit verify --state state",
    "targets detect",
    "doctor",
]
PLAIN_COMMANDS = [
    "calibrate digits_int8.tflite -d calibration.npz -o tuned.tflite",
    "eval tuned.tflite -d held_out.npz",
]


def test_the_commands_of_a_device_work_without_a_compiler(device, demo_folder: Path, tmp_path: Path) -> None:
    """Each command that belongs on a device succeeds in an installation that can import neither Numba nor llvmlite."""
    for path in demo_folder.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
            (tmp_path / path.name).chmod(0o600)
    access = {
        "EDGEQ_GRANT": "device.eqg", "EDGEQ_IDENTITY": "device.key", "EDGEQ_TRUST": "publisher.pub", "EDGEQ_STATE": "state",
    }  # fmt: skip
    printed = {}
    for command in COMMANDS:
        done = device("-m", "edgeq", *command.split(), cwd=tmp_path, **access)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        printed[command] = done.stdout
    for command in PLAIN_COMMANDS:
        done = device("-m", "edgeq", *command.split(), cwd=tmp_path)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
    assert f"built ahead for {HERE}" in printed["doctor"]
    assert "numba" not in printed["doctor"]
    given, samples = np.load(tmp_path / "out.npz"), np.load(tmp_path / "held_out.npz")
    with edgeq.load(tmp_path / "digits_int8.tflite") as model:
        np.testing.assert_array_equal(given[given.files[0]], model(samples["x"]))


def test_what_is_not_on_a_device_is_named(device) -> None:
    """A command that was left out says so in one line, and is not listed."""
    done = device("-m", "edgeq", "demo")
    assert done.returncode == 1
    assert "'demo' is not part of this installation" in done.stderr
    assert " demo " not in device("-m", "edgeq", "--help").stdout


def test_the_api_imports_nothing_that_compiles(device, demo_folder: Path) -> None:
    """Loading and running a model imports neither a compiler nor the command line's packages."""
    code = (
        "import sys, json, numpy as np, edgeq\n"
        f"m = edgeq.load({str(demo_folder / 'digits_int8.tflite')!r})\n"
        "x = np.zeros(m.inputs[0].shape, m.inputs[0].dtype); m(x)\n"
        f"i = edgeq.Interpreter({str(demo_folder / 'digits_int8.tflite')!r}); i.allocate_tensors(); i.invoke()\n"
        "found = {n.split('.')[0] for n in sys.modules} & {'numba', 'llvmlite', 'click', 'rich', 'flatbuffers'}\n"
        "print(json.dumps(sorted(found)))"
    )
    done = device("-c", code)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


EVERYTHING = """
import inspect, json, sys
from importlib import import_module
found = {}
for name in sys.argv[1:]:
    module = import_module(name)
    own = [v for v in vars(module).values() if getattr(v, "__module__", "") == name and hasattr(v, "__qualname__")]
    own = [v for v in own if (inspect.isfunction(v) or inspect.isclass(v)) and "<" not in v.__qualname__]
    assert module.__name__ == name and module.__spec__.name == name
    assert module.__loader__.get_code(name).co_name in ("<module>", name.rpartition(".")[2])
    first = [inspect.getsource(v).lstrip() for v in own if inspect.isfunction(v) and not hasattr(v, "__wrapped__")]
    assert all(text.startswith(("def ", "@", "async ")) for text in first), name
    found[name] = [module.__file__.rpartition("/")[2], sorted(v.__qualname__ for v in own)]
print(json.dumps(found))
"""


def test_modules_are_themselves_wherever_they_lie(device) -> None:
    """Each module of a device can be imported, knows its name and source, and what it defines has the names it has here."""
    files = wheel.device_files(TARGETS[HERE])
    names = [n.removesuffix(".py").replace("/", ".") for n in files if n.endswith(".py") and not n.endswith("__.py")]
    names = [n for n in names if not n.startswith("edgeq.kernels.words.")]
    done = device("-c", EVERYTHING, *names)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert sum(file in fold.FILES for file, _ in found.values()) > 150
    for name, (file, defined) in found.items():
        assert file in (*fold.FILES, f"{name.rpartition('.')[2]}.py")
        here = vars(import_module(name))
        assert [n for n in defined if n not in here] == [], name


AT_ONCE = """
import sys, threading
sys.setswitchinterval(1e-5)
failed, together = [], threading.Barrier(4)

def first(name):
    together.wait()
    try:
        __import__(name)
    except ImportError as error:
        failed.append(repr(error))

threads = [threading.Thread(target=first, args=(name,)) for name in ("edgeq.interpreter", "edgeq.drift") * 2]
for t in threads:
    t.start()
for t in threads:
    t.join()
sys.exit(failed[0] if failed else 0)
"""


def test_threads_may_begin_at_once(device) -> None:
    """Packages of a device can be the first thing that several threads import."""
    for _ in range(5):
        done = device("-B", "-c", AT_ONCE)
        assert done.returncode == 0, done.stderr


def test_an_error_on_a_device_shows_its_lines(device) -> None:
    """A traceback names functions and shows the text of their lines, which are as far into their module as they are here."""
    done = device("-c", "from edgeq import strict\nstrict.parse(b'[', 9, 'it')")
    frames = [line for line in done.stderr.splitlines() if line.startswith("  File") and "edgeq/" in line]
    assert frames
    assert all(", in parse" in frame or ", in _" in frame for frame in frames)
    site = Path(device("-c", "import edgeq; print(edgeq.__file__)").stdout).parents[1]
    for frame in frames:
        file, number = frame.split('"')[1], int(frame.split(", line ")[1].split(",")[0])
        lines = (site / file).read_text().splitlines()
        begun = lines.index("class strict:") + 1
        there, here = lines[number - 1], Path(wheel.PACKAGE, "strict.py").read_text().splitlines()[number - begun - 1]
        assert f"\n    {there.strip()}\n" in done.stderr
        assert there.split("(")[0].strip() in here


def test_a_devices_starts_find_their_byte_code(device, demo_folder: Path) -> None:
    """What a first start took from files of several modules, the second finds by itself, and it is the same."""
    code = (
        "import sys, numpy as np, edgeq\n"
        f"m = edgeq.load({str(demo_folder / 'digits_int8.tflite')!r})\n"
        "found = {n: v for n, v in sys.modules.items() if n.startswith('edgeq.') and v.__spec__ and n != 'edgeq.gathered'}\n"
        "print(sum(type(v.__loader__).__module__ == 'edgeq.bytecode' for v in found.values()))\n"
        "print({n: (v.__file__, v.__cached__, v.__package__, v.__loader__.get_source(n)) for n, v in found.items()})\n"
        "print([n for n, v in found.items() if v.__loader__.get_code(n) is None or v.__loader__.get_code(n) is None])"
    )
    site = Path(device("-c", "import edgeq; print(edgeq.__file__)").stdout).parents[1]
    for kept in site.glob("**/*.start"):  # by starts of tests before, where Python may keep byte code
        kept.unlink()
    first, again = (device("-c", code, PYTHONDONTWRITEBYTECODE="").stdout.splitlines() for _ in range(2))
    assert (int(first[0]), first[2], again[2]) == (0, "[]", "[]")
    assert int(again[0]) > 40
    assert again[1] == first[1]


FOLDED = {
    "two of a folder": (
        {"edgeq/b.py": "\nX=1\ndef f():\n return X\n", "edgeq/a.py": "\n\nclass A:0\n"},
        {"edgeq/modules.py": "class a:\n global A\n\n class A:0\nclass b:\n global f\n X=1\n def f():\n  return X\n"},
    ),
    "what starts and what does not": (
        {f"edgeq/{n}.py": f"\n{n}=1\n" for n in ("check", "direct", "x", "y")},
        {
            "edgeq/starting.py": "class check:\n pass\n check=1\nclass direct:\n pass\n direct=1\n",
            "edgeq/modules.py": "class x:\n pass\n x=1\nclass y:\n pass\n y=1\n",
        },
    ),
    "one alone, packages and others": (
        {"edgeq/p/a.py": "\nx=1\n", "edgeq/p/__init__.py": "\n", "edgeq/p/b.json": "{}", "edgeq/cli/a.py": "\n"},
        {"edgeq/p/a.py": "\nx=1\n", "edgeq/p/__init__.py": "\n", "edgeq/p/b.json": "{}", "edgeq/cli/a.py": "\n"},
    ),
    "a package that imports": (
        {"edgeq/p/__init__.py": "\nimport x\n"},
        {"edgeq/p/__init__.py": "import edgeq\nimport x\n"},
    ),
    "text on several lines": (
        {"edgeq/a.py": '\nx="""\n a\nb"""\nif x:\n def f():0\n', "edgeq/b.py": "\n"},
        {"edgeq/modules.py": 'class a:\n global f\n x="""\n a\nb"""\n if x:\n  def f():0\nclass b:\n pass\n'},
    ),
    "types that are not looked at": (
        {"edgeq/a.py": "\nfrom __future__ import annotations\nx=1\n", "edgeq/b.py": "\n"},
        {"edgeq/modules.py": "from __future__ import annotations\nclass a:\n pass\n\n x=1\nclass b:\n pass\n"},
    ),
    "what a class would change, or that asks where it lies": (
        {"edgeq/a.py": "\nx.__y\n", "edgeq/b.py": "\n__file__\n", "edgeq/c.py": "x=1\n", "edgeq/d.py": "\n"},
        {"edgeq/a.py": "\nx.__y\n", "edgeq/b.py": "\n__file__\n", "edgeq/c.py": "x=1\n", "edgeq/d.py": "\n"},
    ),
}


@pytest.mark.parametrize("case", FOLDED)
def test_a_folders_modules_are_one_file(case: str) -> None:
    """Each the body of a class, line for line; what cannot be one stays, and the package's first line finds them."""
    files, expected = FOLDED[case]
    made = fold.folded({n: t.encode() for n, t in files.items()} | {"edgeq/__init__.py": b"\nX=1\n"})
    assert made.pop("edgeq/__init__.py") == b"from edgeq import folded;folded.begin()\nX=1\n"
    assert {n: t.decode() for n, t in made.items()} == expected
    for text in made.values():
        compile(text, "modules", "exec")


def test_a_package_without_a_free_line_is_refused() -> None:
    """Nothing is overwritten."""
    with pytest.raises(ValueError, match="its first line is 'X=1', expected an empty one"):
        fold.folded({"edgeq/__init__.py": b"X=1\n"})


def test_help_stays() -> None:
    """Of a module of commands the docstrings of these stay: they are their help; others go."""
    source = '"""Words."""\n\n@command\ndef f():\n    """Help."""\n\ndef _g():\n    """More."""\n    return 1\n'
    assert strip.strip(source, docstrings=False) == '\n\n@command\ndef f():\n """Help."""\n\ndef _g():\n\n return 1\n'


STRIPPED = {
    "a module's docstring": ('"""Words.\n\nMore."""\nx = 1\n', "\n\n\nx=1\n"),
    "a body of nothing else": ('class A(B):\n    """Words."""\n', "class A(B):\n pass\n"),
    "a function's": ('def f():\n    """Words."""\n    return "#"  # why\n', 'def f():\n\n return "#"\n'),
    "a comment on its own line": ("# why\nx = 1\n", "\nx=1\n"),
    "what only looks like one": ('x = """\n# text\n"""\n', 'x="""\n# text\n"""\n'),
    "types of a module's variables": (
        "from __future__ import annotations\nx: Final = 1\ny: dict[str, int] = {}\n",
        "\nx=1\ny={}\n",
    ),
    "annotations that stay": (
        "from __future__ import annotations\nclass A:\n    n: ClassVar[int] = 1\n    m: int = 2\n",
        "from __future__ import annotations\nclass A:\n n:ClassVar[int]=1\n m:0=2\n",
    ),
    "fields alone": (
        "from __future__ import annotations\nclass A:\n    m: int = 2\n",
        "\nclass A:\n m:0=2\n",
    ),
    "types of arguments and results": (
        "def f(a: int, *b: str, c: A | None = None, **d: Any) -> list[int]:\n    x: int = 1\n    return x\n",
        "def f(a,*b,c=None,**d):\n x=1\n return x\n",
    ),
    "types on lines of their own": (
        "def f(a: dict[\n    str, int]) -> int:\n    pass\n",
        "def f(a:dict[\nstr,int]):\n pass\n",
    ),
    "a field's type": (
        "class A:\n    x: int = 1\n    y: ClassVar[int] = 2\n",
        "class A:\n x:0=1\n y:ClassVar[int]=2\n",
    ),
    "a named tuple's types, which Python 3.10 wants to be types": (
        "class A(NamedTuple):\n    x: int\n    y: list[int] = []\n",
        "class A(NamedTuple):\n x:None\n y:None=[]\n",
    ),
    "what is for type checkers": ("if TYPE_CHECKING:\n    import a\n\nx = 1\n", "\n\n\nx=1\n"),
    "names that only types used": (
        "from a import (\n    Iterator,\n    Mapping,\n)\nfrom b import Any\ndef f(x: Iterator[Any]):\n    g(Mapping)\n",
        "from a import Mapping\n\n\n\n\ndef f(x):\n g(Mapping)\n",
    ),
    "indented text": ('def f():\n    return """\n    a\n  b"""\n', 'def f():\n return """\n    a\n  b"""\n'),
    "a line that goes on": ("f(a,\n  b,\n    c)\n", "f(a,\nb,\nc)\n"),
    "two statements on a line": ('"a"; x = 1\n', '"a";x=1\n'),
    "words stay apart": ("x = a if not b else - 1 .real\n", "x=a if not b else-1 .real\n"),
    "strings beside each other": ('x = "a"  "b"\n', 'x="a" "b"\n'),
    "text with values in it": (
        'x = f"{a + b} =  {c!r:>{ d }}" + f"{e = }"\n',
        'x=f"{a + b} =  {c!r:>{ d }}"+f"{e = }"\n',
    ),
    "a line joined to the next": ("x = 1 + \\\n  2  # why\n", "x=1+\\\n  2\n"),
}


@pytest.mark.parametrize("case", STRIPPED)
def test_stripping_keeps_lines_and_program(case: str) -> None:
    """Docstrings, comments, spaces and the types of functions go, line numbers and everything else stay."""
    before, after = STRIPPED[case]
    assert strip.strip(before) == after
    ast.parse(after)


def test_imports_are_followed_wherever_they_stand() -> None:
    """At once, inside functions, relative, of modules and of names; not those for type checkers, nor past a cut."""
    sources = {
        "p/__init__.py": b"",
        "p/a.py": b"from p import b\ndef f():\n    from .q.c import x\nif TYPE_CHECKING:\n    import p.d\n",
        "p/b.py": b"import p.e as e\n",
        "p/q/__init__.py": b"",
        "p/q/c.py": b"",
        "p/d.py": b"",
        "p/e.py": b"",
    }
    assert closure.closure(sources, ["p/a.py"], ["p/e.py"]) == {
        "p/__init__.py",
        "p/a.py",
        "p/b.py",
        "p/q/__init__.py",
        "p/q/c.py",
    }


def test_names_that_others_ask_for_stay() -> None:
    """What a module only imports stays where another imports it from there, or reaches it as an attribute."""
    sources = {
        "p/a.py": "from p.c import x, y, z\n",
        "p/b.py": "from p.a import x\nimport p.a\np.a.y\n",
        "p/c.py": "x = y = z = 1\n",
    }
    asked = strip.asked_for(sources)
    assert strip.strip(sources["p/a.py"], wanted=asked["p/a.py"]) == "from p.c import x,y\n"

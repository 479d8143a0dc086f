"""What makes a device's wheel smaller and loses nothing: short names of functions' own variables, constants in one file."""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path

import pytest

from edgeq.targets import wheel
from edgeq.targets.constants import in_one
from edgeq.targets.rename import renamed
from edgeq.targets.unreached import unreached, without

CASES = {
    "a variable": ("def f(value):\n total=value+1\n return total\n", {"total"}),
    "arguments stay": ("def f(value,*more,other=2,**rest):\n value+=other\n return value\n", set()),
    "a name that is taken": ("a=5\ndef f(x):\n total=a+x\n return total\n", {"total"}),
    "a loop and what is unpacked": (
        "def f(x):\n found=[]\n for first,second in [(1,2),(x,4)]:\n  found.append(first*second)\n return found\n",
        {"found", "first", "second"},
    ),
    "a function within": (
        "def f(x):\n factor=x*2\n def inner(y):\n  product=factor*y\n  return product\n return inner(3)\n",
        {"factor", "product"},
    ),
    "comprehensions": (
        "def f(x):\n return sum(value*other for value in range(x) for other in [value+1 for value in range(2)])\n",
        {"value", "other"},
    ),
    "local there, global here": (
        "value=7\ndef f(x):\n return [value for value in range(x)],(lambda: value)()\n",
        set(),
    ),
    "in an f-string": ("def f(x):\n total=x\n return f'{total}'\n", set()),
    "nonlocal": ("def f(x):\n total=x\n def more():\n  nonlocal total\n  total+=1\n more()\n return total\n", set()),
    "a caught error": (
        "def f(x):\n try:\n  found=1//x\n except ZeroDivisionError as error:\n  found=str(error)\n return found\n",
        {"found"},
    ),
    "global": ("total=1\ndef f(x):\n global total\n total=x\n return total\n", set()),
    "asked for by name": ("def f(x):\n total=x\n return sorted(locals())\n", set()),
    "a class within": ("def f(x):\n total=x\n class A:\n  value=total\n return A.value\n", set()),
    "an attribute of that name": (
        "class P:\n total=3\ndef f(x):\n total=P()\n total.total+=x\n return total.total\n",
        set(),
    ),
    "an argument of that name": (
        "def g(total): return total\ndef f(x):\n amount=x\n return g(total=amount)\n",
        {"amount"},
    ),
    "imported": ("def f(x):\n import os.path\n from math import floor as lower\n return lower(x),os.sep\n", set()),
    "a method": (
        "class A:\n def f(self,x):\n  total=self\n  return total is self\ndef f(x): return A().f(x)\n",
        {"total"},
    ),
    "assigned on the way": ("def f(x):\n return [half for v in range(x) if (half:=v//2)]\n", {"half"}),
    "letters of two bytes": ("def f(x):\n größe='ü'*x;länge=len(größe)\n return länge,größe\n", {"größe", "länge"}),
}


@pytest.mark.parametrize("case", CASES)
def test_the_same_program_with_shorter_names(case: str) -> None:
    """Each function gives what it gave, on the same lines; the names that are its own are gone, all others are there."""
    source, gone = CASES[case]
    made = renamed(source)
    assert made.count("\n") == source.count("\n")
    names = [{n.id for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Name)} for text in (source, made)]
    assert gone <= names[0] - names[1]
    assert names[0] - gone <= names[1]
    for x in (0, 3):
        results = []
        for text in (source, made):
            space: dict[str, object] = {}
            exec(compile(text, "test", "exec"), space)
            results.append(space["f"](x))  # type: ignore[operator]
        assert results[0] == results[1]


def test_every_module_of_the_package_is_renamed_and_compiles() -> None:
    """Calls, arguments, attributes and lines of the package's own modules stay what they are."""

    def skeleton(text: str) -> list[object]:
        found: list[object] = []
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                found.append((node.lineno, node.name, [a.arg for a in (*node.args.args, *node.args.kwonlyargs)]))
            elif isinstance(node, ast.Attribute):
                found.append((node.lineno, node.attr))
            elif isinstance(node, ast.keyword):
                found.append(node.arg)
        return found

    shorter = 0
    for name, content in wheel.package_files().items():
        if name.endswith(".py") and "/kernels/" not in name:
            source = content.decode()
            made = renamed(source)
            assert skeleton(made) == skeleton(source)
            shorter += len(source) - len(made)
    assert shorter > 30_000


def test_constants_of_a_package_come_from_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules of constants alone are there under their names, with every value, though there is one file; others are refused."""
    folder = tmp_path / "boxed_words"
    sources = {
        "boxed_words/__init__.py": b'"""Words."""\n\nALL = (1, 2)\n',
        "boxed_words/first.py": b'"""One."""\nA, B = 1, (2, 3)\n"""What they are."""\nC: dict[int, str] = {1: "x, y: z"}\n',
        "boxed_words/second.py": b"LEFT = -(1 << 40)\nFLAG = True\n",
        "other.py": b"import sys\n",
    }
    made = in_one(sources, "boxed_words/")
    assert sorted(made) == ["boxed_words/__init__.py", "other.py"]
    folder.mkdir()
    (folder / "__init__.py").write_bytes(made["boxed_words/__init__.py"])
    monkeypatch.syspath_prepend(tmp_path)
    try:
        first = importlib.import_module("boxed_words.first")
        from boxed_words import ALL, second  # type: ignore[import-not-found]

        assert (first.A, first.B, first.C) == (1, (2, 3), {1: "x, y: z"})
        assert (second.LEFT, second.FLAG, ALL) == (-(1 << 40), True, (1, 2))
    finally:
        for name in [n for n in sys.modules if n.startswith("boxed_words")]:
            del sys.modules[name]
    with pytest.raises(ValueError, match="something else than constants"):
        in_one({**sources, "boxed_words/third.py": b"import os\n"}, "boxed_words/")


def test_the_words_of_the_wheel_are_those_of_the_package() -> None:
    """Every constant of the kernels' words is in a device's wheel."""
    files = wheel.package_files()
    made = in_one(files, "edgeq/kernels/words/")
    space: dict[str, object] = {"__name__": "words_of_the_wheel"}
    try:
        exec(compile(made["edgeq/kernels/words/__init__.py"], "words", "exec"), space)
        names = [n for n in files if n.startswith("edgeq/kernels/words/") and not n.endswith("__init__.py")]
        assert len(names) > 15
        for name in names:
            own = importlib.import_module(name.removesuffix(".py").replace("/", "."))
            found = vars(space[name.rpartition("/")[2].removesuffix(".py")])  # type: ignore[arg-type]
            assert {k: v for k, v in vars(own).items() if not k.startswith("__")} == {
                k: v for k, v in found.items() if not k.startswith("__")
            }
    finally:
        for name in [n for n in sys.modules if n.startswith("words_of_the_wheel")]:
            del sys.modules[name]


def test_functions_that_nothing_names_are_left_out() -> None:
    """What is named once goes; what another module, a string, a caller outside or a decorator names stays, and lines do."""
    sources = {
        "p/a.py": "def used(): return 1\n\n\ndef alone():\n    return deeper()\n\n\ndef deeper(): return 2\n",
        "p/b.py": "from p.a import used\nTABLE = 'by_name'\ndef by_name(): return used()\ndef sent(): pass\n",
        "p/c.py": "import click\n@click.command()\ndef command(): pass\ndef __getattr__(name): pass\n",
        "p/api.py": "def public(): pass\n",
    }
    found = unreached(sources, ["import p\np.b.sent()\n"], ["p/api.py"])
    assert found == {"p/a.py": {"alone"}}
    less = {**sources, "p/a.py": without(sources["p/a.py"], found["p/a.py"])}
    assert less["p/a.py"].count("\n") == sources["p/a.py"].count("\n")
    assert unreached(less, ["p.b.sent()\n"], ["p/api.py"]) == {"p/a.py": {"deeper"}}

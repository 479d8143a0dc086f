"""The modules of a folder as one file, or two, each as the body of a class: a wheel pays some 190 bytes for each file, and what
two modules have in common is written once. edgeq/folded.py, which says why that is the same program, imports them from there.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Collection, Iterator, Mapping

from edgeq.folded import FILES
from edgeq.targets.closure import closure

_STARTS = (
    "check", "direct", "lasting", "loader", "machine", "opening", "plan/build", "plan/delegation", "plan/lower/conv",
    "plan/lower/depthwise", "plan/lower/matmul", "plan/lower/pool", "plan/lower/slices", "plan/lower/softmax", "quantmod",
    "resume", "shelf",
)  # fmt: skip
"""What a first start imports of itself: a sealed model of convolutions and dense layers."""

_FUTURE = "from __future__ import annotations"
_FIRST = "edgeq/__init__.py"
_ITSELF = (
    "edgeq/bytecode.py", "edgeq/cli/", "edgeq/errors.py", "edgeq/folded.py", "edgeq/lasting.py", "edgeq/refusals.py",
)  # fmt: skip
"""What each start or error reads, and what of a folder only one is wanted of."""

_ASKING = frozenset({"__file__", "__spec__", "__path__"})
"""Names of a module that says what lies beside its file."""


def folded(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """`files` with the modules of each folder in one, or in two where a start imports some of them, and with a first line of the
    package to find them there.

    A module stays a file of its own where it asks for that, where a class would change it (names such as `__private`), where its
    first line is not free for the names of its functions and classes, and where it is the only one. So do packages, commands, and
    what is read at each start. A package within waits, in its first line, for the one above: a thread that imports it while
    another one has just begun with that would not find what lies in these files. Raises ValueError where the package's first line
    is not free.
    """
    taken: dict[str, list[str]] = {}
    starting = closure(files, [f"edgeq/{name}.py" for name in _STARTS], at_once=True)
    for name in sorted(files):
        folder, _, file = name.rpartition("/")
        if not file.endswith(".py") or file.startswith("__") or name.startswith(_ITSELF):
            continue
        if _can(file.removesuffix(".py"), files[name].decode()):
            taken.setdefault(f"{folder}/{FILES[name not in starting]}", []).append(name)
    rest = dict(files)
    for into, names in taken.items():
        if len(names) > 1:
            rest[into] = _one([(n, rest.pop(n).decode()) for n in names])
    first, _, others = rest[_FIRST].decode().partition("\n")
    if first:
        raise ValueError(f"{_FIRST}: its first line is {first!r}, expected an empty one")
    for name in rest:
        if name.endswith("/__init__.py") and rest[name].startswith(b"\n") and rest[name].strip():
            rest[name] = b"import edgeq" + rest[name]
    return rest | {_FIRST: f"from edgeq import folded;folded.begin()\n{others}".encode()}


def _can(name: str, source: str) -> bool:
    """Whether a module may be the body of a class of this name."""
    tree = ast.parse(source)
    names = {getattr(node, at) for node in ast.walk(tree) for at in ("id", "attr", "arg", "name") if hasattr(node, at)}
    private = any(isinstance(n, str) and n.startswith("__") and not n.endswith("__") for n in names)
    return not private and not names & _ASKING and not source.partition("\n")[0] and name.isidentifier()


def _one(modules: Collection[tuple[str, str]]) -> bytes:
    """The text of the file, for modules by path."""
    classes = []
    for path, source in modules:
        lines = source.split("\n")
        within = set(_within_strings(source))
        lines = [line if not line or k in within else f" {line}" for k, line in enumerate(lines, 1)]
        lines = ["" if line == f" {_FUTURE}" else line for line in lines]
        named = sorted(_defined(ast.parse(source)))
        lines[0] = f" global {','.join(named)}" if named else " pass"
        classes.append(f"class {path.rpartition('/')[2].removesuffix('.py')}:\n" + "\n".join(lines).rstrip("\n"))
    future = [_FUTURE] if any(_FUTURE in source for _, source in modules) else []
    return "\n".join([*future, *classes, ""]).encode()


def _defined(tree: ast.AST) -> Iterator[str]:
    """Functions and classes of a module: where they are declared global, their qualified names do not begin with the class's."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.stmt | ast.ExceptHandler):
            yield from _defined(node)


def _within_strings(source: str) -> Iterator[int]:
    """Numbers of the lines that begin within a string."""
    begun: list[int] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        kind = tokenize.tok_name[token.type]
        if kind == "STRING":
            yield from range(token.start[0] + 1, token.end[0] + 1)
        elif kind in ("FSTRING_START", "TSTRING_START"):
            begun.append(token.start[0])
        elif kind in ("FSTRING_END", "TSTRING_END"):
            yield from range(begun.pop() + 1, token.end[0] + 1)

"""Functions of a device's wheel that nothing in it names: what is for where models are made and sealed."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import Counter
from collections.abc import Collection, Iterable, Mapping

_WORD = re.compile(r"\w+")


def unreached(stripped: Mapping[str, str], others: Iterable[str], kept: Collection[str]) -> dict[str, frozenset[str]]:
    """Path of a module → functions in it that are named once, where they are defined.

    stripped: text by path, without comments and docstrings; others: texts that call into these; kept: modules whose functions are
    for who uses the package, as are those that are decorated.
    """
    named: Counter[str] = Counter()
    for text in (*stripped.values(), *others):
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.NAME:
                named[token.string] += 1
            elif token.type not in (tokenize.COMMENT, tokenize.OP, tokenize.NUMBER):
                named.update(_WORD.findall(token.string))
    found = {}
    for path, text in stripped.items():
        functions = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)]
        names = {f.name for f in functions if not f.decorator_list and not f.name.startswith("__")}
        if path not in kept and (once := {name for name in names if named[name] == 1}):
            found[path] = frozenset(once)
    return found


def without(source: str, names: Collection[str]) -> str:
    """The module without these functions: their lines are empty."""
    lines = source.split("\n")
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and node.name in names:
            last = node.end_lineno or node.lineno
            lines[node.lineno - 1 : last] = [""] * (last - node.lineno + 1)
    return "\n".join(lines)

"""Python text whose functions' own variables have short names: smaller when compressed.

Lines, functions, arguments and attributes keep theirs, so that tracebacks, calls by name and the program are what they were. A
variable keeps its name where that may be read otherwise: in f-strings (whose places Python tells since 3.12), by `nonlocal` and
`except … as`, in functions that hold classes, match, or ask for their variables by name.
"""

from __future__ import annotations

import ast
import keyword
import symtable
from collections.abc import Iterator
from itertools import count, product
from string import ascii_lowercase

_ASKING = frozenset({"locals", "vars", "eval", "exec", "dir"})


def renamed(source: str) -> str:
    """The same program with shorter names for what is local to its functions."""
    lines = [line.encode() for line in source.split("\n")]
    tables = {(t.get_name(), t.get_lineno()): t for t in _functions(symtable.symtable(source, "renamed", "exec"))}
    edits: list[tuple[int, int, str, str]] = []
    for function in _outermost(ast.parse(source)):
        first = min([function.lineno, *(d.lineno for d in function.decorator_list)])
        table = tables.get((function.name, function.lineno)) or tables.get((function.name, first))
        nodes = list(ast.walk(function))
        if table is None or any(isinstance(node, ast.ClassDef | ast.Match) for node in nodes):
            continue
        names = [node for node in nodes if isinstance(node, ast.Name)]
        taken = {node.id for node in names} | set(keyword.kwlist) | set(keyword.softkwlist)
        if taken & _ASKING:
            continue
        own, others = _sorted_out(table)
        kept = others | {node.name for node in nodes if isinstance(node, ast.ExceptHandler) and node.name}
        for node in nodes:
            if isinstance(node, ast.JoinedStr):
                kept |= {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}
            elif isinstance(node, ast.Nonlocal):
                kept |= set(node.names)
        free = (name for name in _short() if name not in taken | others)
        new: dict[str, str] = {}
        for node in sorted(names, key=lambda n: (n.lineno, n.col_offset)):
            if node.id in own - kept and node.id not in new and len(node.id) > 1:
                new[node.id] = next(free)
        edits += [(n.lineno, n.col_offset, n.id, new[n.id]) for n in names if len(new.get(n.id, n.id)) < len(n.id)]
    for line, start, old, short in sorted(edits, reverse=True):
        text = lines[line - 1]
        lines[line - 1] = text[:start] + short.encode() + text[start + len(old.encode()) :]
    return b"\n".join(lines).decode()


def _sorted_out(table: symtable.SymbolTable) -> tuple[set[str], set[str]]:
    """Names that are variables of a function, or of those within it, and names that are something else in one of them."""
    own: set[str] = set()
    others: set[str] = set()
    for symbol in table.get_symbols():
        plain = symbol.is_local() or symbol.is_free()
        fixed = symbol.is_parameter() or symbol.is_imported() or symbol.is_namespace() or symbol.is_global()
        (own if plain and not fixed else others).add(symbol.get_name())
    for inner in table.get_children():
        found = _sorted_out(inner)
        own, others = own | found[0], others | found[1]
    return own, others


def _functions(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    """The tables of functions that are in no other function."""
    for inner in table.get_children():
        if inner.get_type() == "function":
            yield inner
        else:
            yield from _functions(inner)


def _outermost(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Functions that are in no other function."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
        elif not isinstance(node, ast.Lambda):
            yield from _outermost(node)


def _short() -> Iterator[str]:
    """a, b, …, z, aa, ab, …"""
    for length in count(1):
        yield from map("".join, product(ascii_lowercase, repeat=length))

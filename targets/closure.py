"""Which of the package's modules others import, found in their text: what a device's wheel must hold."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping


def closure(
    sources: Mapping[str, bytes], roots: Iterable[str], cut: Iterable[str] = (), *, at_once: bool = False
) -> frozenset[str]:
    """Files that the files `roots` import, whether at once or inside a function, and so on, with their packages' __init__.

    sources: content by path, as in a wheel ("edgeq/cli/app.py"). Files in `cut` are neither followed nor taken. at_once: only
    what is imported when they are imported themselves. Imports for type checkers do not count.
    """
    found: set[str] = set()
    open_, never = list(roots), set(cut)
    while open_:
        path = open_.pop()
        if path in found or path in never or path not in sources:
            continue
        found.add(path)
        parts = path.split("/")
        open_ += ["/".join([*parts[:k], "__init__.py"]) for k in range(1, len(parts))]
        for module in imported(ast.parse(sources[path]), parts[:-1], at_once=at_once):
            stem = module.replace(".", "/")
            open_ += [f"{stem}.py", f"{stem}/__init__.py"]
    return frozenset(found)


def imported(tree: ast.AST, package: list[str], *, at_once: bool = False) -> Iterator[str]:
    """Names of modules, and of what may be one, that a file of this package imports; at_once: outside of functions."""
    for node in _nodes(tree, at_once):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{a.name}" for a in node.names)


def for_checkers(node: ast.If) -> bool:
    """Whether this is `if TYPE_CHECKING:`."""
    return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _nodes(tree: ast.AST, at_once: bool) -> Iterator[ast.AST]:
    """Every node but those below `if TYPE_CHECKING:`; what stands behind its else runs. at_once: nor those within functions."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and for_checkers(node):
            for other in node.orelse:
                yield other
                yield from _nodes(other, at_once)
            continue
        if at_once and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        yield node
        yield from _nodes(node, at_once)

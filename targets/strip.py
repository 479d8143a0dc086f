"""Python text without its docstrings and comments, line for line: smaller when compressed, and tracebacks still tell the line."""

from __future__ import annotations

import ast
import io
import tokenize


def strip(source: str) -> str:
    """The same program; a line that held nothing but a docstring or a comment is empty, or `pass` where a body needs it."""
    lines = source.split("\n")
    for parent in ast.walk(ast.parse(source)):
        for body in (getattr(parent, name, None) for name in ("body", "orelse", "finalbody")):
            if isinstance(body, list):
                for node in body:
                    if (
                        isinstance(node, ast.Expr)
                        and isinstance(node.value, ast.Constant)
                        and isinstance(node.value.value, str)
                    ):
                        _empty(lines, node, "pass" if len(body) == 1 else "")
    for token in tokenize.generate_tokens(io.StringIO("\n".join(lines)).readline):
        if token.type == tokenize.COMMENT and token.line.strip() == token.string.strip():
            lines[token.start[0] - 1] = ""
    return "\n".join(lines)


def _empty(lines: list[str], node: ast.Expr, instead: str) -> None:
    """Take a statement off its lines, if it has them to itself."""
    first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
    assert node.end_col_offset is not None
    before = lines[first].encode()[: node.col_offset].strip()
    behind = lines[last].encode()[node.end_col_offset :].strip()
    if before or behind:
        return
    lines[first : last + 1] = [" " * node.col_offset + instead if instead else "", *[""] * (last - first)]

"""Python text without its docstrings, comments and the annotations of its functions, line for line: smaller when compressed, and
tracebacks still tell the line.
"""

from __future__ import annotations

import ast
import io
import tokenize


def strip(source: str) -> str:
    """The same program; a line that held nothing but a docstring or a comment is empty, or `pass` where a body needs it.

    Annotations of fields stay, which data classes are made of; those of arguments and results are for who writes.
    """
    lines = _without_annotations(source).split("\n")
    for parent in ast.walk(ast.parse("\n".join(lines))):
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


def _without_annotations(source: str) -> str:
    """Functions without the types of their arguments and results, where these lie on one line."""
    lines = [line.encode() for line in source.split("\n")]
    spans: list[tuple[int, int, int]] = []  # line, from, to, in bytes as the syntax tree counts them
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        a = node.args
        for arg in [*a.posonlyargs, *a.args, *a.kwonlyargs, a.vararg, a.kwarg]:
            if arg is not None and arg.annotation is not None:
                spans.append(_span(arg.annotation, lines, arg.lineno, arg.col_offset + len(arg.arg.encode())))
        if node.returns is not None:
            line = node.returns.lineno
            spans.append(_span(node.returns, lines, line, lines[line - 1].rfind(b"->", 0, node.returns.col_offset)))
    for line, start, end in sorted(spans, reverse=True):
        if 0 <= start < end:
            lines[line - 1] = lines[line - 1][:start] + lines[line - 1][end:]
    return b"\n".join(lines).decode()


def _span(annotation: ast.expr, lines: list[bytes], line: int, start: int) -> tuple[int, int, int]:
    """From `start` to the annotation's end; nothing where that is on another line."""
    if annotation.end_lineno != line or annotation.end_col_offset is None:
        return line, 0, 0
    text = lines[line - 1]
    while start > 0 and text[start - 1 : start] == b" ":
        start -= 1
    return line, start, annotation.end_col_offset


def _empty(lines: list[str], node: ast.Expr, instead: str) -> None:
    """Take a statement off its lines, if it has them to itself."""
    first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
    assert node.end_col_offset is not None
    before = lines[first].encode()[: node.col_offset].strip()
    behind = lines[last].encode()[node.end_col_offset :].strip()
    if before or behind:
        return
    lines[first : last + 1] = [" " * node.col_offset + instead if instead else "", *[""] * (last - first)]

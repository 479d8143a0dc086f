"""Python text without its docstrings, comments, annotations and spaces: smaller when compressed, and line for line, so that
tracebacks tell the line.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Collection, Mapping

from edgeq.targets.closure import for_checkers


def strip(source: str, *, docstrings: bool = True, wanted: Collection[str] = ()) -> str:
    """The same program; a line that held nothing but a docstring or a comment is empty, or `pass` where a body needs it.

    docstrings: whether those of what is decorated go too, which are the help of commands. wanted: names that other modules
    may want of this one, though it only imports them.
    Fields of classes, which data classes are made of, keep an annotation, but not what it says; arguments, results and variables
    keep none. Imported names that only annotations used go with them.
    """
    lines = _without_annotations(_without_checking(source)).split("\n")
    for parent in ast.walk(ast.parse("\n".join(lines))):
        if not docstrings and getattr(parent, "decorator_list", None):
            continue
        for body in (getattr(parent, name, None) for name in ("body", "orelse", "finalbody")):
            if isinstance(body, list):
                for node in body:
                    if (
                        isinstance(node, ast.Expr)
                        and isinstance(node.value, ast.Constant)
                        and isinstance(node.value.value, str)
                    ):
                        _empty(lines, node, "pass" if len(body) == 1 else "")
    return "\n".join(_tight(_without_future(_without_imports(lines, wanted))))


def _without_future(lines: list[str]) -> list[str]:
    """Without `from __future__ import annotations`, if nothing is left that needs it: a field's 0 is what it is either way."""
    tree = ast.parse("\n".join(lines))
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign) and not isinstance(node.annotation, ast.Constant):
            return lines
        if isinstance(node, ast.arg) and node.annotation is not None:
            return lines
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.returns is not None:
            return lines
    return ["" if line == "from __future__ import annotations" else line for line in lines]


def _without_imports(lines: list[str], wanted: Collection[str]) -> list[str]:
    """Without imported names that nothing left in the module refers to, and nobody else wants of it."""
    tree = ast.parse("\n".join(lines))
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} | set(wanted)
    used |= {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    for node in tree.body:
        if (
            isinstance(node, ast.ImportFrom)
            and node.module != "__future__"
            and all(a.asname is None for a in node.names)
        ):
            kept = [a.name for a in node.names if a.name in used]
            if len(kept) < len(node.names):
                last = node.end_lineno or node.lineno
                module = "." * node.level + (node.module or "")
                first = f"from {module} import {', '.join(kept)}" if kept else ""
                lines[node.lineno - 1 : last] = [first, *[""] * (last - node.lineno)]
    return lines


def _tight(lines: list[str]) -> list[str]:
    """Lines without comments and without spaces that no two words need between them, indented by one where there were four, and
    by none within brackets."""
    kept: list[list[str]] = [[] for _ in lines]
    row, column, word, strings, brackets = 0, 0, False, 0, 0
    for token in tokenize.generate_tokens(io.StringIO("\n".join(lines)).readline):
        (first, start), (last, end), name = token.start, token.end, tokenize.tok_name[token.type]
        if name == "COMMENT" or not token.string.strip():
            continue
        if first != row:
            if row and lines[row - 1][column:].strip() == "\\":
                kept[row - 1].append("\\")
            between = lines[first - 1][:start]
        else:
            between = lines[first - 1][column:start]
        isword = name in ("NAME", "NUMBER", "STRING", "FSTRING_START")
        if strings == 0 and between and not between.strip():
            if kept[first - 1]:
                between = " " if word and (isword or token.string == ".") else ""
            elif brackets:
                between = ""
            elif len(between) % 4 == 0:
                between = between[: len(between) // 4]
        kept[first - 1].append(between)
        text = lines[first - 1 : last]
        text[-1] = text[-1][:end]
        for k, part in enumerate([text[0][start:], *text[1:]], first - 1):
            kept[k].append(part)
        strings += (name == "FSTRING_START") - (name == "FSTRING_END")
        if name == "OP":
            brackets += (token.string in "([{") - (token.string in ")]}")
        row, column, word = last, end, name in ("NAME", "NUMBER", "STRING", "FSTRING_END")
    return ["".join(parts) for parts in kept]


def _without_checking(source: str) -> str:
    """Without what is imported for type checkers alone."""
    lines = source.split("\n")
    for node in ast.parse(source).body:
        if isinstance(node, ast.If) and for_checkers(node) and not node.orelse:
            last = node.end_lineno or node.lineno
            lines[node.lineno - 1 : last] = [""] * (last - node.lineno + 1)
    return "\n".join(lines)


def _without_annotations(source: str) -> str:
    """Functions without the types of their arguments, variables and results, where these lie on one line."""
    lines = [line.encode() for line in source.split("\n")]
    spans: set[tuple[int, int, int]] = set()  # line, from, to, in bytes as the syntax tree counts them
    fields: dict[tuple[int, int, int], bytes] = {}
    tree = ast.parse(source)
    members = {id(item) for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for item in node.body}
    for own in tree.body:
        if isinstance(own, ast.AnnAssign) and own.value is not None and own.target.end_col_offset is not None:
            spans.add(_span(own.annotation, lines, own.lineno, own.target.end_col_offset))
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            # Python 3.10 asks of a named tuple's fields that these are types.
            left = b"None" if any(ast.unparse(base).endswith("NamedTuple") for base in node.bases) else b"0"
            for item in node.body:
                kind = item.annotation if isinstance(item, ast.AnnAssign) else None
                if kind is None or kind.end_lineno != kind.lineno or "ClassVar" in ast.unparse(kind):
                    continue
                fields[kind.lineno, kind.col_offset, kind.end_col_offset or 0] = left
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for inner in ast.walk(node):
            if not isinstance(inner, ast.AnnAssign) or id(inner) in members:
                continue
            if inner.value is not None and inner.target.end_col_offset is not None:
                spans.add(_span(inner.annotation, lines, inner.lineno, inner.target.end_col_offset))
        a = node.args
        for arg in [*a.posonlyargs, *a.args, *a.kwonlyargs, a.vararg, a.kwarg]:
            if arg is not None and arg.annotation is not None:
                spans.add(_span(arg.annotation, lines, arg.lineno, arg.col_offset + len(arg.arg.encode())))
        if node.returns is not None:
            line = node.returns.lineno
            spans.add(_span(node.returns, lines, line, lines[line - 1].rfind(b"->", 0, node.returns.col_offset)))
    for line, start, end in sorted(spans | fields.keys(), reverse=True):
        if 0 <= start < end:
            less = fields.get((line, start, end), b"")
            lines[line - 1] = lines[line - 1][:start] + less + lines[line - 1][end:]
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


def asked_for(sources: Mapping[str, str]) -> dict[str, frozenset[str]]:
    """Path of a module → names that others may ask it for: imported from it by name, or an attribute of anything.

    sources: text by path, as in a wheel ("edgeq/cli/app.py").
    """
    attributes: set[str] = set()
    by_name: dict[str, set[str]] = {}
    for source in sources.values():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                by_name.setdefault(node.module, set()).update(a.name for a in node.names)
            elif isinstance(node, ast.Attribute):
                attributes.add(node.attr)
    modules = {path: path.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for path in sources}
    return {path: frozenset(attributes | by_name.get(module, set())) for path, module in modules.items()}

"""A package whose modules are constants alone, as one file: a wheel pays some 190 bytes for each file, whatever is in it."""

from __future__ import annotations

import ast
from collections.abc import Mapping

_HEAD = """
import sys
from types import ModuleType
def _module(name,**values):
 made=globals()[name]=sys.modules[f"{__name__}.{name}"]=ModuleType(f"{__name__}.{name}")
 made.__dict__.update(values)
"""


def in_one(files: Mapping[str, bytes], package: str) -> dict[str, bytes]:
    """`files` with the modules of one package (its folder, with the slash behind) made by its __init__ when that is imported.

    Raises ValueError for a module that has more in it than constants.
    """
    first = f"{package}__init__.py"
    inside = sorted(name for name in files if name.startswith(package) and name.endswith(".py") and name != first)
    made = [_as_call(name.removeprefix(package).removesuffix(".py"), files[name].decode()) for name in inside]
    rest = {name: content for name, content in files.items() if name not in inside}
    return rest | {first: files[first].rstrip() + (_HEAD + "\n".join([*made, ""])).encode()}


def _as_call(name: str, source: str) -> str:
    """What makes a module of this name with the constants that this source defines."""
    if any(not isinstance(node, ast.Assign | ast.AnnAssign | ast.Expr) for node in ast.parse(source).body):
        raise ValueError(f"{name}: something else than constants")
    values: dict[str, object] = {}
    exec(compile(source, name, "exec"), values)
    texts = []
    for key, value in values.items():
        if key.startswith("__"):
            continue
        text = repr(value)
        if ast.literal_eval(shorter := text.replace(", ", ",").replace(": ", ":")) == value:
            text = shorter
        if ast.literal_eval(text) != value:
            raise ValueError(f"{name}.{key}: {value!r} cannot be written down")
        texts.append(f"{key}={text}")
    return f'_module("{name}",{",".join(texts)})'

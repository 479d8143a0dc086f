"""A function of the user's own, named as FILE.py:function."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from edgeq.errors import InputError

Function = Callable[..., Any]


def function(named: str) -> Function:
    """The function that FILE.py:name names. Raises InputError.

    The file is compiled as it is now, and nothing is left beside it: bytecode that is kept goes by the second of a file's date.
    """
    path, _, name = named.rpartition(":")
    if not path.endswith(".py") or not name.isidentifier():
        raise InputError(f"expected FILE.py:function, found {named!r}")
    if not Path(path).is_file():
        raise InputError(f"{path}: there is no such Python file")
    module = ModuleType("edgeq_user_" + Path(path).stem)
    module.__file__ = path
    sys.modules[module.__name__] = module  # where dataclasses look up their annotations
    try:
        exec(compile(Path(path).read_bytes(), path, "exec"), module.__dict__)
    except Exception as error:  # the user's code may raise anything
        raise InputError(f"{path}: {type(error).__name__}: {error}") from None
    found = getattr(module, name, None)
    if not callable(found):
        raise InputError(
            f"{path}: expected a function {name!r}, found {'none' if found is None else type(found).__name__}"
        )
    return found  # type: ignore[no-any-return]

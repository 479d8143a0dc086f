"""Linear algebra on one thread: OpenBLAS adds in another order on two, and the same samples are to give the same bytes."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

_PREFIXES = ("scipy_openblas_", "openblas_")
_SUFFIXES = ("64_", "")


@cache
def _threads() -> tuple[Any, Any] | None:
    """The functions of NumPy's own OpenBLAS that set and get its threads, None where NumPy has another library."""
    folder = Path(np.__file__).parent
    for path in sorted([*folder.parent.glob("numpy.libs/*openblas*"), *folder.glob(".dylibs/*openblas*")]):
        with contextlib.suppress(OSError):
            library = ctypes.CDLL(str(path))
            for prefix in _PREFIXES:
                for suffix in _SUFFIXES:
                    setter = getattr(library, f"{prefix}set_num_threads{suffix}", None)
                    getter = getattr(library, f"{prefix}get_num_threads{suffix}", None)
                    if setter is not None and getter is not None:
                        return setter, getter
    return None


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Within it NumPy's products and solutions are computed by the calling thread alone."""
    found = _threads()
    before = found[1]() if found is not None else 0
    if found is not None:
        found[0](1)
    try:
        yield
    finally:
        if found is not None:
            found[0](before)

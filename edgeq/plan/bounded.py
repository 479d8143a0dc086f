"""Arithmetic over the numbers of untrusted files: scales, factors and limits that overflow are refused, wherever it happens."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import numpy as np

from edgeq.errors import CheckError

P = ParamSpec("P")
T = TypeVar("T")


def bounded(function: Callable[P, T]) -> Callable[P, T]:
    """NumPy's overflows pass quietly, to be checked where their results are used; Python's are a CheckError.

    Python raises OverflowError where an infinite float becomes an integer, which is where planning ends for scales of
    1e38 that a lowering has multiplied.
    """

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            with np.errstate(all="ignore"):
                return function(*args, **kwargs)
        except OverflowError as error:
            raise CheckError(f"the model's scales or options are too large to compute with: {error}") from error

    return run

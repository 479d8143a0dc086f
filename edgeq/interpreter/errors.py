"""Errors that are both edgeq's and those that TFLite's interpreter raises.

An app that moved over catches ValueError and RuntimeError; one that knows edgeq catches the types of edgeq.errors. Both
work: each error raised here is of both.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from edgeq.errors import EdgeqError, InputError


class ArgumentError(InputError, ValueError):
    """An argument that cannot be: an index, a type, a shape."""


class StateError(InputError, RuntimeError):
    """A call at the wrong time, or one that the model cannot follow."""


@contextmanager
def raised_as(builtin: type[Exception]) -> Iterator[None]:
    """Whatever edgeq refuses inside is raised as its own type and as `builtin` in one."""
    try:
        yield
    except EdgeqError as error:
        raise in_both(error, builtin) from error


def in_both(error: EdgeqError, builtin: type[Exception]) -> EdgeqError:
    """The same error in a type that is `builtin` too."""
    return error if isinstance(error, builtin) else _both(type(error), builtin)(*error.args)


def _both(kind: type[EdgeqError], builtin: type[Exception]) -> type[EdgeqError]:
    """A type that is `kind` and `builtin`, named as the first."""
    return type(kind.__name__, (kind, builtin), {"__module__": kind.__module__, "__doc__": kind.__doc__})

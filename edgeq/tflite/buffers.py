"""Where the writer puts each constant: the list of the file's buffers, and everyone's index in it.

A graph that was read keeps the buffer indices of its file, so that what refers to a buffer by number still does; what
is new, or has been changed while another tensor keeps the old bytes, goes behind them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeq.errors import CheckError, UnsupportedError
from edgeq.graph import Array
from edgeq.tflite import limits

EMPTY: Array = np.frombuffer(b"", np.uint8)


def assign(requests: Sequence[tuple[int, Array]]) -> tuple[list[int], list[Array]]:
    """Give every request its buffer.

    A request is (wished index, bytes): index 0 wishes for nothing, no bytes means that the owner has no constant
    data. Requests with the same wish and the same bytes share a buffer. Buffer 0 is always empty.

    Returns:
        The index for each request, and the file's buffers (1-D uint8) from index 0.

    Raises:
        CheckError: a wish is negative or beyond `limits.MAX_TABLES`.
    """
    places: dict[int, Array] = {0: EMPTY}
    given = [0] * len(requests)
    homeless = []
    for k, (wish, raw) in enumerate(requests):
        if not 0 <= wish < limits.MAX_TABLES:
            raise CheckError(f"buffer {wish}, expected 0 to {limits.MAX_TABLES - 1}")
        if not len(raw):
            continue
        if wish and _same(places.setdefault(wish, raw), raw):
            given[k] = wish
        else:
            homeless.append(k)
    for k, (wish, raw) in enumerate(requests):
        if not len(raw) and not len(places.setdefault(wish, EMPTY)):
            given[k] = wish
    end = max(places) + 1
    for k in homeless:
        given[k], places[end] = end, requests[k][1]
        end += 1
    return given, [places.get(i, EMPTY) for i in range(end)]


def too_large(nbytes: int) -> UnsupportedError:
    """The error for a model that one flatbuffer cannot hold, which takes at least this many bytes."""
    return UnsupportedError(f"the model takes {nbytes} bytes or more, but a .tflite file holds {limits.MAX_FILE_BYTES}")


def _same(a: Array, b: Array) -> bool:
    """Whether two byte arrays hold the same; the same memory is not compared."""
    if len(a) != len(b):
        return False
    return bool(a.__array_interface__["data"][0] == b.__array_interface__["data"][0] or np.array_equal(a, b))

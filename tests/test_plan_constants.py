"""What the planner lays out once: equal constants, and none that merely look alike."""

from __future__ import annotations

import hashlib
from itertools import pairwise

import numpy as np
from tflite_models import int8_cnn

from edgeq.check import sound
from edgeq.kernels.isa import PORTABLE
from edgeq.plan.builder import Builder, digest
from edgeq.plan.types import Rounding
from edgeq.tflite import read, write


def builder() -> Builder:
    """A workbench with no constants yet."""
    return Builder(sound(read(write(int8_cnn()))), Rounding.XNNPACK, PORTABLE, keep=False)


def test_equal_bytes_are_stored_once():
    """The same bytes under another shape, type or layout lie in one place."""
    b, values = builder(), np.arange(600, dtype=np.int16).reshape(20, 30)
    first = b.constant(values)
    assert b.constant(values.reshape(-1).view(np.uint8)) == first
    assert b.constant(values.T.copy().T) == first


def test_bytes_that_differ_are_apart():
    """Constants with the same length, beginning and end, and others with the bytes of a digest, have places of their own."""
    b = builder()
    many = [np.zeros(4096, np.uint8) for _ in range(6)]
    for k, values in enumerate(many):
        values[2000] = k
    many += [np.frombuffer(hashlib.sha256(many[k]).digest(), np.uint8) for k in (1, 2)]
    many += [np.frombuffer(digest(many[k].tobytes()), np.uint8) for k in (1, 2)]
    places = [b.constant(values) for values in many]
    assert len(set(places)) == len(many)
    assert [b.constant(values.copy()) for values in many] == places
    ends = sorted((place.offset, place.offset + values.size) for place, values in zip(places, many, strict=True))
    assert all(end <= start for (_, end), (start, _) in pairwise(ends))
    assert len(b.laid()) == len(many)

"""What calibration may tell others: how far each sample's values reached, tensor by tensor, counted; no value, no sample.

The grid is the model's own, the same on every device whatever it saw, so that counts of many devices add up. Each sample
adds exactly two counts to the row of each tensor, for its smallest and its largest value; what lies beyond the grid counts
at its ends. So one sample more or less changes the sum of all counts by 2 · tensors, and nothing else by anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edgeq.calibrate import Inputs, tracer
from edgeq.errors import InputError, QuantizeError
from edgeq.feed import quantmod_of
from edgeq.graph import Graph
from edgeq.quantize.reconstruct import reconstruct
from edgeq.records import dataclass

Array = npt.NDArray[Any]

OCTAVES: Final = 8
"""The grid reaches that many powers of two below and above the range that the model was sealed with."""

LEAST_EPSILON: Final = 1e-6
MOST_EPSILON: Final = 1e6
"""Beyond these there is nothing but noise, or none."""

BINS: Final = 64
"""Half an octave each: 32 for negative values, from −2^8 to −2^−8 ranges, and 32 for the others, upwards."""


@dataclass(frozen=True, eq=False)
class Statistics:
    """tensors: indices in the model; counts: (len(tensors), BINS) int64; samples: how many were counted."""

    tensors: tuple[int, ...]
    counts: Array
    samples: int

    @property
    def sensitivity(self) -> int:
        """By how much one sample more or less changes the counts, all changes added up."""
        return 2 * len(self.tensors)


def reaches(graph: Graph, inputs: Iterable[Inputs]) -> Statistics:
    """The statistics of an integer model on some inputs (real numbers, as edgeq.feed gives them).

    graph: as it was sealed: its ranges are the grid's unit. Raises QuantizeError for a model without quantized activations.
    """
    units = {
        i: max(abs(float(v)) for v in q.limits)
        for i, t in enumerate(graph.tensors)
        if t.data is None and t.size and (q := quantmod_of(t)) is not None
    }
    if not units:
        raise QuantizeError("expected a model with quantized activations, found none: there is nothing to count")
    counts = np.zeros((len(units), BINS), np.int64)
    run, samples = tracer(reconstruct(graph)), 0
    for x in inputs:
        values = run(x)
        samples += 1
        for row, (i, unit) in zip(counts, units.items(), strict=True):
            for value in (float(values[i].min()), float(values[i].max())) if i in values else (0.0, 0.0):
                row[_bin(value / unit)] += 1
    return Statistics(tuple(units), counts, samples)


def _bin(value: float) -> int:
    """The bin of a value in units of its tensor's range."""
    half = BINS // 2
    steps = int(np.clip(np.floor(2.0 * np.log2(max(abs(value), 1e-30))) + 2 * OCTAVES, 0, half - 1))
    return half + steps if value >= 0.0 else half - 1 - steps


def check_epsilon(epsilon: float) -> None:
    """See that there can be noise of this ε. Raises InputError without OpenDP, or for an ε that is none."""
    if not LEAST_EPSILON <= epsilon <= MOST_EPSILON:
        raise InputError(f"epsilon is {epsilon:g}, expected more than 0, from {LEAST_EPSILON:g} to {MOST_EPSILON:g}")
    try:
        import opendp.prelude  # noqa: F401
    except ImportError:
        raise InputError("differential privacy needs OpenDP (pip install 'edgeq[dp]')") from None


def with_noise(found: Statistics, epsilon: float) -> Array:
    """The counts with discrete Laplace noise from OpenDP: one sample more or less is hidden with ε-differential privacy.

    (len(tensors), BINS) int64; counts may be negative. Raises InputError as `check_epsilon` does.
    """
    check_epsilon(epsilon)
    import opendp.prelude as dp

    dp.enable_features("contrib")
    space = dp.vector_domain(dp.atom_domain(T="i64")), dp.l1_distance(T="i64")
    # A hair more noise than sensitivity / ε, so that OpenDP's own reckoning, which rounds up, comes to no more than ε.
    mechanism = space >> dp.m.then_laplace(scale=scale(found, epsilon))
    assert mechanism.map(d_in=found.sensitivity) <= epsilon
    return np.array(mechanism(found.counts.reshape(-1).tolist()), np.int64).reshape(found.counts.shape)


def scale(found: Statistics, epsilon: float) -> float:
    """Of the noise that gives ε: the mean distance from the true counts, about."""
    return found.sensitivity / epsilon * (1 + 1e-9)

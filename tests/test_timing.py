"""The stopwatch: turns, medians and ratios, on a clock of its own."""

from __future__ import annotations

from time import sleep

import numpy as np
import pytest

from edgeq import timing


def test_ratio_is_taken_within_rounds() -> None:
    """A machine that slows down twofold half-way changes medians, not ratios."""
    load = np.repeat([1.0, 2.0], 5)
    rows = timing.summary({"a": 1e-3 * load, "b": 3e-3 * load}, "a")
    assert [(r.name, r.ratio) for r in rows] == [("a", 1.0), ("b", pytest.approx(3.0))]
    assert (rows[0].low, rows[0].median, rows[0].high) == (1e-3, 1.5e-3, 2e-3)


def test_everyone_takes_a_turn_in_every_round() -> None:
    """Each round holds each runtime once, and what sleeps longer is measured as longer."""
    calls = {"short": lambda: sleep(0.001), "long": lambda: sleep(0.004)}
    seen: list[int] = []
    times = timing.alternate(calls, 3, seen.append)
    assert seen == [1, 2, 3]
    assert {name: len(values) for name, values in times.items()} == {"short": 3, "long": 3}
    assert (times["long"] > times["short"]).all()


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [
        ("int8", -128, 127),
        ("uint8", 0, 255),
        ("int16", -32768, 32767),
        ("float32", 0, 1),
        ("int32", 0, 1),
        ("bool", 0, 1),
    ],
)
def test_random_input_stays_in_range(dtype, low, high) -> None:
    """Random input has the dtype and shape asked for, and values that the dtype's tensors may hold."""
    x = timing.random_input((2, 500), dtype, np.random.default_rng(0))
    assert (x.dtype.name, x.shape) == (dtype, (2, 500))
    assert low <= x.min() < x.max() <= high

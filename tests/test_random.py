"""Random numbers: the runtimes' own sequence from the same seeds."""

from __future__ import annotations

import numpy as np
import pytest
from naive.cases import constant, single, tensor
from naive.oracle import Oracle, missing

from edgeq.engine import build
from edgeq.graph import Graph
from edgeq.tflite import write


def noise(code: str, seed: int, seed2: int, shape: tuple[int, ...] = (3, 7)) -> Graph:
    """x and random numbers."""
    y = tensor("y", shape, "float32")
    return single(code, [constant("shape", shape)], y, "RandomOptions", seed=seed, seed2=seed2)


@pytest.mark.parametrize("rounding", ["tflite", "xnnpack"])
@pytest.mark.parametrize("code", ["RANDOM_UNIFORM", "RANDOM_STANDARD_NORMAL"])
@pytest.mark.parametrize("seeds", [(3, 5), (0, 1), (2**40 + 9, 77), (-5, -6)])
def test_the_same_seeds_give_the_same_numbers(code: str, rounding: str, seeds: tuple[int, int]) -> None:
    """Run after run, one generator goes on: uniform numbers bit for bit, normal ones within an ulp of sine and logarithm."""
    if reason := missing(rounding):
        pytest.skip(reason)
    graph = noise(code, *seeds)
    oracle = Oracle(write(graph), rounding)
    with build(graph, rounding=rounding) as model:
        for _ in range(3):
            found, expected = model({}), oracle([])[0]
            if code == "RANDOM_UNIFORM":
                np.testing.assert_array_equal(found, expected)
            else:
                np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-6)


def test_seeds_of_zero_differ_from_model_to_model() -> None:
    """Without seeds two models draw other numbers, in [0, 1)."""
    with build(noise("RANDOM_UNIFORM", 0, 0)) as one, build(noise("RANDOM_UNIFORM", 0, 0)) as other:
        a, b = one({}), other({})
    assert not np.array_equal(a, b)
    assert 0 <= min(a.min(), b.min()) <= max(a.max(), b.max()) < 1

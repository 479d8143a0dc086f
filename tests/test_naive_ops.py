"""The naive twins equal the runtimes that they are named for: every operation × dtype, whole tensors, no value differing."""

from __future__ import annotations

import numpy as np
import pytest
from naive import run
from naive.cases import Case, cases, draw
from naive.oracle import Oracle, missing

from edgeq.tflite import write

SAMPLES = 3
ULPS = 1e-5
"""Of the output's range: where float32 sums are taken in another order, or the C library's expf is an ulp off."""

MOVES = ("RESHAPE", "PAD", "STRIDED_SLICE", "CONCATENATION", "DEQUANTIZE", "RESIZE_NEAREST_NEIGHBOR")
CURVES = ("SOFTMAX", "LOGISTIC", "TANH", "HARD_SWISH")


@pytest.mark.parametrize("rounding", ["tflite", "xnnpack"])
@pytest.mark.parametrize("case", cases(), ids=lambda c: c.name)
def test_twin_equals_runtime(case: Case, rounding: str) -> None:
    """The twin computes what the runtime computes, on random inputs over the whole type; floats too in the reference's order."""
    if reason := missing(rounding):
        pytest.skip(reason)
    oracle = Oracle(write(case.graph), rounding)
    rng = np.random.default_rng(0)
    for _ in range(SAMPLES):
        inputs = draw(case.graph, rng)
        (expected,) = oracle(inputs)
        found = run(case.graph, inputs, rounding)[case.graph.outputs[0]]
        assert found.dtype == expected.dtype
        assert found.shape == expected.shape
        if found.dtype == np.float32 and case.op not in MOVES and (rounding == "xnnpack" or case.op in CURVES):
            assert np.abs(found - expected).max() <= ULPS * np.ptp(expected)
        else:
            np.testing.assert_array_equal(found, expected)

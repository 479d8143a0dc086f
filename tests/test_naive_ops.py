"""The naive twins equal the runtimes that they are named for: every operation × dtype, whole tensors, no value differing."""

from __future__ import annotations

import numpy as np
import pytest
from naive import run
from naive.absent import ALL
from naive.cases import Case, cases
from naive.cases_moves import cases as cases_that_move
from naive.oracle import Oracle, missing

from edgeq.tflite import write

SAMPLES = 3
ULPS = 1e-5
"""Of the output's range: where float32 sums are taken in another order, or a function of the C library is an ulp off."""

CASES = cases()
MOVES = {c.op for c in cases_that_move()} - {"CUMSUM"} | {"RESHAPE", "DEQUANTIZE", "RESIZE_NEAREST_NEIGHBOR"}
CURVES = {
    "SOFTMAX", "LOGISTIC", "TANH", "HARD_SWISH", "POW", "ATAN2", "EXP", "LOG", "SIN", "COS", "GELU", "ELU", "RSQRT",
    "LOG_SOFTMAX", "LOCAL_RESPONSE_NORMALIZATION", "UNIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_LSTM", "RNN",
    "UNIDIRECTIONAL_SEQUENCE_RNN", "SVDF", "NON_MAX_SUPPRESSION_V5", "BATCH_MATMUL", "L2_NORMALIZATION",
    "CONV_3D", "CONV_3D_TRANSPOSE", "L2_POOL_2D", "LSTM", "BIDIRECTIONAL_SEQUENCE_RNN", "RFFT2D", "COMPLEX_ABS",
}  # fmt: skip


@pytest.mark.parametrize("rounding", ["tflite", "xnnpack"])
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_twin_equals_runtime(case: Case, rounding: str) -> None:
    """The twin computes what the runtime computes, on random inputs over the whole type; floats too in the reference's order."""
    if reason := missing(rounding):
        pytest.skip(reason)
    if not case.has_oracle(rounding):
        pytest.skip("the runtime does not have it")
    oracle = Oracle(write(case.graph), rounding)
    rng = np.random.default_rng(0)
    for _ in range(SAMPLES):
        inputs = case.draw(rng)
        oracle.reset()
        tensors = run(case.graph, inputs, rounding)
        for i, expected in zip(case.graph.outputs, oracle(inputs), strict=True):
            assert tensors[i].dtype == expected.dtype
            assert tensors[i].shape == expected.shape
            if expected.dtype.kind in "fc" and case.op not in MOVES and (rounding == "xnnpack" or case.op in CURVES):
                assert np.abs(tensors[i] - expected).max() <= ULPS * max(np.ptp(expected), np.abs(expected).max())
            else:
                np.testing.assert_array_equal(tensors[i], expected)


@pytest.mark.parametrize("rounding", ["tflite", "xnnpack"])
def test_what_is_called_absent_is_refused(rounding: str) -> None:
    """A runtime that is said to lack an operation on a type refuses its model, or fails at the first call."""
    if reason := missing(rounding):
        pytest.skip(reason)
    absent = [c for c in CASES if not c.has_oracle(rounding) and rounding not in c.unlike]
    assert absent
    for case in absent:
        with pytest.raises((RuntimeError, ValueError)):
            Oracle(write(case.graph), rounding)(case.draw(np.random.default_rng(0)))


def test_every_absence_has_a_case() -> None:
    """What is called absent is asked for: no line of the table is out of use."""
    from naive.absent import ABSENT

    seen = {(c.op, c.source) for c in CASES}
    for table in ABSENT.values():
        for op, types in table.items():
            for dtype in types:
                assert (op, dtype) in seen or (dtype == ALL and op in {o for o, _ in seen}), (op, dtype)

"""The twins where it is hardest: every value beside a rounding tie."""

from __future__ import annotations

import numpy as np
import pytest
from naive import run
from naive.oracle import Oracle, missing
from naive.ties import Tie, products, ties

from edgeq.tflite import write


@pytest.mark.parametrize("rounding", ["tflite", "xnnpack"])
@pytest.mark.parametrize("tie", ties(), ids=lambda t: t.name)
def test_twin_equals_runtime_beside_ties(tie: Tie, rounding: str) -> None:
    """The twin rounds as the runtime does where the order and width of every scale's arithmetic show."""
    if reason := missing(rounding):
        pytest.skip(reason)
    (expected,) = Oracle(write(tie.graph), rounding)(tie.inputs)
    np.testing.assert_array_equal(run(tie.graph, tie.inputs, rounding)[tie.graph.outputs[0]], expected)


@pytest.mark.parametrize("tie", [t for t in products() if "int16" not in t.name], ids=lambda t: t.name)
def test_ties_tell_the_families_apart(tie: Tie) -> None:
    """A fifth of these values differ between the two families, so that the test above cannot pass with the wrong one."""
    output = tie.graph.outputs[0]
    a, b = (run(tie.graph, tie.inputs, r)[output] for r in ("tflite", "xnnpack"))
    assert (a != b).mean() > 0.2

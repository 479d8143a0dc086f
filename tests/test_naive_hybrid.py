"""Dynamic-range quantized convolutions: int8 weights on float32 activations, bit for bit as TFLite's reference kernels."""

from __future__ import annotations

import numpy as np
import pytest
from naive import run
from naive.cases import single, tensor
from naive.oracle import Oracle, missing

from edgeq.graph import Graph
from edgeq.tflite import write


def hybrid_conv(window: int, stride: int, per_channel: bool = False) -> Graph:
    """Two images through a CONV_2D with ReLU."""
    rng = np.random.default_rng(window)
    shape = (7, window, window, 5)
    w = tensor(
        "w", shape, "int8", np.full(7 if per_channel else 1, 0.02), data=rng.integers(-127, 128, shape).astype("int8")
    )
    b = tensor("b", (7,), "float32", data=rng.standard_normal(7).astype("float32"))
    x, y = tensor("x", (2, 9, 8, 5), "float32"), tensor("y", (2, -(-9 // stride), -(-8 // stride), 7), "float32")
    options = {"padding": 0, "stride_w": stride, "stride_h": stride, "fused_activation_function": 1}
    return single("CONV_2D", [x, w, b], y, "Conv2DOptions", **options)


@pytest.mark.skipif(missing("tflite") is not None, reason=str(missing("tflite")))
@pytest.mark.parametrize(("window", "stride"), [(1, 1), (3, 1), (3, 2), (4, 2)])
def test_hybrid_convolution_equals_reference(window: int, stride: int) -> None:
    """Each image is quantized by its own scale; an image of zeros gives the bias."""
    graph = hybrid_conv(window, stride)
    oracle = Oracle(write(graph), "tflite")
    rng = np.random.default_rng(0)
    for _ in range(10):
        x = (rng.standard_normal((2, 9, 8, 5)) * rng.choice([0.0, 0.01, 3.0, 50.0], (2, 1, 1, 1))).astype(np.float32)
        np.testing.assert_array_equal(run(graph, [x], "tflite")[graph.outputs[0]], oracle([x])[0])


def test_hybrid_per_channel_has_no_twin() -> None:
    """What has no twin says so, and is not computed some other way."""
    with pytest.raises(NotImplementedError, match="no twin for CONV_2D of float32 with int8 weights"):
        run(hybrid_conv(3, 1, per_channel=True), [np.zeros((2, 9, 8, 5), np.float32)], "tflite")

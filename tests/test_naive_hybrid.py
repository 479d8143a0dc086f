"""Dynamic-range quantized convolutions: int8 weights on float32 activations, bit for bit as TFLite's reference kernels."""

from __future__ import annotations

import numpy as np
import pytest
from naive import run
from naive.cases import single, tensor
from naive.oracle import Oracle, missing

from edgeq.engine import build
from edgeq.graph import Graph, Quantization, Tensor
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


def hybrid_layer(code: str, weights: tuple[int, ...], padding: int = 0, **options: int) -> Graph:
    """Two images of 6 channels through a layer whose weights are int8 per channel, as converters quantize them."""
    rng = np.random.default_rng(3)
    depthwise = code == "DEPTHWISE_CONV_2D"
    out = weights[3 if depthwise else 0]
    q = Quantization(rng.uniform(0.001, 0.02, out).astype(np.float32), np.zeros(out, np.int64), 3 if depthwise else 0)
    w = Tensor("w", weights, "int8", rng.integers(-127, 128, weights).astype("int8"), q)
    b = tensor("b", (out,), "float32", data=rng.standard_normal(out).astype("float32"))
    stride, h, width = options.get("stride_h", 1), 9, 8
    effective = [(k - 1) * options.get(f"dilation_{a}_factor", 1) + 1 for k, a in zip(weights[1:3], "hw", strict=True)]
    sizes = [
        -(-d // stride) if padding == 0 else (d - e) // stride + 1 for d, e in zip((h, width), effective, strict=True)
    ]
    x, y = tensor("x", (2, h, width, 6), "float32"), tensor("y", (2, *sizes, out), "float32")
    if depthwise:
        options["depth_multiplier"] = out // 6
    given = {"padding": padding, "stride_h": 1, "stride_w": stride, **options}
    return single(code, [x, w, b], y, "DepthwiseConv2DOptions" if depthwise else "Conv2DOptions", **given)


LAYERS = {
    "depthwise": lambda: hybrid_layer("DEPTHWISE_CONV_2D", (1, 3, 3, 6)),
    "depthwise with an activation": lambda: hybrid_layer(
        "DEPTHWISE_CONV_2D", (1, 3, 3, 6), fused_activation_function=3
    ),
    "depthwise, stride 2": lambda: hybrid_layer("DEPTHWISE_CONV_2D", (1, 3, 3, 6), stride_h=2),
    "depthwise, dilated": lambda: hybrid_layer(
        "DEPTHWISE_CONV_2D", (1, 3, 3, 6), 1, dilation_h_factor=2, dilation_w_factor=2
    ),
    "depthwise, a multiplier": lambda: hybrid_layer("DEPTHWISE_CONV_2D", (1, 5, 2, 12), 1),
    "groups": lambda: hybrid_layer("CONV_2D", (8, 3, 3, 3)),
    "groups of one, stride 2": lambda: hybrid_layer("CONV_2D", (6, 3, 3, 1), stride_h=2, fused_activation_function=1),
}


@pytest.mark.parametrize("rounding", ["tflite", "xnnpack"])
@pytest.mark.parametrize("name", LAYERS)
def test_layers_with_weights_per_channel(name: str, rounding: str) -> None:
    """Depthwise and grouped layers equal the runtimes' own kernels, an image of zeros among the inputs."""
    if reason := missing(rounding):
        pytest.skip(reason)
    graph = LAYERS[name]()
    resolver = "BUILTIN_WITHOUT_DEFAULT_DELEGATES" if rounding == "xnnpack" else "BUILTIN_REF"
    oracle = Oracle(write(graph), rounding, resolver=resolver)
    rng = np.random.default_rng(0)
    with build(graph, rounding=rounding) as model:
        for _ in range(6):
            x = (rng.standard_normal((2, 9, 8, 6)) * rng.choice([0.0, 0.01, 3.0, 50.0], (2, 1, 1, 1))).astype(
                np.float32
            )
            found, expected = model(x), oracle([x])[0]
            assert np.abs(found - expected).max() <= 1e-6 * max(np.ptp(expected), 1e-6)


def test_hybrid_per_channel_has_no_twin() -> None:
    """What has no twin says so, and is not computed some other way."""
    with pytest.raises(NotImplementedError, match="no twin for CONV_2D of float32 with int8 weights"):
        run(hybrid_conv(3, 1, per_channel=True), [np.zeros((2, 9, 8, 5), np.float32)], "tflite")

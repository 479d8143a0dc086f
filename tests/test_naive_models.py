"""Whole networks: the twins follow the runtimes through every layer, so that their outputs are equal too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from naive import run
from naive.cases import draw, product
from naive.oracle import Oracle, missing
from tflite_models import SHARED_MODELS

from edgeq.tflite import read

NETWORKS = [
    "mlperf_tiny/ad_toycar_int8",
    "mlperf_tiny/ic_resnet8_int8",
    "mlperf_tiny/kws_dscnn_int8",
    "mlperf_tiny/sww_1dcnn_int8",
    "mlperf_tiny/vww_mobilenetv1_025_96_int8",
    "tflm/hello_world_int8",
    "tflm/micro_speech_quantized",
    "int16/ds_cnn_small_int16",
    "imagenet/mobilenet_v1_0.25_128_quant",
]
FLOAT_NETWORKS = [
    "mlperf_tiny/ad_toycar_float",
    "mlperf_tiny/kws_dscnn_float",
    "mlperf_tiny/vww_mobilenetv1_025_96_float",
    "tflm/hello_world_float",
]


def content_of(name: str) -> bytes:
    """The model file's bytes; skips where the models are not beside the checkout."""
    path: Path = SHARED_MODELS / f"{name}.tflite"
    if not path.exists():
        pytest.skip("the models are not beside this checkout")
    return path.read_bytes()


@pytest.mark.parametrize("rounding", ["tflite", "xnnpack"])
@pytest.mark.parametrize("name", NETWORKS)
def test_twins_equal_runtime_on_network(name: str, rounding: str) -> None:
    """Every output value of an integer network is the runtime's, in both rounding families."""
    if reason := missing(rounding):
        pytest.skip(reason)
    content = content_of(name)
    graph, oracle, rng = read(content), Oracle(content, rounding), np.random.default_rng(0)
    for _ in range(3):
        inputs = draw(graph, rng)
        tensors = run(graph, inputs, rounding)
        for i, expected in zip(graph.outputs, oracle(inputs), strict=True):
            np.testing.assert_array_equal(tensors[i], expected)


@pytest.mark.parametrize("name", FLOAT_NETWORKS)
def test_float_twins_stay_beside_reference_on_network(name: str) -> None:
    """Float networks differ by SOFTMAX's exponential at most: 1e-7 of the output's range."""
    if reason := missing("tflite"):
        pytest.skip(reason)
    content = content_of(name)
    graph, oracle = read(content), Oracle(content, "tflite")
    inputs = draw(graph, np.random.default_rng(0))
    (expected,) = oracle(inputs)
    found = run(graph, inputs, "tflite")[graph.outputs[0]]
    assert np.abs(found - expected).max() <= 1e-7 * max(float(np.ptp(expected)), float(np.abs(expected).max()))


@pytest.mark.parametrize(
    ("rounding", "message"), [("", "rounding must be tflite or xnnpack, got ''"), ("TFLite", "rounding must be")]
)
def test_unknown_rounding_is_refused(rounding: str, message: str) -> None:
    """A family that does not exist is an error, not a default."""
    with pytest.raises(ValueError, match=message):
        run(product("any", "CONV_2D", "int8", per_channel=False).graph, [], rounding)

"""Real float models, where the checkout lies beside them: quantized, they run everywhere, and real quantized ones are
tuned.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from engine_models import samples
from quantize_models import answers, peer_answers, runtimes, sqnr

from edgeq.check import check
from edgeq.graph import Graph
from edgeq.quantize import quantize, recalibrate
from edgeq.recipe import Recipe
from edgeq.tflite import read, write

MODELS = Path(__file__).resolve().parents[1].parent / "shared" / "models"
FLOAT = [
    "mlperf_tiny/ic_resnet8_float",
    "mlperf_tiny/kws_dscnn_float",
    "mlperf_tiny/vww_mobilenetv1_025_96_float",
    "mlperf_tiny/ad_toycar_float",
    "tflm/hello_world_float",
    "imagenet/mobilenet_v1_0.25_128_dequant_float",
    "mediapipe_float/face_detection_short_range",
    "mediapipe_float/hand_landmark_v1",
]
LEAST = {"mediapipe_float/face_detection_short_range": 5.0, "mediapipe_float/hand_landmark_v1": -10.0}
"""dB. Waves show these two neither face nor hand, and depthwise layers that differ a lot between channels lose most of
what int8 can hold; equalisation across layers is what they would need."""

QUANTIZED = [
    "mlperf_tiny/ic_resnet8_int8",
    "mlperf_tiny/kws_dscnn_int8",
    "mlperf_tiny/ad_toycar_int8",
    "mlperf_tiny/sww_1dcnn_int8",
    "imagenet/mobilenet_v1_0.25_128_quant",
    "int16/ds_cnn_small_int16",
]


def model(name: str) -> Graph:
    path = MODELS / f"{name}.tflite"
    if not path.exists():
        pytest.skip(f"{path.name} is not beside the checkout")
    return read(path.read_bytes())


def drawn(graph: Graph, n: int, seed: int) -> list[tuple[np.ndarray, ...]]:
    """Random inputs: smooth, so that they look a little like pictures or spectra, over the quantized input's whole
    range.
    """
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(n):
        x = []
        for i in graph.inputs:
            t = graph.tensors[i]
            if t.dtype == "float32":
                waves = np.sin(np.arange(t.size) * rng.uniform(0.001, 0.3) + rng.uniform(0, 6)) * rng.uniform(0.3, 1)
                x.append((waves + rng.normal(0, 0.2, t.size)).astype(np.float32).reshape(t.shape))
            else:
                x.append(samples(t, rng))
        out.append(tuple(x))
    return out


@pytest.mark.parametrize("name", FLOAT)
def test_float_models(name):
    """Each becomes an int8 model that passes the check, answers alike in every runtime, and is near its float form."""
    graph = model(name)
    inputs = drawn(graph, 6, 0)
    done = quantize(graph, inputs, Recipe("int8", ranges="minmax", bias_correction=False))
    check(read(write(done.graph)))
    assert all(layer.integer or layer.code == "LOGISTIC" for layer in done.layers)
    assert done.sqnr > LEAST.get(name, 15.0)
    ours = answers(done.graph, inputs[:3])
    for runtime in runtimes():
        assert min(sqnr(ours, peer_answers(done.graph, inputs[:3], runtime))) > LEAST.get(name, 15.0), runtime


@pytest.mark.parametrize("name", QUANTIZED)
def test_quantized_models(name):
    """Each is tuned or left alone, keeps its weights, its inputs and its outputs, and still loads everywhere."""
    graph = model(name)
    done = recalibrate(graph, drawn(graph, 8, 0))
    check(read(write(done.graph)))
    for before, after in zip(graph.tensors, done.graph.tensors, strict=False):
        if before.data is not None and before.dtype in ("int8", "uint8"):
            np.testing.assert_array_equal(before.data, after.data)
            np.testing.assert_array_equal(before.quantization.scale, after.quantization.scale)
    for i in (*graph.inputs, *graph.outputs):
        assert graph.tensors[i].quantization.scale == done.graph.tensors[i].quantization.scale
    for runtime in runtimes():
        found = peer_answers(done.graph, drawn(graph, 2, 1), runtime)
        assert all(np.isfinite(y).all() for outputs in found for y in outputs)

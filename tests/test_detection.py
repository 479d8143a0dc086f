"""TFLite_Detection_PostProcess: the engine against both runtimes, and options that are refused."""

from __future__ import annotations

import numpy as np
import pytest
from flatbuffers import flexbuffers
from naive.cases import tensor
from naive.oracle import Oracle, missing

from edgeq.engine import build
from edgeq.errors import CheckError
from edgeq.graph import Graph, Op, SubGraph
from edgeq.plan.flexbuffer import scalars
from edgeq.tflite import write

f32 = np.float32
OPTIONS = {
    "max_detections": 8, "max_classes_per_detection": 1, "detections_per_class": 5, "use_regular_nms": False,
    "nms_score_threshold": 0.3, "nms_iou_threshold": 0.5, "num_classes": 4, "y_scale": 10.0, "x_scale": 10.0, "h_scale": 5.0,
    "w_scale": 5.0,
}  # fmt: skip


def packed(options: dict[str, object]) -> bytes:
    """A flexbuffer's map."""
    return bytes(flexbuffers.Dumps(options))


def post_process(options: dict[str, object], *, n: int = 40, background: int = 1, dtype: str = "float32") -> Graph:
    """A model of the operation, its anchors constant."""
    rng = np.random.default_rng(3)
    classes, many = int(options["num_classes"]) + background, int(options["max_detections"])  # type: ignore[call-overload]
    many *= int(options["max_classes_per_detection"])  # type: ignore[call-overload]
    anchors = np.hstack([rng.uniform(0, 1, (n, 2)), rng.uniform(0.1, 0.5, (n, 2))]).astype(f32)
    fixed = tensor("anchors", (n, 4), "float32", data=anchors)
    if dtype == "uint8":
        fixed = tensor("anchors", (n, 4), "uint8", 1 / 256, 0, data=np.rint(anchors * 255).astype(np.uint8))
    codes = (0.1, 128) if dtype == "uint8" else (None, 0)
    scores = (1 / 256, 0) if dtype == "uint8" else (None, 0)
    tensors = (
        tensor("codes", (1, n, 4), dtype, *codes), tensor("scores", (1, n, classes), dtype, *scores),
        fixed, tensor("boxes", (1, many, 4), "float32"),
        tensor("classes", (1, many), "float32"), tensor("found", (1, many), "float32"), tensor("count", (1,), "float32"),
    )  # fmt: skip
    op = Op(
        "CUSTOM", (0, 1, 2), (3, 4, 5, 6), custom_code="TFLite_Detection_PostProcess", custom_options=packed(options)
    )
    return Graph((SubGraph(tensors, (op,), (0, 1), (3, 4, 5, 6), "main"),), "detections")


CASES = {
    "fast": ({}, {}),
    "fast without background": ({}, {"background": 0}),
    "several classes of a box": ({"max_classes_per_detection": 3}, {}),
    "regular": ({"use_regular_nms": True}, {}),
    "regular, more than there are": ({"use_regular_nms": True, "max_detections": 60, "nms_score_threshold": 0.6}, {}),
    "on uint8": ({}, {"dtype": "uint8"}),
}


@pytest.mark.parametrize("rounding", ["tflite", "xnnpack"])
@pytest.mark.parametrize("name", CASES)
def test_equals_the_runtime(name: str, rounding: str) -> None:
    """As many detections as the runtime finds, of the same classes, with its scores and boxes."""
    if reason := missing(rounding):
        pytest.skip(reason)
    changes, shape = CASES[name]
    graph = post_process({**OPTIONS, **changes}, **shape)
    oracle = Oracle(write(graph), rounding)
    rng = np.random.default_rng(0)
    with build(graph, rounding=rounding) as model:
        for _ in range(5):
            if "uint8" in name:
                inputs = [rng.integers(0, 256, graph.tensors[i].shape).astype(np.uint8) for i in (0, 1)]
            else:
                inputs = [
                    rng.standard_normal(graph.tensors[0].shape).astype(f32),
                    rng.uniform(0, 1, graph.tensors[1].shape).astype(f32),
                ]
            boxes, classes, scores, count = model(dict(zip(graph.input_names(), inputs, strict=True))).values()
            want = oracle(inputs)
            assert count[0] == want[3][0]
            each = int(changes.get("max_classes_per_detection", 1))  # type: ignore[call-overload]
            n = int(count[0]) * each
            np.testing.assert_array_equal(classes[0, :n], want[1][0, :n])
            np.testing.assert_array_equal(scores[0, :n], want[2][0, :n])
            np.testing.assert_allclose(boxes[0, :n], want[0][0, :n], rtol=0, atol=1e-6)


REFUSED = {
    "no options": b"",
    "no map": packed({"a": 1})[:-3] + b"\0\0\0",
    "half a map": packed(OPTIONS)[9:],
    "a missing option": packed({k: v for k, v in OPTIONS.items() if k != "num_classes"}),
    "no detections": packed({**OPTIONS, "max_detections": 0}),
    "more detections than memory": packed({**OPTIONS, "max_detections": 1 << 40}),
    "more classes than scores": packed({**OPTIONS, "num_classes": 90}),
    "an overlap of 0": packed({**OPTIONS, "nms_iou_threshold": 0.0}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_wrong_options_are_refused(name: str) -> None:
    """Options that are no map, lack one, or ask for what cannot be are refused before anything runs."""
    graph = post_process(dict(OPTIONS))
    op = graph.ops[0]
    wrong = Op(op.code, op.inputs, op.outputs, custom_code=op.custom_code, custom_options=REFUSED[name])
    with pytest.raises(CheckError, match="operation 0"):
        build(graph.with_main(ops=(wrong,)))


def test_every_damaged_map_is_read_or_refused() -> None:
    """A map with any one byte changed gives numbers or a ValueError."""
    sound = packed(OPTIONS)
    assert scalars(sound)["num_classes"] == 4
    for at in range(len(sound)):
        for bit in range(8):
            damaged = bytearray(sound)
            damaged[at] ^= 1 << bit
            try:
                scalars(bytes(damaged))
            except ValueError:
                continue

"""Boxes chosen among overlapping ones: NON_MAX_SUPPRESSION_V4 and V5, and the custom TFLite_Detection_PostProcess."""

from __future__ import annotations

import struct

import numpy as np

from edgeq.errors import CheckError
from edgeq.graph import Op
from edgeq.kernels.words import detection as dw
from edgeq.kernels.words import unary as uw
from edgeq.plan.builder import Builder
from edgeq.plan.flexbuffer import scalars
from edgeq.plan.lower.rescale import KIND
from edgeq.plan.types import Ref, Words
from edgeq.records import dataclass

MAX_BOXES = 1 << 20


def scratch(b: Builder, n: int, most: int) -> Words:
    """Room for n boxes."""
    return {dw.VALUES: b.block(4 * n), dw.ORDER: b.block(4 * n), dw.ALIVE: b.block(n), dw.PICKED: b.block(4 * most)}


def suppression(b: Builder, op: Op) -> None:
    """NON_MAX_SUPPRESSION_V4 (indices, count) and V5 (indices, scores, count); the greatest number of boxes is a constant."""
    soft = op.code == "NON_MAX_SUPPRESSION_V5"
    boxes, scores = b.tensor(op, 0), b.tensor(op, 1)
    n = boxes.shape[0] if boxes.shape else 0
    if boxes.shape != (n, 4) or scores.shape != (n,) or boxes.dtype != "float32" or scores.dtype != "float32":
        raise CheckError(
            f"{b.where(op)}: boxes {boxes.dtype}{list(boxes.shape)}, scores {scores.dtype}{list(scores.shape)}"
        )
    given = b.constant_value(op, 2, "int32").reshape(-1)
    if given.size != 1 or not 0 <= int(given[0]) <= MAX_BOXES or n > MAX_BOXES:
        raise CheckError(f"{b.where(op)}: {given.tolist()} boxes, one number up to {MAX_BOXES} is expected")
    most = int(given[0])
    for k in range(3, 6 if soft else 5):
        if b.tensor(op, k).dtype != "float32" or b.tensor(op, k).size != 1:
            raise CheckError(
                f"{b.where(op)}: input {k} is {b.tensor(op, k).dtype}{list(b.tensor(op, k).shape)}, one float"
            )
    last = 2 if soft else 1
    outputs = [("int32", (most,)), *([("float32", (most,))] if soft else []), ("int32", ())]
    for k, (dtype, shape) in enumerate(outputs):
        if b.output(op, k).dtype != dtype or (k == last and b.output(op, k).size != 1):
            raise CheckError(f"{b.where(op)}: output {k} is {b.output(op, k).dtype}, {dtype} is expected")
        if k != last:
            b.expect_shape(op, shape, k)
    places = [b.write(op, k) for k in range(len(outputs))]
    words: Words = {
        dw.BOXES: b.read(op, 0), dw.SCORES: b.read(op, 1), dw.PER_CLASS: b.read(op, 2), dw.LEAST_OVERLAP: b.read(op, 3),
        dw.LEAST_SCORE: b.read(op, 4), dw.N: n, dw.MOST: most, dw.Y_CLASSES: places[0], dw.Y_COUNT: places[-1],
        **scratch(b, max(n, 1), max(most, 1)),
    }  # fmt: skip
    if soft:
        words |= {dw.SOFT: 1, dw.SIGMA: b.read(op, 5), dw.Y_SCORES: places[1]}
    b.emit("suppress", 1, words)


@dataclass(frozen=True)
class Options:
    """What TFLite_Detection_PostProcess is told."""

    max_detections: int
    max_classes_per_detection: int
    detections_per_class: int
    regular: bool
    least_score: float
    least_overlap: float
    classes: int
    scales: tuple[float, float, float, float]  # y, x, h, w


def options(b: Builder, op: Op) -> Options:
    """The custom options, a flexbuffer's map; bounds as detection_postprocess.cc checks them."""
    try:
        found = scalars(op.custom_options or b"")
    except (ValueError, struct.error):
        raise CheckError(f"{b.where(op)}: its options are no map") from None
    try:
        o = Options(
            int(found["max_detections"]), int(found["max_classes_per_detection"]), int(found.get("detections_per_class", 100)),
            bool(found.get("use_regular_nms", False)), float(found["nms_score_threshold"]), float(found["nms_iou_threshold"]),
            int(found["num_classes"]), tuple(float(found[f"{k}_scale"]) for k in "yxhw"),  # type: ignore[arg-type]
        )  # fmt: skip
    except (KeyError, ValueError, OverflowError) as e:
        raise CheckError(f"{b.where(op)}: option {e} is missing or wrong") from None
    small = all(1 <= v <= MAX_BOXES for v in (o.max_detections, o.max_classes_per_detection, o.classes))
    if (
        not small
        or not o.detections_per_class >= 1
        or not 0 < o.least_overlap <= 1
        or not all(s != 0 for s in o.scales)
    ):
        raise CheckError(f"{b.where(op)}: options {o}")
    if o.max_detections * o.max_classes_per_detection > MAX_BOXES:
        raise CheckError(f"{b.where(op)}: {o.max_detections} times {o.max_classes_per_detection} detections")
    return o


def as_float(b: Builder, op: Op, k: int) -> Ref:
    """Input k as float32: dequantized where it is 8 bits."""
    t = b.tensor(op, k)
    if t.dtype == "float32":
        return b.read(op, k)
    if t.dtype not in ("uint8", "int8"):
        raise b.unsupported(op, f"on {t.dtype}")
    target = b.block(4 * t.size)
    words: Words = {uw.FROM: KIND[t.dtype], uw.ZERO_X: b.zero_point(t), uw.SCALE: b.scale(t), uw.Y: target}
    b.emit("dequantize_f32", t.size, {**words, uw.X: b.read(op, k)})
    return target


def detection_post_process(b: Builder, op: Op) -> None:
    """Box codes (1, n, ≥ 4), class scores (1, n, classes with or without a background), anchors (n, 4) → boxes, classes,
    scores and their number.
    """
    if len(op.inputs) != 3 or len(op.outputs) != 4:
        raise CheckError(f"{b.where(op)}: {len(op.inputs)} inputs and {len(op.outputs)} outputs, 3 and 4 are expected")
    codes, scores, anchors, o = b.tensor(op, 0), b.tensor(op, 1), b.tensor(op, 2), options(b, op)
    n = codes.shape[1] if len(codes.shape) == 3 else 0
    sound = codes.shape[:1] == (1,) and 1 <= n <= MAX_BOXES and codes.shape[2] >= 4 and anchors.shape == (n, 4)
    if not sound or len(scores.shape) != 3 or scores.shape[:2] != (1, n):
        raise CheckError(
            f"{b.where(op)}: codes {list(codes.shape)}, scores {list(scores.shape)}, anchors {list(anchors.shape)}"
        )
    offset = scores.shape[2] - o.classes
    if offset not in (0, 1):
        raise CheckError(
            f"{b.where(op)}: {scores.shape[2]} scores for {o.classes} classes; as many or one more are expected"
        )
    room = o.max_detections if o.regular else o.max_detections * o.max_classes_per_detection
    listed = o.max_detections * o.max_classes_per_detection
    for k, shape in enumerate(((1, listed, 4), (1, listed), (1, listed), (1,))):
        t = b.output(op, k)
        if t.dtype != "float32":
            raise CheckError(f"{b.where(op)}: output {k} is {t.dtype}, float32 is expected")
        if t.shape != shape:  # detection_postprocess.cc sizes its outputs itself, whatever the file says
            b.reshape(op, shape, k)
    places = [b.write(op, k) for k in range(4)]
    inputs = [as_float(b, op, k) for k in range(3)]
    least = float(np.float32(o.least_score))
    words: Words = {
        dw.BOXES: inputs[0], dw.SCORES: inputs[1], dw.ANCHORS: inputs[2], dw.N: n, dw.CODES: codes.shape[2],
        dw.CLASSES: scores.shape[2], dw.OFFSET: offset, dw.Y_BOXES: places[0], dw.Y_CLASSES: places[1],
        dw.Y_SCORES: places[2], dw.Y_COUNT: places[3], dw.MOST: o.max_detections, dw.EACH: o.max_classes_per_detection,
        dw.PER_CLASS: o.detections_per_class, dw.REGULAR: int(o.regular), dw.LEAST_SCORE: least,
        dw.LEAST_OVERLAP: o.least_overlap, dw.SCALE_Y: o.scales[0], dw.SCALE_X: o.scales[1], dw.SCALE_H: o.scales[2],
        dw.SCALE_W: o.scales[3], dw.DECODED: b.block(16 * n), dw.MERGED: b.block(4 * room),
        dw.MERGED_SCORES: b.block(4 * room), **scratch(b, n, o.max_detections),
    }  # fmt: skip
    b.emit("detect", 1, words)


LOWERINGS = {"NON_MAX_SUPPRESSION_V4": suppression, "NON_MAX_SUPPRESSION_V5": suppression}
CUSTOM_LOWERINGS = {"TFLite_Detection_PostProcess": detection_post_process}

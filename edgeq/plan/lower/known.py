"""Custom operations that are common enough to be known by name."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping

import numpy as np

from edgeq.errors import CheckError
from edgeq.graph import Op, Padding, Table, Tensor
from edgeq.plan.builder import Builder
from edgeq.plan.lower import detection
from edgeq.plan.lower.transposed import transpose_conv
from edgeq.records import replace


def transpose_conv_bias(b: Builder, op: Op) -> None:
    """MediaPipe's Convolution2DTransposeBias: x, weights (out, h, w, in), bias; options padding, stride width, stride height.

    Source: mediapipe/util/tflite/operations/transpose_conv_bias.cc; its options are a TfLiteTransposeConvParams.
    """
    x, w = b.tensor(op, 0), b.tensor(op, 1)
    raw = op.custom_options or b""
    if len(raw) < 12 or len(x.shape) != 4 or len(w.shape) != 4 or len(op.inputs) != 3:
        raise CheckError(f"{b.where(op)}: {len(raw)} bytes of options, input {list(x.shape)}, weights {list(w.shape)}")
    padding, stride_w, stride_h = struct.unpack("<iii", raw[:12])  # kTfLitePaddingSame is 1, Valid 2
    if padding not in (1, 2) or not 1 <= stride_w <= 64 or not 1 <= stride_h <= 64:
        raise CheckError(f"{b.where(op)}: padding {padding}, strides {stride_h} and {stride_w}")
    size = [d * s for d, s in zip(x.shape[1:3], (stride_h, stride_w), strict=True)]
    if padding == 2:
        size = [d + max(k - s, 0) for d, k, s in zip(size, w.shape[1:3], (stride_h, stride_w), strict=True)]
    shape = np.array([x.shape[0], *size, w.shape[0]], np.int32)
    b.expect_shape(op, tuple(shape.tolist()))
    b.tensors.append(Tensor("shape", (4,), "int32", shape))
    options = {
        "padding": Padding.SAME if padding == 1 else Padding.VALID, "stride_w": stride_w, "stride_h": stride_h,
        "fused_activation_function": 0, "quantized_bias_type": 0,
    }  # fmt: skip
    inputs = (len(b.tensors) - 1, op.inputs[1], op.inputs[0], op.inputs[2])
    transpose_conv(b, replace(op, code="TRANSPOSE_CONV", inputs=inputs, options=Table("TransposeConvOptions", options)))


def of_mediapipe(name: str) -> Callable[[Builder, Op], None]:
    """One of edgeq.plan.lower.mediapipe's, imported when a model has it."""

    def lowering(b: Builder, op: Op) -> None:
        from edgeq.plan.lower import mediapipe

        mediapipe.LOWERINGS[name](b, op)

    return lowering


MEDIAPIPE = (
    "MaxPoolingWithArgmax2D", "MaxUnpooling2D", "Landmarks2TransformMatrix", "TransformTensorBilinear", "TransformLandmarks",
)  # fmt: skip

LOWERINGS: Mapping[str, Callable[[Builder, Op], None]] = {
    **detection.CUSTOM_LOWERINGS,
    "Convolution2DTransposeBias": transpose_conv_bias,
    **{name: of_mediapipe(name) for name in MEDIAPIPE},
}
"""Name → lowering."""

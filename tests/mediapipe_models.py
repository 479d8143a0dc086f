"""MediaPipe's custom operations as models of one operation."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping

from flatbuffers import flexbuffers

from edgeq.graph import Graph, Op, SubGraph, Tensor


def one(
    code: str, shapes: list[tuple[int, ...]], outputs: list[tuple[int, ...]], options: bytes | None, version: int = 1
) -> Graph:
    """A model of one custom operation on float32."""
    tensors = [Tensor(f"x{k}", s, "float32") for k, s in enumerate(shapes)]
    tensors += [Tensor(f"y{k}", s, "float32") for k, s in enumerate(outputs)]
    ends = tuple(range(len(shapes), len(tensors)))
    op = Op("CUSTOM", tuple(range(len(shapes))), ends, custom_code=code, custom_options=options, version=version)
    return Graph((SubGraph(tuple(tensors), (op,), op.inputs, ends, "main"),), code)


def window(padding: int, stride: int, width: int, height: int) -> bytes:
    """TfLitePoolParams."""
    return struct.pack("<iiiiii", padding, stride, stride, width, height, 0)


CHOSEN = [3, 0, 7, 5, 1]

MODELS: Mapping[str, Callable[[], Graph]] = {
    "MaxPoolingWithArgmax2D": lambda: one(
        "MaxPoolingWithArgmax2D", [(2, 5, 7, 3)], [(2, 3, 4, 3)] * 2, window(1, 2, 3, 2)
    ),
    "MaxUnpooling2D": lambda: one("MaxUnpooling2D", [(2, 3, 4, 3)] * 2, [(2, 6, 8, 3)], window(1, 2, 2, 2)),
    "Landmarks2TransformMatrix": lambda: one(
        "Landmarks2TransformMatrix", [(1, 9, 3)], [(1, 4, 4)],
        bytes(flexbuffers.Dumps({
            "left_rotation_idx": 2, "right_rotation_idx": 6, "output_height": 5, "output_width": 7, "scale_x": 1.5,
            "scale_y": 1.25, "subset_idxs": CHOSEN, "target_rotation_radians": 0.3,
        })), 2,
    ),
    "TransformTensorBilinear": lambda: one(
        "TransformTensorBilinear", [(1, 6, 9, 2), (1, 4, 4)], [(1, 5, 4, 2)],
        bytes(flexbuffers.Dumps({"output_height": 5, "output_width": 4})), 2,
    ),
    "TransformLandmarks": lambda: one("TransformLandmarks", [(1, 9, 3), (1, 4, 4)], [(1, 9, 3)], None, 2),
}  # fmt: skip

"""Models of one operation on matrices, rows, segments and boxes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from edgeq.graph import Tensor

from .cases import Case, constant, generator, single, tensor

f32 = np.float32


def matrices() -> Iterator[Case]:
    """BATCH_MATMUL in each type, transposed and broadcast; FULLY_CONNECTED with computed weights."""
    shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], bool, bool]] = {
        "": ((2, 3, 5, 7), (2, 3, 7, 6), (2, 3, 5, 6), False, False),
        " transposed": ((2, 7, 5), (2, 6, 7), (2, 5, 6), True, True),
        " by one matrix": ((3, 5, 7), (6, 7), (3, 5, 6), False, True),
        " broadcast": ((2, 1, 5, 7), (3, 7, 6), (2, 3, 5, 6), False, False),
        " of wide rows": ((2, 3), (3, 1100), (2, 1100), False, False),
    }
    for dtype in ("float32", "int8", "int16"):
        for what, (a, b, y, adj_x, adj_y) in shapes.items():
            name = f"BATCH_MATMUL {dtype}{what}"
            scales = {"float32": (None,) * 3, "int8": (0.05, 0.03, 0.31), "int16": (3e-4, 2e-4, 6e-3)}[dtype]
            zeros = (3, -7, 11) if dtype == "int8" else (0, 0, 0)
            x, w, out = (
                tensor(n, s, dtype, scale, z) for n, s, scale, z in zip("xwy", (a, b, y), scales, zeros, strict=True)
            )
            yield Case(name, single("BATCH_MATMUL", [x, w], out, "BatchMatMulOptions", adj_x=adj_x, adj_y=adj_y))
    for asymmetric in (False, True):
        name = f"BATCH_MATMUL hybrid{' asymmetric' if asymmetric else ''}"
        rng = generator(name)
        w = tensor("w", (7, 6), "int8", 0.02, 0, data=rng.integers(-127, 128, (7, 6)).astype(np.int8))
        graph = single(
            "BATCH_MATMUL", [tensor("x", (2, 5, 7), "float32"), w], tensor("y", (2, 5, 6), "float32"), "BatchMatMulOptions",
            adj_x=False, adj_y=False, asymmetric_quantize_inputs=asymmetric,
        )  # fmt: skip
        yield Case(name, graph, {}, ("tflite",) if asymmetric else ("xnnpack",))
    for dtype, scales in (("float32", (None,) * 3), ("int8", (0.05, 0.03, 0.31)), ("uint8", (0.05, 0.03, 0.31))):
        zero = {"float32": 0, "int8": 5, "uint8": 130}[dtype]
        x, w, y = (
            tensor(n, s, dtype, scale, zero)
            for n, s, scale in zip("xwy", ((30, 7), (60, 7), (30, 60)), scales, strict=True)
        )
        graph = single("FULLY_CONNECTED", [x, w], y, "FullyConnectedOptions", fused_activation_function=0)
        yield Case(f"FULLY_CONNECTED {dtype} with computed weights", graph)


def rows() -> Iterator[Case]:
    """L2_NORMALIZATION, LOG_SOFTMAX, LOCAL_RESPONSE_NORMALIZATION, L2_POOL_2D."""
    for dtype in ("float32", "int8", "uint8"):
        zero = 128 if dtype == "uint8" else 0
        x = tensor("x", (3, 4, 19), dtype, None if dtype == "float32" else 0.07, zero + 3 if zero else 5)
        y = tensor("y", (3, 4, 19), dtype, None if dtype == "float32" else 1 / 128, zero)
        yield Case(f"L2_NORMALIZATION {dtype}", single("L2_NORMALIZATION", [x], y, "L2NormOptions"))
        y = tensor("y", (3, 4, 19), dtype, None if dtype == "float32" else 16 / 256, 255 if zero else 127)
        yield Case(f"LOG_SOFTMAX {dtype}", single("LOG_SOFTMAX", [x], y, "LogSoftmaxOptions"))
    x, y = tensor("x", (1, 3, 4, 11), "float32"), tensor("y", (1, 3, 4, 11), "float32")
    options = {"radius": 2, "bias": 1.5, "alpha": 0.3, "beta": 0.75}
    graph = single("LOCAL_RESPONSE_NORMALIZATION", [x], y, "LocalResponseNormalizationOptions", **options)
    yield Case("LOCAL_RESPONSE_NORMALIZATION float32", graph)


def places() -> Iterator[Case]:
    """ONE_HOT, segments, REVERSE_SEQUENCE, BUCKETIZE, SPARSE_TO_DENSE, diagonals."""
    for dtype in ("float32", "int8", "uint8", "int32", "int64", "bool"):
        values = [tensor("on", (), dtype), tensor("off", (), dtype)]
        for axis, shape in ((-1, (2, 3, 5)), (1, (2, 5, 3))):
            graph = single(
                "ONE_HOT", [tensor("i", (2, 3), "int32"), constant("depth", 5), *values], tensor("y", shape, dtype),
                "OneHotOptions", axis=axis,
            )  # fmt: skip
            yield Case(f"ONE_HOT {dtype} along {axis}", graph, {0: (-1, 7)})
    for dtype in ("float32", "int32"):
        x = tensor("x", (4, 3), dtype)
        graph = single(
            "SEGMENT_SUM", [x, constant("ids", [0, 0, 1, 2])], tensor("y", (3, 3), dtype), "SegmentSumOptions"
        )
        yield Case(f"SEGMENT_SUM {dtype}", graph)
        for code, options in UNSORTED.items():
            ids, count = tensor("ids", (4,), "int32"), constant("n", 3)
            yield Case(
                f"{code} {dtype}", single(code, [x, ids, count], tensor("y", (3, 3), dtype), options), {1: (-1, 3)}
            )
    for dtype in ("float32", "int8", "uint8", "int16", "int32", "int64"):
        for step, batch in ((1, 0), (0, 2), (2, 1)):
            shape = (3, 4, 5)
            x, y = like(dtype, "x", shape), like(dtype, "y", shape)
            graph = single(
                "REVERSE_SEQUENCE", [x, tensor("n", (shape[batch],), "int32")], y, "ReverseSequenceOptions", seq_dim=step,
                batch_dim=batch,
            )  # fmt: skip
            unlike = ("tflite", "xnnpack") if dtype == "int8" else ()
            yield Case(f"REVERSE_SEQUENCE {dtype} {step} {batch}", graph, {1: (0, shape[step] + 1)}, unlike)
    for dtype in ("float32", "int32", "int64"):
        graph = single(
            "BUCKETIZE", [tensor("x", (3, 7), dtype)], tensor("y", (3, 7), "int32"), "BucketizeOptions",
            boundaries=np.array([-2.0, 0.0, 0.5, 3.0], f32),
        )  # fmt: skip
        yield Case(f"BUCKETIZE {dtype}", graph, {0: (-5, 6)})
    for dtype in ("float32", "int8", "uint8", "int32", "int64"):
        inputs = [
            constant("i", [[0, 1], [2, 3]]),
            constant("shape", [3, 4]),
            tensor("v", (2,), dtype),
            tensor("d", (), dtype),
        ]
        graph = single(
            "SPARSE_TO_DENSE", inputs, tensor("y", (3, 4), dtype), "SparseToDenseOptions", validate_indices=False
        )
        yield Case(f"SPARSE_TO_DENSE {dtype}", graph)
    for dtype in ("float32", "int8", "uint8", "int16", "int32", "int64"):
        d = tensor("d", (2, 3), dtype)
        x, y = tensor("x", (2, 3, 4), dtype), tensor("y", (2, 3, 4), dtype)
        yield Case(f"MATRIX_SET_DIAG {dtype}", single("MATRIX_SET_DIAG", [x, d], y, "MatrixSetDiagOptions"))


UNSORTED = {f"UNSORTED_SEGMENT_{n.upper()}": f"UnsortedSegment{n}Options" for n in ("Sum", "Prod", "Max", "Min")}


def like(dtype: str, name: str, shape: Sequence[int]) -> Tensor:
    """A tensor, with a scale where the type has one."""
    scale: Any = 0.05 if dtype in ("int8", "uint8") else 1e-3 if dtype == "int16" else None
    return tensor(name, shape, dtype, scale, 0)


def boxes() -> Iterator[Case]:
    """NON_MAX_SUPPRESSION_V4 and V5."""
    n, most = 30, 12
    for code, soft, options in (
        ("NON_MAX_SUPPRESSION_V4", 0.0, "NonMaxSuppressionV4Options"),
        ("NON_MAX_SUPPRESSION_V5", 0.0, "NonMaxSuppressionV5Options"),
        ("NON_MAX_SUPPRESSION_V5", 0.5, "NonMaxSuppressionV5Options"),
    ):
        rng = generator(code)
        corner, size = rng.uniform(0, 3, (n, 2)), rng.uniform(-1, 2, (n, 2))
        rest = [constant("n", most), constant("iou", 0.4, "float32"), constant("least", 0.2, "float32")]
        outputs = [tensor("y", (most,), "int32"), tensor("count", (), "int32")]
        if code.endswith("5"):
            rest.append(constant("sigma", soft, "float32"))
            outputs.insert(1, tensor("s", (most,), "float32"))
        fixed = tensor("boxes", (n, 4), "float32", data=np.hstack([corner, corner + size]).astype(f32))
        graph = single(code, [fixed, tensor("scores", (n,), "float32"), *rest], outputs, options)
        yield Case(f"{code} float32{' soft' if soft else ''}", graph, {0: (0, 1)})


def cases() -> Iterator[Case]:
    """All of them."""
    yield from matrices()
    yield from rows()
    yield from places()
    yield from boxes()

"""Models of one operation that moves values, in every type that can be moved."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from edgeq.graph import Tensor

from .cases import Case, constant, generator, scale_for, single, tensor, zero_for

QUANTIZED = ("int8", "uint8", "int16")
NUMBERS = ("float32", "int8", "uint8", "int16", "int32", "int64")
ANY = (*NUMBERS, "bool")

MOVES: dict[str, tuple[tuple[int, ...], list[Any], tuple[int, ...], str | None, dict[str, Any]]] = {
    "TRANSPOSE of four": ((2, 3, 4, 5), [[3, 1, 0, 2]], (5, 3, 2, 4), "TransposeOptions", {}),
    "TRANSPOSE of images": ((2, 5, 7, 3), [[0, 3, 1, 2]], (2, 3, 5, 7), "TransposeOptions", {}),
    "TRANSPOSE of a matrix": ((37, 19), [[1, 0]], (19, 37), "TransposeOptions", {}),
    "SLICE": ((4, 5, 6), [[1, 0, 2], [2, -1, 3]], (2, 5, 3), "SliceOptions", {}),
    "SLICE of rows": ((9, 6), [[3, 0], [4, 6]], (4, 6), "SliceOptions", {}),
    "TILE": ((2, 3, 4), [[2, 1, 3]], (4, 3, 12), "TileOptions", {}),
    "BROADCAST_TO": ((3, 1, 5), [[2, 3, 4, 5]], (2, 3, 4, 5), "BroadcastToOptions", {}),
    "EXPAND_DIMS": ((3, 4), [1], (3, 1, 4), "ExpandDimsOptions", {}),
    "REVERSE_V2": ((2, 3, 4, 5), [[2]], (2, 3, 4, 5), "ReverseV2Options", {}),
    "MIRROR_PAD reflect": ((3, 5, 4), [[[1, 2], [0, 4], [3, 1]]], (6, 9, 8), "MirrorPadOptions", {"mode": 0}),
    "MIRROR_PAD symmetric": ((3, 5, 4), [[[3, 2], [0, 5], [4, 1]]], (8, 10, 9), "MirrorPadOptions", {"mode": 1}),
    "SPACE_TO_BATCH_ND": (
        (2, 6, 8, 3), [[2, 4], [[0, 2], [1, 3]]], (16, 4, 3, 3), "SpaceToBatchNDOptions", {}
    ),
    "SPACE_TO_BATCH_ND along one": ((2, 6, 3), [[3], [[1, 2]]], (6, 3, 3), "SpaceToBatchNDOptions", {}),
    "BATCH_TO_SPACE_ND": (
        (12, 4, 3, 3), [[2, 3], [[1, 0], [0, 2]]], (2, 7, 7, 3), "BatchToSpaceNDOptions", {}
    ),
    "SPACE_TO_DEPTH": ((2, 6, 4, 3), [], (2, 3, 2, 12), "SpaceToDepthOptions", {"block_size": 2}),
    "DEPTH_TO_SPACE": ((2, 3, 2, 18), [], (2, 9, 6, 2), "DepthToSpaceOptions", {"block_size": 3}),
    "SQUEEZE": ((1, 3, 1, 4), [], (3, 4), "SqueezeOptions", {"squeeze_dims": (0, 2)}),
    "STRIDED_SLICE of a new axis and an ellipsis": (
        (3, 4, 5, 6), [[0, 0, 0, 4], [1, 0, 0, 1], [1, 1, 1, -1]], (1, 3, 4, 5, 3), "StridedSliceOptions",
        {"new_axis_mask": 1, "ellipsis_mask": 2, "end_mask": 4},
    ),
    "STRIDED_SLICE that shrinks": (
        (3, 4, 5), [[1, 0, -1], [2, 4, 0], [1, 2, 1]], (2,), "StridedSliceOptions",
        {"shrink_axis_mask": 5},
    ),
    "GATHER along 0": ((6, 5), [[5, 0, 3, 3]], (4, 5), "GatherOptions", {"axis": 0}),
    "GATHER along 1": ((2, 6, 5), [[[5, 0], [3, 3]]], (2, 2, 2, 5), "GatherOptions", {"axis": 1}),
    "GATHER with shared dimensions": (
        (2, 6, 5), [[[5, 0, 1], [3, 3, 2]]], (2, 3, 5), "GatherOptions", {"axis": 1, "batch_dims": 1}
    ),
    "GATHER_ND": ((4, 5, 6), [[[3, 4], [0, 0], [1, 2]]], (3, 6), "GatherNdOptions", {}),
    "GATHER_ND of single values": ((4, 5), [[[3, 4], [0, 0], [1, 2]]], (3,), "GatherNdOptions", {}),
}  # fmt: skip
"""Name → shape, constants behind the input, output's shape, options."""


def like(name: str, shape: Sequence[int], dtype: str, case: str) -> Tensor:
    """A tensor of any type; quantized ones share the case's scale and zero point."""
    rng = generator(case)
    if dtype not in QUANTIZED:
        return tensor(name, shape, dtype)
    return tensor(name, shape, dtype, scale_for(dtype, rng), zero_for(dtype, rng))


def moves() -> Iterator[Case]:
    """One input, constants, one output."""
    for what, (shape, constants, out, options, values) in MOVES.items():
        code = what.split(" ")[0]
        for dtype in ANY:
            name = f"{code} {dtype}{what[len(code) :]}"
            rest = [constant(f"c{k}", c) for k, c in enumerate(constants)]
            x, y = like("x", shape, dtype, name), like("y", out, dtype, name)
            unlike = ("tflite",) if "ellipsis" in what else ()  # needs version 6
            yield Case(name, single(code, [x, *rest], y, options, **values), {}, unlike)


def pieces() -> Iterator[Case]:
    """Several outputs or inputs."""
    for dtype in ANY:
        name = f"SPLIT {dtype}"
        x, outs = like("x", (2, 6, 5), dtype, name), [like(f"y{k}", (2, 2, 5), dtype, name) for k in range(3)]
        yield Case(name, single("SPLIT", [constant("axis", 1), x], outs, "SplitOptions", num_splits=3))
        name = f"SPLIT {dtype} of rows"
        x, outs = like("x", (6, 5), dtype, name), [like(f"y{k}", (3, 5), dtype, name) for k in range(2)]
        yield Case(name, single("SPLIT", [constant("axis", 0), x], outs, "SplitOptions", num_splits=2))
        name = f"SPLIT_V {dtype}"
        x, outs = (
            like("x", (2, 9, 3), dtype, name),
            [like(f"y{k}", (2, n, 3), dtype, name) for k, n in enumerate((2, 6, 1))],
        )
        lengths = [constant("lengths", [2, -1, 1]), constant("axis", -2)]
        yield Case(name, single("SPLIT_V", [x, *lengths], outs, "SplitVOptions", num_splits=3))
        name = f"UNPACK {dtype}"
        x, outs = like("x", (2, 3, 5), dtype, name), [like(f"y{k}", (2, 5), dtype, name) for k in range(3)]
        yield Case(name, single("UNPACK", [x], outs, "UnpackOptions", num=3, axis=1))
        name = f"PACK {dtype}"
        ins = [like(f"x{k}", (2, 5), dtype, name) for k in range(3)]
        yield Case(name, single("PACK", ins, like("y", (2, 3, 5), dtype, name), "PackOptions", values_count=3, axis=1))
        name = f"CONCATENATION {dtype} of three"
        ins = [like(f"x{k}", (2, n, 3), dtype, name) for k, n in enumerate((1, 4, 2))]
        yield Case(
            name, single("CONCATENATION", ins, like("y", (2, 7, 3), dtype, name), "ConcatenationOptions", axis=1)
        )
        if dtype in QUANTIZED or dtype == "bool":
            continue
        name = f"PAD {dtype} of three"
        pads = constant("pads", [[1, 0], [0, 2], [3, 1]])
        yield Case(
            name,
            single("PAD", [like("x", (2, 3, 4), dtype, name), pads], like("y", (3, 5, 8), dtype, name), "PadOptions"),
        )
    ins = [tensor(f"x{k}", (3, 50), "uint8", s, z) for k, (s, z) in enumerate(((0.1, 3), (0.07, 131), (0.031, 255)))]
    y = tensor("y", (3, 150), "uint8", 0.1, 3)
    wide = [tensor(n, (2, 3), "int16", scale, 0) for n, scale in (("a", 2e-4), ("b", 3e-4))]
    joined = tensor("y", (2, 6), "int16", 5e-4, 0)
    yield Case(
        "CONCATENATION int16 of unequal scales", single("CONCATENATION", wide, joined, "ConcatenationOptions", axis=1)
    )
    yield Case("CONCATENATION uint8 of unequal scales", single("CONCATENATION", ins, y, "ConcatenationOptions", axis=1))


def values() -> Iterator[Case]:
    """A value that is given: PADV2, FILL, ZEROS_LIKE; and values that are summed up: SCATTER_ND, CUMSUM."""
    for dtype in NUMBERS:
        name = f"PADV2 {dtype}"
        value = Tensor("v", (), dtype, np.array(7, dtype), like("v", (), dtype, name).quantization)
        pads = constant("pads", [[1, 0], [0, 2], [3, 1]])
        yield Case(
            name,
            single(
                "PADV2",
                [like("x", (2, 3, 4), dtype, name), pads, value],
                like("y", (3, 5, 8), dtype, name),
                "PadV2Options",
            ),
        )
        name = f"DYNAMIC_UPDATE_SLICE {dtype}"
        ins = [like("x", (4, 5, 3), dtype, name), like("u", (2, 1, 3), dtype, name), tensor("at", (3,), "int32")]
        yield Case(name, single("DYNAMIC_UPDATE_SLICE", ins, like("y", (4, 5, 3), dtype, name)), {2: (-3, 8)})
        for kind in ("int32", "int64"):
            name = f"GATHER {dtype} by computed {kind}"
            ins = [like("x", (2, 6, 5), dtype, name), tensor("at", (3, 2), kind)]
            yield Case(
                name, single("GATHER", ins, like("y", (2, 3, 2, 5), dtype, name), "GatherOptions", axis=1), {1: (0, 6)}
            )
            name = f"GATHER_ND {dtype} by computed {kind}"
            ins = [like("x", (4, 4, 5), dtype, name), tensor("at", (3, 2), kind)]
            yield Case(name, single("GATHER_ND", ins, like("y", (3, 5), dtype, name), "GatherNdOptions"), {1: (0, 4)})
        name = f"EMBEDDING_LOOKUP {dtype}"
        rows = like("rows", (7, 5), dtype, name)
        ins = [tensor("at", (4,), "int32"), rows]
        yield Case(name, single("EMBEDDING_LOOKUP", ins, like("y", (4, 5), dtype, name)), {0: (0, 7)})
        if dtype in ("int16",):
            continue
        name = f"SCATTER_ND {dtype}"
        at = constant("at", [[3, 4], [0, 0], [1, 2], [3, 4]])
        ins = [at, like("u", (4, 3), dtype, name), constant("shape", [4, 5, 3])]
        yield Case(name, single("SCATTER_ND", ins, like("y", (4, 5, 3), dtype, name), "ScatterNdOptions"))
    for dtype in ("float32", "int32", "int64"):
        y = tensor("y", (2, 3, 4), dtype)
        ins = [tensor("x", (2, 3, 4), dtype)]
        yield Case(f"ZEROS_LIKE {dtype}", single("ZEROS_LIKE", ins, y, "ZerosLikeOptions"))
        for exclusive in (False, True):
            for reverse in (False, True):
                name = f"CUMSUM {dtype}{' exclusive' if exclusive else ''}{' reverse' if reverse else ''}"
                graph = single(
                    "CUMSUM", [*ins, constant("axis", 1)], y, "CumsumOptions", exclusive=exclusive, reverse=reverse
                )
                yield Case(name, graph, {} if dtype == "float32" else {0: (-1000, 1000)})
    for dtype in ("float32", "int32", "int64", "int8", "int16", "bool"):
        name = f"FILL {dtype}"
        yield Case(
            name,
            single(
                "FILL",
                [constant("shape", [2, 3]), like("v", (), dtype, name)],
                like("y", (2, 3), dtype, name),
                "FillOptions",
            ),
        )


def orders() -> Iterator[Case]:
    """ARG_MAX, ARG_MIN, TOPK_V2."""
    for dtype in ("float32", "int8", "uint8", "int16", "int32", "int64", "bool"):
        for code in ("ARG_MAX", "ARG_MIN"):
            for axis, shape in ((1, (4, 3)), (-1, (4, 50))):
                for to in ("int32", "int64"):
                    name = f"{code} {dtype} along {axis} to {to}"
                    ins = [like("x", (4, 50, 3), dtype, name), constant("axis", axis)]
                    graph = single(
                        code,
                        ins,
                        tensor("y", shape, to),
                        f"Arg{code[4:].capitalize()}Options",
                        output_type=2 if to == "int32" else 4,
                    )
                    yield Case(name, graph, {0: (0, 9)} if dtype != "float32" else {})
        for n, k in ((50, 5), (50, 50), (8, 0), (300, 130)) if dtype != "bool" else ():
            name = f"TOPK_V2 {dtype} {k} of {n}"
            outs = [like("y", (3, k), dtype, name), tensor("at", (3, k), "int32")]
            graph = single("TOPK_V2", [like("x", (3, n), dtype, name), constant("k", k)], outs, "TopKV2Options")
            unlike = () if k else ("tflite",)  # frees memory twice
            yield Case(name, graph, {} if dtype in ("float32", "bool") else {0: (0, 9)}, unlike)


def cases() -> list[Case]:
    """All of them."""
    return [*moves(), *pieces(), *values(), *orders()]

"""Models whose shapes depend on what they are fed, with inputs for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edgeq.graph import Graph, Op, SubGraph, Tensor
from edgeq.tflite.schema import table

f32 = np.float32
Feeds = Sequence[np.ndarray]


def opened(name: str, shape: Sequence[int], dtype: str = "float32") -> Tensor:
    """A tensor whose lengths the file leaves open; −1 is written as 1."""
    return Tensor(name, tuple(abs(d) for d in shape), dtype, shape_signature=tuple(shape), has_rank=True)


def constant(name: str, values: object, dtype: str = "int32") -> Tensor:
    """A constant."""
    data = np.asarray(values, dtype)
    return Tensor(name, data.shape, dtype, data)


def fed(code: str, x: Tensor | None, *others: Tensor, rank: int = 1, dtype: str = "float32", outputs: int = 1,
        kinds: Sequence[str] = (), **options: Any) -> Graph:  # fmt: skip
    """One operation; everything that is no constant is an input of the model, and the outputs' lengths are open."""
    inputs = ([x] if x is not None else []) + list(others)
    ys = [opened(f"y{k}", (-1,) * rank, (kinds or [dtype] * outputs)[k]) for k in range(outputs)]
    name: str | None = {
        "RESIZE_BILINEAR": "ResizeBilinearOptions",
        "TOPK_V2": "TopKV2Options",
        "PADV2": "PadV2Options",
        "SPACE_TO_BATCH_ND": "SpaceToBatchNDOptions",
    }.get(code, "".join(w.capitalize() for w in code.split("_")) + "Options")
    facts = {"BROADCAST_ARGS": None, "SUM": "ReducerOptions"}
    name = facts.get(code, name)
    told = table(name, **options) if name else None
    op = Op(code, tuple(range(len(inputs))), tuple(range(len(inputs), len(inputs) + outputs)), told)
    fed_ones = tuple(i for i, t in enumerate(inputs) if t.data is None)
    return Graph((SubGraph((*inputs, *ys), (op,), fed_ones, op.outputs, "main"),), code)


def ints(*values: Any, dtype: str = "int32") -> np.ndarray:
    """An array of integers; a single list, or values."""
    return np.array(values[0] if len(values) == 1 and isinstance(values[0], (list, tuple)) else values, dtype)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    """Random floats."""
    return np.random.default_rng(seed).standard_normal(shape).astype(f32)


def vector(name: str, length: int, dtype: str = "int32") -> Tensor:
    """An input of so many integers."""
    return Tensor(name, (length,), dtype)


X3 = ("x", (2, 3, 4))
IMAGE = ("x", (1, 5, 7, 3))


def _x(at: tuple[str, tuple[int, ...]], dtype: str = "float32") -> Tensor:
    return Tensor(at[0], at[1], dtype)


def _scalar(name: str, dtype: str = "int32") -> Tensor:
    return Tensor(name, (), dtype)


SINGLE: Mapping[str, tuple[Callable[[], Graph], list[Feeds]]] = {
    "SLICE": (lambda: fed("SLICE", _x(X3), vector("b", 3), vector("s", 3), rank=3),
              [(noise(2, 3, 4), ints(0, 1, 0), ints(1, 2, 4)), (noise(2, 3, 4), ints(1, 0, 2), ints(-1, -1, 1))]),
    "RESHAPE": (lambda: fed("RESHAPE", _x(X3), vector("s", 2), rank=2),
                [(noise(2, 3, 4), ints(6, 4)), (noise(2, 3, 4), ints(3, -1)), (noise(2, 3, 4), ints(1, 24))]),
    "FILL": (lambda: fed("FILL", vector("d", 2), _scalar("v", "float32"), rank=2),
             [(ints(2, 3), np.array(1.5, f32)), (ints(1, 7), np.array(-2, f32))]),
    "RANGE": (lambda: fed("RANGE", _scalar("a"), _scalar("b"), _scalar("c"), dtype="int32"),
              [tuple(np.array(v, np.int32) for v in w) for w in ((0, 5, 1), (9, 0, -2), (3, 4, 5))]),
    "RANGE of floats": (lambda: fed("RANGE", *(_scalar(n, "float32") for n in "abc")),
                        [tuple(np.array(v, f32) for v in w) for w in ((0, 1, 0.1), (3, -1, -0.7))]),
    "BROADCAST_TO": (lambda: fed("BROADCAST_TO", Tensor("x", (3, 1), "float32"), vector("s", 3), rank=3),
                     [(noise(3, 1), ints(2, 3, 4)), (noise(3, 1), ints(1, 3, 1))]),
    "TILE": (lambda: fed("TILE", _x(X3), vector("m", 3), rank=3), [(noise(2, 3, 4), ints(1, 2, 3))]),
    "PAD": (lambda: fed("PAD", _x(X3), Tensor("p", (3, 2), "int32"), rank=3),
            [(noise(2, 3, 4), ints([[0, 1], [2, 0], [1, 1]])), (noise(2, 3, 4), ints([[0, 0], [0, 0], [0, 3]]))]),
    "MIRROR_PAD": (lambda: fed("MIRROR_PAD", _x(X3), Tensor("p", (3, 2), "int32"), rank=3, mode=0),
                   [(noise(2, 3, 4), ints([[0, 1], [2, 0], [1, 1]]))]),
    "TRANSPOSE": (lambda: fed("TRANSPOSE", _x(X3), vector("p", 3), rank=3),
                  [(noise(2, 3, 4), ints(2, 0, 1)), (noise(2, 3, 4), ints(1, 0, 2))]),
    "EXPAND_DIMS": (lambda: fed("EXPAND_DIMS", _x(X3), vector("a", 1), rank=4),
                    [(noise(2, 3, 4), ints([1])), (noise(2, 3, 4), ints([-1]))]),
    "STRIDED_SLICE": (lambda: fed("STRIDED_SLICE", _x(X3), *(vector(n, 3) for n in "bes"), rank=3),
                      [(noise(2, 3, 4), ints(0, 0, 3), ints(2, 3, 0), ints(1, 2, -1))]),
    "RESIZE_BILINEAR": (lambda: fed("RESIZE_BILINEAR", _x(IMAGE), vector("s", 2), rank=4),
                        [(noise(1, 5, 7, 3), ints(10, 4)), (noise(1, 5, 7, 3), ints(3, 3))]),
    "TOPK_V2": (lambda: fed("TOPK_V2", _x(X3), _scalar("k"), rank=3, outputs=2, kinds=["float32", "int32"]),
                [(noise(2, 3, 4), np.array(k, np.int32)) for k in (1, 3)]),
    "ONE_HOT": (lambda: fed("ONE_HOT", vector("i", 4), _scalar("n"), constant("on", 1.0, "float32"),
                            constant("off", 0.0, "float32"), rank=2, axis=-1),
                [(ints(0, 2, 1, 3), np.array(n, np.int32)) for n in (3, 6)]),
    "SUM": (lambda: fed("SUM", _x(X3), vector("a", 1), rank=2, keep_dims=False) , [(noise(2, 3, 4), ints([1]))]),
    "ARG_MAX": (lambda: fed("ARG_MAX", _x(X3), vector("a", 1), rank=2, kinds=["int64"], output_type=4),
                [(noise(2, 3, 4), ints([0])), (noise(2, 3, 4), ints([2]))]),
    "SPACE_TO_BATCH_ND": (lambda: fed("SPACE_TO_BATCH_ND", Tensor("x", (1, 4, 6, 2), "float32"), vector("b", 2),
                                      Tensor("p", (2, 2), "int32"), rank=4),
                          [(noise(1, 4, 6, 2), ints(2, 3), ints([[0, 0], [0, 0]]))]),
    "WHERE": (lambda: fed("WHERE", Tensor("x", (2, 5), "bool"), rank=2, dtype="int64"),
              [(noise(2, 5, seed=k) > 0.3,) for k in range(3)]),
    "WHERE of floats": (lambda: fed("WHERE", Tensor("x", (7,), "float32"), rank=2, dtype="int64"),
                        [(np.array([0, 1, 0, -2, 0.5, 0, 0], f32),)]),
    "UNIQUE": (lambda: fed("UNIQUE", Tensor("x", (9,), "float32"), outputs=2, kinds=["float32", "int32"], idx_out_type=2),
               [(np.array([3, 1, 3, 2, 1, 1, 9, 2, 3], f32),), (np.arange(9, dtype=f32),)]),
    "BROADCAST_ARGS": (lambda: fed("BROADCAST_ARGS", vector("a", 2), vector("b", 3), dtype="int32"),
                       [(ints(3, 1), ints(2, 1, 4))]),
    "SEGMENT_SUM": (lambda: fed("SEGMENT_SUM", Tensor("x", (4, 3), "float32"), vector("i", 4), rank=2),
                    [(noise(4, 3), ints(0, 0, 1, 2)), (noise(4, 3), ints(0, 1, 2, 3))]),
    "SPARSE_TO_DENSE": (lambda: fed("SPARSE_TO_DENSE", vector("i", 2), vector("s", 1), constant("v", [5, 6]),
                                    constant("d", 0), dtype="int32", validate_indices=False),
                        [(ints(1, 3), ints([5])), (ints(0, 1), ints([2]))]),
}  # fmt: skip
"""Operation → its model, and inputs."""


def _chain(tensors: Sequence[Tensor], ops: Sequence[Op], inputs: Sequence[int], outputs: Sequence[int],
           *more: SubGraph) -> Graph:  # fmt: skip
    return Graph((SubGraph(tuple(tensors), tuple(ops), tuple(inputs), tuple(outputs), "main"), *more))


def masked() -> Graph:
    """Rows of x whose sum is above 0, doubled: WHERE, GATHER_ND, MUL."""
    tensors = [
        Tensor("x", (6, 3), "float32"), constant("axes", [1]), Tensor("sums", (6,), "float32"),
        constant("zero", 0.0, "float32"), Tensor("above", (6,), "bool"), opened("at", (-1, 1), "int64"),
        opened("rows", (-1, 3)), constant("two", 2.0, "float32"), opened("y", (-1, 3)),
    ]  # fmt: skip
    ops = [
        Op("SUM", (0, 1), (2,), table("ReducerOptions", keep_dims=False)),
        Op("GREATER", (2, 3), (4,), table("GreaterOptions")),
        Op("WHERE", (4,), (5,), table("WhereOptions")),
        Op("GATHER_ND", (0, 5), (6,), table("GatherNdOptions")),
        Op("MUL", (6, 7), (8,), table("MulOptions")),
    ]
    return _chain(tensors, ops, (0,), (5, 8))


def detected() -> Graph:
    """Boxes that suppression leaves, as many as there are: NON_MAX_SUPPRESSION_V4, SLICE by its count, GATHER."""
    tensors = [
        Tensor("boxes", (8, 4), "float32"), Tensor("scores", (8,), "float32"), constant("most", 5),
        constant("iou", 0.5, "float32"), constant("least", 0.2, "float32"), Tensor("chosen", (5,), "int32"),
        Tensor("count", (), "int32"), constant("begin", [0]),
        Tensor("size", (1,), "int32"), opened("some", (-1,), "int32"), opened("y", (-1, 4)), constant("one", [1]),
    ]  # fmt: skip
    ops = [
        Op("NON_MAX_SUPPRESSION_V4", (0, 1, 2, 3, 4), (5, 6), table("NonMaxSuppressionV4Options")),
        Op("RESHAPE", (6, 11), (8,), table("ReshapeOptions", new_shape=(1,))),
        Op("SLICE", (5, 7, 8), (9,), table("SliceOptions")),
        Op("GATHER", (0, 9), (10,), table("GatherOptions", axis=0)),
    ]
    return _chain(tensors, ops, (0, 1), (9, 10))


def chosen() -> Graph:
    """Σx > 0 ? x : the first two columns of x: branches of different shapes, and their sum along the rows."""
    tensors = [
        Tensor("x", (2, 3), "float32"), constant("axes", [0, 1]), Tensor("sum", (), "float32"),
        constant("zero", 0.0, "float32"), Tensor("above", (), "bool"), opened("part", (2, -1)), constant("last", [1]),
        Tensor("y", (2,), "float32"),
    ]  # fmt: skip
    ops = [
        Op("SUM", (0, 1), (2,), table("ReducerOptions", keep_dims=False)),
        Op("GREATER", (2, 3), (4,), table("GreaterOptions")),
        Op("IF", (4, 0), (5,), table("IfOptions", then_subgraph_index=1, else_subgraph_index=2)),
        Op("SUM", (5, 6), (7,), table("ReducerOptions", keep_dims=False)),
    ]
    whole = SubGraph((Tensor("x", (2, 3), "float32"), constant("one", 1.0, "float32"), Tensor("y", (2, 3), "float32")),
                     (Op("MUL", (0, 1), (2,), table("MulOptions")),), (0,), (2,), "whole")  # fmt: skip
    part = SubGraph(
        (Tensor("x", (2, 3), "float32"), constant("b", [0, 0]), constant("s", [2, 2]), Tensor("y", (2, 2), "float32")),
        (Op("SLICE", (0, 1, 2), (3,), table("SliceOptions")),), (0,), (3,), "part",
    )  # fmt: skip
    return _chain(tensors, ops, (0,), (5, 7), whole, part)


def growing() -> Graph:
    """y starts as x and takes its last row's double behind it, n times: a loop whose tensor grows."""
    tensors = [Tensor("n", (), "int32"), Tensor("x", (1, 2), "float32"), constant("start", 0), Tensor("i'", (), "int32"),
               Tensor("n'", (), "int32"), opened("y", (-1, 2))]  # fmt: skip
    ops = [Op("WHILE", (2, 0, 1), (3, 4, 5), table("WhileOptions", cond_subgraph_index=1, body_subgraph_index=2))]
    round_ = [Tensor("i", (), "int32"), Tensor("n", (), "int32"), opened("rows", (-1, 2))]
    condition = SubGraph((*round_, Tensor("less", (), "bool")), (Op("LESS", (0, 1), (3,), table("LessOptions")),), (0, 1, 2),
                         (3,), "cond")  # fmt: skip
    body = SubGraph(
        (*round_, constant("one", 1), Tensor("next", (), "int32"), constant("b", [-1, 0]), constant("e", [0, 2]),
         constant("s", [1, 1]), Tensor("last", (1, 2), "float32"), Tensor("double", (1, 2), "float32"), opened("more", (-1, 2))),
        (
            Op("ADD", (0, 3), (4,), table("AddOptions")),
            Op("STRIDED_SLICE", (2, 5, 6, 7), (8,), table("StridedSliceOptions", end_mask=1)),
            Op("ADD", (8, 8), (9,), table("AddOptions")),
            Op("CONCATENATION", (2, 9), (10,), table("ConcatenationOptions", axis=0)),
        ),
        (0, 1, 2), (4, 1, 10), "body",
    )  # fmt: skip
    return _chain(tensors, ops, (0, 1), (3, 5), condition, body)


def counted() -> Graph:
    """A variable that counts, and as many elements of x as it has counted: state beside a shape that follows from it."""
    handle = Op("VAR_HANDLE", (), (1,), table("VarHandleOptions", container="", shared_name="n"))
    tensors = [Tensor("x", (6,), "float32"), Tensor("h", (), "resource"), Tensor("old", (1,), "int32"), constant("one", [1]),
               Tensor("new", (1,), "int32"), constant("begin", [0]), opened("y", (-1,)), opened("z", (-1,))]  # fmt: skip
    ops = [
        Op("CALL_ONCE", (), (), table("CallOnceOptions", init_subgraph_index=1)), handle,
        Op("READ_VARIABLE", (1,), (2,), table("ReadVariableOptions")), Op("ADD", (2, 3), (4,), table("AddOptions")),
        Op("ASSIGN_VARIABLE", (1, 4), (), table("AssignVariableOptions")),
        Op("SLICE", (0, 5, 4), (6,), table("SliceOptions")), Op("ADD", (6, 6), (7,), table("AddOptions")),
    ]  # fmt: skip
    init = SubGraph((Tensor("h", (), "resource"), constant("zero", [0])), (
        Op("VAR_HANDLE", (), (0,), table("VarHandleOptions", container="", shared_name="n")),
        Op("ASSIGN_VARIABLE", (0, 1), (), table("AssignVariableOptions"))), (), (), "init")  # fmt: skip
    return _chain(tensors, ops, (0,), (7,), init)


def _boxes(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    corner, size = rng.random((8, 2)), 0.2 + 0.5 * rng.random((8, 2))
    return np.concatenate([corner, corner + size], 1).astype(f32)


WHOLE: Mapping[str, tuple[Callable[[], Graph], list[Feeds]]] = {
    "rows by a mask": (masked, [(noise(6, 3, seed=k),) for k in range(4)]),
    "detections": (detected, [(_boxes(k), np.random.default_rng(k).random(8).astype(f32)) for k in range(4)]),
    "branches of different shapes": (chosen, [(noise(2, 3, seed=k),) for k in range(6)]),
    "a loop that grows": (growing, [(np.array(n, np.int32), noise(1, 2, seed=n)) for n in (0, 1, 5, 3, 5)]),
    "state beside shapes": (counted, [(noise(6, seed=k),) for k in range(4)]),
}
"""Name → a model of several pieces, and inputs, one run after another."""

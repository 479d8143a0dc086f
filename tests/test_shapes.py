"""New input shapes, followed through every operation, against what the runtimes find."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq.check import check
from edgeq.errors import CheckError, InputError, UnsupportedError
from edgeq.graph import Graph, Op, Signature, SubGraph, Tensor
from edgeq.plan.lower import LOWERINGS
from edgeq.shapes import resize
from edgeq.shapes.rules import RULES
from edgeq.tflite import read, write
from edgeq.tflite.schema import table
from tests import engine_models
from tests.naive.oracle import MODULES, RESOLVERS, missing
from tests.tflite_models import float_mlp, int8_cnn, shared_weights

SHARED = Path(__file__).resolve().parents[1].parent / "shared" / "models"


class State(tuple[int, ...]):
    """The shape of a variable."""


@dataclass(frozen=True)
class Case:
    """An operation on inputs that are shapes (fed) or arrays (constant), and other shapes for the fed ones, in order."""

    code: str
    inputs: Sequence[Any]
    other: Sequence[tuple[int, ...]]
    options: Any = None
    outputs: int = 1
    dtype: str = "float32"
    to: str | tuple[str, ...] = "float32"
    fed: tuple[str, ...] = field(default=())


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def single(case: Case) -> Graph:
    """The case as a model whose outputs are not yet shaped."""
    tensors = []
    for k, x in enumerate(case.inputs):
        if isinstance(x, np.ndarray):
            tensors.append(Tensor(f"c{k}", x.shape, x.dtype.name, x, buffer=k + 1))
        else:
            dtype = case.fed[k] if case.fed else case.dtype
            tensors.append(Tensor(f"x{k}", tuple(x), dtype, is_variable=isinstance(x, State)))
    inputs = tuple(k for k, x in enumerate(case.inputs) if not isinstance(x, np.ndarray | State))
    outputs = tuple(range(len(tensors), len(tensors) + case.outputs))
    types = (case.to,) * case.outputs if isinstance(case.to, str) else case.to
    tensors += [Tensor(f"y{k}", (1,), t) for k, t in enumerate(types)]
    op = Op(case.code, tuple(range(len(case.inputs))), outputs, case.options)
    return Graph((SubGraph(tuple(tensors), (op,), inputs, outputs),))


def weights(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def conv(**options: int) -> Any:
    return table("Conv2DOptions", **{"stride_h": 1, "stride_w": 1, **options})


def pool(**options: int) -> Any:
    return table("Pool2DOptions", **{"stride_h": 2, "stride_w": 1, "filter_height": 3, "filter_width": 2, **options})


def sliced(**masks: Any) -> Any:
    return table("StridedSliceOptions", **masks)


X = (1, 6, 8, 4)
CASES = {
    "CONV_2D same": Case("CONV_2D", [X, weights(5, 3, 3, 4), weights(5)], [(3, 9, 7, 4)], conv(stride_h=2)),
    "CONV_2D valid": Case("CONV_2D", [X, weights(5, 3, 2, 4), weights(5)], [(2, 9, 9, 4)], conv(padding=1, stride_w=3)),
    "CONV_2D dilated": Case(
        "CONV_2D", [X, weights(5, 3, 3, 4), weights(5)], [(2, 11, 9, 4)], conv(padding=1, dilation_h_factor=2)
    ),
    "DEPTHWISE_CONV_2D": Case(
        "DEPTHWISE_CONV_2D",
        [X, weights(1, 3, 3, 8), weights(8)],
        [(2, 5, 9, 4)],
        table("DepthwiseConv2DOptions", stride_h=2, stride_w=2, depth_multiplier=2),
    ),
    "TRANSPOSE_CONV": Case(
        "TRANSPOSE_CONV",
        [ints(1, 12, 16, 3), weights(3, 3, 3, 4), X],
        [(1, 6, 8, 4)],
        table("TransposeConvOptions", stride_h=2, stride_w=2),
    ),
    "AVERAGE_POOL_2D": Case("AVERAGE_POOL_2D", [X], [(3, 7, 5, 4)], pool()),
    "MAX_POOL_2D valid": Case("MAX_POOL_2D", [X], [(1, 9, 11, 4)], pool(padding=1)),
    "FULLY_CONNECTED": Case("FULLY_CONNECTED", [(1, 8), weights(5, 8)], [(6, 8)], table("FullyConnectedOptions")),
    "FULLY_CONNECTED of rows": Case(
        "FULLY_CONNECTED", [(1, 3, 8), weights(5, 8)], [(2, 4, 8)], table("FullyConnectedOptions")
    ),
    "FULLY_CONNECTED keeps dimensions": Case(
        "FULLY_CONNECTED", [(1, 3, 8), weights(5, 8)], [(2, 4, 8)], table("FullyConnectedOptions", keep_num_dims=True)
    ),
    "BATCH_MATMUL": Case("BATCH_MATMUL", [(2, 3, 4), (2, 4, 5)], [(7, 2, 4), (7, 4, 6)], table("BatchMatMulOptions")),
    "BATCH_MATMUL transposed": Case(
        "BATCH_MATMUL", [(2, 3, 4), (1, 5, 4)], [(7, 3, 6), (1, 2, 6)], table("BatchMatMulOptions", adj_y=True)
    ),
    "ADD broadcast": Case("ADD", [(1, 4, 3), (1, 3)], [(5, 4, 3), (4, 1)], table("AddOptions")),
    "SUB scalar": Case("SUB", [(2, 3), np.array(2, np.float32)], [(4, 3)], table("SubOptions")),
    "MAXIMUM": Case("MAXIMUM", [(2, 3), (1, 3)], [(4, 3), (1, 3)]),
    "GREATER": Case("GREATER", [(2, 3), (2, 3)], [(4, 3), (1, 3)], to="bool"),
    "SELECT": Case("SELECT", [(2, 3), (2, 3), (2, 3)], [(4, 3), (4, 3), (4, 3)], fed=("bool", "float32", "float32")),
    "SELECT by rows": Case(
        "SELECT", [(2,), (2, 3), (2, 3)], [(4,), (4, 3), (4, 3)], fed=("bool", "float32", "float32")
    ),
    "SELECT_V2": Case(
        "SELECT_V2", [(2, 1), (2, 3), (1, 3)], [(4, 1), (4, 3), (1, 3)], fed=("bool", "float32", "float32")
    ),
    "PRELU": Case("PRELU", [X, weights(1, 1, 4)], [(2, 3, 3, 4)]),
    "SOFTMAX": Case("SOFTMAX", [(1, 5)], [(3, 7)], table("SoftmaxOptions", beta=1.0)),
    "LOG_SOFTMAX": Case("LOG_SOFTMAX", [(1, 5)], [(3, 7)]),
    "L2_NORMALIZATION": Case("L2_NORMALIZATION", [(1, 5)], [(3, 7)], table("L2NormOptions")),
    "TANH": Case("TANH", [(1, 5)], [(3, 7, 2)]),
    "CAST": Case("CAST", [(1, 5)], [(3, 7)], to="int32"),
    "MEAN": Case("MEAN", [X, ints(1, 2)], [(3, 7, 7, 4)], table("ReducerOptions")),
    "MEAN keeps dimensions": Case("MEAN", [X, ints(-1, 1)], [(3, 7, 7, 4)], table("ReducerOptions", keep_dims=True)),
    "SUM of everything": Case("SUM", [(2, 3), ints(0, 1)], [(4, 5)], table("ReducerOptions")),
    "REDUCE_MAX": Case("REDUCE_MAX", [(2, 3), np.array(1, np.int32)], [(4, 5)], table("ReducerOptions")),
    "ARG_MAX": Case("ARG_MAX", [X, ints(-1)], [(2, 3, 3, 9)], table("ArgMaxOptions", output_type=2), to="int32"),
    "RESHAPE": Case("RESHAPE", [X, ints(-1, 48)], [(2, 6, 8, 4)], table("ReshapeOptions")),
    "RESHAPE by option": Case("RESHAPE", [(2, 6)], [(4, 6)], table("ReshapeOptions", new_shape=(-1, 3))),
    "RESHAPE to a scalar": Case("RESHAPE", [(1, 1)], [(1,)], table("ReshapeOptions", new_shape=(0,))),
    "SQUEEZE": Case("SQUEEZE", [(1, 3, 1, 4)], [(1, 5, 1, 6)], table("SqueezeOptions")),
    "SQUEEZE listed": Case("SQUEEZE", [(1, 3, 1, 4)], [(2, 5, 1, 6)], table("SqueezeOptions", squeeze_dims=(-2,))),
    "EXPAND_DIMS": Case("EXPAND_DIMS", [(2, 3), ints(-1)], [(4, 5)]),
    "TRANSPOSE": Case("TRANSPOSE", [(2, 3, 4), ints(2, 0, 1)], [(5, 6, 7)]),
    "PAD": Case("PAD", [X, np.array([[0, 0], [1, 2], [3, 0], [0, 0]], np.int32)], [(2, 3, 3, 4)]),
    "PADV2": Case("PADV2", [(2, 3), np.array([[0, 1], [1, 2]], np.int32), weights(1)], [(4, 5)]),
    "MIRROR_PAD": Case(
        "MIRROR_PAD", [(3, 4), np.array([[0, 1], [1, 2]], np.int32)], [(4, 5)], table("MirrorPadOptions", mode=1)
    ),
    "CONCATENATION": Case("CONCATENATION", [(1, 3), (1, 4)], [(5, 3), (5, 2)], table("ConcatenationOptions", axis=-1)),
    "PACK": Case("PACK", [(2, 3), (2, 3)], [(4, 5), (4, 5)], table("PackOptions", values_count=2, axis=-1)),
    "UNPACK": Case("UNPACK", [(2, 3)], [(2, 7)], table("UnpackOptions", num=2, axis=0), outputs=2),
    "SPLIT": Case("SPLIT", [np.array(1, np.int32), (2, 6)], [(3, 9)], table("SplitOptions", num_splits=3), outputs=3),
    "SPLIT_V": Case(
        "SPLIT_V",
        [(2, 6), ints(2, -1), np.array(-1, np.int32)],
        [(3, 9)],
        table("SplitVOptions", num_splits=2),
        outputs=2,
    ),
    "SLICE": Case("SLICE", [(4, 6), ints(1, 2), ints(2, 3)], [(3, 9)]),
    "STRIDED_SLICE": Case(
        "STRIDED_SLICE", [(4, 6), ints(1, -1), ints(4, 0), ints(2, -2)], [(7, 9)], sliced(begin_mask=1, end_mask=2)
    ),
    "STRIDED_SLICE takes an index": Case(
        "STRIDED_SLICE", [(4, 6), ints(-1, 0), ints(0, 4), ints(1, 1)], [(7, 9)], sliced(shrink_axis_mask=1)
    ),
    "STRIDED_SLICE adds an axis": Case(
        "STRIDED_SLICE",
        [(4, 6), ints(0, 1, 0), ints(0, 5, 0), ints(1, 1, 1)],
        [(7, 9)],
        sliced(new_axis_mask=1, end_mask=4),
    ),
    "STRIDED_SLICE with an ellipsis": Case(
        "STRIDED_SLICE", [(4, 5, 6), ints(0, 1), ints(0, 4), ints(1, 1)], [(7, 8, 9)], sliced(ellipsis_mask=1)
    ),
    "STRIDED_SLICE of leading axes": Case("STRIDED_SLICE", [(4, 6), ints(1), ints(3), ints(1)], [(7, 9)], sliced()),
    "GATHER": Case("GATHER", [(4, 6), ints(0, 2, 3)], [(4, 9)], table("GatherOptions", axis=0)),
    "GATHER in batches": Case(
        "GATHER",
        [(2, 4, 6), np.zeros((2, 3), np.int32)],
        [(2, 4, 9)],
        table("GatherOptions", axis=1, batch_dims=1),
    ),
    "GATHER_ND": Case("GATHER_ND", [(4, 6, 2), np.zeros((3, 2), np.int32)], [(4, 6, 5)]),
    "EMBEDDING_LOOKUP": Case("EMBEDDING_LOOKUP", [(3,), weights(7, 5)], [(4,)], dtype="int32"),
    "TILE": Case("TILE", [(2, 3), ints(2, 4)], [(5, 6)]),
    "TOPK_V2": Case("TOPK_V2", [(2, 9), np.array(3, np.int32)], [(4, 8)], outputs=2, to=("float32", "int32")),
    "BROADCAST_TO": Case("BROADCAST_TO", [(1, 3), ints(4, 3)], [(4, 1)]),
    "SPACE_TO_DEPTH": Case("SPACE_TO_DEPTH", [X], [(2, 4, 6, 4)], table("SpaceToDepthOptions", block_size=2)),
    "DEPTH_TO_SPACE": Case("DEPTH_TO_SPACE", [X], [(2, 4, 6, 4)], table("DepthToSpaceOptions", block_size=2)),
    "SPACE_TO_BATCH_ND": Case(
        "SPACE_TO_BATCH_ND", [X, ints(2, 2), np.array([[0, 0], [1, 1]], np.int32)], [(3, 4, 6, 4)]
    ),
    "BATCH_TO_SPACE_ND": Case(
        "BATCH_TO_SPACE_ND", [(4, 3, 4, 2), ints(2, 2), np.array([[0, 1], [1, 1]], np.int32)], [(8, 2, 5, 2)]
    ),
    "RESIZE_BILINEAR": Case("RESIZE_BILINEAR", [X, ints(5, 9)], [(2, 3, 3, 4)], table("ResizeBilinearOptions")),
    "RESIZE_NEAREST_NEIGHBOR": Case(
        "RESIZE_NEAREST_NEIGHBOR", [X, ints(5, 9)], [(2, 3, 3, 4)], table("ResizeNearestNeighborOptions")
    ),
    "SHAPE": Case("SHAPE", [X], [(2, 3, 3)], table("ShapeOptions", out_type=2), to="int32"),
    "RANK": Case("RANK", [X], [(2, 3)], to="int32"),
    "ONE_HOT": Case(
        "ONE_HOT",
        [(3,), np.array(5, np.int32), np.array(1, np.float32), np.array(0, np.float32)],
        [(2, 4)],
        table("OneHotOptions", axis=-1),
        fed=("int32", "", "", ""),
    ),
    "REVERSE_V2": Case("REVERSE_V2", [(2, 3), ints(1)], [(4, 5)]),
    "CUMSUM": Case("CUMSUM", [(2, 3), np.array(1, np.int32)], [(4, 5)], table("CumsumOptions")),
    "SVDF": Case(
        "SVDF",
        [(2, 5), weights(8, 5), weights(8, 3), weights(4), State((2, 24))],
        [(2, 5)],
        table("SVDFOptions", rank=2),
    ),
}
"""The operations with a rule of their own; those that keep their input's shape are a few of many alike."""


def found_by(rounding: str, content: bytes, shapes: dict[int, Sequence[int]]) -> dict[int, tuple[int, ...]]:
    """Every named tensor's shape after resizing in the runtime; its reference kernels know all, its delegate but the outputs."""
    runtime = import_module(f"{MODULES[rounding]}.interpreter")
    interpreter = runtime.Interpreter(
        model_content=content, experimental_op_resolver_type=runtime.OpResolverType[RESOLVERS[rounding]], num_threads=1
    )
    for i, shape in shapes.items():
        interpreter.resize_tensor_input(i, shape)
    interpreter.allocate_tensors()
    for d in interpreter.get_input_details():
        interpreter.set_tensor(d["index"], np.zeros(d["shape"], d["dtype"]))
    interpreter.invoke()  # what depends on values gets its shape while it runs
    details = interpreter.get_tensor_details() if rounding == "tflite" else interpreter.get_output_details()
    return {d["index"]: tuple(map(int, d["shape"])) for d in details}


def compare(graph: Graph, shapes: dict[int, Sequence[int]], rounding: str) -> None:
    """Our shapes are those of the runtime."""
    if why := missing(rounding):
        pytest.skip(why)
    resized = resize(graph, shapes)
    check(resized)
    try:
        found = found_by(rounding, write(graph), shapes)
    except ValueError as error:
        if rounding == "tflite" and "Didn't find op" in str(error):
            pytest.skip("tflite-runtime 2.14 lacks this version of the operation")
        raise
    ours = {i: t.shape for i, t in enumerate(resized.tensors) if i in found}
    assert ours == {i: s for i, s in found.items() if i < len(resized.tensors)}


@pytest.mark.parametrize("rounding", ["tflite", "xnnpack"])
@pytest.mark.parametrize("name", CASES)
def test_rules_are_the_runtimes(name: str, rounding: str) -> None:
    """One operation, its inputs in other shapes: the outputs' shapes are what the runtime allocates."""
    case = CASES[name]
    graph = resize(single(case), {})
    compare(graph, dict(zip(graph.inputs, case.other, strict=True)), rounding)


def test_every_operation_that_runs_has_a_rule() -> None:
    """Whatever the plan can lower can be resized."""
    walked = {"IF", "WHILE", "CUSTOM", "STABLEHLO_COMPOSITE"}
    without = {"BITCAST", "SCATTER_ND"}  # resizing refuses these two by name
    assert set(LOWERINGS) - set(RULES) - walked - without == set()


# --- whole models -----------------------------------------------------------------------------------------------------


def flatten(batch: int = 1) -> Graph:
    """What converters make of tf.reshape(x, (tf.shape(x)[0], -1)) @ w: a RESHAPE to values computed from a shape."""
    tensors = (
        Tensor("x", (batch, 2, 3), "float32", shape_signature=(-1, 2, 3)),
        Tensor("shape", (3,), "int32"),
        Tensor("0", (1,), "int32", ints(0), buffer=1),
        Tensor("1", (1,), "int32", ints(1), buffer=2),
        Tensor("batch", (), "int32"),
        Tensor("-1", (), "int32", np.array(-1, np.int32), buffer=3),
        Tensor("target", (2,), "int32"),
        Tensor("flat", (batch, 6), "float32"),
        Tensor("w", (4, 6), "float32", np.arange(24, dtype=np.float32).reshape(4, 6), buffer=4),
        Tensor("y", (batch, 4), "float32"),
    )
    ops = (
        Op("SHAPE", (0,), (1,), table("ShapeOptions", out_type=2)),
        Op("STRIDED_SLICE", (1, 2, 3, 3), (4,), sliced(shrink_axis_mask=1)),
        Op("PACK", (4, 5), (6,), table("PackOptions", values_count=2)),
        Op("RESHAPE", (0, 6), (7,), table("ReshapeOptions")),
        Op("FULLY_CONNECTED", (7, 8, -1), (9,), table("FullyConnectedOptions")),
    )
    return Graph((SubGraph(tensors, ops, (0,), (9,)),))


def rescale(arithmetic: str, factor: int) -> Graph:
    """tf.image.resize(x, tf.shape(x)[1:3] ∘ factor): an image size computed from a shape."""
    options = {"MUL": "MulOptions", "FLOOR_DIV": "FloorDivOptions", "ADD": "AddOptions"}[arithmetic]
    tensors = (
        Tensor("x", X, "float32", shape_signature=(-1, -1, -1, 4)),
        Tensor("shape", (4,), "int32"),
        Tensor("1", (1,), "int32", ints(1), buffer=1),
        Tensor("3", (1,), "int32", ints(3), buffer=2),
        Tensor("step", (1,), "int32", ints(1), buffer=3),
        Tensor("size", (2,), "int32"),
        Tensor("factor", (), "int32", np.array(factor, np.int32), buffer=4),
        Tensor("target", (2,), "int32"),
        Tensor("y", (1, 1, 1, 4), "float32"),
    )
    ops = (
        Op("SHAPE", (0,), (1,), table("ShapeOptions", out_type=2)),
        Op("STRIDED_SLICE", (1, 2, 3, 4), (5,), sliced()),
        Op(arithmetic, (5, 6), (7,), table(options)),
        Op("RESIZE_BILINEAR", (0, 7), (8,), table("ResizeBilinearOptions")),
    )
    return Graph((SubGraph(tensors, ops, (0,), (8,)),))


def middle() -> Graph:
    """tf.image.resize(x, tf.split(tf.shape(x), (1, -1, 1))[1] + 3): the part of a shape that SPLIT_V gives."""
    tensors = (
        Tensor("x", X, "float32", shape_signature=(-1, -1, -1, 4)),
        Tensor("shape", (4,), "int32"),
        Tensor("lengths", (3,), "int32", ints(1, -1, 1), buffer=1),
        Tensor("axis", (), "int32", np.array(0, np.int32), buffer=2),
        Tensor("batch", (1,), "int32"),
        Tensor("size", (2,), "int32"),
        Tensor("channels", (1,), "int32"),
        Tensor("three", (), "int32", np.array(3, np.int32), buffer=3),
        Tensor("target", (2,), "int32"),
        Tensor("y", (1, X[1] + 3, X[2] + 3, 4), "float32"),
    )
    ops = (
        Op("SHAPE", (0,), (1,), table("ShapeOptions", out_type=2)),
        Op("SPLIT_V", (1, 2, 3), (4, 5, 6), table("SplitVOptions", num_splits=3)),
        Op("ADD", (5, 7), (8,), table("AddOptions")),
        Op("RESIZE_BILINEAR", (0, 8), (9,), table("ResizeBilinearOptions")),
    )
    return Graph((SubGraph(tensors, ops, (0,), (9,)),))


def branches(then: str, other: str) -> Graph:
    """IF: one unary operation or another on (2, 3)."""
    main = SubGraph(
        (Tensor("c", (), "bool"), Tensor("x", (2, 3), "float32"), Tensor("y", (2, 3), "float32")),
        (Op("IF", (0, 1), (2,), table("IfOptions", then_subgraph_index=1, else_subgraph_index=2)),),
        (0, 1),
        (2,),
    )
    return Graph((main, *(body(code) for code in (then, other))))


def body(code: str) -> SubGraph:
    """A subgraph of one unary operation on (2, 3)."""
    tensors = (Tensor("x", (2, 3), "float32"), Tensor("y", (2, 3), "float32"))
    options = table("ReducerOptions", keep_dims=True) if code == "MEAN" else None
    if code == "MEAN":
        tensors = (tensors[0], Tensor("y", (2, 1), "float32"), Tensor("axis", (1,), "int32", ints(1), buffer=1))
    return SubGraph(tensors, (Op(code, (0, 2) if code == "MEAN" else (0,), (1,), options),), (0,), (1,))


def loop(code: str) -> Graph:
    """WHILE mean over everything < 1: apply the operation."""
    condition = SubGraph(
        (
            Tensor("x", (2, 3), "float32"),
            Tensor("axes", (2,), "int32", ints(0, 1), buffer=1),
            Tensor("mean", (), "float32"),
            Tensor("one", (), "float32", np.array(1, np.float32), buffer=2),
            Tensor("again", (), "bool"),
        ),
        (Op("MEAN", (0, 1), (2,), table("ReducerOptions")), Op("GREATER", (2, 3), (4,), None)),
        (0,),
        (4,),
    )
    main = SubGraph(
        (Tensor("x", (2, 3), "float32"), Tensor("y", (2, 3), "float32")),
        (Op("WHILE", (0,), (1,), table("WhileOptions", cond_subgraph_index=1, body_subgraph_index=2)),),
        (0,),
        (1,),
    )
    return Graph((main, condition, body(code)))


MODELS = {
    "fully connected, batch": (float_mlp(), {0: (4, 8)}),
    "uint8 network, batch and size": (engine_models.conv("uint8"), {0: (3, 11, 9, 5)}),
    "int8 depthwise, size": (engine_models.depthwise("int8", s=2), {0: (2, 15, 17, 19)}),
    "int16 pool": (engine_models.pool("MAX_POOL_2D", "int16"), {0: (3, 9, 9, 5)}),
    "batch through SHAPE and PACK": (flatten(), {0: (5, 2, 3)}),
    "size through MUL": (rescale("MUL", 2), {0: (2, 7, 9, 4)}),
    "size through FLOOR_DIV": (rescale("FLOOR_DIV", 2), {0: (2, 7, 9, 4)}),
    "size through ADD": (rescale("ADD", 3), {0: (1, 7, 9, 4)}),
    "size through SPLIT_V": (middle(), {0: (2, 7, 9, 4)}),
    "IF": (branches("TANH", "RELU"), {1: (5, 7)}),
    "WHILE": (loop("TANH"), {0: (5, 7)}),
}


@pytest.mark.parametrize("rounding", ["tflite", "xnnpack"])
@pytest.mark.parametrize("name", MODELS)
def test_models_take_the_runtimes_shapes(name: str, rounding: str) -> None:
    """Every tensor of a model has the shape that the runtime gives it."""
    graph, shapes = MODELS[name]
    compare(graph, shapes, rounding)


@pytest.mark.parametrize(
    ("path", "shapes"),
    [
        ("imagenet/tf2_mobilenet_v2_1.0_224_ptq.tflite", (3, 224, 224, 3)),
        ("imagenet/tf2_mobilenet_v2_1.0_224_ptq.tflite", (1, 160, 192, 3)),
        ("mlperf_tiny/ad_toycar_int8.tflite", (7, 640)),
        ("mlperf_tiny/ic_resnet8_float.tflite", (4, 32, 32, 3)),
        ("mlperf_tiny/sww_1dcnn_int8.tflite", (2, 30, 1, 40)),
        ("mlperf_tiny/vww_mobilenetv1_025_96_int8.tflite", (2, 96, 96, 3)),
        ("mediapipe_float/face_landmark_fp32.tflite", (1, 192, 192, 3)),
        ("vision_quant/movenet_single_pose_lightning_ptq.tflite", (1, 192, 192, 3)),
        ("vision_quant/deeplabv3_mnv2_dm05_pascal_quant.tflite", (1, 513, 513, 3)),
    ],
)
def test_public_models_take_the_runtimes_shapes(path: str, shapes: tuple[int, ...]) -> None:
    """Networks as they are published, in other batches and sizes."""
    if not (SHARED / path).exists():
        pytest.skip(f"no {path}")
    graph = read((SHARED / path).read_bytes())
    try:
        resized = resize(graph, {graph.inputs[0]: shapes})
    except CheckError:
        with pytest.raises(RuntimeError):
            found_by("tflite", write(graph), {graph.inputs[0]: shapes})
        return
    found = found_by("tflite", write(graph), {graph.inputs[0]: shapes})
    assert {i: t.shape for i, t in enumerate(resized.tensors)} == {
        i: found.get(i, t.shape) for i, t in enumerate(resized.tensors)
    }


@pytest.mark.skipif(not SHARED.exists(), reason="no models to try")
def test_the_models_own_shapes_come_out() -> None:
    """Walking a model with the inputs that it has finds the shapes that its converter wrote."""
    for path in sorted(SHARED.rglob("*.tflite")):
        graph = read(path.read_bytes())
        assert [t.shape for t in resize(graph, {}).tensors] == [t.shape for t in graph.tensors], path.name


# --- what stays, and what is refused ----------------------------------------------------------------------------------


def test_all_but_shapes_stays() -> None:
    """Operations, constants, quantization and names are those of the graph; −1 in a signature stays −1."""
    graph = int8_cnn()
    same = resize(graph, {0: (1, 8, 8, 2)})
    assert all(a is b for a, b in zip(same.tensors, graph.tensors, strict=True))
    graph = float_mlp()
    grown = resize(graph, {0: (4, 8)})
    assert grown.ops is graph.ops
    assert grown.tensors[0].shape_signature == (-1, 8)
    assert grown.tensors[1].data is graph.tensors[1].data
    assert [t.name for t in grown.tensors] == [t.name for t in graph.tensors]
    check(grown)


def test_a_signatures_subgraph_is_resized_alone() -> None:
    """The second subgraph of a model takes its own shapes, the first keeps its."""
    graph = resize(shared_weights(), {0: (9, 4)}, subgraph=1)
    assert isinstance(graph.signatures[1], Signature)
    assert graph.subgraphs[1].tensors[2].shape == (9, 3)
    assert graph.subgraphs[0].tensors[2].shape == (1, 3)


def unknown(touched: bool) -> Graph:
    """An operation without a rule: in the input's way, or beside it."""
    tensors = (
        Tensor("x", (2, 3), "float32"),
        Tensor("z", (2, 3), "float32"),
        *(Tensor(n, (2, 3), "float32") for n in "yw"),
    )
    ops = (Op("CUSTOM", (0 if touched else 1,), (2,), custom_code="Mystery"), Op("TANH", (0,), (3,)))
    return Graph((SubGraph(tensors, ops, (0, 1), (2, 3)),))


def test_what_nothing_touches_keeps_its_shape() -> None:
    """An operation without a rule matters only if something that it reads has changed."""
    assert resize(unknown(touched=False), {0: (5, 3)}).tensors[3].shape == (5, 3)
    with pytest.raises(UnsupportedError, match=r"operation 0 \(Mystery\): edgeq does not know"):
        resize(unknown(touched=True), {0: (5, 3)})


REFUSED = {
    "no input": (float_mlp(), {1: (5, 8)}, InputError, r"tensor 1 is given a shape, one of the inputs \[0\]"),
    "a negative dimension": (float_mlp(), {0: (-1, 8)}, InputError, r"shape \[-1, 8\]"),
    "a huge dimension": (float_mlp(), {0: (2**40, 8)}, InputError, "huge"),
    "rows that do not fit": (float_mlp(), {0: (1, 9)}, CheckError, r"does not make rows of 8"),
    "a RESHAPE to a fixed size": (int8_cnn(), {0: (2, 8, 8, 2)}, CheckError, r"operation 2 \(RESHAPE\): 128 elements"),
    "a window that does not fit": (
        engine_models.conv("int8", same=False), {0: (1, 2, 2, 5)}, CheckError, "a window of 3 does not fit an input of 2",
    ),
    "a state for one row": (single(CASES["SVDF"]), {0: (3, 5)}, CheckError, "a state of 2 rows"),
    "branches that differ": (branches("TANH", "MEAN"), {1: (2, 4)}, UnsupportedError, "branches yield shapes"),
    "a loop that grows": (loop("MEAN"), {0: (5, 7)}, UnsupportedError, "its body turns shapes"),
    "a shape that is fed": (
        single(Case("RESHAPE", [(4, 3), (2,)], [], fed=("float32", "int32"))), {0: (5, 3)}, UnsupportedError,
        "depends on input 1, whose values are known only when the model runs",
    ),
    "a computed shape divided by zero": (rescale("FLOOR_DIV", 0), {0: (1, 7, 9, 4)}, CheckError, "division by 0"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused(name: str) -> None:
    """Shapes that contradict an operation, or that nobody can know, are one clear line."""
    graph, shapes, error, says = REFUSED[name]
    with pytest.raises(error, match=says):
        resize(graph, shapes)

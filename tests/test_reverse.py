"""Reverse mode: values as the engine computes them, gradients as finite differences have them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from quantize_models import Net

from edgeq.engine import Tracer
from edgeq.errors import UnsupportedError
from edgeq.graph import Graph, Op, SubGraph, Tensor
from edgeq.reverse import RULES, Tape
from edgeq.tflite.schema import table

Array = Any


def one(
    code: str,
    shapes: list[tuple[int, ...]],
    out: tuple[int, ...] | list[tuple[int, ...]],
    options: Any = None,
    **fixed: Any,
):
    """A graph of one operation. shapes: of its computed inputs; fixed: constants by position, as k1=…, in the op's order."""

    def make() -> Graph:
        outs = out if isinstance(out, list) else [out]
        at = {int(k[1:]): np.asarray(v) for k, v in fixed.items()}
        tensors, inputs, given = [], [], []
        left = iter(shapes)
        for k in range(len(shapes) + len(at)):
            if k in at:
                tensors.append(Tensor(f"c{k}", at[k].shape, at[k].dtype.name, at[k]))
            else:
                tensors.append(Tensor(f"x{k}", next(left), "float32"))
                given.append(k)
            inputs.append(k)
        first = len(tensors)
        tensors += [Tensor(f"y{k}", s, "float32") for k, s in enumerate(outs)]
        outputs = tuple(range(first, len(tensors)))
        op = Op(code, tuple(inputs), outputs, options)
        return Graph((SubGraph(tuple(tensors), (op,), tuple(given), outputs, "main"),))

    return make


def i32(*values: Any) -> Array:
    return np.array(values, np.int32)


def weights(*shape: int, seed: int = 3) -> Array:
    return np.random.default_rng(seed).normal(0, 0.5, shape).astype(np.float32)


def conv(**options: Any) -> Any:
    return table("Conv2DOptions", **{"stride_h": 1, "stride_w": 1, **options})


def depthwise(**options: Any) -> Any:
    return table("DepthwiseConv2DOptions", **{"stride_h": 1, "stride_w": 1, "depth_multiplier": 1, **options})


def pool(**options: Any) -> Any:
    return table("Pool2DOptions", **{"stride_h": 1, "stride_w": 1, "filter_height": 2, "filter_width": 2, **options})


CASES: dict[str, Callable[[], Graph]] = {
    "conv 3×3, same": one("CONV_2D", [(2, 5, 6, 3)], (2, 5, 6, 4), conv(), k1=weights(4, 3, 3, 3), k2=weights(4)),
    "conv 3×2, stride 2 and 1, valid": one(
        "CONV_2D", [(1, 7, 6, 2)], (1, 3, 5, 3), conv(stride_h=2, padding=1), k1=weights(3, 3, 2, 2), k2=weights(3)
    ),
    "conv dilated, RELU6": one(
        "CONV_2D", [(1, 7, 7, 2)], (1, 7, 7, 3),
        conv(dilation_h_factor=2, dilation_w_factor=2, fused_activation_function=3), k1=weights(3, 3, 3, 2), k2=weights(3),
    ),
    "conv of two groups": one("CONV_2D", [(1, 4, 4, 4)], (1, 4, 4, 6), conv(), k1=weights(6, 3, 3, 2), k2=weights(6)),
    "conv 1×1": one("CONV_2D", [(1, 3, 3, 4)], (1, 3, 3, 5), conv(), k1=weights(5, 1, 1, 4), k2=weights(5)),
    "conv 1×1, stride 2": one(
        "CONV_2D", [(1, 5, 5, 2)], (1, 3, 3, 3), conv(stride_h=2, stride_w=2), k1=weights(3, 1, 1, 2), k2=weights(3)
    ),
    "depthwise": one(
        "DEPTHWISE_CONV_2D", [(1, 5, 5, 3)], (1, 5, 5, 3), depthwise(), k1=weights(1, 3, 3, 3), k2=weights(3)
    ),
    "depthwise, multiplier 2, stride 2": one(
        "DEPTHWISE_CONV_2D", [(1, 6, 5, 2)], (1, 3, 3, 4), depthwise(stride_h=2, stride_w=2, depth_multiplier=2),
        k1=weights(1, 3, 3, 4), k2=weights(4),
    ),
    "fully connected": one(
        "FULLY_CONNECTED", [(3, 5)], (3, 4), table("FullyConnectedOptions", fused_activation_function=1),
        k1=weights(4, 5), k2=weights(4),
    ),
    "fully connected, dimensions kept": one(
        "FULLY_CONNECTED", [(2, 3, 5)], (2, 3, 4), table("FullyConnectedOptions", keep_num_dims=True),
        k1=weights(4, 5), k2=weights(4),
    ),
    "transpose conv, same": one(
        "TRANSPOSE_CONV", [(1, 3, 4, 2)], (1, 6, 8, 3), table("TransposeConvOptions", stride_h=2, stride_w=2),
        k0=i32(1, 6, 8, 3), k1=weights(3, 3, 3, 2),
    ),
    "transpose conv, valid": one(
        "TRANSPOSE_CONV", [(1, 3, 3, 2)], (1, 7, 7, 2), table("TransposeConvOptions", stride_h=2, stride_w=2, padding=1),
        k0=i32(1, 7, 7, 2), k1=weights(2, 3, 3, 2),
    ),
    "transpose conv, gaps": one(
        "TRANSPOSE_CONV", [(1, 2, 2, 2)], (1, 4, 4, 1), table("TransposeConvOptions", stride_h=2, stride_w=2),
        k0=i32(1, 4, 4, 1), k1=weights(1, 1, 1, 2),
    ),
    "matrix product": one(
        "BATCH_MATMUL", [(2, 3, 4), (2, 5, 4)], (2, 3, 5), table("BatchMatMulOptions", adj_y=True)
    ),
    "average pool, same": one("AVERAGE_POOL_2D", [(1, 5, 4, 2)], (1, 3, 2, 2), pool(stride_h=2, stride_w=2)),
    "max pool": one("MAX_POOL_2D", [(1, 5, 4, 2)], (1, 4, 3, 2), pool(padding=1)),
    "mean": one("MEAN", [(2, 3, 4, 5)], (2, 5), table("ReducerOptions"), k1=i32(1, 2)),
    "mean, dimensions kept": one("MEAN", [(2, 3, 4)], (2, 1, 4), table("ReducerOptions", keep_dims=True), k1=i32(-2)),
    "sum": one("SUM", [(2, 3, 4)], (2, 4), table("ReducerOptions"), k1=i32(1)),
    "largest": one("REDUCE_MAX", [(2, 3, 4)], (2, 4), table("ReducerOptions"), k1=i32(1)),
    "softmax": one("SOFTMAX", [(2, 5)], (2, 5), table("SoftmaxOptions", beta=0.7)),
    "log softmax": one("LOG_SOFTMAX", [(2, 5)], (2, 5)),
    "length": one("L2_NORMALIZATION", [(2, 5)], (2, 5), table("L2NormOptions")),
    "add, RELU": one("ADD", [(2, 3, 4), (2, 3, 4)], (2, 3, 4), table("AddOptions", fused_activation_function=1)),
    "add, broadcast": one("ADD", [(2, 3, 4), (2, 1, 4)], (2, 3, 4), table("AddOptions")),
    "subtract": one("SUB", [(2, 3)], (2, 3), table("SubOptions"), k0=weights(3)),
    "multiply": one("MUL", [(2, 3, 4), (2, 3, 4)], (2, 3, 4), table("MulOptions")),
    "divide": one("DIV", [(2, 3)], (2, 3), table("DivOptions"), k1=np.float32([0.5, -2, 3])),
    "squared difference": one("SQUARED_DIFFERENCE", [(2, 3), (2, 3)], (2, 3)),
    "maximum": one("MAXIMUM", [(2, 3), (2, 3)], (2, 3)),
    "minimum": one("MINIMUM", [(2, 3), (2, 3)], (2, 3)),
    "PRELU": one("PRELU", [(2, 3, 4, 2)], (2, 3, 4, 2), k1=np.float32([[[0.1, -0.3]]])),
    "pad": one("PAD", [(1, 2, 3, 2)], (1, 5, 3, 3), k1=i32([0, 0], [1, 2], [0, 0], [0, 1])),
    "mirror pad": one(
        "MIRROR_PAD", [(1, 3, 4)], (1, 6, 5), table("MirrorPadOptions"), k1=i32([0, 0], [2, 1], [1, 0])
    ),
    "concatenation": one("CONCATENATION", [(2, 3), (2, 2)], (2, 5), table("ConcatenationOptions", axis=1)),
    "pack": one("PACK", [(2, 3), (2, 3)], (2, 2, 3), table("PackOptions", axis=1, values_count=2)),
    "unpack": one("UNPACK", [(2, 3)], [(2,), (2,), (2,)], table("UnpackOptions", axis=1, num=3)),
    "split": one("SPLIT", [(2, 6)], [(2, 3), (2, 3)], table("SplitOptions", num_splits=2), k0=i32(1)),
    "slice": one("SLICE", [(2, 5)], (2, 3), k1=i32(0, 1), k2=i32(-1, 3)),
    "strided slice": one(
        "STRIDED_SLICE", [(2, 5, 3)], (2, 2, 3), table("StridedSliceOptions", begin_mask=1, end_mask=5),
        k1=i32(0, 1, 0), k2=i32(0, 5, 0), k3=i32(1, 2, 1),
    ),
    "transpose": one("TRANSPOSE", [(2, 3, 4)], (2, 4, 3), k1=i32(0, 2, 1)),
    "gather": one("GATHER", [(2, 4, 3)], (2, 3, 3), table("GatherOptions", axis=1), k1=i32(3, 0, 3)),
    "space to depth": one("SPACE_TO_DEPTH", [(1, 4, 4, 2)], (1, 2, 2, 8), table("SpaceToDepthOptions", block_size=2)),
    "depth to space": one("DEPTH_TO_SPACE", [(1, 2, 2, 8)], (1, 4, 4, 2), table("DepthToSpaceOptions", block_size=2)),
    "resize, bilinear": one(
        "RESIZE_BILINEAR", [(1, 3, 4, 2)], (1, 5, 7, 2), table("ResizeBilinearOptions", half_pixel_centers=True), k1=i32(5, 7)
    ),
    "resize, bilinear, corners": one(
        "RESIZE_BILINEAR", [(1, 3, 4, 2)], (1, 6, 5, 2), table("ResizeBilinearOptions", align_corners=True), k1=i32(6, 5)
    ),
    "resize, nearest": one(
        "RESIZE_NEAREST_NEIGHBOR", [(1, 3, 4, 2)], (1, 6, 7, 2), table("ResizeNearestNeighborOptions"), k1=i32(6, 7)
    ),
    **{
        code: one(code, [(2, 3, 4, 5)], (2, 3, 4, 5))
        for code in ("RELU", "RELU6", "RELU_N1_TO_1", "LOGISTIC", "TANH", "HARD_SWISH", "ELU", "SQUARE", "ABS", "NEG", "EXP")
    },
    "LEAKY_RELU": one("LEAKY_RELU", [(2, 3)], (2, 3), table("LeakyReluOptions", alpha=0.1)),
    "GELU": one("GELU", [(2, 3)], (2, 3), table("GeluOptions")),
}  # fmt: skip


FORMULAS: dict[str, Callable[..., Array]] = {
    "BATCH_MATMUL": lambda a, b: np.einsum("bmk,bnk->bmn", a, b),
    "LOG_SOFTMAX": lambda x: np.log(np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)),
    "L2_NORMALIZATION": lambda x: x / np.linalg.norm(x, axis=1, keepdims=True),
}
"""What stands for the engine where it may lack an operation."""


def inputs(graph: Graph, n: int, dtype: Any = np.float32, seed: int = 7) -> dict[int, Array]:
    """Values of n inferences, none within a finite difference of a kink at 0, ±1, 3 or 6."""
    rng = np.random.default_rng(seed)
    out = {}
    for i in graph.inputs:
        shape = graph.tensors[i].shape
        x = rng.normal(0, 2, (n * shape[0], *shape[1:]))
        for kink in (-3.0, -1.0, 0.0, 1.0, 3.0, 6.0):
            x = np.where(np.abs(x - kink) < 0.01, x + 0.05, x)
        out[i] = x.astype(dtype)
    return out


@pytest.mark.parametrize("name", CASES)
def test_values_are_the_engines(name: str) -> None:
    """Forward values, of two inferences at once where that is possible, are what the engine computes."""
    graph = CASES[name]()
    tape = Tape(graph, graph.outputs)
    n = 2 if tape.batchable else 1
    given = inputs(graph, n)
    found = tape.forward(given, {})
    formula = FORMULAS.get(graph.ops[0].code)
    run = Tracer(graph).run if formula is None else lambda part: {graph.outputs[0]: formula(*part)}
    for k in range(n):
        part = [x[k * len(x) // n : (k + 1) * len(x) // n] for x in given.values()]
        wanted = run(part)
        for i in graph.outputs:
            mine = found[i][k * len(found[i]) // n : (k + 1) * len(found[i]) // n]
            np.testing.assert_allclose(mine, wanted[i], rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_finite_differences(name: str) -> None:
    """The gradient of a random weighting of the outputs, by every input and float constant, is its finite difference."""
    graph = CASES[name]()
    tape = Tape(graph, graph.outputs)
    given = inputs(graph, 1, np.float64)
    constants = {
        i: np.asarray(t.data, np.float64)
        for i, t in enumerate(graph.tensors)
        if t.data is not None and t.dtype == "float32"
    }
    rng = np.random.default_rng(1)
    found = tape.forward(given, constants)
    weighting = {i: rng.normal(size=found[i].shape) for i in graph.outputs}

    def value() -> float:
        values = Tape(graph, graph.outputs).forward(given, constants)
        return float(sum((values[i] * weighting[i]).sum() for i in graph.outputs))

    # An input's gradient arrives at what follows the input, as a step size's would.
    arrived: dict[int, Array] = {}

    def after(i: int, x: Array) -> Any:
        if i not in graph.inputs:
            return None
        return x, lambda g: arrived.__setitem__(i, g) or g

    tape.forward(given, constants, constants, after, stepped=True)
    gradients = {**tape.backward(weighting), **arrived}
    for i, a in (*given.items(), *constants.items()):
        flat = a.reshape(-1)
        for k in rng.choice(flat.size, min(flat.size, 6), replace=False):
            was, h = flat[k], 1e-5
            flat[k] = was + h
            up = value()
            flat[k] = was - h
            down = value()
            flat[k] = was
            assert gradients[i].reshape(-1)[k] == pytest.approx((up - down) / (2 * h), rel=1e-4, abs=1e-6)


def test_a_network_has_the_gradient_of_its_parts() -> None:
    """Through branches that meet again, and a tensor that two operations read, gradients add up."""
    net = Net((1, 6, 6, 2))
    a = net.conv(0, 4, act=1)
    b = net.depthwise(a, act=3)
    pooled = net.global_pool(net.concat(net.add(a, b), a))
    graph = net.graph(net.dense(net.reshape(pooled, 1, 8), 3))
    constants = {
        i: np.asarray(t.data, np.float64)
        for i, t in enumerate(graph.tensors)
        if t.data is not None and t.dtype == "float32"
    }
    given = inputs(graph, 3, np.float64)
    tape = Tape(graph, graph.outputs)
    assert tape.batchable
    y = tape.forward(given, constants, constants)[graph.outputs[0]]
    weighting = np.random.default_rng(2).normal(size=y.shape)
    gradients = tape.backward({graph.outputs[0]: weighting})
    for i, c in constants.items():
        h, k = 1e-6, c.size // 2
        moved = [{**constants, i: c + s * h * np.eye(1, c.size, k).reshape(c.shape)} for s in (1, -1)]
        up, down = ((tape.forward(given, m)[graph.outputs[0]] * weighting).sum() for m in moved)
        assert gradients[i].reshape(-1)[k] == pytest.approx((up - down) / (2 * h), rel=1e-4, abs=1e-7)


def test_what_has_no_gradient_is_named() -> None:
    """An operation without a rule is refused by name, if it lies on the way to the outputs."""
    graph = one("FLOOR", [(1, 3)], (1, 3))()
    assert "FLOOR" not in RULES
    with pytest.raises(UnsupportedError, match="found FLOOR on the way"):
        Tape(graph, graph.outputs)
    aside = replace(graph.main, tensors=(*graph.tensors, Tensor("z", (1, 3), "float32")))
    aside = replace(aside, ops=(*aside.ops, Op("NEG", (0,), (2,))), outputs=(2,))
    assert Tape(Graph((aside,)), (2,)).path == [1]

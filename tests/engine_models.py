"""Single-operation models with random parameters, each named for what makes it hard."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from edgeq.graph import Graph, Op, Quantization, SubGraph, Tensor
from edgeq.tflite.schema import table

LOW = {"int8": -128, "uint8": 0, "int16": -32768}


def q(scale: Any, zero_point: Any = 0, axis: int = 0) -> Quantization:
    """One scale or one per channel."""
    s = np.atleast_1d(np.asarray(scale, np.float32))
    return Quantization(s, np.broadcast_to(np.asarray(zero_point, np.int64), s.shape).copy(), axis)


def activation(name: str, shape: tuple[int, ...], dtype: str, scale: float, zero_point: int) -> Tensor:
    """A computed tensor; float32 has no quantization, int16 no zero point, uint8 numbers start at 0."""
    if dtype == "float32":
        return Tensor(name, shape, dtype)
    zero = 0 if dtype == "int16" else zero_point + (128 if dtype == "uint8" else 0)
    return Tensor(name, shape, dtype, quantization=q(scale / (256 if dtype == "int16" else 1), zero))


def weights(rng: np.random.Generator, shape: tuple[int, ...], dtype: str, channels: int, axis: int) -> Tensor:
    """Per-channel int8 (per tensor with a zero point for uint8), or floats."""
    if dtype == "float32":
        return Tensor("w", shape, dtype, rng.standard_normal(shape).astype(np.float32), buffer=1)
    if dtype == "uint8":
        return Tensor("w", shape, "uint8", rng.integers(0, 256, shape).astype(np.uint8), q(0.004, 117), buffer=1)
    scales = rng.uniform(0.001, 0.02, channels).astype(np.float32)
    return Tensor("w", shape, "int8", rng.integers(-127, 128, shape).astype(np.int8), q(scales, 0, axis), buffer=1)


def bias(rng: np.random.Generator, channels: int, dtype: str) -> Tensor:
    """What each type's layers add."""
    if dtype == "float32":
        return Tensor("b", (channels,), dtype, rng.standard_normal(channels).astype(np.float32), buffer=2)
    kind = "int64" if dtype == "int16" else "int32"
    return Tensor("b", (channels,), kind, rng.integers(-3000, 3000, channels).astype(kind), buffer=2)


def one(
    op: str, options: Any, tensors: list[Tensor], inputs: tuple[int, ...], order: tuple[int, ...] | None = None
) -> Graph:
    """A graph of one operation whose output is the last tensor."""
    last = len(tensors) - 1
    return Graph(
        (SubGraph(tuple(tensors), (Op(op, order or tuple(range(last)), (last,), options),), inputs, (last,), "main"),)
    )


def out_size(size: int, k: int, stride: int, dilation: int, same: bool) -> int:
    """TFLite's output size."""
    return -(-size // stride) if same else (size + stride - ((k - 1) * dilation + 1)) // stride


def conv(
    dtype: str,
    *,
    n=1,
    h=7,
    w=6,
    c=5,
    out=9,
    kh=3,
    kw=3,
    sh=1,
    sw=1,
    dh=1,
    dw=1,
    same=True,
    act=0,
    groups=1,
    zero=3,
    seed=0,
) -> Graph:
    """CONV_2D; zero: the output's zero point, as int8."""
    rng = np.random.default_rng(seed)
    y = (n, out_size(h, kh, sh, dh, same), out_size(w, kw, sw, dw, same), out)
    options = table(
        "Conv2DOptions", padding=int(not same), stride_h=sh, stride_w=sw, dilation_h_factor=dh, dilation_w_factor=dw,
        fused_activation_function=act,
    )  # fmt: skip
    tensors = [activation("x", (n, h, w, c), dtype, 0.03, -7), weights(rng, (out, kh, kw, c // groups), dtype, out, 0),
               bias(rng, out, dtype), activation("y", y, dtype, 0.07, zero)]  # fmt: skip
    return one("CONV_2D", options, tensors, (0,))


def depthwise(dtype: str, *, n=1, h=8, w=7, c=19, mult=1, kh=3, kw=3, s=1, d=1, same=True, act=1, seed=0) -> Graph:
    """DEPTHWISE_CONV_2D."""
    rng = np.random.default_rng(seed)
    y = (n, out_size(h, kh, s, d, same), out_size(w, kw, s, d, same), c * mult)
    options = table(
        "DepthwiseConv2DOptions", padding=int(not same), stride_h=s, stride_w=s, depth_multiplier=mult, dilation_h_factor=d,
        dilation_w_factor=d, fused_activation_function=act,
    )  # fmt: skip
    tensors = [activation("x", (n, h, w, c), dtype, 0.03, 11), weights(rng, (1, kh, kw, c * mult), dtype, c * mult, 3),
               bias(rng, c * mult, dtype), activation("y", y, dtype, 0.05, -20)]  # fmt: skip
    return one("DEPTHWISE_CONV_2D", options, tensors, (0,))


def dense(dtype: str, *, m=1, k=37, out=21, act=0, with_bias=True, seed=0) -> Graph:
    """FULLY_CONNECTED."""
    rng = np.random.default_rng(seed)
    tensors = [activation("x", (m, k), dtype, 0.03, 5), weights(rng, (out, k), dtype, out, 0)]
    if with_bias:
        tensors.append(bias(rng, out, dtype))
    tensors.append(activation("y", (m, out), dtype, 0.1, 0))
    order = (0, 1, 2) if with_bias else (0, 1, -1)
    return one("FULLY_CONNECTED", table("FullyConnectedOptions", fused_activation_function=act), tensors, (0,), order)


def transpose_conv(dtype: str, *, n=1, h=4, w=5, c=6, out=7, k=3, s=2, same=True, seed=0) -> Graph:
    """TRANSPOSE_CONV."""
    rng = np.random.default_rng(seed)
    size = [d * s if same else (d - 1) * s + k for d in (h, w)]
    shape = (n, *size, out)
    wanted = Tensor("shape", (4,), "int32", np.array(shape, np.int32), buffer=3)
    tensors = [wanted, weights(rng, (out, k, k, c), dtype, out, 0), activation("x", (n, h, w, c), dtype, 0.03, 5),
               bias(rng, out, dtype), activation("y", shape, dtype, 0.1, 0)]  # fmt: skip
    return one(
        "TRANSPOSE_CONV", table("TransposeConvOptions", padding=int(not same), stride_h=s, stride_w=s), tensors, (2,)
    )


def binary(op: str, dtype: str, *, a=(1, 5, 4, 6), b=(1, 5, 4, 6), act=0, constant=False, seed=0) -> Graph:
    """ADD, SUB, MUL, MAXIMUM, MINIMUM."""
    rng = np.random.default_rng(seed)
    kind = {"ADD": "AddOptions", "SUB": "SubOptions", "MUL": "MulOptions"}.get(op, "MaximumMinimumOptions")
    options = table(kind) if op in ("MAXIMUM", "MINIMUM") else table(kind, fused_activation_function=act)
    second = activation("b", b, dtype, 0.02, -30)
    if constant:
        from dataclasses import replace

        second = replace(second, data=samples(second, rng), buffer=1)
    tensors = [activation("a", a, dtype, 0.05, 4), second, activation("y", np.broadcast_shapes(a, b), dtype, 0.06, 10)]
    return one(op, options, tensors, (0,) if constant else (0, 1))


def plain_pair(op: str, dtype: str, *, a=(3, 5, 70), b=(3, 5, 70)) -> Graph:
    """Comparisons and arithmetic of numbers without a scale."""
    y = Tensor(
        "y", np.broadcast_shapes(a, b), "bool" if op in ("LESS", "GREATER_EQUAL", "EQUAL", "NOT_EQUAL") else dtype
    )
    named = {"LESS": "Less", "GREATER_EQUAL": "GreaterEqual", "EQUAL": "Equal", "NOT_EQUAL": "NotEqual"}
    kind = named.get(op, {"SQUARED_DIFFERENCE": "SquaredDifference", "ADD": "Add"}.get(op, "MaximumMinimum"))
    return one(op, table(f"{kind}Options"), [Tensor("a", a, dtype), Tensor("b", b, dtype), y], (0, 1))


def pool(op: str, dtype: str, *, n=1, h=7, w=6, c=5, k=3, s=2, same=True, act=0) -> Graph:
    """AVERAGE_POOL_2D, MAX_POOL_2D."""
    y = (n, out_size(h, k, s, 1, same), out_size(w, k, s, 1, same), c)
    options = table(
        "Pool2DOptions",
        padding=int(not same),
        stride_h=s,
        stride_w=s,
        filter_height=k,
        filter_width=k,
        fused_activation_function=act,
    )
    return one(op, options, [activation("x", (n, h, w, c), dtype, 0.05, -9), activation("y", y, dtype, 0.05, -9)], (0,))


def mean(dtype: str, *, shape=(2, 4, 5, 6), axes=(1, 2), keep=True) -> Graph:
    """MEAN."""
    y = tuple(1 if i in axes else d for i, d in enumerate(shape) if keep or i not in axes)
    tensors = [activation("x", shape, dtype, 0.05, -9), Tensor("axes", (len(axes),), "int32", np.array(axes, np.int32), buffer=1),
               activation("y", y, dtype, 0.03, 6)]  # fmt: skip
    return one("MEAN", table("ReducerOptions", keep_dims=keep), tensors, (0,))


def reduction(op: str, dtype: str, *, shape=(2, 30, 35, 3), axes=(1, 2)) -> Graph:
    """SUM, REDUCE_MAX, REDUCE_MIN."""
    y = tuple(1 if i in axes else d for i, d in enumerate(shape))
    tensors = [activation("x", shape, dtype, 0.05, -9), Tensor("axes", (len(axes),), "int32", np.array(axes, np.int32), buffer=1),
               activation("y", y, dtype, 0.05, -9)]  # fmt: skip
    return one(op, table("ReducerOptions", keep_dims=True), tensors, (0,))


def best(op: str, dtype: str, *, shape=(2, 7, 70), axis=2) -> Graph:
    """ARG_MAX, ARG_MIN."""
    y = Tensor("y", tuple(d for i, d in enumerate(shape) if i != axis), "int32")
    tensors = [
        activation("x", shape, dtype, 0.05, -9),
        Tensor("axis", (), "int32", np.array(axis, np.int32), buffer=1),
        y,
    ]
    return one(op, table(f"Arg{op[4:].capitalize()}Options", output_type=2), tensors, (0,))


def softmax(dtype: str, *, shape=(3, 11), beta=1.0) -> Graph:
    """SOFTMAX."""
    y = Tensor("y", shape, dtype)
    if dtype != "float32":
        y = Tensor(
            "y",
            shape,
            dtype,
            quantization=q(1 / 32768 if dtype == "int16" else 1 / 256, 0 if dtype == "int16" else LOW[dtype]),
        )
    return one("SOFTMAX", table("SoftmaxOptions", beta=beta), [activation("x", shape, dtype, 0.1, 3), y], (0,))


def unary(op: str, dtype: str, *, shape=(1, 37), to: str | None = None, options: Any = None) -> Graph:
    """One value in, one out: QUANTIZE, DEQUANTIZE, RELU, LEAKY_RELU ..."""
    return one(
        op, options, [activation("x", shape, dtype, 0.05, -9), activation("y", shape, to or dtype, 0.06, 6)], (0,)
    )


def samples(t: Tensor, rng: np.random.Generator) -> Any:
    """Random values over the whole of a tensor's type."""
    if t.dtype == "float32":
        return rng.standard_normal(t.shape).astype(np.float32)
    info = np.iinfo(t.dtype)
    return rng.integers(info.min, info.max, t.shape, endpoint=True).astype(t.dtype)


INTEGER = ("int8", "uint8", "int16")
TYPES = ("float32", *INTEGER)


def cases() -> dict[str, Callable[[], Graph]]:
    """Every case by name."""
    out: dict[str, Callable[[], Graph]] = {}

    def add(name: str, make: Callable[..., Graph], *args: Any, types: tuple[str, ...] = TYPES, **kw: Any) -> None:
        for t in types:
            out[f"{name} {t}"] = lambda t=t: make(*args, t, **kw)

    add("conv 3x3, odd channels", conv)
    add("conv 1x1 of many pixels and two tiles of channels", conv, h=11, w=13, c=24, out=70, kh=1, kw=1)
    add("conv of a single pixel", conv, h=1, w=1, c=33, out=17, kh=1, kw=1)
    add("conv strided, valid, relu6", conv, h=9, w=11, sh=2, sw=3, same=False, act=3)
    add("conv dilated, relu", conv, h=9, w=9, dh=2, dw=3, act=1)
    add("conv in three groups", conv, c=6, out=12, groups=3, types=("float32", "int8"))
    add("conv in twelve groups of three", conv, h=9, w=19, c=36, out=24, groups=12, types=("int8", "uint8"))
    add("conv in as many groups as channels", conv, h=9, w=19, c=22, out=22, sh=2, groups=22, types=("int8", "uint8"))
    add("conv of three images, one row high kernel", conv, n=3, kh=1, kw=4)
    add("conv of 3 channels, first layer", conv, h=12, w=12, c=3, out=8, sh=2, sw=2)
    add("conv with 1500 products", conv, h=4, w=4, c=167)
    add("conv whose window exceeds the image", conv, h=2, w=3, kh=5, kw=5)
    for k in (2, 4, 8):  # half a vector of channels: two pixels share one
        add(f"conv of {k} outputs", conv, h=12, w=9, c=3, out=k, sh=2)
    add("conv of 300 outputs", conv, h=3, w=3, c=8, out=300, kh=1, kw=1)
    bytes_ = ("int8", "uint8")
    add("conv over wide rows, 16 to 16", conv, n=2, h=4, w=35, c=16, out=16, act=1, types=bytes_)
    add("conv over wide rows, 12 to 10", conv, h=3, w=20, c=12, out=10, types=bytes_)
    add("conv over wide rows, 3 to 16", conv, n=2, h=4, w=37, c=3, out=16, act=1, types=bytes_)
    add("conv over wide rows, 7 to 4", conv, h=3, w=40, c=7, out=4, types=bytes_)
    add("conv over wide rows, strided, 3 to 8", conv, n=2, h=9, w=67, c=3, out=8, sh=2, sw=2, types=bytes_)
    add("conv over wide rows, 8 to 40", conv, h=3, w=19, c=8, out=40, types=bytes_)
    add("conv over wide rows, 5 to 100, dilated", conv, h=5, w=37, c=5, out=100, dw=2, types=bytes_)
    add("conv 1x1 of 700 pixels", conv, h=20, w=35, c=36, out=24, kh=1, kw=1, types=bytes_)
    add("conv over wide rows, 8 to 24", conv, n=2, h=5, w=46, c=8, out=24, act=1, types=bytes_)
    add("conv over wide rows, 8 to 48", conv, h=5, w=46, c=8, out=48, types=bytes_)
    add("conv 1x1 of 700 pixels to 90", conv, h=20, w=35, c=16, out=90, kh=1, kw=1, act=1, types=bytes_)
    add("conv over wide rows, 4 to 130", conv, n=2, h=5, w=46, c=4, out=130, types=bytes_)
    add("conv 1x1 of 700 pixels to 130", conv, h=20, w=35, c=9, out=130, kh=1, kw=1, act=3, types=bytes_)
    for k in (3, 8, 16, 21):  # steps of a window, from fewer to more than a staggered tile is ahead
        add(f"conv 1x1 of 700 pixels, {k} to 16", conv, h=20, w=35, c=k, out=16, kh=1, kw=1, act=1, types=bytes_)
        add(f"conv 1x1 of 700 pixels, {k} to 72", conv, n=2, h=11, w=35, c=k, out=72, kh=1, kw=1, types=bytes_)
    for k, n in (
        (9, 8),
        (40, 8),
        (100, 8),
        (100, 24),
        (150, 34),
    ):  # sums of activations: parts of vectors, several vectors
        add(f"conv 1x1 of 700 pixels, {k} to {n}", conv, h=20, w=35, c=k, out=n, kh=1, kw=1, types=("uint8",))
    for k, n in (
        (3, 16),
        (16, 72),
        (24, 48),
        (128, 34),
        (129, 34),
    ):  # nothing to add or to clamp; sums below 2^23 or not
        add(f"conv 1x1 of 700 pixels behind a ReLU, {k} to {n}", conv, h=20, w=35, c=k, out=n, kh=1, kw=1, act=1, zero=-128,
            types=bytes_)  # fmt: skip
    add(
        "conv of RGB to 40 behind a ReLU",
        conv,
        n=2,
        h=14,
        w=33,
        c=3,
        out=40,
        sh=2,
        sw=2,
        act=1,
        zero=-128,
        types=bytes_,
    )
    for n in (17, 21, 24, 33, 34, 40):  # two pixels share a vector
        add(f"conv 1x1 of 700 pixels, 20 to {n}", conv, h=20, w=35, c=20, out=n, kh=1, kw=1, act=n % 2, types=bytes_)
        add(f"conv over wide rows, 6 to {n}", conv, n=2, h=5, w=48, c=6, out=n, types=bytes_)
    add("conv 3x3 of lines of 17, 16 to 8", conv, n=2, h=7, w=17, c=16, out=8, types=bytes_)
    add("conv 3x3 of lines of 17, 20 to 16", conv, n=2, h=7, w=17, c=20, out=16, act=1, types=bytes_)
    for k, n in ((1, 72), (2, 96)):  # blocks of four vectors with a narrower one behind them, of few steps
        add(f"conv 3x3 of lines of 36, {k} to {n}", conv, h=9, w=36, c=k, out=n, types=bytes_)
    add("conv over wide rows, 1 to 32", conv, n=2, h=5, w=37, c=1, out=32, types=bytes_)
    add("conv over wide rows, two pixels high, 6 to 32", conv, h=6, w=43, c=6, out=32, kh=2, kw=5, types=bytes_)
    add("conv over wide rows, strided, 2 to 16", conv, h=9, w=67, c=2, out=16, kh=5, sh=2, sw=2, types=bytes_)
    for k in (5, 16, 24, 32, 40):
        add(f"conv of RGB to {k}", conv, n=2, h=14, w=33, c=3, out=k, sh=2, sw=2, act=1, types=bytes_)
    for k in (6, 7, 8, 15):
        add(f"conv of RGB, {k} wide", conv, n=2, h=13, w=k, c=3, out=20, types=bytes_)
    add("conv of RGB, valid, stride 3", conv, n=2, h=16, w=61, c=3, out=32, sh=3, sw=3, same=False, types=bytes_)
    add("conv of RGB, two wide", conv, h=16, w=40, c=3, out=32, kw=2, sh=1, sw=2, types=bytes_)
    add("conv of RGB, dilated", conv, h=16, w=40, c=3, out=32, dh=2, dw=2, types=bytes_)
    add("depthwise of 64 channels", depthwise, n=2, h=5, w=6, c=64, types=bytes_)
    add("depthwise of 50 channels, an even height", depthwise, h=6, w=5, c=50, types=bytes_)
    add("depthwise of 144 channels, strided", depthwise, n=2, h=9, w=8, c=144, s=2, types=bytes_)
    add("depthwise of 16 channels, strided", depthwise, n=2, h=9, w=11, c=16, s=2, types=bytes_)
    add(
        "depthwise of 24 channels, 5x5, strided, valid",
        depthwise,
        h=9,
        w=12,
        c=24,
        kh=5,
        kw=5,
        s=2,
        same=False,
        types=bytes_,
    )
    add("depthwise of 9 channels, stride 3, dilated", depthwise, h=14, w=13, c=9, s=3, d=2, types=bytes_)
    add("depthwise of 4 channels, one pixel wide", depthwise, h=9, w=1, c=4, types=bytes_)
    add("depthwise 5x5 of 8 channels", depthwise, h=9, w=9, c=8, kh=5, kw=5, types=bytes_)
    add("depthwise 7x2 of 70 channels", depthwise, h=9, w=5, c=70, kh=7, kw=2, act=0, types=bytes_)
    add("depthwise 3x3", depthwise)
    add("depthwise 5x5 strided, no activation", depthwise, kh=5, kw=5, s=2, act=0)
    add("depthwise dilated, valid", depthwise, d=2, same=False)
    add("depthwise of one channel, multiplier 8", depthwise, c=1, mult=8)
    add("depthwise with multiplier 3, two images", depthwise, n=2, c=5, mult=3)
    add("dense", dense)
    add("dense of a batch, relu", dense, m=13, act=1)
    add("dense without bias", dense, with_bias=False)
    add("dense of 1300 inputs", dense, k=1300, out=5)
    add("transposed conv", transpose_conv)
    add("transposed conv, valid, kernel 4, stride 3", transpose_conv, k=4, s=3, same=False)
    add("transposed conv, kernel smaller than stride", transpose_conv, k=2, s=3, same=False)
    for op in ("ADD", "SUB", "MUL"):
        add(f"{op}", lambda t, op=op: binary(op, t))
        add(f"{op} with a row of channels, relu", lambda t, op=op: binary(op, t, b=(6,), act=1))
        add(f"{op} with a scalar constant", lambda t, op=op: binary(op, t, b=(1,), constant=True))
        add(f"{op} broadcast both ways", lambda t, op=op: binary(op, t, a=(2, 1, 4, 1, 3), b=(1, 5, 1, 2, 3)))
    broadcasts = {"as long": (2, 9, 70), "channels": (70,), "a number": (1,), "a column": (2, 9, 1)}
    for name, b in broadcasts.items():
        for op in ("ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM"):
            add(f"{op} of 70 and {name}", lambda t, a=(op, b): binary(a[0], t, a=(2, 9, 70), b=a[1]))
        for op in ("LESS", "GREATER_EQUAL", "EQUAL", "NOT_EQUAL", "ADD", "SQUARED_DIFFERENCE", "MAXIMUM", "MINIMUM"):
            for t in ("int32", "float32"):
                out[f"{op} of {t} and {name}"] = lambda a=(op, t, b): plain_pair(a[0], a[1], a=(2, 9, 70), b=a[2])
    for op in ("AVERAGE_POOL_2D", "MAX_POOL_2D"):
        add(f"{op} same", lambda t, op=op: pool(op, t))
        add(f"{op} valid, two images, relu", lambda t, op=op: pool(op, t, n=2, same=False, act=1))
        add(f"{op} global", lambda t, op=op: pool(op, t, k=6, s=1, same=False, h=6))
        for c, h, k, stride in ((1, 9, 2, 1), (24, 9, 3, 2), (70, 4, 2, 3), (130, 5, 3, 1)):
            add(f"{op} {k}x{k} / {stride} of {c} channels", lambda t, a=(op, c, h, k, stride): pool(
                a[0], t, n=2, h=a[2], w=a[2] + 2, c=a[1], k=a[3], s=a[4], act=3))  # fmt: skip
    add("AVERAGE_POOL_2D of 17 by 17", lambda t: pool("AVERAGE_POOL_2D", t, k=17, s=1, h=18, w=19, c=3, same=False))
    add("AVERAGE_POOL_2D of 80 channels", lambda t: pool("AVERAGE_POOL_2D", t, k=5, s=2, c=80), types=bytes_)
    add("mean over the image", mean)
    add("mean over apart axes, dropped", mean, axes=(0, 2), keep=False)
    add("mean over everything", mean, axes=(0, 1, 2, 3), keep=False)
    for shape, axes in (((1, 20, 20, 70), (1, 2)), ((3, 5, 150), (2,)), ((9, 21), (1,)), ((2, 300, 3), (1,))):
        over = f"of {'x'.join(map(str, shape))} over {axes}"
        add(f"mean {over}", mean, shape=shape, axes=axes)
        for op in ("SUM", "REDUCE_MAX", "REDUCE_MIN"):
            add(f"{op} {over}", lambda t, a=(op, shape, axes): reduction(a[0], t, shape=a[1], axes=a[2]))
        for op in ("ARG_MAX", "ARG_MIN"):
            add(f"{op} {over}", lambda t, a=(op, shape, axes): best(a[0], t, shape=a[1], axis=a[2][0]))
    add("softmax", softmax)
    add("softmax of one class", softmax, shape=(2, 1))
    add("softmax of 300, beta 2", softmax, shape=(1, 300), beta=2.0, types=("float32", "int16"))
    add("relu", lambda t: unary("RELU", t))
    add("relu6", lambda t: unary("RELU6", t))
    add("leaky relu", lambda t: unary("LEAKY_RELU", t, options=table("LeakyReluOptions", alpha=0.1)))
    add(
        "leaky relu of 200",
        lambda t: unary("LEAKY_RELU", t, shape=(2, 100), options=table("LeakyReluOptions", alpha=0.1)),
    )
    for a in TYPES:
        for b in INTEGER:
            if not (a == "int16" and b == "uint8"):
                out[f"quantize {a} to {b}"] = lambda a=a, b=b: unary("QUANTIZE", a, to=b, shape=(1, 43))
        if a != "float32":
            out[f"dequantize 200 {a}"] = lambda a=a: unary("DEQUANTIZE", a, to="float32", shape=(2, 100))
            out[f"quantize 200 to {a}"] = lambda a=a: unary("QUANTIZE", "float32", to=a, shape=(2, 100))
            out[f"dequantize {a}"] = lambda a=a: unary("DEQUANTIZE", a, to="float32")
    return out


def outputs(model: Any, inputs: Sequence[Any]) -> list[Any]:
    """The model's outputs in order, for inputs in order."""
    found = model(dict(zip(model.graph.input_names(), inputs, strict=True)))
    return list(found.values()) if isinstance(found, dict) else [found]

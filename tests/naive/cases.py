"""Models of one operation: every operation × dtype that the twins know, with the options that change the arithmetic.

Weights, scales and zero points are drawn once from a generator seeded by the case's name, so a case is the same model everywhere.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.graph import Activation, Graph, Op, Padding, Quantization, SubGraph, Tensor
from edgeq.tflite.schema import table

from .absent import is_absent

Array = npt.NDArray[Any]
f32 = np.float32

QUANTIZED = ("int8", "uint8", "int16")
ACTIVATIONS = {"": Activation.NONE, " relu": Activation.RELU, " relu6": Activation.RELU6}


@dataclass(frozen=True)
class Case:
    """A model of one operation, and what it shows."""

    name: str
    graph: Graph
    ranges: Mapping[int, tuple[float, float]] = field(default_factory=dict)  # input's position → what it is drawn from
    unlike: tuple[str, ...] = ()  # families whose runtime refuses or fails at this very case

    def draw(self, rng: np.random.Generator) -> list[Array]:
        """One random input for each of the model's inputs."""
        return draw(self.graph, rng, self.ranges)

    @property
    def op(self) -> str:
        """The operation's code."""
        return self.graph.ops[0].code

    @property
    def source(self) -> str:
        """The data's dtype."""
        # Some operations' first input is a shape, an axis, indices or a condition.
        data = {
            "TRANSPOSE_CONV": 2,
            "CONV_3D_TRANSPOSE": 2,
            "SPLIT": 1,
            "FILL": 1,
            "EMBEDDING_LOOKUP": 1,
            "SCATTER_ND": 1,
            "SELECT": 1,
            "SELECT_V2": 1,
        }
        op = self.graph.ops[0]
        return self.graph.tensors[op.inputs[data.get(op.code, 0)]].dtype

    @property
    def dtype(self) -> str:
        """The data's dtype, or input → output for what changes it."""
        y = self.graph.tensors[self.graph.outputs[0]].dtype
        return f"{self.source} → {y}" if self.op in ("CAST", "QUANTIZE") else self.source

    def has_oracle(self, rounding: str) -> bool:
        """Whether the family's runtime can be asked."""
        return rounding not in self.unlike and not is_absent(self.op, self.source, rounding)


# --- building blocks ------------------------------------------------------------------------------------------------------


def generator(name: str) -> np.random.Generator:
    """Random numbers that belong to a case's name."""
    return np.random.default_rng(zlib.crc32(name.encode()))


def tensor(
    name: str,
    shape: Sequence[int],
    dtype: str,
    scale: Any = None,
    zero_point: int = 0,
    *,
    data: Array | None = None,
    axis: int = 0,
) -> Tensor:
    """A tensor with one scale or one per channel; without a scale it is not quantized."""
    quantization = None
    if scale is not None:
        s = np.atleast_1d(np.asarray(scale, f32))
        quantization = Quantization(s, np.full(len(s), zero_point, np.int64), axis)
    return Tensor(name, tuple(shape), dtype, data, quantization)


def constant(name: str, values: Any, dtype: str = "int32") -> Tensor:
    """A constant without quantization: axes, paddings, shapes."""
    data = np.asarray(values, dtype)
    return Tensor(name, data.shape, dtype, data)


def single(
    code: str, inputs: Sequence[Tensor], output: Tensor | Sequence[Tensor], options: str | None = None, **values: Any
) -> Graph:
    """A model of one operation; inputs with data are constants, the others are the model's inputs."""
    outputs = (output,) if isinstance(output, Tensor) else tuple(output)
    ends = tuple(range(len(inputs), len(inputs) + len(outputs)))
    op = Op(code, tuple(range(len(inputs))), ends, None if options is None else table(options, **values))
    fed = tuple(i for i, t in enumerate(inputs) if t.data is None)
    return Graph((SubGraph((*inputs, *outputs), (op,), fed, ends, "main"),), "one operation")


def draw(
    graph: Graph, rng: np.random.Generator, ranges: Mapping[int, tuple[float, float]] = MappingProxyType({})
) -> list[Array]:
    """One random input for each of the model's inputs: every integer of the type, or normal floats, or what `ranges` says."""
    return [
        between(graph.tensors[i], rng, *ranges[k]) if k in ranges else drawn(graph.tensors[i], rng)
        for k, i in enumerate(graph.inputs)
    ]


def between(t: Tensor, rng: np.random.Generator, low: float, high: float) -> Array:
    """Uniform in [low, high), integers or floats."""
    if t.dtype == "float32":
        return rng.uniform(low, high, t.shape).astype(f32)
    return rng.integers(int(low), int(high), t.shape).astype(t.dtype)


def drawn(t: Tensor, rng: np.random.Generator) -> Array:
    """A random array for a tensor."""
    if t.dtype == "float32":
        return (rng.standard_normal(t.shape) * 3).astype(f32)
    if t.dtype == "bool":
        return rng.integers(0, 2, t.shape).astype(bool)
    if t.dtype == "complex64":
        return (rng.standard_normal(t.shape) + 1j * rng.standard_normal(t.shape)).astype(np.complex64)
    info = np.iinfo(t.dtype)
    return rng.integers(info.min, info.max + 1, t.shape).astype(t.dtype)


def scale_for(dtype: str, rng: np.random.Generator) -> float | None:
    """A plausible activation scale, None for float32."""
    if dtype == "float32":
        return None
    return float(rng.uniform(0.01, 0.1)) if dtype in ("int8", "uint8") else float(rng.uniform(1e-4, 1e-3))


def zero_for(dtype: str, rng: np.random.Generator) -> int:
    """Any zero point that the type allows; int16 and float32 have 0."""
    if dtype in ("int16", "int32", "float32"):
        return 0
    info = np.iinfo(dtype)
    return int(rng.integers(info.min, info.max + 1))


# --- products -------------------------------------------------------------------------------------------------------------


def product(name: str, code: str, dtype: str, *, per_channel: bool, activation: Activation = Activation.NONE,
            window: int = 3, stride: int = 1, dilation: int = 1, padding: Padding = Padding.SAME,
            bias: str | None = "", multiplier: int = 1) -> Case:  # fmt: skip
    """CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED or TRANSPOSE_CONV; `bias` is its dtype, None for none, "" for the usual."""
    rng = generator(name)
    in_c, out_c, height, width = 6, 12, 11, 9
    if code == "DEPTHWISE_CONV_2D":
        in_c = out_c // multiplier
    weights = {
        "CONV_2D": (out_c, window, window, in_c),
        "DEPTHWISE_CONV_2D": (1, window, window, out_c),
        "FULLY_CONNECTED": (out_c, 64),
        "TRANSPOSE_CONV": (out_c, window, window, in_c),
    }[code]
    x_shape = (8, 64) if code == "FULLY_CONNECTED" else (1, height, width, in_c)
    y_shape = (
        (8, out_c)
        if code == "FULLY_CONNECTED"
        else (1, *out_size(code, height, width, window, stride, dilation, padding), out_c)
    )
    fan_in = int(np.prod(weights)) // out_c
    s_in, z_in = scale_for(dtype, rng), zero_for(dtype, rng)
    if dtype == "float32":
        w = tensor("w", weights, "float32", data=rng.standard_normal(weights).astype(f32))
        b = tensor("b", (out_c,), "float32", data=rng.standard_normal(out_c).astype(f32))
        y = tensor("y", y_shape, "float32")
    else:
        assert s_in is not None
        s_w = rng.uniform(0.002, 0.01, out_c if per_channel else 1).astype(f32)
        axis = 3 if code == "DEPTHWISE_CONV_2D" and per_channel else 0
        kind, zero = ("uint8", 131) if dtype == "uint8" else ("int8", 0)
        low = 0 if dtype == "uint8" else -127
        w = tensor("w", weights, kind, s_w, zero, data=rng.integers(low, low + 255, weights).astype(kind), axis=axis)
        # The accumulator's spread, so that outputs fill their range and seldom saturate.
        spread = s_in * float(s_w.mean()) * 74 * (74 if dtype != "int16" else 19000) * np.sqrt(fan_in)
        s_out, z_out = spread * 3 / (128 if dtype != "int16" else 32768), zero_for(dtype, rng)
        reach = int(spread / (s_in * float(s_w.mean())))
        kind = bias or ("int64" if dtype == "int16" else "int32")
        b = tensor("b", (out_c,), kind, f32(s_in) * s_w, data=rng.integers(-reach, reach, out_c).astype(kind))
        y = tensor("y", y_shape, dtype, s_out, z_out)
    x = tensor("x", x_shape, dtype, s_in, z_in)
    last = [] if bias is None else [b]
    strides = {"padding": int(padding), "stride_w": stride, "stride_h": stride}
    dilations = {"dilation_w_factor": dilation, "dilation_h_factor": dilation}
    fused = {"fused_activation_function": int(activation)}
    if code == "CONV_2D":
        graph = single(code, [x, w, *last], y, "Conv2DOptions", **strides, **dilations, **fused)
    elif code == "DEPTHWISE_CONV_2D":
        graph = single(
            code,
            [x, w, *last],
            y,
            "DepthwiseConv2DOptions",
            depth_multiplier=multiplier,
            **strides,
            **dilations,
            **fused,
        )
    elif code == "FULLY_CONNECTED":
        graph = single(code, [x, w, *last], y, "FullyConnectedOptions", **fused)
    else:
        shape = constant("shape", y_shape)
        graph = single(code, [shape, w, x, *last], y, "TransposeConvOptions", **strides, **fused)
    return Case(name, graph)


def out_size(
    code: str, height: int, width: int, window: int, stride: int, dilation: int, padding: Padding
) -> tuple[int, int]:
    """Rows and columns of the output."""
    extent = (window - 1) * dilation + 1
    if code == "TRANSPOSE_CONV":
        grow = 0 if padding == Padding.SAME else max(window - stride, 0)
        return height * stride + grow, width * stride + grow
    if padding == Padding.SAME:
        return -(-height // stride), -(-width // stride)
    return (height - extent) // stride + 1, (width - extent) // stride + 1


def products() -> Iterator[Case]:
    """The four sums of products."""
    for code in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"):
        for dtype in (*QUANTIZED, "float32"):
            for per_channel in (False, True) if dtype in ("int8", "int16") else (False,):
                start = f"{code} {dtype}{' per channel' if per_channel else ''}"
                # TRANSPOSE_CONV has no fused activation: tflite-runtime 2.14 ignores one.
                for text, activation in ACTIVATIONS.items() if code != "TRANSPOSE_CONV" else [("", Activation.NONE)]:
                    yield product(start + text, code, dtype, per_channel=per_channel, activation=activation)
                if code in ("FULLY_CONNECTED", "TRANSPOSE_CONV"):
                    yield product(f"{start} no bias", code, dtype, per_channel=per_channel, bias=None)
                if code == "FULLY_CONNECTED":
                    if dtype == "int16":
                        yield product(f"{start} int32 bias", code, dtype, per_channel=per_channel, bias="int32")
                    continue
                yield product(f"{start} 1x1", code, dtype, per_channel=per_channel, window=1)
                yield product(f"{start} stride 2", code, dtype, per_channel=per_channel, stride=2)
                yield product(
                    f"{start} valid 4x4 stride 2",
                    code,
                    dtype,
                    per_channel=per_channel,
                    stride=2,
                    window=4,
                    padding=Padding.VALID,
                )
                if code != "TRANSPOSE_CONV":
                    yield product(f"{start} dilation 2", code, dtype, per_channel=per_channel, dilation=2)
                if code == "DEPTHWISE_CONV_2D":
                    yield product(f"{start} multiplier 3", code, dtype, per_channel=per_channel, multiplier=3)


# --- element by element ---------------------------------------------------------------------------------------------------


def binary(name: str, code: str, dtype: str, shape: Sequence[int], other: Sequence[int],
           activation: Activation = Activation.NONE) -> Case:  # fmt: skip
    """ADD, SUB or MUL with random scales."""
    rng = generator(name)
    s = [scale_for(dtype, rng) for _ in range(3)]
    if code == "MUL" and s[0] is not None and s[1] is not None:
        s[2] = s[0] * s[1] * float(rng.uniform(30, 60) if dtype != "int16" else rng.uniform(8000, 15000))
    z = [zero_for(dtype, rng) for _ in range(3)]
    x, y = tensor("x", shape, dtype, s[0], z[0]), tensor("y", other, dtype, s[1], z[1])
    out = tensor("out", np.broadcast_shapes(tuple(shape), tuple(other)), dtype, s[2], z[2])
    options: dict[str, Any] = {"fused_activation_function": int(activation)}
    if code != "MUL":
        options["pot_scale_int16"] = False
    return Case(name, single(code, [x, y], out, f"{code.capitalize()}Options", **options))


def binaries() -> Iterator[Case]:
    """ADD, SUB, MUL: activations, broadcasts, and sizes that leave a tail behind vector loops."""
    for code in ("ADD", "SUB", "MUL"):
        for dtype in (*QUANTIZED, "float32"):
            for text, activation in ACTIVATIONS.items():
                yield binary(f"{code} {dtype}{text}", code, dtype, (1, 8, 8, 32), (1, 8, 8, 32), activation)
            for other in ((13,), (1, 7, 5, 1), (1,)):
                yield binary(f"{code} {dtype} with {list(other)}", code, dtype, (1, 7, 5, 13), other)
            yield binary(f"{code} {dtype} of 105", code, dtype, (1, 7, 5, 3), (1, 7, 5, 3))
    for code in ("ADD", "SUB"):
        for exponents in ((12, 12, 12), (13, 12, 12), (12, 14, 12)):
            a, b, c = (tensor(n, (1, 4099), "int16", 2.0**-e) for n, e in zip("abc", exponents, strict=True))
            options = {"pot_scale_int16": True, "fused_activation_function": int(exponents[1] == 14)}
            graph = single(code, [a, b], c, f"{code.capitalize()}Options", **options)
            yield Case(f"{code} int16 powers of two {exponents}", graph)


def unary(name: str, code: str, source: str, target: str, s_in: float | None, s_out: float | None,
          options: str | None = None, size: int = 4099, **values: Any) -> Case:  # fmt: skip
    """One input, one output of the same shape (1, size), random zero points."""
    rng = generator(name)
    x = tensor("x", (1, size), source, s_in, zero_for(source, rng))
    y = tensor("y", (1, size), target, s_out, zero_for(target, rng))
    return Case(name, single(code, [x], y, options, **values))


def unaries() -> Iterator[Case]:
    """QUANTIZE, DEQUANTIZE, LEAKY_RELU, RELU, RELU6."""
    for source in ("int8", "uint8", "int16", "int32"):
        for target in QUANTIZED:
            if (source in ("int16", "int32") and target == "uint8") or (
                source in ("int8", "uint8") and target == "int16"
            ):
                continue  # neither runtime has it, or only one
            wide = source in ("int16", "int32") and target == "int8"
            for ratio in (0.013, 0.4, 0.77, 1.9) if not wide else (0.004, 0.007):
                if source == "int32":
                    ratio /= 1 << 16
                yield unary(
                    f"QUANTIZE {source} → {target} by {ratio:.3g}", "QUANTIZE", source, target, 0.05 * ratio, 0.05
                )
    for target in QUANTIZED:
        name = f"QUANTIZE float32 → {target}"
        yield unary(name, "QUANTIZE", "float32", target, None, scale_for(target, generator(name)))
    for source in QUANTIZED:
        name = f"DEQUANTIZE {source}"
        yield unary(name, "DEQUANTIZE", source, "float32", scale_for(source, generator(name)), None)
    for dtype in (*QUANTIZED, "float32"):
        for alpha in (0.1, 0.3, 1.5, -0.2):
            name = f"LEAKY_RELU {dtype} alpha {alpha}"
            s = scale_for(dtype, generator(name))
            yield unary(name, "LEAKY_RELU", dtype, dtype, s, s and s * 0.9, "LeakyReluOptions", alpha=alpha)
        for code in ("RELU", "RELU6"):
            for ratio in (1.0, 0.7):
                name = f"{code} {dtype} by {ratio}"
                s = scale_for(dtype, generator(name))
                yield unary(name, code, dtype, dtype, s, s and s / ratio)


# --- windows, rows, moves -------------------------------------------------------------------------------------------------


def reductions() -> Iterator[Case]:
    """AVERAGE_POOL_2D, MAX_POOL_2D, MEAN."""
    for code in ("AVERAGE_POOL_2D", "MAX_POOL_2D"):
        for dtype in (*QUANTIZED, "float32"):
            for text, activation in ACTIVATIONS.items():
                for k, stride, padding in (
                    (2, 2, Padding.SAME),
                    (3, 2, Padding.SAME),
                    (16, 16, Padding.VALID),
                    (5, 1, Padding.SAME),
                ):
                    name = (
                        f"{code} {dtype} {k}x{k} stride {stride} {'same' if padding == Padding.SAME else 'valid'}{text}"
                    )
                    rng = generator(name)
                    s, z = scale_for(dtype, rng), zero_for(dtype, rng)
                    out = out_size(code, 16, 16, k, stride, 1, padding)
                    yield Case(
                        name,
                        single(
                            code, [tensor("x", (1, 16, 16, 13), dtype, s, z)], tensor("y", (1, *out, 13), dtype, s, z),
                            "Pool2DOptions", filter_width=k, filter_height=k, stride_w=stride, stride_h=stride,
                            padding=int(padding), fused_activation_function=int(activation),
                        ),
                    )  # fmt: skip
    for dtype in (*QUANTIZED, "float32"):
        for axes, keep, shape in (([1, 2], True, (4, 1, 1, 16)), ([2, 1], False, (4, 16)), ([3], False, (4, 7, 7))):
            for text, ratio in (("", 1.0), (" rescaled", 2.3)):
                name = f"MEAN {dtype} over {axes}{text}"
                rng = generator(name)
                s, z = scale_for(dtype, rng), zero_for(dtype, rng)
                x = tensor("x", (4, 7, 7, 16), dtype, s, z)
                y = tensor("y", shape, dtype, s and s / ratio, z if ratio == 1.0 else zero_for(dtype, rng))
                yield Case(name, single("MEAN", [x, constant("axes", axes)], y, "ReducerOptions", keep_dims=keep))


def softmaxes() -> Iterator[Case]:
    """SOFTMAX: row lengths, scales, beta. Sums of exponentials stay below 512, where the reference is defined."""
    outputs = {"int8": (1 / 256, -128), "uint8": (1 / 256, 0), "int16": (1 / 32768, 0), "float32": (None, 0)}
    for dtype, (s_out, z_out) in outputs.items():
        for n, beta in ((2, 1.0), (4, 1.0), (10, 0.5), (12, 1.0), (101, 1.0), (1001, 1.0)):
            name = f"SOFTMAX {dtype} of {n}{'' if beta == 1.0 else f' beta {beta}'}"
            rng = generator(name)
            s = scale_for(dtype, rng)
            if n > 512 and s is not None:
                s = max(s, 0.05 if dtype != "int16" else 5e-4)
            x, y = tensor("x", (64, n), dtype, s, zero_for(dtype, rng)), tensor("y", (64, n), dtype, s_out, z_out)
            yield Case(name, single("SOFTMAX", [x], y, "SoftmaxOptions", beta=beta))


def moves() -> Iterator[Case]:
    """RESHAPE, PAD, STRIDED_SLICE, CONCATENATION."""
    for dtype in (*QUANTIZED, "float32"):
        rng = generator(f"moves {dtype}")
        s, z = scale_for(dtype, rng), zero_for(dtype, rng)
        x = tensor("x", (1, 8, 9, 5), dtype, s, z)
        yield Case(
            f"RESHAPE {dtype}",
            single("RESHAPE", [x, constant("shape", [1, 360])], tensor("y", (1, 360), dtype, s, z), "ReshapeOptions"),
        )
        pads = constant("pads", [[0, 0], [1, 2], [3, 0], [0, 1]])
        yield Case(f"PAD {dtype}", single("PAD", [x, pads], tensor("y", (1, 11, 12, 6), dtype, s, z), "PadOptions"))
        ends = [
            constant(k, v) for k, v in (("begin", [0, 1, 7, 0]), ("end", [1, -1, 0, 5]), ("strides", [1, 2, -3, 1]))
        ]
        yield Case(
            f"STRIDED_SLICE {dtype}",
            single(
                "STRIDED_SLICE", [x, *ends], tensor("y", (1, 3, 3, 5), dtype, s, z), "StridedSliceOptions", end_mask=9
            ),
        )
        both = [x, tensor("x2", (1, 8, 9, 3), dtype, s, z)]
        yield Case(
            f"CONCATENATION {dtype}",
            single("CONCATENATION", both, tensor("y", (1, 8, 9, 8), dtype, s, z), "ConcatenationOptions", axis=3),
        )


def curves() -> Iterator[Case]:
    """LOGISTIC, TANH, HARD_SWISH: every value of the type; int16 also at the powers of two that have a path of their own."""
    outputs = {
        ("LOGISTIC", "int8"): (1 / 256, -128), ("LOGISTIC", "uint8"): (1 / 256, 0), ("LOGISTIC", "int16"): (1 / 32768, 0),
        ("TANH", "int8"): (1 / 128, 0), ("TANH", "uint8"): (1 / 128, 128), ("TANH", "int16"): (1 / 32768, 0),
    }  # fmt: skip
    for code in ("LOGISTIC", "TANH", "HARD_SWISH"):
        for dtype in (*QUANTIZED, "float32") if code != "HARD_SWISH" else ("int8", "uint8", "float32"):
            for k in range(4):
                name = f"{code} {dtype} {k}"
                rng = generator(name)
                s = scale_for(dtype, rng)
                if dtype == "int16" and k:
                    s = 2.0 ** -(13 - k)
                x = tensor("x", (1, 4099), dtype, s, zero_for(dtype, rng))
                s_out, z_out = outputs.get((code, dtype), (s and s * 0.8, zero_for(dtype, rng)))
                options = "HardSwishOptions" if code == "HARD_SWISH" else None
                yield Case(name, single(code, [x], tensor("y", (1, 4099), dtype, s_out, z_out), options))


def resizes() -> Iterator[Case]:
    """RESIZE_BILINEAR and RESIZE_NEAREST_NEIGHBOR: larger, smaller, odd; the three ways that pixels may lie."""
    for code, options in (
        ("RESIZE_BILINEAR", "ResizeBilinearOptions"),
        ("RESIZE_NEAREST_NEIGHBOR", "ResizeNearestNeighborOptions"),
    ):
        for dtype in (*QUANTIZED, "float32"):
            for text, corners, half in (("", False, False), (" half pixel", False, True), (" corners", True, False)):
                for (h, w), (out_h, out_w) in (
                    ((9, 7), (16, 15)),
                    ((4, 4), (8, 8)),
                    ((16, 15), (9, 7)),
                    ((1, 5), (3, 10)),
                ):
                    name = f"{code} {dtype}{text} {h}x{w} to {out_h}x{out_w}"
                    rng = generator(name)
                    s, z = scale_for(dtype, rng), zero_for(dtype, rng)
                    x, y = tensor("x", (1, h, w, 13), dtype, s, z), tensor("y", (1, out_h, out_w, 13), dtype, s, z)
                    ways = {"align_corners": corners, "half_pixel_centers": half}
                    yield Case(name, single(code, [x, constant("size", [out_h, out_w])], y, options, **ways))


def cases() -> list[Case]:
    """All of them."""
    from . import cases_host, cases_moves, cases_numbers, cases_recurrent, cases_rows

    own = [*products(), *binaries(), *unaries(), *reductions(), *softmaxes(), *curves(), *resizes(), *moves()]
    more = (cases_moves, cases_numbers, cases_recurrent, cases_rows, cases_host)
    return [*own, *(case for module in more for case in module.cases())]

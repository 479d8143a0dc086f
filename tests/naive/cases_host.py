"""Models of one operation that NumPy computes, or that is made of other operations."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgeq.graph import Tensor

from .cases import Case, constant, generator, single, tensor

f32 = np.float32


def normal(name: str, shape: tuple[int, ...]) -> Tensor:
    """A float32 constant."""
    return tensor(name, shape, "float32", data=generator(name + str(shape)).standard_normal(shape).astype(f32))


def transforms() -> Iterator[Case]:
    """RFFT2D of rows and of images, cut and filled up; parts of complex numbers."""
    for what, shape, lengths in (
        ("rows", (3, 64), (1, 64)), ("images", (2, 8, 16), (8, 16)), ("cut and filled", (5, 24), (8, 16)),
    ):  # fmt: skip
        y = tensor("y", (*shape[:-2], lengths[0], lengths[1] // 2 + 1), "complex64")
        if what == "rows":
            shape, y = (3, 1, 64), tensor("y", (3, 1, 33), "complex64")
        yield Case(f"RFFT2D of {what}", single("RFFT2D", [tensor("x", shape, "float32"), constant("n", lengths)], y))
    for code in ("COMPLEX_ABS", "REAL", "IMAG"):
        yield Case(code, single(code, [tensor("x", (3, 5), "complex64")], tensor("y", (3, 5), "float32")))
    for source, target in (("complex64", "float32"), ("float32", "complex64")):
        graph = single("CAST", [tensor("x", (3, 5), source)], tensor("y", (3, 5), target), "CastOptions")
        yield Case(f"CAST {source} to {target}", graph)


def matrices() -> Iterator[Case]:
    """MATRIX_DIAG."""
    for dtype in ("float32", "int8", "uint8", "int16", "int32", "int64"):
        yield Case(
            f"MATRIX_DIAG {dtype}", single("MATRIX_DIAG", [tensor("x", (2, 5), dtype)], tensor("y", (2, 5, 5), dtype))
        )


def volumes() -> Iterator[Case]:
    """CONV_3D and its transpose: paddings, strides, dilation, an activation."""
    options = {f"stride_{a}": 1 for a in "dhw"} | {f"dilation_{a}_factor": 1 for a in "dhw"}
    for what, padding, more, out in (
        ("", 0, {}, (4, 6, 7)), (" of windows inside", 1, {"fused_activation_function": 1}, (2, 4, 6)),
        (" in strides", 0, {"stride_d": 2, "stride_w": 3}, (2, 6, 3)),
        (" dilated", 0, {"dilation_h_factor": 2, "dilation_d_factor": 2}, (4, 6, 7)),
    ):  # fmt: skip
        x, w, b = tensor("x", (2, 4, 6, 7, 3), "float32"), normal("w", (3, 3, 2, 3, 5)), normal("b", (5,))
        y = tensor("y", (2, *out, 5), "float32")
        yield Case(
            f"CONV_3D{what}",
            single("CONV_3D", [x, w, b], y, "Conv3DOptions", **{**options, "padding": padding, **more}),
        )
    for what, padding, more, out in (
        ("", 0, {}, (3, 4, 5)), (" in strides", 0, {"stride_d": 2, "stride_h": 2, "stride_w": 2}, (6, 8, 10)),
        (" without borders", 1, {"stride_w": 2}, (5, 6, 10)),
    ):  # fmt: skip
        x, w = tensor("x", (2, 3, 4, 5, 3), "float32"), normal("w", (3, 3, 2, 4, 3))
        y = tensor("y", (2, *out, 4), "float32")
        graph = single("CONV_3D_TRANSPOSE", [constant("s", (2, *out, 4)), w, x], y, "Conv3DOptions",
                       **{**options, "padding": padding, **more})  # fmt: skip
        yield Case(f"CONV_3D_TRANSPOSE{what}", graph)


CURVES = {
    "GELU": ("int8", "uint8", "int16"), "EXP": ("int8", "int16"), "LOG": ("int16",), "RSQRT": ("int16",), "ABS": ("int16",),
    "ELU": ("int8",), "SQRT": ("int8",),
}  # fmt: skip


def others() -> Iterator[Case]:
    """L2_POOL_2D, RELU_0_TO_1, curves on 8 bits, the old LSTM cell."""
    for padding, activation in ((0, 0), (1, 1), (0, 3)):
        out = (5, 4) if padding == 0 else (4, 4)
        graph = single(
            "L2_POOL_2D", [tensor("x", (2, 9, 8, 3), "float32")], tensor("y", (2, *out, 3), "float32"), "Pool2DOptions",
            padding=padding, stride_w=2, stride_h=2, filter_width=2, filter_height=3, fused_activation_function=activation,
        )  # fmt: skip
        yield Case(f"L2_POOL_2D, padding {padding}, activation {activation}", graph)
    yield Case("RELU_0_TO_1", single("RELU_0_TO_1", [tensor("x", (3, 50), "float32")], tensor("y", (3, 50), "float32")))
    for code, zero, s_in, s_out, options in (
        ("ABS", 4, 0.05, 0.05, "AbsOptions"), ("ABS", -9, 0.05, 0.07, "AbsOptions"), ("RSQRT", -128, 0.02, 0.03, None),
        ("RSQRT", -128, 0.3, 0.011, None), ("LOG", -128, 0.04, 0.05, None), ("LOG", -100, 0.04, 0.02, None),
    ):  # fmt: skip
        x, y = (
            tensor("x", (4, 300), "int8", s_in, zero),
            tensor("y", (4, 300), "int8", s_out, -128 if code == "RSQRT" else 7),
        )
        ranges = {0: (-128 if code != "RSQRT" else zero, 128)}
        yield Case(f"{code} int8 by {s_in} to {s_out}", single(code, [x], y, options), ranges)
    for code, dtypes in CURVES.items():
        for dtype in dtypes:
            wide = dtype == "int16"
            zero = {"int16": 0, "int8": -128 if code in ("LOG", "RSQRT", "SQRT") else -9, "uint8": 120}[dtype]
            s_in, s_out = (2e-4, 1.5e-4) if wide else (0.04, 0.03)
            x, y = (
                tensor("x", (4, 500), dtype, s_in, zero),
                tensor("y", (4, 500), dtype, s_out, 0 if wide else zero + 3),
            )
            for approximate in (False, True) if code == "GELU" else (False,):
                options, more = {"GELU": ("GeluOptions", {"approximate": approximate}), "EXP": ("ExpOptions", {}),
                                 "ABS": ("AbsOptions", {})}.get(code, (None, {}))  # fmt: skip
                name = f"{code} {dtype}{' by tanh' if approximate else ''}"
                ranges = {0: (0, 32768)} if wide and code == "RSQRT" else {}
                yield Case(name, single(code, [x], y, options, **more), ranges)
    for dtype, zeros in (("int8", (3, -7)), ("uint8", (100, 90)), ("int16", (0, 0))):
        for s_in, s_out in ((0.02, 0.3), (0.05, 0.05)):
            if dtype == "int16":
                s_in = s_out = s_in / 100  # the reference wants equal scales
            x, y = tensor("x", (3, 9, 5), dtype, s_in, zeros[0]), tensor("y", (3, 5), dtype, s_out, zeros[1])
            graph = single("SUM", [x, constant("a", [1])], y, "ReducerOptions", keep_dims=False)
            # The reference casts int8 to uint8, and lets int16 wrap.
            ranges = {0: (-3000, 3000)} if dtype == "int16" else {}
            yield Case(f"SUM {dtype} by {s_in} to {s_out}", graph, ranges, ("tflite",) if dtype == "int8" else ())
    x, y = tensor("x", (5, 40), "int8", 9e6, 0), tensor("y", (5, 40), "int8", 1 / 256, -128)
    yield Case("SOFTMAX int8 of a huge scale", single("SOFTMAX", [x], y, "SoftmaxOptions", beta=1.0))
    shapes = {"x": (2, 5), "before": (2, 3), "w": (12, 8), "b": (12,), "state": (2, 3)}
    inputs = [normal(n, s) if n in "wb" else tensor(n, s, "float32") for n, s in shapes.items()]
    outputs = [tensor(f"y{k}", s, "float32") for k, s in enumerate([(2, 3), (2, 3), (2, 8), (2, 12)])]
    yield Case(
        "LSTM, the basic kernel",
        single("LSTM", inputs, outputs, "LSTMOptions", kernel_type=1, fused_activation_function=4),
    )


def cases() -> list[Case]:
    """All of them."""
    return [*transforms(), *matrices(), *volumes(), *others()]

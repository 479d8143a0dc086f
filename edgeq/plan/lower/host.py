"""Operations that are rare, or small where they appear: NumPy computes them, called by the plan as registered operations are.

Sources: tensorflow/lite/kernels rfft2d.cc, complex_support.cc, cast.cc, matrix_diag.cc, conv3d.cc, conv3d_transpose.cc, lstm.cc.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from edgeq.errors import CheckError
from edgeq.graph import Array, Op
from edgeq.plan.builder import Builder
from edgeq.plan.lower.custom import call
from edgeq.plan.lower.slices import numbers
from edgeq.plan.multiplier import float_bounds
from edgeq.plan.window import Axis, axis

MAX_LENGTH = 1 << 20
"""Of a Fourier transform along one axis."""

MAX_TAPS = 1 << 12
"""Of a window: each is a product of its own."""


Kernel = Callable[..., None]


def quietly(kernel: Kernel) -> Kernel:
    """Floats overflow without a word, as they do in the machine."""
    found: Kernel = np.errstate(all="ignore")(kernel)
    return found


def typed(b: Builder, op: Op, source: str, target: str) -> None:
    """Refuse other types of input 0 and output 0."""
    found = b.tensor(op, 0).dtype, b.output(op).dtype
    if found != (source, target):
        raise b.unsupported(op, f"from {found[0]} to {found[1]}")


# --- complex numbers ------------------------------------------------------------------------------------------------------


def rfft2d(b: Builder, op: Op) -> None:
    """RFFT2D along the last two axes, cut or filled with zeros to the lengths of input 1, powers of two; in float64 inside."""
    typed(b, op, "float32", "complex64")
    x, lengths = b.tensor(op, 0), numbers(b, op, 1)
    if len(x.shape) < 2 or len(lengths) != 2 or any(n < 1 or n & (n - 1) or n > MAX_LENGTH for n in lengths):
        raise CheckError(f"{b.where(op)}: lengths {lengths} of {list(x.shape)}, two powers of two are expected")
    rows, columns = lengths
    shape = (*x.shape[:-2], rows, columns // 2 + 1)

    @quietly
    def kernel(x: Array, y: Array) -> None:
        y[...] = np.fft.rfft2(x, (rows, columns))

    work = math.prod(x.shape[:-2]) * rows * columns * (rows * columns).bit_length()
    call(b, op, kernel, [shape], inputs=1, macs=2 * work)


def part(function: Callable[[Array], Array]) -> Callable[[Builder, Op], None]:
    """COMPLEX_ABS, REAL, IMAG."""

    def lowering(b: Builder, op: Op) -> None:
        typed(b, op, "complex64", "float32")

        @quietly
        def kernel(x: Array, y: Array) -> None:
            y[...] = function(x)

        call(b, op, kernel, [b.tensor(op, 0).shape])

    return lowering


def complex_cast(b: Builder, op: Op) -> None:
    """CAST of complex numbers to their real parts, and of real numbers to complex ones."""
    typed(b, op, *(("complex64", "float32") if b.tensor(op, 0).dtype == "complex64" else ("float32", "complex64")))

    @quietly
    def kernel(x: Array, y: Array) -> None:
        y[...] = x.real

    call(b, op, kernel, [b.tensor(op, 0).shape])


# --- matrices -------------------------------------------------------------------------------------------------------------


def matrix_diag(b: Builder, op: Op) -> None:
    """MATRIX_DIAG: vectors along the last axis become the diagonals of square matrices."""
    x = b.tensor(op, 0)
    if not x.shape or x.dtype != b.output(op).dtype:
        raise CheckError(
            f"{b.where(op)}: {x.dtype}{list(x.shape)} to {b.output(op).dtype}, vectors of one type are expected"
        )

    @quietly
    def kernel(x: Array, y: Array) -> None:
        i = np.arange(x.shape[-1])
        y[..., i, i] = x

    call(b, op, kernel, [(*x.shape, x.shape[-1])])


# --- volumes --------------------------------------------------------------------------------------------------------------


def volume(b: Builder, op: Op, sizes: tuple[int, ...], window: tuple[int, ...]) -> list[Axis]:
    """Depth, height and width under the windows of a Conv3DOptions."""
    o = op.options
    assert o is not None
    strides = (o.stride_d, o.stride_h, o.stride_w)
    dilations = (o.dilation_d_factor, o.dilation_h_factor, o.dilation_w_factor)
    return [axis(b, op, *each, o.padding) for each in zip(sizes, window, strides, dilations, strict=True)]


def taps(b: Builder, op: Op, axes: list[Axis]) -> list[tuple[tuple[int, ...], tuple[slice, ...]]]:
    """Every place in the window, and the padded pixels that it meets."""
    if (count := math.prod(a.window for a in axes)) > MAX_TAPS:
        raise b.unsupported(op, f"a window of {count} taps, at most {MAX_TAPS} are expected")
    every = slice(None)
    found = []
    for at in np.ndindex(*(a.window for a in axes)):
        first = [k * a.dilation for k, a in zip(at, axes, strict=True)]
        pixels = [slice(f, f + (a.out - 1) * a.stride + 1, a.stride) for f, a in zip(first, axes, strict=True)]
        found.append((at, (every, *pixels)))
    return found


def ending(b: Builder, op: Op, k: int, count: int) -> Callable[[Array, Sequence[Any], Array], None]:
    """What adds the bias of input k, (count,) or None, and clamps, into the output."""
    bias, o = b.optional(op, k), op.options
    assert o is not None
    if bias is not None and (bias.dtype, bias.shape) != ("float32", (count,)):
        raise CheckError(f"{b.where(op)}: bias {bias.dtype}{list(bias.shape)}, float32 of {count} is expected")
    low, high = float_bounds(o.fused_activation_function)

    def end(total: Array, others: Sequence[Any], y: Array) -> None:
        if others and others[0] is not None:
            total = total + others[0]
        np.clip(total, low, high, out=y)

    return end


def conv_3d(b: Builder, op: Op) -> None:
    """CONV_3D, float32: input (n, d, h, w, c), weights (kd, kh, kw, c, out), bias (out,); one product a tap."""
    typed(b, op, "float32", "float32")
    x, w = b.tensor(op, 0), b.tensor(op, 1)
    if len(x.shape) != 5 or len(w.shape) != 5 or w.shape[3] != x.shape[4] or min(w.shape) < 1 or w.dtype != "float32":
        raise CheckError(
            f"{b.where(op)}: input {list(x.shape)} and weights {w.dtype}{list(w.shape)} do not go together"
        )
    end = ending(b, op, 2, w.shape[4])
    axes = volume(b, op, x.shape[1:4], w.shape[:3])
    edges, each = [(a.before, a.behind) for a in axes], taps(b, op, axes)

    @quietly
    def kernel(x: Array, w: Array, *rest: Any) -> None:
        *others, y = rest
        padded = np.pad(x, [(0, 0), *edges, (0, 0)])
        total = np.zeros(y.shape, np.float32)
        for at, pixels in each:
            total += padded[pixels] @ w[at]
        end(total, others, y)

    shape = (x.shape[0], *(a.out for a in axes), w.shape[4])
    call(b, op, kernel, [shape], macs=math.prod(shape) * math.prod(w.shape[:4]))


def conv_3d_transpose(b: Builder, op: Op) -> None:
    """CONV_3D_TRANSPOSE, float32: output shape (5,), weights (kd, kh, kw, out, c), input (n, d, h, w, c), bias (out,)."""
    shape, w, x = tuple(numbers(b, op, 0)), b.tensor(op, 1), b.tensor(op, 2)
    types = [t.dtype for t in (w, x, b.output(op))]
    if types != ["float32"] * 3:
        raise b.unsupported(op, f"on {types}")
    sound = len(shape) == len(w.shape) == len(x.shape) == 5 and min(shape) >= 1 and min(w.shape) >= 1
    if not sound or w.shape[4] != x.shape[4] or shape[4] != w.shape[3] or shape[0] != x.shape[0]:
        raise CheckError(
            f"{b.where(op)}: input {list(x.shape)}, weights {list(w.shape)} and output {list(shape)} do not go together"
        )
    end = ending(b, op, 3, w.shape[3])
    axes = volume(b, op, shape[1:4], w.shape[:3])
    if tuple(a.out for a in axes) != x.shape[1:4]:
        raise CheckError(f"{b.where(op)}: output {list(shape)} does not lead back to the input's {list(x.shape)}")
    each = taps(b, op, axes)
    inside = (slice(None), *(slice(a.before, a.before + a.size) for a in axes))
    whole = [a.padded for a in axes]

    @quietly
    def kernel(_: Array, w: Array, x: Array, *rest: Any) -> None:
        *others, y = rest
        total = np.zeros((x.shape[0], *whole, w.shape[3]), np.float32)
        for at, pixels in each:
            total[pixels] += x @ w[at].T
        end(total[inside], others, y)

    call(b, op, kernel, [shape], macs=x.size * math.prod(w.shape[:4]))


# --- an old recurrent cell ------------------------------------------------------------------------------------------------


def basic_lstm(b: Builder, op: Op) -> None:
    """LSTM of kernel_type BASIC, float32: x (n, k), previous output (n, m), weights (4m, k + m), bias (4m,), state (n, m).

    Outputs: the output, the state, what went into the product and what came out of it; gates in the order i, g, f, o.
    """
    x, before, w, bias, state = (b.tensor(op, k) for k in range(5))
    sound = len(op.outputs) == 4 and all(len(t.shape) == 2 for t in (x, before, w, state))
    shapes: list[tuple[int, ...]] = []
    if sound:
        n, k, m = x.shape[0], x.shape[1], before.shape[1]
        sound = before.shape == state.shape == (n, m) and w.shape == (4 * m, k + m) and math.prod(bias.shape) == 4 * m
        shapes = [(n, m), (n, m), (n, k + m), (n, 4 * m)]
    if not sound:
        raise CheckError(f"{b.where(op)}: {[list(b.tensor(op, k).shape) for k in range(5)]} are no basic cell")
    types = [t.dtype for t in (x, before, w, bias, state, *(b.output(op, k) for k in range(4)))]
    if set(types) != {"float32"}:
        raise b.unsupported(op, f"the basic kernel on {types}")

    @quietly
    def kernel(
        x: Array, before: Array, w: Array, bias: Array, state: Array, y: Array, s: Array, c: Array, g: Array
    ) -> None:
        c[...] = np.concatenate([x, before], 1)
        g[...] = c @ w.T + bias.reshape(-1)
        i, new, f, o = np.split(g, 4, 1)
        s[...] = np.tanh(new) / (1 + np.exp(-i)) + state / (1 + np.exp(-f))
        y[...] = np.tanh(s) / (1 + np.exp(-o))

    call(b, op, kernel, shapes, macs=shapes[0][0] * math.prod(w.shape))


LOWERINGS = {
    "RFFT2D": rfft2d,
    "COMPLEX_ABS": part(np.abs),
    "REAL": part(np.real),
    "IMAG": part(np.imag),
    "MATRIX_DIAG": matrix_diag,
    "CONV_3D": conv_3d,
    "CONV_3D_TRANSPOSE": conv_3d_transpose,
}

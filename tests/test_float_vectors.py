"""float32 kernels that go by vectors: every way in which channels and rows can fail to fill them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from engine_models import binary
from naive.cases import constant, out_size, single, tensor
from naive.cases_numbers import OPTIONS

from edgeq.engine import build
from edgeq.graph import Array, Padding

f32 = np.float32
RNG = np.random.default_rng


def windows(x: Array, k: int, stride: int, dilation: int, padding: Padding, out: tuple[int, int], fill: float) -> Array:
    """(k·k, rows, columns, channels) of an image (h, w, channels) in float64."""
    extent = (k - 1) * dilation + 1
    whole = [max((n - 1) * stride + extent - d, 0) if padding is Padding.SAME else 0
             for n, d in zip(out, x.shape, strict=False)]  # fmt: skip
    before = [(w // 2, w - w // 2) for w in whole]
    p = np.pad(x.astype(np.float64), [*before, (0, 0)], constant_values=fill)
    rows, columns = (slice(0, (n - 1) * stride + 1, stride) for n in out)
    parts = [p[i * dilation :, j * dilation :][rows, columns] for i in range(k) for j in range(k)]
    return np.stack(parts)


def near(found: Array, expected: Array) -> None:
    """Equal to some ulps of the largest."""
    assert np.abs(found - expected).max() <= 2e-6 * max(np.abs(expected).max(), 1)


DEPTHWISE = {
    "fewer channels than lanes": (3, 29, 3, 1, 1),
    "fewer, stride 2": (5, 30, 3, 2, 1),
    "eight channels": (8, 40, 3, 1, 1),
    "a vector and a half": (24, 19, 3, 1, 1),
    "a vector and a half, stride 2": (24, 19, 3, 2, 1),
    "5x5, wide": (96, 7, 5, 1, 1),
    "5x5, a row of one group": (40, 9, 5, 1, 1),
    "5x5, stride 2": (40, 23, 5, 2, 1),
    "dilation 2": (20, 17, 3, 1, 2),
    "1x1": (8, 33, 1, 1, 1),
    "7x7 on a small image": (13, 5, 7, 1, 1),
    "many channels that fill no vectors": (331, 6, 3, 1, 1),
    "4x4, stride 3": (17, 31, 4, 3, 1),
}


@pytest.mark.parametrize(
    ("name", "padding"),
    [(n, p) for n, (_, width, k, _, dilation) in DEPTHWISE.items() for p in (Padding.SAME, Padding.VALID)
     if p is Padding.SAME or (k - 1) * dilation < width],
)  # fmt: skip
def test_depthwise_windows(name: str, padding: Padding) -> None:
    """A float depthwise layer is the sum of its products whatever its channels, window, stride and width, for two images."""
    c, width, k, stride, dilation = DEPTHWISE[name]
    height = width + 2
    rng = RNG(len(name))
    w, bias = rng.standard_normal((1, k, k, c)).astype(f32), rng.standard_normal(c).astype(f32)
    out = out_size("DEPTHWISE_CONV_2D", height, width, k, stride, dilation, padding)
    graph = single(
        "DEPTHWISE_CONV_2D",
        [tensor("x", (2, height, width, c), "float32"), tensor("w", w.shape, "float32", data=w),
         tensor("b", (c,), "float32", data=bias)],
        tensor("y", (2, *out, c), "float32"), "DepthwiseConv2DOptions", depth_multiplier=1, padding=int(padding),
        stride_w=stride, stride_h=stride, dilation_w_factor=dilation, dilation_h_factor=dilation, fused_activation_function=0,
    )  # fmt: skip
    x = rng.standard_normal((2, height, width, c)).astype(f32)
    with build(graph) as model:
        y = model(x)
    for image, found in zip(x, y, strict=True):
        seen = windows(image, k, stride, dilation, padding, out, 0)
        near(found, (seen * w.reshape(k * k, 1, 1, c)).sum(0) + bias)


FUNCTIONS: dict[str, Callable[[Array, Array], Array]] = {
    "ADD": np.add, "SUB": np.subtract, "MUL": np.multiply, "DIV": np.divide,
    "MAXIMUM": np.maximum, "MINIMUM": np.minimum, "SQUARED_DIFFERENCE": lambda a, b: (a - b) * (a - b),
    "PRELU": lambda a, b: np.where(a >= 0, a, a * b),
}  # fmt: skip
SHAPES = {
    "two alike": ((5, 67), (5, 67)),
    "one number behind": ((3, 97), ()),
    "one number before": ((), (3, 97)),
    "a channel vector": ((7, 29, 5), (5,)),
    "a channel vector before": ((5,), (7, 29, 5)),
    "few rows": ((2, 3, 8), (8,)),
    "a number for each row": ((7, 33), (7, 1)),
    "outer": ((19, 1), (1, 21)),
    "in the middle": ((3, 5, 7), (3, 1, 7)),
}


@pytest.mark.parametrize("known", [False, True], ids=["computed", "constant"])
@pytest.mark.parametrize(
    ("code", "shapes"),
    [(c, s) for c in FUNCTIONS for s, (a, b) in SHAPES.items() if c != "PRELU" or np.broadcast_shapes(a, b) == a],
)  # PRELU broadcasts its second input alone
def test_pairs(code: str, shapes: str, known: bool) -> None:
    """Arithmetic on two arrays is NumPy's in float32 however they broadcast, to the bit."""
    first, second = SHAPES[shapes]
    rng = RNG(len(code + shapes))
    a, b = (rng.uniform(-4, 4, s).astype(f32) for s in (first, second))
    others = [tensor("b", second, "float32", data=b if known else None)]
    out = np.broadcast_shapes(first, second)
    graph = single(code, [tensor("a", first, "float32"), *others], tensor("y", out, "float32"), OPTIONS.get(code))
    with build(graph) as model:
        found = model({"a": a} | ({} if known else {"b": b}))
    np.testing.assert_array_equal(found, FUNCTIONS[code](a, b))


def test_the_larger_of_a_number_and_none() -> None:
    """MAXIMUM and MINIMUM give the second where either is NaN, in vectors as behind them, as the reference's comparisons do."""
    a, b = np.full(21, np.nan, f32), np.arange(21, dtype=f32)
    for code in ("MAXIMUM", "MINIMUM"):
        ins = [tensor("a", (21,), "float32"), tensor("b", (21,), "float32")]
        with build(single(code, ins, tensor("y", (21,), "float32"), OPTIONS[code])) as model:
            np.testing.assert_array_equal(model({"a": a, "b": b}), b)
            assert np.isnan(model({"a": b, "b": a})).all()


@pytest.mark.parametrize("padding", [Padding.SAME, Padding.VALID])
@pytest.mark.parametrize(("c", "k", "stride"), [(1, 2, 2), (8, 2, 2), (13, 3, 1), (24, 3, 2), (70, 2, 2)])
def test_maxima(c: int, k: int, stride: int, padding: Padding) -> None:
    """MAX_POOL_2D in float32 whatever its channels, for two images."""
    out = out_size("MAX_POOL_2D", 11, 9, k, stride, 1, padding)
    graph = single(
        "MAX_POOL_2D", [tensor("x", (2, 11, 9, c), "float32")], tensor("y", (2, *out, c), "float32"), "Pool2DOptions",
        filter_width=k, filter_height=k, stride_w=stride, stride_h=stride, padding=int(padding), fused_activation_function=0,
    )  # fmt: skip
    x = RNG(c).standard_normal((2, 11, 9, c)).astype(f32)
    with build(graph) as model:
        y = model(x)
    expected = [windows(image, k, stride, 1, padding, out, -np.inf).max(0) for image in x]
    np.testing.assert_array_equal(y, np.array(expected, f32))


@pytest.mark.parametrize("c", [1, 7, 8, 21, 64])
def test_means(c: int) -> None:
    """MEAN over an image's pixels, whatever its channels."""
    ins = [tensor("x", (2, 5, 6, c), "float32"), constant("axes", [1, 2])]
    x = RNG(c).standard_normal((2, 5, 6, c)).astype(f32)
    with build(single("MEAN", ins, tensor("y", (2, c), "float32"), "ReducerOptions", keep_dims=False)) as model:
        near(model(x), x.astype(np.float64).mean((1, 2)))


@pytest.mark.parametrize("padding", [Padding.SAME, Padding.VALID])
@pytest.mark.parametrize("out_c", [1, 5])
@pytest.mark.parametrize(("k", "stride"), [(2, 2), (3, 2), (4, 2), (5, 2), (2, 3), (5, 3), (7, 4), (1, 2)])
def test_transposed_convolutions(k: int, stride: int, out_c: int, padding: Padding) -> None:
    """A transposed float convolution adds each input pixel times the window to where it lies, whatever stride and window."""
    n, h, w, c = 2, 5, 4, 3
    size = [d * stride if padding is Padding.SAME else (d - 1) * stride + k for d in (h, w)]
    rng = RNG(k * 10 + stride)
    weights, bias = rng.standard_normal((out_c, k, k, c)).astype(f32), rng.standard_normal(out_c).astype(f32)
    graph = single(
        "TRANSPOSE_CONV",
        [constant("shape", [n, *size, out_c]), tensor("w", weights.shape, "float32", data=weights),
         tensor("x", (n, h, w, c), "float32"), tensor("b", (out_c,), "float32", data=bias)],
        tensor("y", (n, *size, out_c), "float32"), "TransposeConvOptions", padding=int(padding), stride_w=stride,
        stride_h=stride,
    )  # fmt: skip
    x = rng.standard_normal((n, h, w, c)).astype(f32)
    full = np.zeros((n, h * stride + k + stride, w * stride + k + stride, out_c))
    for i in range(h):
        for j in range(w):
            full[:, i * stride : i * stride + k, j * stride : j * stride + k] += np.einsum(
                "nc,oabc->nabo", x[:, i, j].astype(np.float64), weights.astype(np.float64)
            )
    first = max(k - stride, 0) // 2 if padding is Padding.SAME else 0
    with build(graph) as model:
        near(model(x), full[:, first : first + size[0], first : first + size[1]] + bias)


@pytest.mark.parametrize("dtype", ["float32", "int8", "int16"])
@pytest.mark.parametrize("shape", [(0, 4, 6), (2, 0, 6)], ids=str)
def test_pairs_of_no_rows(dtype: str, shape: tuple[int, ...]) -> None:
    """A row of channels joined to no rows at all gives no rows."""
    with build(binary("ADD", dtype, a=shape, b=(6,))) as model:
        x = {p.name: np.zeros(p.shape, p.dtype) for p in model.inputs}
        assert model(x).shape == shape

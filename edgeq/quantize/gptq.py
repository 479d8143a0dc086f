"""Rounding weights one after another, each time making up in those that follow for what the rounding spoilt.

With x a layer's inputs and H = E[x·xᵀ], rounding weight j of a row by e_j costs least if the rest moves by
−e_j·H⁻¹[j, j:]/H⁻¹[j, j] (Hassibi & Stork, "Optimal Brain Surgeon", NeurIPS 1992; Frantar & Alistarh, "Optimal Brain
Compression", NeurIPS 2022; in this order and with Cholesky's factor Frantar et al., "GPTQ", ICLR 2023). Rows do not
depend on one another. A convolution is the product of its windows' rows (edgeq.quantize.windows); a depthwise one is a
product for each channel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgeq.calibrate import Inputs
from edgeq.graph import Graph, Op

if TYPE_CHECKING:
    from edgeq.quantize.frontier import Stage
    from edgeq.quantize.moments import Moments
    from edgeq.quantize.windows import Windows

Array = npt.NDArray[Any]
Nearest = Callable[[Array, int], Array]
"""Column j of real weights in units of their scales, (n,) → the codes to take, (n,)."""

ROWS = 4096
"""Rows that a layer's Hessian comes from."""

DEPTHWISE_ROWS = 2048
"""The same of a depthwise layer, whose windows have few taps."""

SPREAD = 32
"""Samples at least that the rows of a layer with many of them come from."""

MOST = 2304
"""Weights of a row beyond which the Hessian would be too large."""

FINE = 640
"""The same where weights have all codes and a scale per channel: there is less to gain, and time counts."""

DAMPING = 0.3
"""Of the Hessian's mean diagonal, added to it: what samples hardly excite, others will. Chosen of 0, 0.01, 0.03, 0.1, 0.3 and 1
on pictures that no benchmark has: with 0.01, what smooth pictures calibrated was worse on sharp ones than the nearest codes."""

SHRINKAGE = 0.25
"""So many times k/n, of n rows of k, is added too: what few samples never excite, others will (after Ledoit & Wolf, "A
well-conditioned estimator for large-dimensional covariance matrices", 2004)."""

TAPS = 9
"""Of a depthwise window all of whose roundings are tried."""

BLOCK = 64
"""Columns after which the rest of the row is brought up to date."""


def hessians(
    graph: Graph, layers: Iterable[int], inputs: Sequence[Inputs], longest: int = MOST, centred: bool = False
) -> Iterator[tuple[int, Array]]:
    """E[x·xᵀ] of the named layers of a float graph, damped, one after another: (k, k) float32; DEPTHWISE_CONV_2D: (in_c,
    taps, taps).

    centred: of layers with a bias about the mean of x, for biases that take off what rounding does to the mean. Layers whose
    rows are longer than `longest`, and grouped convolutions, are left out.
    """
    from edgeq.quantize.frontier import Frontier

    cuts = {n: _cut(graph, n) for n in sorted(layers) if _row(graph, n) <= longest}
    groups: dict[
        int, dict[int, Windows]
    ] = {}  # by samples that give ROWS: a dense layer may need all, where others need few
    for n, cut in cuts.items():
        if cut is not None:
            groups.setdefault(min(len(inputs), -(-rows(graph.ops[n]) // len(cut))), {})[n] = cut
    for samples, wanted in groups.items():
        way = Frontier(graph, inputs[:samples], [graph.ops[n].inputs[0] for n in wanted])
        for n, cut in wanted.items():
            yield n, _hessian(graph.ops[n], _whole(way.stage(), graph.ops[n], cut, samples), centred)


def _hessian(op: Op, seen: Moments, centred: bool) -> Array:
    h = seen.about(seen.met, seen.h)
    if not centred or len(op.inputs) < 3 or op.inputs[2] < 0:
        m = seen.mean(seen.met)
        h += m[..., :, None] * m[..., None, :]
    return damped(h.astype(np.float32), int(seen.counts.sum()))


def _whole(way: Stage, op: Op, cut: Windows, samples: int) -> Moments:
    """What a layer meets on all samples."""
    from edgeq.quantize.frontier import gone
    from edgeq.quantize.moments import Moments, moments

    def look(start: int, values: Sequence[Array]) -> Moments:
        return moments(cut, op.code == "DEPTHWISE_CONV_2D", values[0], None)

    return reduce(Moments.merged, gone([way], samples, cut.nbytes, look))  # in order: the same on any threads


def _cut(graph: Graph, n: int) -> Windows | None:
    """The windows of layer n that a sample gives its Hessian, None where they cannot be told."""
    from edgeq.quantize.windows import windows

    op = graph.ops[n]
    if graph.tensors[op.inputs[0]].data is not None:
        return None
    each = min(int(np.prod(graph.tensors[op.outputs[0]].shape[:-1])), rows(op) // SPREAD)
    return windows(op, graph.tensors[op.inputs[0]].shape, graph.tensors[op.inputs[1]].shape, each)


def rows(op: Op) -> int:
    """Rows that tell a layer's Hessian."""
    return DEPTHWISE_ROWS if op.code == "DEPTHWISE_CONV_2D" else ROWS


def _row(graph: Graph, n: int) -> int:
    op = graph.ops[n]
    if op.code not in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
        return MOST + 1
    shape = graph.tensors[op.inputs[1]].shape
    return int(np.prod(shape[1:3])) if op.code == "DEPTHWISE_CONV_2D" else int(np.prod(shape[1:]))


def damped(h: Array, count: int) -> Array:
    """A Hessian from `count` rows, made regular."""
    diagonal = np.einsum("...ii->...i", h)
    share = DAMPING + SHRINKAGE * h.shape[-1] / count
    more = np.maximum(share * diagonal.mean(axis=-1, keepdims=True), 1e-30)
    out = np.array(h)
    np.einsum("...ii->...i", out)[...] += more
    return out


def rounded(w: Array, h: Array, nearest: Nearest) -> Array:
    """Codes (n, k) for w (n, k), real weights in units of their scales, under a Hessian (k, k).

    Columns are gone through from the largest diagonal element on: there is most to make up for.
    """
    order = np.argsort(-np.diag(h), kind="stable")
    factor = _factor(h[np.ix_(order, order)].astype(np.float64, copy=False))
    left = np.ascontiguousarray(np.asarray(w, np.float64).T[order])  # (k, n): a column at a time lies together
    out = np.empty_like(left)
    k, n = left.shape
    room, errors = np.empty((BLOCK, n)), np.empty((BLOCK, n))
    for start in range(0, k, BLOCK):
        end = min(start + BLOCK, k)
        for j in range(start, end):
            out[j] = nearest(left[j], int(order[j]))
            error = errors[j - start]
            np.subtract(left[j], out[j], out=error)
            error /= factor[j, j]
            left[j + 1 : end] -= np.multiply(factor[j, j + 1 : end, None], error, out=room[: end - j - 1])
        left[end:] -= factor[start:end, end:].T @ errors[: end - start]
    codes = np.empty_like(out)
    codes[order] = out
    return np.ascontiguousarray(codes.T)


def _factor(h: Array) -> Array:
    """The upper triangular U (k, k) with UᵀU = H⁻¹: row j is H⁻¹[j, j:] of what is left, by its root.

    H = VVᵀ with V upper is Cholesky's factor from the last row on, and U = V⁻¹: a third of the work of inverting H first.
    """
    return _inverse(np.ascontiguousarray(np.linalg.cholesky(h[::-1, ::-1])[::-1, ::-1]))  # as BLAS takes it


def _inverse(v: Array) -> Array:
    """Of an upper triangular matrix (k, k)."""
    k = len(v)
    if k <= BLOCK:
        return np.asarray(np.triu(np.linalg.inv(v)))
    half, out = k // 2, np.zeros_like(v)
    above, below = _inverse(v[:half, :half]), _inverse(v[half:, half:])
    out[:half, :half], out[half:, half:] = above, below
    out[:half, half:] = -(above @ v[:half, half:] @ below)
    return out


def rounded_depthwise(w: Array, h: Array, nearest: Nearest) -> Array:
    """Codes (c, taps) for w (c, taps), a Hessian (c, taps, taps) each: the same for all channels at once."""
    factor = np.linalg.cholesky(np.linalg.inv(h.astype(np.float64))).swapaxes(-1, -2)
    left, out = np.array(w, np.float64), np.empty(w.shape)
    for j in range(w.shape[1]):
        out[:, j] = nearest(left[:, j], j)
        error = (left[:, j] - out[:, j]) / factor[:, j, j]
        left[:, j + 1 :] -= error[:, None] * factor[:, j, j + 1 :]
    return out


def exact_depthwise(w: Array, h: Array) -> Array:
    """Codes (c, taps) for w (c, taps) of up to TAPS taps, each rounded up or down so that the channel costs least.

    That is AdaRound's problem (Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization", ICML 2020,
    equation 13), which for the 512 ways of a 3 × 3 window needs no relaxation: all are tried.
    """
    taps = w.shape[1]
    ways = (np.arange(1 << taps)[:, None] >> np.arange(taps)) & 1  # (2^taps, taps)
    pairs = (ways[:, :, None] * ways[:, None, :]).reshape(len(ways), -1).astype(np.float64)
    low = np.clip(np.floor(w), -127, 126)
    left = w - low
    linear = np.einsum("cij,cj->ci", h.astype(np.float64), left)
    # (left − b)ᵀH(left − b), without what does not depend on b
    costs = h.reshape(len(h), -1).astype(np.float64) @ pairs.T - 2.0 * (linear @ ways.T.astype(np.float64))
    return np.asarray(low + ways[costs.argmin(axis=1)])


def cost(w: Array, codes: Array, h: Array) -> Array:
    """E[((w − codes)·x)²] of each row, (n,)."""
    e = np.asarray(w, np.float64) - codes
    if h.ndim == 3:
        return np.asarray(
            (np.matmul(e[:, None], h)[:, 0] * e).sum(axis=1)
        )  # BLAS, ten times as fast as einsum of three
    return np.asarray(((e.astype(np.float32) @ h.astype(np.float32, copy=False)) * e).sum(axis=1))


def better(w: Array, plain: Array, h: Array, codes: Array) -> Array:
    """Row by row the codes that cost less: making up greedily for errors is not always better than leaving them."""
    keep = cost(w, codes, h) < cost(w, plain, h)
    return np.where(keep[:, None], codes, plain)

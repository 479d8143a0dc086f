"""Rounding weights one after another, each time making up in those that follow for what the rounding spoilt.

With x a layer's inputs and H = E[x·xᵀ], rounding weight j of a row by e_j costs least if the rest moves by
−e_j·H⁻¹[j, j:]/H⁻¹[j, j] (Hassibi & Stork, "Optimal Brain Surgeon", NeurIPS 1992; Frantar & Alistarh, "Optimal Brain
Compression", NeurIPS 2022; in this order and with Cholesky's factor Frantar et al., "GPTQ", ICLR 2023). Rows do not
depend on one another. A convolution is the product of its windows' rows (edgeq.quantize.windows); a depthwise one is a
product for each channel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.calibrate import Inputs, Trace, in_parallel
from edgeq.graph import Graph
from edgeq.quantize.windows import rows

Array = npt.NDArray[Any]
Nearest = Callable[[Array, int], Array]
"""Column j of real weights in units of their scales, (n,) → the codes to take, (n,)."""

ROWS = 4096
"""Rows that a layer's Hessian comes from."""

SPREAD = 32
"""Samples at least that the rows of a layer with many of them come from."""

FLUSHED = 512
"""Rows that are multiplied at once."""

MOST = 2304
"""Weights of a row beyond which the Hessian would be too large."""

FINE = 640
"""The same where weights have all codes and a scale per channel: there is less to gain, and time counts."""

DAMPING = 0.01
"""Of the Hessian's mean diagonal, added to it: inputs that never vary would leave it singular."""

SHRINKAGE = 0.25
"""So many times k/n, of n rows of k, is added too: what few samples never excite, others will (after Ledoit & Wolf, "A
well-conditioned estimator for large-dimensional covariance matrices", 2004)."""

BLOCK = 64
"""Columns after which the rest of the row is brought up to date."""


def hessians(graph: Graph, layers: Iterable[int], inputs: Sequence[Inputs], longest: int = MOST) -> dict[int, Array]:
    """E[x·xᵀ] of the named layers of a float graph, damped: (k, k) float64; DEPTHWISE_CONV_2D: (in_c, taps, taps).

    Layers whose rows are longer than `longest`, and grouped convolutions, are left out.
    """
    wanted = [n for n in layers if _row(graph, n) <= longest]
    sums = {n: _Sum() for n in wanted}

    def one(worker: int, run: Trace, item: tuple[int, Inputs]) -> dict[int, Array]:
        number, x = item
        values = run(x)
        found = {}
        for n in wanted:
            op = graph.ops[n]
            y = graph.tensors[op.outputs[0]].shape
            each = min(int(np.prod(y[:-1])), ROWS // SPREAD)  # rows of a sample
            if number * each < ROWS:
                r = rows(op, np.asarray(values[op.inputs[0]]), graph.tensors[op.inputs[1]].shape, each)
                if r is not None:
                    found[n] = r
        return found

    for found in in_parallel(graph, enumerate(inputs), one):
        for n, r in found.items():
            sums[n].add(r)
    return {n: damped(*total) for n, s in sums.items() if (total := s.total()) is not None}


class _Sum:
    """Σ x·xᵀ of rows as they come, several at once."""

    def __init__(self) -> None:
        self._held: list[Array] = []
        self._sum: Array | None = None
        self._count = 0

    def add(self, r: Array) -> None:
        self._held.append(r)
        if sum(map(len, self._held)) >= FLUSHED:
            self._flush()

    def _flush(self) -> None:
        r = np.concatenate(self._held)
        flat = r.transpose(2, 0, 1) if r.ndim == 3 else r
        product = np.matmul(flat.swapaxes(-1, -2), flat)
        self._sum = product.astype(np.float64) if self._sum is None else self._sum + product
        self._count += len(r)
        self._held = []

    def total(self) -> tuple[Array, int] | None:
        """E[x·xᵀ] and of how many rows, None where there were none."""
        if self._held:
            self._flush()
        return None if self._sum is None else (self._sum / self._count, self._count)


def _row(graph: Graph, n: int) -> int:
    op = graph.ops[n]
    if op.code not in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
        return MOST + 1
    shape = graph.tensors[op.inputs[1]].shape
    return int(np.prod(shape[1:3])) if op.code == "DEPTHWISE_CONV_2D" else int(np.prod(shape[1:]))


def damped(h: Array, count: int) -> Array:
    """A Hessian from `count` rows, made regular."""
    mean = np.einsum("...ii->...i", h).mean(axis=-1, keepdims=True)
    share = DAMPING + SHRINKAGE * h.shape[-1] / count
    return np.asarray(h + np.eye(h.shape[-1]) * np.maximum(share * mean, 1e-30)[..., None])


def rounded(w: Array, h: Array, nearest: Nearest) -> Array:
    """Codes (n, k) for w (n, k), real weights in units of their scales, under a Hessian (k, k).

    Columns are gone through from the largest diagonal element on: there is most to make up for.
    """
    order = np.argsort(-np.diag(h), kind="stable")
    back = np.argsort(order, kind="stable")
    inverse = np.linalg.inv(h[np.ix_(order, order)])
    factor = np.linalg.cholesky((inverse + inverse.T) / 2).T  # upper: row j is H⁻¹[j, j:] of what is left, by its root
    left = np.array(w, np.float64)[:, order]
    out = np.empty_like(left)
    k = left.shape[1]
    for start in range(0, k, BLOCK):
        end = min(start + BLOCK, k)
        errors = np.empty((len(left), end - start))
        for j in range(start, end):
            out[:, j] = nearest(left[:, j], int(order[j]))
            errors[:, j - start] = (left[:, j] - out[:, j]) / factor[j, j]
            left[:, j + 1 : end] -= errors[:, j - start, None] * factor[j, j + 1 : end]
        left[:, end:] -= errors @ factor[start:end, end:]
    return np.asarray(out[:, back])


def rounded_depthwise(w: Array, h: Array, nearest: Nearest) -> Array:
    """Codes (c, taps) for w (c, taps), a Hessian (c, taps, taps) each: the same for all channels at once."""
    factor = np.linalg.cholesky(np.linalg.inv(h)).swapaxes(-1, -2)
    left, out = np.array(w, np.float64), np.empty(w.shape)
    for j in range(w.shape[1]):
        out[:, j] = nearest(left[:, j], j)
        error = (left[:, j] - out[:, j]) / factor[:, j, j]
        left[:, j + 1 :] -= error[:, None] * factor[:, j, j + 1 :]
    return out


def cost(w: Array, codes: Array, h: Array) -> Array:
    """E[((w − codes)·x)²] of each row, (n,)."""
    e = np.asarray(w, np.float64) - codes
    if h.ndim == 3:
        return np.asarray(np.einsum("ci,cij,cj->c", e, h, e))
    return np.asarray(((e @ h) * e).sum(axis=1))


def better(w: Array, plain: Array, h: Array, codes: Array) -> Array:
    """Row by row the codes that cost less: making up greedily for errors is not always better than leaving them."""
    keep = cost(w, codes, h) < cost(w, plain, h)
    return np.where(keep[:, None], codes, plain)

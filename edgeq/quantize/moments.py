"""First and second moments of what a layer meets, in one model or in the float and the integer one, without keeping its rows.

Rows of some samples at a time are centred about their own means, multiplied in float32 and added up in float64; what the means
of different samples do is added at the end (as Chan, Golub & LeVeque, "Algorithms for computing the sample variance", 1983). So
rows far from 0 lose nothing, and memory does not grow with their number. A depthwise layer has a small product for each channel;
where its windows all count it is not laid out at all: its taps are shifted views of the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.quantize.windows import Windows
from edgeq.quantmod import QuantMod
from edgeq.records import dataclass

Array = npt.NDArray[Any]

IMAGES = 512 << 10
"""Bytes of pictures whose taps are multiplied at a time: they stay in the cache."""


@dataclass(frozen=True, eq=False)
class Moments:
    """Of rows x̂ of k values, and of rows x of the float model beside them; a depthwise layer has its own per channel.

    counts: of rows in each part, (parts,); met, exact: the parts' means of x̂ and x, (parts, k) or (parts, channels, taps); h:
    Σ(x̂ − m̂)(x̂ − m̂)ᵀ about the parts' means, c: Σ(x − m)(x̂ − m̂)ᵀ, (k, k) or (channels, taps, taps). exact and c are None
    where there is no other model.
    """

    counts: Array
    met: Array
    h: Array
    exact: Array | None = None
    c: Array | None = None

    def merged(self, other: Moments) -> Moments:
        """Of the parts of both; the sums become float64, and those of this one are added to."""
        counts, met = np.concatenate([self.counts, other.counts]), np.concatenate([self.met, other.met])
        h = self.h.astype(np.float64, copy=False)
        h += other.h
        if self.exact is None or self.c is None or other.exact is None or other.c is None:
            return Moments(counts, met, h)
        c = self.c.astype(np.float64, copy=False)
        c += other.c
        return Moments(counts, met, h, np.concatenate([self.exact, other.exact]), c)

    def mean(self, of: Array) -> Array:
        """Of all parts' means, (k,) or (channels, taps)."""
        return np.tensordot(self.counts / self.counts.sum(), of, 1)

    def about(self, of: Array, sums: Array) -> Array:
        """Products with x̂ about the means of all rows, by their number, float64. of: `met`, and sums: h, or `exact` and c."""
        share = self.counts / self.counts.sum()
        away, away_met = (np.moveaxis(m - self.mean(m), 0, -1) for m in (of, self.met))  # (…, k, parts)
        out = np.matmul(away * share, away_met.swapaxes(-1, -2))
        np.add(out, np.divide(sums, float(self.counts.sum()), dtype=np.float64), out=out)
        return np.asarray(out)


def of_rows(met: Array, exact: Array | None = None) -> Moments:
    """Of rows (n, k) float32, which are centred where they are."""
    means = [np.asarray(r.mean(axis=0, dtype=np.float64)) for r in (met, exact) if r is not None]
    met -= means[0].astype(np.float32)
    counts, h = np.array([len(met)]), met.T @ met
    if exact is None:
        return Moments(counts, means[0][None], h)
    exact -= means[1].astype(np.float32)
    return Moments(counts, means[0][None], h, means[1][None], exact.T @ met)


def of_columns(met: Array, exact: Array | None = None) -> Moments:
    """Of a depthwise layer's windows (channels, taps, n) float32, which are centred where they are."""
    means = [np.asarray(r.mean(axis=2, dtype=np.float64)) for r in (met, exact) if r is not None]
    met -= means[0].astype(np.float32)[..., None]
    counts, h = np.array([met.shape[2]]), np.matmul(met, met.swapaxes(1, 2))
    if exact is None:
        return Moments(counts, means[0][None], h)
    exact -= means[1].astype(np.float32)[..., None]
    return Moments(counts, means[0][None], h, means[1][None], np.matmul(exact, met.swapaxes(1, 2)))


Taps = tuple[Sequence[Array], Array]
"""What each tap of a depthwise layer meets, (…, channels) float32, less a value for each channel, (channels,)."""


def of_taps(met: Taps, exact: Taps | None = None) -> Moments:
    """Of a depthwise layer's taps, less values that are about their means."""
    hat, about = met
    axes = "abd"[: hat[0].ndim - 1]
    product, total = f"{axes}c,{axes}c->c", f"{axes}c->c"
    taps, channels = len(hat), hat[0].shape[-1]
    count = hat[0].size // channels
    h = np.empty((channels, taps, taps))
    for i in range(taps):
        for j in range(i, taps):
            h[:, i, j] = h[:, j, i] = np.einsum(product, hat[i], hat[j])
    m_hat = np.stack([np.einsum(total, x) for x in hat], axis=1).astype(np.float64) / count
    h -= count * m_hat[:, :, None] * m_hat[:, None, :]
    counts, mean_hat = np.array([count]), (m_hat + about[:, None])[None]
    if exact is None:
        return Moments(counts, mean_hat, h)
    own, about_own = exact
    c = np.empty_like(h)
    for i in range(taps):
        for j in range(taps):
            c[:, i, j] = np.einsum(product, own[i], hat[j])
    m = np.stack([np.einsum(total, x) for x in own], axis=1).astype(np.float64) / count
    c -= count * m[:, :, None] * m_hat[:, None, :]
    return Moments(counts, mean_hat, h, (m + about_own[:, None])[None], c)


def moments(windows: Windows, depthwise: bool, met: Array, q: QuantMod | None, exact: Array | None = None) -> Moments:
    """Of some samples: what the layer meets, (samples, …), codes of q if there is one, and in the float model beside it."""
    if not depthwise:
        return of_rows(*(_rows(windows, x, by) for x, by in ((met, q), (exact, None)) if x is not None))
    if windows.sides is None:
        return of_columns(*(_columns(windows, x, by) for x, by in ((met, q), (exact, None)) if x is not None))
    found = None
    step = max(1, IMAGES // max(1, 4 * met[:1].size))
    for start in range(0, len(met), step):
        some = slice(start, start + step)
        sides = ((met[some], q), (exact[some] if exact is not None else None, None))
        one = of_taps(*(windows.shifted(x, by) for x, by in sides if x is not None))
        found = one if found is None else found.merged(one)
    assert found is not None
    return found


def _rows(windows: Windows, x: Array, q: QuantMod | None) -> Array:
    r = windows.of(x, q)
    return r.reshape(-1, r.shape[2] * r.shape[3])


def _columns(windows: Windows, x: Array, q: QuantMod | None) -> Array:
    r = windows.of(x, q)
    return np.ascontiguousarray(r.reshape(-1, *r.shape[2:]).transpose(2, 1, 0))

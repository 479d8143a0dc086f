"""First and second moments of what a layer meets, in the float model and in the integer one, without keeping its rows.

Rows of some samples at a time are centred about their own means, multiplied in float32 and added up in float64; what the means
of different samples do is added when two such sums become one (Chan, Golub & LeVeque, "Algorithms for computing the sample
variance", 1983). So rows far from 0 lose nothing, and memory does not grow with their number. A depthwise layer whose windows
all count is not laid out as rows at all: its taps are shifted views of the picture.
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


@dataclass(frozen=True, eq=False)
class Moments:
    """Of rows x of k values in the float model and x̂ in the integer one; a depthwise layer has its own per channel.

    count: of rows; exact, met: their means m and m̂, (k,) or (channels, taps); h: Σ(x̂ − m̂)(x̂ − m̂)ᵀ, c: Σ(x − m)(x̂ − m̂)ᵀ,
    (k, k) or (channels, taps, taps) float64.
    """

    count: int
    exact: Array
    met: Array
    h: Array
    c: Array

    def merged(self, other: Moments) -> Moments:
        """Of the rows of both; takes the sums of this one along."""
        count = self.count + other.count
        share, weight = other.count / count, self.count * other.count / count
        apart, apart_met = other.exact - self.exact, other.met - self.met
        h, c = self.h, self.c
        h += other.h
        c += other.c
        h += (weight * apart_met)[..., :, None] * apart_met[..., None, :]
        c += (weight * apart)[..., :, None] * apart_met[..., None, :]
        return Moments(count, self.exact + share * apart, self.met + share * apart_met, h, c)


def of_rows(exact: Array, met: Array) -> Moments:
    """Of rows (n, k) float32, which are centred where they are."""
    m, m_hat = exact.mean(axis=0, dtype=np.float64), met.mean(axis=0, dtype=np.float64)
    exact -= m.astype(np.float32)
    met -= m_hat.astype(np.float32)
    return Moments(len(exact), m, m_hat, (met.T @ met).astype(np.float64), (exact.T @ met).astype(np.float64))


def of_taps(exact: Sequence[Array], met: Sequence[Array], about: Array, about_met: Array) -> Moments:
    """Of a depthwise layer: what each tap meets, (…, channels) float32 each, less `about` and `about_met` (channels,)."""
    axes = "abd"[: exact[0].ndim - 1]
    product, total = f"{axes}c,{axes}c->c", f"{axes}c->c"
    taps, channels = len(exact), exact[0].shape[-1]
    count = exact[0].size // channels
    h, c = np.empty((2, channels, taps, taps))
    for i in range(taps):
        for j in range(taps):
            if i <= j:
                h[:, i, j] = h[:, j, i] = np.einsum(product, met[i], met[j])
            c[:, i, j] = np.einsum(product, exact[i], met[j])
    m, m_hat = (
        np.stack([np.einsum(total, x) for x in side], axis=1).astype(np.float64) / count for side in (exact, met)
    )
    h -= count * m_hat[:, :, None] * m_hat[:, None, :]
    c -= count * m[:, :, None] * m_hat[:, None, :]
    return Moments(count, m + about[:, None], m_hat + about_met[:, None], h, c)


IMAGES = 512 << 10
"""Bytes of pictures whose taps are multiplied at a time: they stay in the cache."""


def moments(windows: Windows, depthwise: bool, exact: Array, met: Array, q: QuantMod | None) -> Moments:
    """Of some samples: what the layer meets in the float model and in the integer one, (samples, …), there codes of q."""
    if not depthwise:
        x, x_hat = windows.of(exact, None), windows.of(met, q)
        return of_rows(x.reshape(-1, x.shape[2] * x.shape[3]), x_hat.reshape(-1, x.shape[2] * x.shape[3]))
    if windows.sides is None:
        x, x_hat = (
            np.moveaxis(a.reshape(-1, *a.shape[2:]), 1, 0) for a in (windows.of(exact, None), windows.of(met, q))
        )
        about, about_met = (a.mean(axis=(0, 1), dtype=np.float64).astype(np.float32) for a in (x, x_hat))
        x -= about
        x_hat -= about_met
        return of_taps([*x], [*x_hat], about, about_met)
    found = None
    step = max(1, IMAGES // max(1, 4 * exact[:1].size))
    for start in range(0, len(exact), step):
        taps, about = windows.shifted(exact[start : start + step], None)
        taps_met, about_met = windows.shifted(met[start : start + step], q)
        one = of_taps(taps, taps_met, about, about_met)
        found = one if found is None else found.merged(one)
    assert found is not None
    return found

"""Whether a change is kept, decided on samples that nothing else looked at: undecided means no.

The gain on a sample is how much closer the changed model comes there to the float model, on the sample and on it stretched
(edgeq.quantize.stretch). If the change were for nothing, each gain were as likely a loss of the same size; so the chance of as
much gain in all from luck alone is the share of all ways to set the signs of the gains that add up to as much (Fisher, "The
Design of Experiments", 1935, section 21). Nothing is assumed of the gains' distribution, which has long tails.

It is asked twice, and both answers have to be no: of the gains on the samples as they are, and of these with those on the samples
stretched. Where old ranges clip what is stretched, that alone gains so much that the sum says nothing of the samples themselves.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edgeq.records import dataclass

Array = npt.NDArray[Any]

LUCK: Final = 0.05
"""The most chance of a gain from luck alone with which a change is kept. So five samples are the fewest that can decide."""

LEAST_GAIN: Final = 0.25
"""Of the noise on the samples held back: less is not worth a change."""

WORTH: Final = 1e-4
"""Of the signal: the noise that a change has to take away at least. Codes of 8 bits make about as much wherever they lie, and
what will come may reach further than these samples: then more is lost by new ranges than that."""

FLIPS: Final = 4095
"""Random ways to set the signs, where there are too many to try all."""


@dataclass(frozen=True)
class Verdict:
    """before, after: noise per signal on the samples held back; far_before, far_after: on those stretched; luck: the chance of
    so much gain from none, as they are or with those stretched, the greater
    one; samples: how many were held back."""

    before: float
    after: float
    far_before: float
    far_after: float
    luck: float
    samples: int

    @property
    def refusal(self) -> str | None:
        """Why the change is not kept, None if it is."""
        if not self.after < (1 - LEAST_GAIN) * self.before:
            return f"the outcome is not {LEAST_GAIN:.0%} closer on the samples held back"
        if not self.after < self.before - WORTH:
            return f"there is no {WORTH:.2%} of noise to take away on the samples held back"
        if not self.far_after < self.far_before:
            return "the outcome is no closer on samples that reach further than those held back"
        if self.luck > LUCK:
            return (
                f"{self.samples} samples held back do not decide: as much would be gained by luck with a chance of "
                f"{self.luck:.0%}, and {LUCK:.0%} is the most"
            )
        return None


def judge(before: Array, after: Array) -> Verdict:
    """What each sample adds to the noise per signal before and after a change: (2·samples,), the second half stretched."""
    n = len(before) // 2
    gains = (before - after).reshape(2, n)
    share = 2.0  # half of the signal that the errors are counted by is the stretched samples'
    plain, far = slice(n), slice(n, None)
    return Verdict(
        share * float(before[plain].sum()),
        share * float(after[plain].sum()),
        share * float(before[far].sum()),
        share * float(after[far].sum()),
        max(by_luck(gains[0]), by_luck(gains.sum(axis=0))),
        n,
    )


@lru_cache(1)
def _signs(n: int) -> Array:
    """(FLIPS, n): random ways to set n signs, the same every time."""
    return np.where(np.random.default_rng(0).random((FLIPS, n)) < 0.5, -1.0, 1.0)


def by_luck(gains: Array) -> float:
    """The chance that signs set by chance give the gains (n,) as large a sum: exact up to 12 of them."""
    n = len(gains)
    if n <= 12:
        signs = 1.0 - 2.0 * ((np.arange(1 << n)[:, None] >> np.arange(n)) & 1)
        return float(np.mean(signs @ gains >= gains.sum() * (1 - 1e-12))) if n else 1.0
    signs = _signs(n)
    return (1 + int(np.count_nonzero(signs @ gains >= gains.sum()))) / (FLIPS + 1)

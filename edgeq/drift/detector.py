"""A sequential test for a change in a stream of scores, with a stated rate of false alarms.

Each score becomes a p-value twice over, both uniform (or larger) while nothing changes:

- among all scores before it, these included that came since: its conformal rank is uniform and independent of the earlier
  ones as long as scores are exchangeable (Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random World", 2005,
  chapter 2). It needs no assumption and finds small changes, but a change soon teaches it that the new is normal;
- among the scores that were known beforehand alone: an upper confidence bound on the chance of a higher score, by the
  binomial (Clopper and Pearson, 1934) and for all ranks at once (Bonferroni), so that it holds with CONFIDENCE whatever
  scores those happened to be (Vovk, "Conditional validity of inductive conformal predictors", 2012). It never forgets.

Each p-value is bet on: b(p) = ∫₀¹ ε·p^(ε−1) dε = (1 − p + p·ln p) / (p·ln² p), whose mean is 1 under uniform p. The bets
are added up as Shiryaev and Roberts do, M ← b(p)·(1 + M), so that a change counts from whenever it comes (Volkhonskiy et al.,
"Inductive conformal martingales for change-point detection", 2017; Shin, Ramdas and Rinaldo, "E-detectors", 2022), and the
evidence is the mean of the two M. While nothing changes, evidence − n is at most a martingale after n looks, so by Doob's
inequality

    P(an alarm within n looks) ≤ n / threshold,

and the mean time to a false alarm is at least `threshold` looks. That holds if looks do not hang together: what follows
from the same scene within a second does not, and shows as fewer independent looks.

After an alarm nothing more is learned, and the alarm stays until three of four among RECOVERY looks are ordinary again: it
does not flicker at the edge.
"""

from __future__ import annotations

import bisect
import math
from collections import deque
from collections.abc import Sequence
from typing import Final

import numpy as np

from edgeq.errors import InputError

THRESHOLD: Final = 100_000.0
"""One false alarm in at least that many looks, in the mean."""

CONFIDENCE: Final = 0.99
"""That the known scores are as good as the bound takes them to be."""

LEAST: Final = 64
"""Scores that are needed before bets are made: with fewer, a bound says too little."""

MOST: Final = 4096
"""Scores that are kept; later ones are compared with these."""

RECOVERY: Final = 32
"""Looks."""

LEARNING, STEADY, RECALIBRATE = "learning", "steady", "recalibrate"


class Detector:
    """The test's state. scores: of looks when all was well. threshold: see above. seed: of the ranks among equals."""

    def __init__(self, scores: Sequence[float] = (), *, threshold: float = THRESHOLD, seed: int = 0) -> None:
        if not threshold > 1:
            raise InputError(f"expected a threshold above 1, got {threshold}")
        self.threshold = threshold
        self.looks = 0
        self.alarms = 0
        self._known = sorted(float(s) for s in scores)[:MOST]
        self._all = list(self._known)
        self._by_known = self._by_all = 0.0
        self._bounds: dict[int, float] = {}
        self._random = np.random.default_rng(seed)
        self._alarm = False
        self._ordinary: deque[bool] = deque(maxlen=RECOVERY)

    @property
    def evidence(self) -> float:
        """The mean of both: an alarm comes where it reaches the threshold."""
        return 0.5 * (self._by_known + self._by_all)

    @property
    def status(self) -> str:
        """LEARNING until there are enough scores to compare with, then STEADY, or RECALIBRATE after an alarm."""
        if self._alarm:
            return RECALIBRATE
        return STEADY if len(self._known) >= LEAST else LEARNING

    def see(self, score: float) -> str:
        """Take the next score into account; the status after it."""
        self.looks += 1
        if self._alarm:
            self._recover(score)
        elif len(self._known) < LEAST:
            bisect.insort(self._known, score)
            self._all = list(self._known)
        else:
            self._by_known = bet(self._bound(score)) * (1.0 + self._by_known)
            self._by_all = bet(self._rank(score)) * (1.0 + self._by_all)
            if self.evidence >= self.threshold:
                self._alarm, self.alarms = True, self.alarms + 1
                self._ordinary.clear()
            elif len(self._all) < MOST:
                bisect.insort(self._all, score)
        return self.status

    def _rank(self, score: float) -> float:
        """The conformal p-value: the share of scores, this one among them, that are higher, of equal ones a random part."""
        n = len(self._all)
        below = bisect.bisect_left(self._all, score)
        equal = bisect.bisect_right(self._all, score) - below
        return (n - below - equal + float(self._random.random()) * (equal + 1)) / (n + 1)

    def _bound(self, score: float) -> float:
        """At most this is the chance of a score as high, by how many of the known ones are."""
        n = len(self._known)
        higher = n - bisect.bisect_left(self._known, score)
        if higher not in self._bounds:
            self._bounds[higher] = upper_bound(higher, n, (1.0 - CONFIDENCE) / (n + 1))
        return self._bounds[higher]

    def _recover(self, score: float) -> None:
        self._ordinary.append(score <= self._known[int(0.9 * (len(self._known) - 1))])
        if sum(self._ordinary) >= 0.75 * RECOVERY:
            self._alarm, self._by_known, self._by_all = False, 0.0, 0.0
            self._all = list(self._known)


def upper_bound(hits: int, n: int, risk: float) -> float:
    """The largest chance p for which no more than `hits` of n is at least as likely as `risk` (Clopper and Pearson)."""
    if hits >= n:
        return 1.0
    k = np.arange(hits + 1, dtype=np.float64)
    ways = np.concatenate([[0.0], np.cumsum(np.log((n - k[:-1]) / (k[:-1] + 1.0)))])  # ln of n choose k
    low, high = 0.0, 1.0
    for _ in range(30):  # to 1e-9 above: further down the last bits of log and exp show, in which processors differ
        p = 0.5 * (low + high)
        logs = ways + k * math.log(p) + (n - k) * math.log1p(-p)
        if float(np.exp(logs - logs.max()).sum()) * math.exp(float(logs.max())) > risk:
            low = p
        else:
            high = p
    return high


def bet(p: float) -> float:
    """b(p), the mixture of all powers; 1/2 at p = 1."""
    p = min(max(p, 1e-12), 1.0)
    log = math.log(p)
    if log > -1e-3:  # the closed form cancels: its series about 1
        return 0.5 - log / 6.0
    return (1.0 - p + p * log) / (p * log * log)

"""Adam (Kingma and Ba, 2015) with a rate that falls along half a cosine."""

from __future__ import annotations

from collections.abc import Mapping
from math import cos, pi, sqrt

import numpy as np

from edgeq.graph import Array
from edgeq.records import dataclass, field

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-12


@dataclass(frozen=True, eq=False)
class Adam:
    """Moments by parameter, and how many steps they saw."""

    step: int = 0
    first: Mapping[str, Array] = field(default_factory=dict)
    second: Mapping[str, Array] = field(default_factory=dict)

    def moved(
        self, at: Mapping[str, Array], gradients: Mapping[str, Array], rates: Mapping[str, float]
    ) -> tuple[dict[str, Array], Adam]:
        """Parameters and moments after one step; rates by the first letter of a parameter's name."""
        step = self.step + 1
        out, first, second = dict(at), dict(self.first), dict(self.second)
        correction = sqrt(1 - BETA2**step) / (1 - BETA1**step)
        for name, g in gradients.items():
            g = np.asarray(g)
            m, v = (1 - BETA1) * g, (1 - BETA2) * g
            v *= g
            if name in first:
                m += BETA1 * first[name]
                v += BETA2 * second[name]
            first[name], second[name] = m, v
            by = np.sqrt(v)
            by += EPSILON
            by = np.divide(m, by, out=by if by.ndim else None)
            by *= -rates[name[0]] * correction
            by += at[name]
            out[name] = by
        return out, Adam(step, first, second)


def falling(done: float) -> float:
    """The share of the rate after a share `done` of all steps: from 1 to 0, warming up over the first hundredth."""
    return min(1.0, 0.1 + 90.0 * done) * 0.5 * (1 + cos(pi * min(done, 1.0)))

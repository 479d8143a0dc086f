"""What a model is tuned by: a number of its outputs on samples, the higher the better.

accuracy: share of samples whose first choice is the label; auc: area under the ROC curve of the score, or of the
reconstruction's error for a model that gives back its input; mse: minus the mean squared error against y, against the
input, or against the float model's answers, whatever there is; TASK.py:function: the user's own,
function(outputs, samples) → float, outputs (N, …) real numbers (by name if there are several), samples the arrays of the file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edgeq import metrics
from edgeq.errors import InputError
from edgeq.graph import Array
from edgeq.records import dataclass
from edgeq.userfile import function

Outputs = Sequence[Array]


@dataclass(frozen=True, eq=False)
class Metric:
    """name: as given. value: (outputs, rows) → the metric over those rows. finely: the same question with an answer that
    moves with every change, mean log-probability of the label for accuracy; None where value itself does."""

    name: str
    value: Callable[[Outputs, Array], float]
    finely: Callable[[Outputs, Array], float] | None = None


def metric(name: str, samples: Mapping[str, Array], x: Array | None, wanted: Outputs, names: Sequence[str]) -> Metric:
    """The metric of this name over a file of samples. Raises InputError where the file does not have what it needs.

    x: the model's only input, (N, …), None for several; wanted: the float model's answers; names: of the outputs.
    """
    if ":" in name and ".py" in name:
        return _own(name, samples, names)
    if name not in ("accuracy", "auc", "mse"):
        raise InputError(f"metric must be accuracy, auc, mse or TASK.py:function, got {name!r}")
    count = len(wanted[0])
    back = x is not None and x.shape == wanted[0].shape
    if name == "mse":
        truth = samples.get("y")
        if truth is None or np.shape(truth) != wanted[0].shape:
            truth = x if back else wanted[0]
        aim = np.asarray(truth, np.float32)
        return Metric(name, lambda out, rows: -float(metrics.errors(out[0][rows], aim[rows]).mean()))
    y = _labels(name, samples, count)
    if name == "auc":
        positive = _binary(y)

        def auc(out: Outputs, rows: Array) -> float:
            if back:
                assert x is not None
                score = metrics.errors(out[0][rows], x[rows])
            else:
                score = out[0][rows].reshape(len(rows), -1)[:, -1]
            return metrics.auc(score, positive[rows])

        return Metric(name, auc)
    classes = wanted[0].reshape(count, -1).shape[1]
    if classes < 2 or y.min() < 0 or y.max() >= classes:
        raise InputError(f"accuracy needs labels below {classes}, the number of scores, found {y.min()} to {y.max()}")

    def finely(out: Outputs, rows: Array) -> float:
        scores = out[0][rows].reshape(len(rows), -1).astype(np.float64)
        if scores.min() < 0 or not np.allclose(scores.sum(axis=1), 1, atol=0.1):  # scores before a softmax
            e = np.exp(scores - scores.max(axis=1, keepdims=True))
            scores = e / e.sum(axis=1, keepdims=True)
        # int8 probabilities have steps of 1/256: half a step is as near to 0 as they come.
        return float(np.log(np.maximum(scores[np.arange(len(rows)), y[rows]], 1 / 512)).mean())

    return Metric(name, lambda out, rows: metrics.top_k(out[0][rows].reshape(len(rows), -1), y[rows]), finely)


def _labels(name: str, samples: Mapping[str, Array], count: int) -> Array:
    if "y" not in samples:
        raise InputError(f"{name} needs labels in 'y', found {', '.join(map(repr, samples))}")
    y = np.asarray(samples["y"])
    if y.shape != (count,) or y.dtype.kind not in "iub":
        raise InputError(f"{name} needs whole labels y ({count},), found {y.dtype} {y.shape}")
    return y.astype(np.int64)


def _binary(y: Array) -> Array:
    if not np.isin(y, (0, 1)).all() or len(np.unique(y)) < 2:
        raise InputError(f"auc needs labels 0 and 1, both of them, found {sorted(set(y.tolist()))[:8]}")
    positive: Array = y == 1
    return positive


def _own(name: str, samples: Mapping[str, Array], names: Sequence[str]) -> Metric:
    own = function(name)

    def value(out: Outputs, rows: Array) -> float:
        cut = {
            k: np.asarray(samples[k])[rows]
            for k in samples
            if len(np.shape(samples[k])) and len(samples[k]) == len(out[0])
        }
        given: Any = out[0][rows] if len(out) == 1 else {n: o[rows] for n, o in zip(names, out, strict=True)}
        try:
            found = float(own(given, cut))
        except Exception as error:
            raise InputError(f"{name}: {type(error).__name__}: {error}") from None
        if not np.isfinite(found):
            raise InputError(f"{name}: expected a finite number, the higher the better, got {found}")
        return found

    return Metric(name, value)


RESAMPLES = 400

CONFIDENCE = 0.975
"""Of resamples in which a change must help: it is tried with many others on the same samples."""


class Bootstrap:
    """Whether a difference on N samples is more than their choice (Efron, "Bootstrap Methods", 1979): paired, seeded."""

    def __init__(self, count: int, seed: int = 0) -> None:
        draw = np.random.default_rng(seed)
        self.rows = [draw.integers(0, count, count) for _ in range(RESAMPLES)]
        self.all = np.arange(count)

    def differences(self, f: Callable[[Outputs, Array], float], old: Outputs, new: Outputs) -> Array:
        """(resamples,) how much better the new outputs are; a resample on which the metric has no value is left out."""
        found = []
        for rows in self.rows:
            try:
                found.append(f(new, rows) - f(old, rows))
            except InputError:
                continue
        return np.array(found) if found else np.zeros(1)

    def better(self, m: Metric, old: Outputs, new: Outputs) -> bool:
        """Whether the new outputs are better beyond chance; by the fine form where the metric itself does not fall."""
        gain = m.value(new, self.all) - m.value(old, self.all)
        if gain > 0 and float((self.differences(m.value, old, new) > 0).mean()) >= CONFIDENCE:
            return True
        if m.finely is None or gain < 0:
            return False
        return float((self.differences(m.finely, old, new) > 0).mean()) >= CONFIDENCE

    def interval(self, m: Metric, old: Outputs, new: Outputs) -> tuple[float, float]:
        """95 % of the differences lie within."""
        low, high = np.quantile(self.differences(m.value, old, new), (0.025, 0.975))
        return float(low), float(high)

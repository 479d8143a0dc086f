"""How well a model's outputs fit: pure functions over arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.errors import InputError

Array = npt.NDArray[Any]


def top_k(scores: Array, labels: Array, k: int = 1) -> float:
    """Share of samples whose label is among the k highest scores.

    scores: (N, classes), any number type; labels: (N,) integers in [0, classes). Of equal scores the lower class wins, as
    with argmax. Raises InputError for a label outside.
    """
    n, classes = scores.shape
    if n and not (labels.min() >= 0 and labels.max() < classes):
        raise InputError(f"labels must be in [0, {classes - 1}], found [{labels.min()}, {labels.max()}]")
    own = scores[np.arange(n), labels][:, None]
    before = (scores > own) | ((scores == own) & (np.arange(classes) < np.asarray(labels)[:, None]))
    return float((before.sum(1) < k).mean())


def auc(scores: Array, positive: Array) -> float:
    """Area under the ROC curve: the chance that a positive sample scores higher than a negative one, ties counting half.

    scores: (N,) numbers; positive: (N,) bool, with both kinds present (InputError otherwise). Computed from the sum of
    the positives' ranks (Mann & Whitney 1947).
    """
    positive = np.asarray(positive, bool)
    n_pos, n_neg = int(positive.sum()), int((~positive).sum())
    if not (n_pos and n_neg):
        raise InputError(f"an AUC needs samples of both kinds, found {n_pos} positive and {n_neg} negative")
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return float((ranks[positive].sum() - n_pos * (n_pos + 1) / 2) / (n_pos * n_neg))


def errors(found: Array, expected: Array) -> Array:
    """Mean squared difference of each sample: (N, …) twice → (N,) float64."""
    difference = found.astype(np.float64) - expected.astype(np.float64)
    result: Array = (difference**2).reshape(len(difference), -1).mean(1)
    return result

"""Accuracy, AUC and MSE against obvious computations."""

from __future__ import annotations

import numpy as np
import pytest

from edgeq import metrics
from edgeq.errors import InputError


@pytest.mark.parametrize(
    ("scores", "labels", "k", "expected"),
    [
        pytest.param([[1, 2, 3], [3, 2, 1]], [2, 2], 1, 0.5, id="one of two"),
        pytest.param([[1, 2, 3], [3, 2, 1]], [1, 1], 2, 1.0, id="second counts for k = 2"),
        pytest.param([[5, 5, 5]], [0], 1, 1.0, id="tie: the lowest class wins"),
        pytest.param([[5, 5, 5]], [1], 1, 0.0, id="tie: the others lose"),
        pytest.param([[5, 5, 5]], [1], 2, 1.0, id="tie: the second place"),
        pytest.param([[-128, 127]], [1], 1, 1.0, id="int8 extremes"),
    ],
)
def test_top_k(scores, labels, k, expected) -> None:
    """Top-k counts labels among the k first, equal scores in class order."""
    assert metrics.top_k(np.array(scores, np.int8), np.array(labels, np.uint8), k) == expected


def test_top_1_is_argmax() -> None:
    """Top-1 is the share of argmaxes that equal the label, ties included."""
    rng = np.random.default_rng(0)
    scores, labels = rng.integers(0, 4, (500, 6)), rng.integers(0, 6, 500)
    assert metrics.top_k(scores, labels) == (scores.argmax(1) == labels).mean()


@pytest.mark.parametrize("label", [-1, 3])
def test_labels_outside_are_refused(label) -> None:
    """A label that no class has is an error, not a miss."""
    with pytest.raises(InputError, match=r"labels must be in \[0, 2\]"):
        metrics.top_k(np.zeros((1, 3)), np.array([label]))


def test_auc_is_the_share_of_ordered_pairs() -> None:
    """The rank formula equals counting every pair, ties half."""
    rng = np.random.default_rng(1)
    scores, positive = rng.integers(0, 20, 200), rng.random(200) < 0.3
    pairs = scores[positive][:, None] - scores[~positive][None, :]
    assert metrics.auc(scores, positive) == pytest.approx(((pairs > 0) + 0.5 * (pairs == 0)).mean())


def test_auc_needs_both_kinds() -> None:
    """With one kind of sample there is no AUC."""
    with pytest.raises(InputError, match="found 2 positive and 0 negative"):
        metrics.auc(np.array([1.0, 2.0]), np.array([1, 1]))


def test_errors_do_not_overflow() -> None:
    """Integer arrays are compared as real numbers."""
    found = metrics.errors(np.array([[127, -128]], np.int8), np.array([[-128, 127]], np.int8))
    assert found.tolist() == [255.0**2]

"""The guard of calibration: what decides that a change is kept, and the samples that reach further than those seen."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from quantize_models import classifier, inputs_of
from test_quantize_recalibrate import loosely_quantized

from edgeq.feed import quantmod_of
from edgeq.quantize import guard, recalibrate
from edgeq.quantize.compare import answers, judged
from edgeq.quantize.guard import Verdict, by_luck, judge
from edgeq.quantize.reconstruct import reconstruct
from edgeq.quantize.stretch import BY, Further, stretch_by


@pytest.mark.parametrize(
    ("name", "gains", "chance"),
    [
        ("five of a size", [1.0] * 5, 1 / 32),
        ("four of a size", [1.0] * 4, 1 / 16),
        ("one", [3.0], 1 / 2),
        ("as much lost", [1.0, -1.0], 3 / 4),
        ("a large one among small losses", [8.0, -1.0, -1.0, -1.0], 1 / 2),
        ("none at all", [0.0, 0.0, 0.0], 1.0),
        ("no samples", [], 1.0),
    ],
)
def test_the_chance_of_a_gain(name, gains, chance):
    """It is the share of all ways to set the signs of the gains that add up to as much."""
    found = by_luck(np.array(gains))
    assert found == chance, name
    if gains:
        ways = [sum(s * g for s, g in zip(signs, gains, strict=True)) for signs in product((1, -1), repeat=len(gains))]
        assert found == np.mean([w >= sum(gains) for w in ways])


def test_many_samples_are_tried_at_random():
    """Beyond a dozen samples the share is that of random ways, and comes close to that of all."""
    gains = np.random.default_rng(1).normal(0.2, 1.0, 12)
    exact = by_luck(gains)
    tried = by_luck(np.concatenate([gains, [0.0]]))  # a thirteenth that decides nothing
    assert 0.01 < exact < 0.5
    assert abs(tried - exact) < 0.03


def test_luck_is_kept_to_the_stated_rate():
    """Where a change does nothing but scatter, with long tails, it passes in no more than the stated share of 1,000 trials."""
    random = np.random.default_rng(0)
    passed = sum(by_luck(random.standard_t(2, 16)) <= guard.LUCK for _ in range(1000))
    assert passed <= 1000 * guard.LUCK + 3 * (1000 * guard.LUCK) ** 0.5
    assert passed > 0


GOOD = {"before": 1.0, "after": 0.5, "far_before": 1.0, "far_after": 0.5, "luck": 0.01, "samples": 16}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({}, None),
        ({"after": 0.8}, "not 25% closer on the samples held back"),
        ({"before": 0.0, "after": 0.0}, "not 25% closer on the samples held back"),
        ({"before": 1e-4, "after": 1e-5}, "there is no 0.01% of noise to take away"),
        ({"before": 2e-4, "after": 9e-5}, None),
        ({"far_after": 1.0}, "no closer on samples that reach further than those held back"),
        ({"luck": 0.06}, "16 samples held back do not decide"),
        ({"luck": guard.LUCK}, None),
        ({"far_after": float("nan")}, "no closer on samples"),
    ],
)
def test_what_is_refused(change, why):
    """Each condition refuses by itself, with its reason."""
    refusal = Verdict(**{**GOOD, **change}).refusal
    assert refusal is None if why is None else why in refusal


def test_verdicts_tell_samples_from_stretched_ones():
    """The first half of the errors are the samples', the second those of the same samples stretched."""
    verdict = judge(np.array([0.3, 0.1, 0.5, 0.1]), np.array([0.1, 0.1, 0.0, 0.2]))
    assert verdict == Verdict(pytest.approx(0.8), pytest.approx(0.4), pytest.approx(1.2), pytest.approx(0.4), 0.5, 2)


@pytest.mark.parametrize(
    ("plain", "far", "kept"),
    [
        ([0.1] * 8, [0.1] * 8, True),
        ([0.3, 0.3, -0.1, -0.1, 0.3, -0.1, 0.2, -0.1], [1.0] * 8, False),
        ([0.1] * 8, [1.5, -1.4] * 4, False),
    ],
)
def test_neither_samples_nor_stretched_ones_carry_the_other(plain, far, kept):
    """A gain that is clear on stretched samples alone, or lost among theirs, does not decide, whatever their sum."""
    gains = np.array([*plain, *far])
    verdict = judge(1.0 + np.abs(gains), 1.0 + np.abs(gains) - gains)
    assert (verdict.luck <= guard.LUCK) is kept


def stretched(inputs, like, by=BY):
    """What comes behind the inputs themselves."""
    return Further(inputs, stretch_by(like, by))[len(inputs) :]


def test_stretched_samples_reach_further():
    """They lie so many times as far from the mean, stay within a bound that inputs never leave, and integers stay."""
    random = np.random.default_rng(0)
    like = [(random.normal(5.0, 2.0, 64).astype(np.float32), np.arange(3)) for _ in range(20)]
    mean = np.mean([x[0] for x in like], axis=0)
    for (x, codes), (far, same) in zip(like, stretched(like, like, 1.3), strict=True):
        moved = far - mean
        within = (far > min(x[0].min() for x in like)) & (far < max(x[0].max() for x in like))
        assert within.mean() > 0.9
        assert np.allclose(moved[within], 1.3 * (x - mean)[within], atol=1e-4)
        assert far.dtype == np.float32
        assert same is codes
    pixels = [(random.integers(0, 2, 64).astype(np.float32),) for _ in range(20)]
    assert all(far.min() >= 0.0 and far.max() <= 1.0 for (far,) in stretched(pixels, pixels, 1.5))
    assert stretched([], like) == []
    assert stretched(like, []) == like


def test_no_draw_of_long_tailed_samples_makes_it_worse():
    """Whichever 40 of samples are calibrated with, of which few reach far: on others no outcome is noisier than before."""
    before = loosely_quantized(classifier())
    real = reconstruct(before)
    random = np.random.default_rng(3)

    def reaching(seed: int, count: int) -> list[tuple[np.ndarray, ...]]:
        reach = np.exp(0.5 * np.random.default_rng(seed).normal(size=count))
        return [
            tuple((0.2 * r * a).astype(np.float32) for a in x)
            for r, x in zip(reach, inputs_of(classifier(), count, seed=seed), strict=True)
        ]

    others = reaching(100, 150)
    targets = judged(real)
    wanted = np.concatenate(answers(real, targets, others), axis=1)

    def noise(graph) -> float:
        found = np.concatenate(
            [
                a if (q := quantmod_of(graph.tensors[i])) is None else q.dequantize(a)
                for i, a in zip(targets, answers(graph, targets, others), strict=True)
            ],
            axis=1,
        )
        return float(((found - wanted) ** 2).sum())

    made = [recalibrate(before, reaching(int(random.integers(1 << 30)), 40)) for _ in range(8)]
    assert sum(done.changed for done in made) >= 4
    assert all(noise(done.graph) < noise(before) for done in made if done.changed)


def test_large_outputs_are_judged_in_part():
    """Of an output with more elements than are wanted a part is looked at, evenly spread over every channel."""
    graph = classifier()
    real, inputs = reconstruct(graph), inputs_of(classifier(), 3)
    largest = max(
        (i for i, t in enumerate(real.tensors) if t.data is None and len(t.shape) == 4),
        key=lambda i: real.tensors[i].size,
    )
    shape = real.tensors[largest].shape
    (whole,) = answers(real, [largest], inputs)
    (part,) = answers(real, [largest], inputs, 20)
    assert whole.shape == (3, real.tensors[largest].size)
    assert 0 < part.shape[1] <= 20 < whole.shape[1]
    step = next(k for k in range(2, whole.shape[1]) if np.array_equal(part, whole[:, ::k]))
    channels = {n % shape[-1] for n in range(0, whole.shape[1], step)}
    assert len(channels) == min(shape[-1], part.shape[1])

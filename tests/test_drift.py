"""Drift: what is looked at, how unusual it is, and how often the test for a change is wrong."""

from __future__ import annotations

import math

import numpy as np
import pytest
from control_models import counter
from quantize_models import classifier, inputs_of

from edgeq.drift import Detector, WatchedModel
from edgeq.drift.baseline import from_arrays, learn, to_arrays
from edgeq.drift.detector import LEARNING, LEAST, RECALIBRATE, RECOVERY, STEADY, bet, upper_bound
from edgeq.drift.looks import look, look_at, watched
from edgeq.drift.model import AIM, baseline_of, watch
from edgeq.engine import Tracer, build
from edgeq.errors import InputError, OverlayDamagedError
from edgeq.feed import encode, quantmod_of
from edgeq.quantize import quantize
from edgeq.recipe import recipe

RUNS = 200
LOOKS = 200
THRESHOLD = 10_000.0


def test_false_alarms_keep_the_stated_rate() -> None:
    """Over 200 runs of 200 looks without a change there are no more alarms than n / threshold allows (by chance: 1 in 10⁶)."""
    rng = np.random.default_rng(3)
    alarms = 0
    for run in range(RUNS):
        scores = rng.gamma(4.0, size=200 + LOOKS)
        detector = Detector(scores[:200].tolist(), threshold=THRESHOLD, seed=run)
        for s in scores[200:]:
            detector.see(float(s))
        alarms += detector.alarms > 0
    expected = RUNS * LOOKS / THRESHOLD  # 4
    assert alarms <= expected + 5 * math.sqrt(expected)


def test_a_change_is_found_soon() -> None:
    """A blatant change is found within some tens of looks, with many known scores and with few, from the first look on."""
    rng = np.random.default_rng(4)
    for known, most in ((64, 150), (128, 40), (384, 20)):
        for run in range(20):
            detector = Detector(rng.gamma(4.0, size=known).tolist(), seed=run)
            at = next(n for n in range(1, 1000) if detector.see(50.0 + float(rng.random())) == RECALIBRATE)
            assert at <= most, (known, at)


def test_small_changes_are_found_too() -> None:
    """Scores that are higher by a spread are found within some hundred looks, in most runs."""
    rng = np.random.default_rng(5)
    found = 0
    for run in range(20):
        detector = Detector(rng.normal(10.0, 1.0, 384).tolist(), seed=run)
        found += any(detector.see(float(s)) == RECALIBRATE for s in rng.normal(11.5, 1.0, 300))
    assert found >= 15


def test_an_alarm_stays_and_goes() -> None:
    """The alarm stays while scores are unusual, through single ordinary ones, and goes when they are ordinary again."""
    rng = np.random.default_rng(6)
    detector = Detector(rng.gamma(4.0, size=200).tolist())
    while detector.see(60.0) != RECALIBRATE:
        pass
    for n in range(100):
        assert detector.see(1.0 if n % 4 == 0 else 60.0) == RECALIBRATE
    usual = [detector.see(2.0) for _ in range(RECOVERY)]
    assert usual[-1] == STEADY
    assert detector.evidence < 100.0
    assert detector.alarms == 1


def test_learning_comes_first() -> None:
    """Without enough known scores the first ones are learned, and nothing is said."""
    detector = Detector()
    states = [detector.see(float(n % 7)) for n in range(LEAST)]
    assert states[:-1] == [LEARNING] * (LEAST - 1)
    assert states[-1] == STEADY
    assert detector.evidence == 0.0


def test_equal_scores_are_no_change() -> None:
    """A stream of equal scores, as of a camera that is off, gives no alarm by itself."""
    detector = Detector([1.0] * 100)
    assert {detector.see(1.0) for _ in range(2000)} == {STEADY}


def test_bets_are_fair() -> None:
    """The bet's mean under uniform p is 1: its integral, and that bets fall with p."""
    p = np.exp(np.linspace(math.log(1e-12), 0.0, 400_001))
    b = np.array([bet(float(v)) for v in p])
    integral = float(np.sum(0.5 * (b[1:] + b[:-1]) * np.diff(p)))
    below = -1.0 / math.log(1e-12)  # ∫₀^ε b ≈ −1/ln ε, for small ε
    assert integral + below == pytest.approx(1.0, abs=2e-3)
    assert (np.diff(b) <= 0).all()


def test_upper_bounds_are_binomial() -> None:
    """The bound is where as few hits become as unlikely as the risk: against sums of the binomial's terms."""
    for hits, n, risk in ((0, 64, 1e-4), (3, 100, 1e-3), (40, 50, 0.05), (200, 384, 1e-5)):
        p = upper_bound(hits, n, risk)
        tail = sum(math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(hits + 1))
        assert tail == pytest.approx(risk, rel=1e-6)
    assert upper_bound(5, 5, 0.01) == 1.0


def test_upper_bounds_are_those_of_any_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last bits of a logarithm, which NumPy makes otherwise on each instruction set, do not show."""
    log = np.log
    usual = [upper_bound(hits, 100, 0.01 / 101) for hits in range(100)]
    for towards in (-np.inf, np.inf):
        monkeypatch.setattr("edgeq.drift.detector.np.log", lambda x, to=towards: np.nextafter(log(x), to))
        assert [upper_bound(hits, 100, 0.01 / 101) for hits in range(100)] == usual


def test_thresholds_are_checked() -> None:
    """A threshold that would alarm at once is refused."""
    with pytest.raises(InputError, match="threshold above 1"):
        Detector(threshold=1.0)


# --- looks ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model():
    graph = classifier()
    return quantize(graph, inputs_of(graph, 64)).graph


def test_looks_are_what_they_say(model) -> None:
    """Shares, means and spreads of codes, against their definitions on whole tensors."""
    (x,) = inputs_of(classifier(), 1, seed=8)
    wide = tuple(4.0 * a for a in x)
    values = Tracer(model).run(encode(model, wide))
    tensors = watched(model)
    found = look(tensors, values, {model.inputs[0]: wide[0]})
    for row, t in zip(found, tensors, strict=True):
        q = quantmod_of(model.tensors[t.index])
        codes = values[t.index].reshape(-1)[:: t.step].astype(np.float64)
        top = q.p - 1
        assert row[1] == pytest.approx((codes + q.offset).mean() / top)
        assert row[2] == pytest.approx(math.log(max(codes.std() / top, 1e-4)), abs=1e-6)
        if t.index in model.inputs:
            assert row[0] == (q.wraps(wide[0].reshape(-1)[:: t.step]) != 0).mean() > 0
    assert all(math.gcd(t.step, model.tensors[t.index].shape[-1]) == 1 for t in tensors)


def test_baselines_go_through_arrays(model) -> None:
    """A baseline comes back from its arrays; one of another model, or with numbers that are none, is refused."""
    base = baseline_of(model, inputs_of(classifier(), 16))
    again = from_arrays(to_arrays(base), len(base.center))
    np.testing.assert_array_equal(again.scores, base.scores)
    assert from_arrays({}, 3) is None
    for damage in (
        {"center": base.center[1:]},
        {"spread": np.zeros_like(base.spread)},
        {"scores": np.array([np.nan])},
        {"scores": base.scores.astype(np.float32)},
    ):
        with pytest.raises(OverlayDamagedError):
            from_arrays({**to_arrays(base), **damage}, len(base.center))


def test_scores_leave_themselves_out() -> None:
    """Each look's score is by the center and spread of the others: against leaving it out and learning anew."""
    rng = np.random.default_rng(0)
    looks = list(rng.normal(size=(12, 5, 3)))
    base = learn(looks)
    for k in range(12):
        others = learn(looks[:k] + looks[k + 1 :])
        assert base.scores[k] == pytest.approx(others.score(looks[k]), rel=1e-9)


def test_a_watched_model_answers_as_before(model) -> None:
    """Watching changes no output, for samples, batches and codes."""
    inputs = inputs_of(classifier(), 6, seed=9)
    with build(model) as plain, WatchedModel(model, every=2) as seen:
        batch = np.concatenate([x[0] for x in inputs])
        np.testing.assert_array_equal(plain(batch), seen(batch))
        for (x,) in inputs:
            np.testing.assert_array_equal(plain(x), seen(x))
            codes = quantmod_of(model.tensors[model.inputs[0]]).quantize(x)
            np.testing.assert_array_equal(plain(codes), seen(codes))
        assert seen.drift().inferences == 13
        assert seen.drift().looks == 7


def test_looks_leave_what_a_model_remembers_alone() -> None:
    """A watched model with a variable answers as a plain one does, look or no look."""
    graph = counter("int8")
    x = np.array([1, 2, 3], np.int8)
    with build(graph) as plain, WatchedModel(graph, every=2) as seen:
        for _ in range(7):
            np.testing.assert_array_equal(seen(x), plain(x))


def test_a_shift_is_reported(model) -> None:
    """A gain of 3 raises the alarm and shows where; the same samples without it do not."""
    inputs = inputs_of(classifier(), 456)
    base = to_arrays(baseline_of(model, inputs[::2][:256]))
    fresh = [x[0] for x in inputs[1::2]]
    with WatchedModel(model, base, every=1) as seen:
        for x in fresh:
            seen(x)
        assert seen.drift().status == STEADY
        for x in fresh[:60]:
            seen(3.0 * x)
        report = seen.drift()
    assert report.status == RECALIBRATE
    assert report.alarms == 1
    first = report.tensors[0]
    assert first.unusual > 2.0
    assert first.beyond > first.beyond_before


def test_the_cost_is_kept(model) -> None:
    """By itself a watched model looks so seldom that the looks it measured cost less than 2 % of its inferences."""
    (x,) = inputs_of(classifier(), 1)[0]
    with watch(model) as seen:
        for _ in range(50):
            seen(x)
        report = seen.drift()
    assert report.looks >= 1
    assert report.every > 1
    assert report.cost == pytest.approx(AIM, rel=0.02 + 1 / report.every)


def test_calls_of_the_builtin_are_counted(model) -> None:
    """Between two looks calls cost what they cost unwatched: counting is not done in Python, and still right."""
    (x,) = inputs_of(classifier(), 1)[0]
    x = quantmod_of(model.tensors[model.inputs[0]]).quantize(x)
    with WatchedModel(model, every=10) as seen:
        assert seen._direct is not None
        for n in range(1, 36):
            seen(x)
            report = seen.drift()
            assert (report.inferences, report.looks) == (n, -(-n // 10))
        for _ in range(5):
            seen(np.concatenate([x, x]))  # a batch is one call
        assert (seen.drift().inferences, seen.drift().looks) == (40, 4)
        seen(x)
        assert seen.drift().looks == 5


def test_floats_cannot_be_watched() -> None:
    """A model without quantized tensors is refused in one line."""
    with pytest.raises(InputError, match="quantized tensors to watch, found none"):
        watch(classifier())


@pytest.mark.parametrize("recipe_name", ["int8", "int16x8"])
def test_many_looks_at_once_see_what_one_sees(recipe_name: str) -> None:
    """Looks at several samples side by side have the same bits as looks at one after another."""
    model = quantize(classifier(), inputs_of(classifier(), 16), recipe(recipe_name)).graph
    tensors, tracer = watched(model), Tracer(model)
    inputs = inputs_of(classifier(), 21, seed=3)
    given = [
        {i: 3 * a for i, a in zip(model.inputs, x, strict=True) if quantmod_of(model.tensors[i]) is not None}
        for x in inputs
    ]
    values = [{i: v.copy() for i, v in tracer.run(encode(model, [3 * a for a in x])).items()} for x in inputs]
    one = np.stack([look(tensors, v, g) for v, g in zip(values, given, strict=True)])
    together = [(i, np.stack([v[i].reshape(-1) for v in values])) for i in values[0]]
    real = {i: np.stack([g[i].reshape(-1) for g in given]) for i in given[0]}
    np.testing.assert_array_equal(look_at(tensors, together, real, len(inputs)), one)
    assert (one[..., 0] > 0).any()

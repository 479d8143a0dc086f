"""The accuracy benchmark measures what it says, and gets by without its data."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import accuracy
import accuracy_tasks
import differences
import peers
import varied

from edgeq.quantize import quantize
from edgeq.tflite import read, write


def result(labelled: bool, float_: float, ours: dict[str, object]) -> accuracy.Result:
    return accuracy.Result("task", "int8", "top-1", labelled, 10, float_, ours)


@pytest.mark.parametrize(
    ("what", "row", "good"),
    [
        ("as good as float", result(True, 0.9, {"a": 0.9, "b": 0.91}), True),
        ("0.3 points below", result(True, 0.9, {"a": 0.897}), True),
        ("more than that below in one runtime", result(True, 0.9, {"a": 0.9, "b": 0.896}), False),
        ("no labels", result(False, 1.0, {"a": 0.7}), True),
        ("a runtime that fails", result(False, 1.0, {"a": 0.7, "b": "RuntimeError: no"}), False),
    ],
)
def test_what_is_good_enough(what, row, good):
    """A labelled metric may be 0.3 points below float in no runtime, and every runtime must run the model."""
    assert row.good is good, what
    assert ("TOO FAR" in accuracy.table([row])) is not good


def test_anomaly_auc():
    """Clips are scored by their windows' mean squared error of reconstruction."""
    x = np.zeros((6, 4), np.float32)
    found = x + np.float32([0.1, 0.2, 0.1, 0.2, 0.4, 0.6])[:, None]  # three clips of two windows
    assert accuracy_tasks.anomaly_auc(found, x, x, np.array([False, False, True])) == 1.0
    assert accuracy_tasks.anomaly_auc(found, x, x, np.array([True, False, False])) == 0.25


def test_resized():
    """Enlarging keeps constants and the range, and doubles a ramp's length."""
    np.testing.assert_allclose(varied.resized(np.full((5, 5, 3), 7, np.uint8), 12), 7, rtol=1e-6)
    ramp = np.broadcast_to(np.arange(4, dtype=np.uint8)[:, None, None], (4, 4, 3))
    np.testing.assert_allclose(varied.resized(ramp, 8)[:, 0, 0], [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3])


def test_every_runtime_answers():
    """Each runtime's runner gives real outputs for a float model and for its int8 form."""
    folder = Path(accuracy.__file__).resolve().parents[1] / "edgeq" / "demo"
    model = (folder / "digits.tflite").read_bytes()
    with np.load(folder / "calibration.npz") as arrays:
        x = arrays["x"].astype(np.float32)
    wanted = None
    int8 = write(quantize(read(model), x).graph)
    for name, run in accuracy.runtimes().items():
        answers = run(model, x[:8])
        wanted = answers if wanted is None else wanted
        np.testing.assert_allclose(answers, wanted, atol=1e-3, err_msg=name)
        assert (run(int8, x[:8]).argmax(1) == wanted.argmax(1)).all(), name


@pytest.mark.parametrize("how", [(), ("--varied",)], ids=["plain", "varied"])
def test_without_data(how, monkeypatch, capsys, tmp_path):
    """A task whose files are missing is left out with a word on stderr."""
    monkeypatch.setattr(accuracy, "MODELS", tmp_path)
    assert accuracy.main(["resnet8", "--json", *how]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) == []
    assert "resnet8: left out" in printed.err


def test_an_unknown_task(capsys):
    """An unknown task is refused with the list of those that there are."""
    with pytest.raises(SystemExit):
        accuracy.main(["nothing"])
    assert "got nothing" in capsys.readouterr().err


def test_samples_are_varied():
    """Pictures are moved and mirrored, recordings moved in time; the first are the samples themselves."""
    x = np.arange(2 * 6 * 7 * 3, dtype=np.float32).reshape(2, 6, 7, 3)
    some = list(varied.pictures(x))
    assert len(some) == 18
    assert {v.shape for v in some} == {x.shape}
    np.testing.assert_array_equal(some[0], x)
    np.testing.assert_array_equal(some[9], x[:, :, ::-1])
    np.testing.assert_array_equal(some[1][:, 1:], x[:, :-1])  # a pixel down
    later = list(varied.recordings(x))
    assert len(later) == 7
    np.testing.assert_array_equal(later[1][:, 1:], x[:, :-1])
    np.testing.assert_array_equal(later[1][:, 0], x[:, 0])


def test_crops_are_of_their_source():
    """Crops of a plain picture are plain, tell which picture they are of, and come the same every time."""
    small = np.broadcast_to(np.arange(3, dtype=np.uint8)[:, None, None, None], (3, 32, 32, 3))
    photos = np.broadcast_to(np.arange(100, 102, dtype=np.uint8)[:, None, None, None], (2, 224, 224, 3))
    values = np.array([0, 1, 2, 100, 101])
    some = list(varied.crops(small, photos, 8, times=2))
    assert [b.x.shape for b in some] == [(63, 8, 8, 3)] * 2
    for block, again in zip(some, varied.crops(small, photos, 8, times=2), strict=True):
        np.testing.assert_allclose(
            block.x, np.broadcast_to(values[block.source][:, None, None, None], block.x.shape), rtol=1e-6
        )
        np.testing.assert_array_equal(block.x, again.x)


def test_clips_are_cut_in_windows():
    """Parts of clips have all their windows, and each level its own."""
    clips = np.arange(2 * 24 * 3, dtype=np.float32).reshape(2, 24, 3)
    some = list(varied.pieces(clips, np.array([True, False])))
    assert len(some) == 12
    for level, part in zip(varied.LEVELS, (some[:4], some[4:8], some[8:]), strict=True):
        windows = np.concatenate([b.x.reshape(2, 5, 15) for b in part], axis=1)
        np.testing.assert_array_equal(windows[:, :, :3], clips[:, :20] + level)
        np.testing.assert_array_equal(windows[:, :, 12:], clips[:, 4:] + level)


def models(a: list[float], b: list[float], source: list[int]) -> dict[str, differences.Scored]:
    return {n: differences.Scored({"s": np.array(v)}, np.array(source)) for n, v in (("a", a), ("b", b))}


@pytest.mark.parametrize(
    ("what", "found", "limit", "verdict"),
    [
        ("the same", models([1.0, 0.0, 1.0], [1.0, 0.0, 1.0], [0, 1, 2]), 0.0, "within"),
        ("steadily below", models([0.0] * 4, [0.1] * 4, [0, 1, 2, 3]), 0.05, "beyond"),
        ("steadily below, but less", models([0.0] * 4, [0.1] * 4, [0, 1, 2, 3]), 0.2, "within"),
        ("now more, now less", models([1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0], [0, 1, 2, 3]), 0.3, "undecided"),
    ],
)
def test_differences(what, found, limit, verdict):
    """A model is within its limit if the whole interval of the differences is, and beyond it if none of it is."""
    assert differences.between("a", "b", found, "s", limit).verdict == verdict, what


def test_samples_of_a_source_count_once():
    """A hundred samples of ten sources tell as much as the ten, if those of a source are alike."""
    draw = np.random.default_rng(0)
    d = draw.normal(size=10)
    zero = [0.0] * 10
    once = differences.between("a", "b", models(list(d), zero, list(range(10))), "s", 0.0)
    many = differences.between("a", "b", models(list(np.tile(d, 10)), zero * 10, list(range(10)) * 10), "s", 0.0)
    assert (many.value, many.high) == pytest.approx((once.value, once.high))
    assert once.high - once.value == pytest.approx(1.96 * d.std(ddof=1) / 10**0.5)


def test_differences_of_an_auc():
    """An AUC is the mean over pairs, and its interval that of drawing clips again."""
    draw = np.random.default_rng(1)
    truth = np.arange(40) % 2 == 0
    a, b = draw.normal(truth * 1.0), draw.normal(truth * 1.0)
    found = {
        n: differences.Scored({"s": differences._wins(v[truth], v[~truth])}, truth, True)
        for n, v in (("a", a), ("b", b))
    }
    assert found["a"].mean("s") == pytest.approx(accuracy_tasks.auc(a, truth))
    told = differences.between("a", "b", found, "s", 0.0)
    positive, negative = a[truth], a[~truth]
    again = []
    for _ in range(500):
        p, n = draw.integers(0, 20, 20), draw.integers(0, 20, 20)
        one = [accuracy_tasks.auc(np.concatenate([v[truth][p], v[~truth][n]]), np.arange(40) < 20) for v in (a, b)]
        again.append(one[0] - one[1])
    assert len(positive) == len(negative)
    assert told.high - told.value == pytest.approx(1.96 * np.std(again), rel=0.15)


def test_a_recipe_is_held_to_its_limit():
    """Each recipe is told from float, one scale per layer from a scale per channel, int8 from what others make of it."""
    names = ("float", "int8", "int8-per-tensor", "dynamic", "published", "MSE", "OCTAV")
    found = {n: differences.Scored({"s": np.array([float(n == "OCTAV")])}, np.array([0])) for n in names}
    told = differences.told(found, ("int8", "int8-per-tensor", "dynamic"), "published", ("MSE", "OCTAV"))
    assert [(d.ours, d.other, d.limit) for d in told] == [
        ("int8", "float", 0.003),
        ("int8", "published", 0.0),
        ("int8", "OCTAV", 0.0),
        ("int8-per-tensor", "int8", 0.01),
        ("dynamic", "float", 0.002),
    ]


def test_what_a_peer_left_in_float():
    """A form counts as int8 only where no layer writes floats."""
    folder = Path(accuracy.__file__).resolve().parents[1] / "edgeq" / "demo"
    real = read((folder / "digits.tflite").read_bytes())
    with np.load(folder / "calibration.npz") as arrays:
        assert peers.left_in_float(quantize(real, arrays["x"]).graph) == 0
    assert peers.left_in_float(real) > 0


def test_float_is_as_good_as_itself():
    """A task's varied samples are scored under the float model and another; the same model is no different."""
    folder = Path(accuracy.__file__).resolve().parents[1] / "edgeq" / "demo"
    real = read((folder / "digits.tflite").read_bytes())
    with np.load(folder / "calibration.npz") as arrays:
        x = arrays["x"].astype(np.float32)[:16]
    task = accuracy_tasks.Task(
        "", "agreement", lambda: x, lambda share: (x, None), accuracy_tasks.agreement,
        {"believed": accuracy_tasks.believed, "agreement": accuracy_tasks.same},
        lambda: iter([varied.Block(x, None, np.arange(16))] * 2),
    )  # fmt: skip
    found = differences.scored(task, real, {"twin": real})
    assert found["float"].values["agreement"].shape == (32,)
    told = differences.between("twin", "float", found, "believed", 0.0)
    assert (told.value, told.low, told.verdict) == (0.0, 0.0, "within")

"""The accuracy benchmark measures what it says, and gets by without its data."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import accuracy
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
    assert accuracy.anomaly_auc(found, x, x, np.array([False, False, True])) == 1.0
    assert accuracy.anomaly_auc(found, x, x, np.array([True, False, False])) == 0.25


def test_resized():
    """Enlarging keeps constants and the range, and doubles a ramp's length."""
    np.testing.assert_allclose(accuracy.resized(np.full((5, 5, 3), 7, np.uint8), 12), 7, rtol=1e-6)
    ramp = np.broadcast_to(np.arange(4, dtype=np.uint8)[:, None, None], (4, 4, 3))
    np.testing.assert_allclose(accuracy.resized(ramp, 8)[:, 0, 0], [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3])


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


def test_without_data(monkeypatch, capsys, tmp_path):
    """A task whose files are missing is left out with a word on stderr."""
    monkeypatch.setattr(accuracy, "MODELS", tmp_path)
    assert accuracy.main(["resnet8", "--json"]) == 0
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

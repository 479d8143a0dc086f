"""The benchmark's arithmetic, on runtimes whose times are known."""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import inference

ROUNDS = 8


class Fake:
    """A runtime that takes `base` nanoseconds a call, times what the machine does to everybody in that round."""

    def __init__(self, base: int, load: list[float], *, output: float = 0.0, error: str = "") -> None:
        self.base, self.machine, self.output, self.error = base, load, output, error
        self.turns: list[Path] = []
        self.dropped = False

    def load(self, model: Path, outputs: Path) -> str:
        if not self.error:
            np.savez(outputs, np.array([1.0, self.output]))
        return self.error

    def times(self, model: Path, seconds: float) -> list[int]:
        self.turns.append(model)
        slow = self.machine[self.turns.count(model) - 1]
        scale = 4 if model.stem.endswith("float") else 1
        one = int(self.base * slow * scale)
        return [one, one, 50 * one]  # an interrupted call: the median does not see it

    def drop(self) -> None:
        self.dropped = True


STEADY = [1.0] * ROUNDS
DRIFTING = [1.0] * 4 + [2.0] * 4


def engines(load: list[float]) -> dict[str, Fake]:
    """edgeq at 1 µs, a runtime at 3 µs, one at 2 µs, one that fails."""
    return {
        "edgeq": Fake(1000, load),
        "litert": Fake(3000, load),
        "openvino": Fake(2000, load, output=0.25),
        "tflite": Fake(1, load, error="no such operation"),
    }


@pytest.mark.parametrize(("load", "median"), [(STEADY, 3e-6), (DRIFTING, 4.5e-6)])
def test_ratios_are_taken_within_rounds(load, median) -> None:
    """A machine that slows down half-way changes medians, not ratios; a runtime that fails takes no turns."""
    fakes = engines(load)
    (result,) = inference.measure(fakes, [Path("m.tflite")], ROUNDS, 0.01)
    assert np.median(result.times["litert"]) == pytest.approx(median)
    assert inference.ratios(result.times, result.times["edgeq"]) == pytest.approx({"litert": 3.0, "openvino": 2.0})
    assert result.errors == {"tflite": "no such operation"}
    assert not fakes["tflite"].turns
    assert result.distances == {"litert": 0.0, "openvino": 0.25}
    assert all(fake.dropped for fake in fakes.values())


def test_the_float_model_takes_turns_too() -> None:
    """Two models are measured in the same rounds, and ratios to the quantized one's time are possible."""
    fakes = engines(DRIFTING)
    one, other = inference.measure(fakes, [Path("m.tflite"), Path("m_float.tflite")], ROUNDS, 0.01)
    assert [fakes["edgeq"].turns.count(Path(p)) for p in ("m.tflite", "m_float.tflite")] == [ROUNDS, ROUNDS]
    assert inference.ratios(other.times, one.times["edgeq"]) == pytest.approx({"litert": 12.0, "openvino": 8.0})


@pytest.mark.parametrize(
    ("values", "expected"),
    [([1.0, 1.0, 1.0], 0.0), ([1.0, 2.0, 3.0, 4.0, 5.0], 1 / 3), ([10.0, 9.0, 11.0, 10.0, 100.0], 0.05)],
)
def test_spread(values, expected) -> None:
    """Half the distance between the quartiles over the median: one outlier does not move it."""
    assert inference.spread(np.array(values)) == pytest.approx(expected)


def test_geometric_means() -> None:
    """Each runtime's mean is over the models that it ran, the best's over the best of each model."""
    rows = [{"a": 2.0, "b": 4.0}, {"a": 8.0, "b": 1.0}, {"b": 2.0}, {}]
    assert inference.means(rows, ["a", "b", "c"]) == {
        "a": (pytest.approx(4.0), 2),
        "b": (pytest.approx(2.0), 3),
        "c": (pytest.approx(math.nan, nan_ok=True), 0),
        "best": (pytest.approx((2 * 1 * 2) ** (1 / 3)), 3),
    }
    assert inference.best(rows[1]) == ("b", 1.0)
    assert inference.best({}) is None


def test_distance_of_outputs_that_do_not_correspond() -> None:
    """Outputs of other sizes have no distance; bytes are not subtracted as bytes."""
    a, b = np.array([[-128]], np.int8), np.array([127], np.int8)
    assert inference.distance([a], [b]) == 255
    assert math.isnan(inference.distance([a], [np.zeros(2)]))


def options(*more: str) -> argparse.Namespace:
    return inference.arguments(["m.tflite", "--rounds", str(ROUNDS), *more])


def test_the_report(capsys) -> None:
    """The table names every time, ratio and failure; --json holds the same figures."""
    versions = {"edgeq": "1", "litert": "2", "openvino": "3", "tflite": "4"}
    assert inference.report(options("--float", "m_float.tflite"), engines(STEADY), versions) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "| m | 1 µs ± 0% | 3 µs ± 0%, **3.00** | 2 µs ± 0%, **2.00** | – | 2.00 (openvino) |" in lines
    assert any(line.startswith("| m_float over edgeq's m | 4 µs ± 0% | 12 µs ± 0%, **12.00** |") for line in lines)
    assert "| geometric mean |  | **3.00** of 1 | **2.00** of 1 | – | **2.00** of 1 |" in lines
    assert "m: tflite could not run it: no such operation" in lines
    inference.report(options("--json"), engines(STEADY), versions)
    document = json.loads(capsys.readouterr().out)
    means = {name: mean and round(mean, 9) for name, mean in document["geometric_mean"].items()}
    assert means == {"litert": 3.0, "openvino": 2.0, "tflite": None, "best": 2.0}
    assert document["models"][0]["best"]["name"] == "openvino"


def test_a_wide_spread_is_said(capsys) -> None:
    """Medians that moved from round to round come with a warning."""
    inference.report(options(), engines(DRIFTING), dict.fromkeys(engines(STEADY), "1"))
    assert "wide spread, measure again at a quieter time: m edgeq ± 33%" in capsys.readouterr().out


def test_edgeqs_own_failure_is_the_exit_status(capsys) -> None:
    """A model that edgeq cannot run makes the benchmark fail, and is named."""
    fakes = {"edgeq": Fake(1, STEADY, error="unsupported"), "litert": Fake(1, STEADY)}
    assert inference.report(options(), fakes, {"edgeq": "1", "litert": "2"}) == 1
    assert "m: edgeq could not run it: unsupported" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.tflite", "b.tflite", "--float", "c.tflite"], "--float names 1 models, 2 are expected"),
        (["a.tflite", "--engines", "abacus"], "unknown runtime abacus"),
    ],
)
def test_wrong_use(capsys, arguments, message) -> None:
    """What does not fit together is refused before anything runs."""
    with pytest.raises(SystemExit):
        inference.arguments(arguments)
    assert message in capsys.readouterr().err


def test_a_worker_times_edgeq(tmp_path) -> None:
    """A real worker process loads a model, answers with times, and says what it cannot load."""
    from tflite_models import float_mlp

    from edgeq.tflite import write

    model = tmp_path / "m.tflite"
    model.write_bytes(write(float_mlp()))
    worker = inference.Worker("edgeq", sys.executable, options())
    try:
        assert worker.load(model, tmp_path / "out.npz") == ""
        with np.load(tmp_path / "out.npz") as arrays:
            assert arrays["arr_0"].shape == (1, 3)
        assert len(worker.times(model, 0.001)) >= 3
        assert "missing.tflite" in worker.load(tmp_path / "missing.tflite", tmp_path / "out.npz")
    finally:
        worker.close()
    assert worker.process.returncode == 0

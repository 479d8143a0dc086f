"""The exactness benchmark: it passes what is equal, and finds and names what is not."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from naive.cases import product
from naive.oracle import missing

from edgeq.graph import Activation
from edgeq.tflite import write

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import exactness

needs_runtime = pytest.mark.skipif(missing("tflite") is not None, reason=str(missing("tflite")))


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A file with one int8 convolution."""
    case = product("convolution", "CONV_2D", "int8", per_channel=True, activation=Activation.RELU)
    path = tmp_path / "convolution.tflite"
    path.write_bytes(write(case.graph))
    return str(path)


@needs_runtime
def test_equal_model_passes(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A model that equals its oracle is one line with its counts, and status 0."""
    assert exactness.main([model, "--twin", "--samples", "2", "--rounding", "tflite"]) == 0
    line = capsys.readouterr().out.splitlines()[1].split()
    assert line == [
        "convolution",
        "tflite",
        "tflite-runtime",
        "BUILTIN_REF",
        "2",
        "random",
        str(2 * 11 * 9 * 12),
        "0",
        "0",
    ]


@needs_runtime
def test_difference_is_found_and_named(
    model: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One value off by 3 in each of two samples is counted, measured, located, and gives status 1."""

    def off(graph: Any, rounding: str) -> Any:
        run = exactness_twin(graph, rounding)

        def damaged(inputs: Any) -> list[Any]:
            (y,) = run(inputs)
            y.reshape(-1)[5] = y.reshape(-1)[5] - 3 if y.reshape(-1)[5] > 0 else y.reshape(-1)[5] + 3
            return [y]

        return damaged

    exactness_twin = exactness.twin
    monkeypatch.setattr(exactness, "twin", off)
    options = ["--twin", "--samples", "2", "--rounding", "tflite", "--layers"]
    assert exactness.main([model, *options]) == 1
    _, whole, layer = capsys.readouterr().out.splitlines()
    assert whole.split()[-2:] == ["2", "3"]
    assert layer.endswith("first in tensor 3 'y' of CONV_2D")


@needs_runtime
def test_given_samples_are_used(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Samples of an NPZ file join the random ones; floats are quantized for an integer input."""
    np.savez(tmp_path / "samples.npz", x=np.random.default_rng(0).standard_normal((5, 11, 9, 6)).astype(np.float32))
    options = ["--twin", "--samples", "3", "--rounding", "tflite", "--data", str(tmp_path / "samples.npz")]
    assert exactness.main([model, *options]) == 0
    assert "3 given" in capsys.readouterr().out


def test_nothing_to_do_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a model and without --ops there is nothing to compare."""
    with pytest.raises(SystemExit, match="2"):
        exactness.main([])
    assert "name at least one model, or --ops" in capsys.readouterr().err


@needs_runtime
def test_operations_pass(capsys: pytest.CaptureFixture[str]) -> None:
    """Models of one operation each equal their oracles, or say that the runtime does not have them."""
    assert exactness.main(["--ops", "--samples", "1", "--rounding", "tflite"]) == 0
    lines = capsys.readouterr().out.splitlines()
    plain = [line.split()[-2:] for line in lines if line.startswith("CONV_2D int8 ")]
    assert plain
    assert all(counts == ["0", "0"] for counts in plain)
    assert len(lines) > 400
    assert any("does not have them" in line for line in lines)

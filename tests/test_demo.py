"""The demo, and the model that it carries."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeq import demo
from edgeq.cli import main
from edgeq.samples import Samples
from edgeq.tflite import read

ROOT = Path(__file__).resolve().parents[1]


def test_demo_shows_the_whole_way(tmp_path, capsys) -> None:
    """Both accuracies, sizes, latencies and three refusals, each with its own error; nothing is left behind."""
    assert main(["demo"]) == 0
    out, _ = capsys.readouterr()
    rows = {line.split("  ")[0]: line for line in out.splitlines()}
    accuracy = {name: float(re.search(r"([\d.]+) %", rows[name])[1]) for name in ("float", "int8", "int8, sealed")}
    assert accuracy["float"] == 98.6
    assert abs(accuracy["int8"] - accuracy["float"]) <= 0.5
    assert accuracy["int8, sealed"] == accuracy["int8"]
    assert all("s" in rows[name].split()[-1] for name in accuracy)
    assert "ChunkError" in rows["one byte flipped"]
    assert "GrantDeviceError" in rows["another device"]
    assert "GrantExpiredError" in rows["an expired grant"]


def test_demo_keeps_on_request(demo_folder) -> None:
    """--keep leaves models, samples, keys, bundle and grant, private keys for their owner alone."""
    names = {p.name for p in demo_folder.iterdir()}
    assert names >= {
        "digits.tflite",
        "digits_int8.tflite",
        "calibration.npz",
        "held_out.npz",
        "digits.eqb",
        "device.eqg",
    }
    assert names >= {"publisher.key", "publisher.pub", "device.key", "device.pub"}
    assert {oct(p.stat().st_mode & 0o777) for p in demo_folder.glob("*.key")} == {"0o600"}


def test_demo_does_not_write_into_what_is_there(tmp_path, capsys) -> None:
    """--keep with a directory that exists is refused."""
    assert main(["demo", "--keep", str(tmp_path)]) == 1
    assert "File exists" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_samples_are_what_they_are_said_to_be() -> None:
    """The files hold 100 and 500 images in [0, 1], disjoint, with a label each, and are small enough to ship."""
    calibration, held_out = Samples(demo.CALIBRATION), Samples(demo.HELD_OUT)
    for samples, n in ((calibration, 100), (held_out, 500)):
        assert samples["x"].shape == (n, 8, 8, 1)
        assert samples["x"].dtype == np.float32
        assert 0 <= samples["x"].min() < samples["x"].max() == 1
        assert sorted(set(samples["y"].tolist())) == list(range(10))
    assert not {x.tobytes() for x in calibration["x"]} & {x.tobytes() for x in held_out["x"]}
    assert sum(p.stat().st_size for p in (demo.MODEL, demo.CALIBRATION, demo.HELD_OUT)) < 200_000


@pytest.fixture(scope="module")
def script():
    """examples/train_digits.py as a module."""
    pytest.importorskip("sklearn")
    spec = importlib.util.spec_from_file_location("train_digits", ROOT / "examples" / "train_digits.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["train_digits"] = module
    spec.loader.exec_module(module)
    return module


def test_training_reproduces_the_model(script, tmp_path) -> None:
    """examples/train_digits.py writes the files that edgeq carries: the same samples, graph, and weights to 1e-4."""
    script.main(tmp_path)
    for path in (demo.CALIBRATION, demo.HELD_OUT):
        for name, array in Samples(path).items():
            np.testing.assert_array_equal(Samples(tmp_path / path.name)[name], array)
    ours, theirs = (read(p.read_bytes()) for p in (demo.MODEL, tmp_path / demo.MODEL.name))
    assert [op.code for op in ours.ops] == [op.code for op in theirs.ops]
    for a, b in zip(ours.tensors, theirs.tensors, strict=True):
        assert (a.name, a.shape, a.dtype) == (b.name, b.shape, b.dtype)
        if a.data is not None:
            np.testing.assert_allclose(a.data, b.data, atol=1e-4)


def test_gradients_are_those_of_the_loss(script) -> None:
    """Backpropagation agrees with finite differences of the loss, for every kind of weight."""
    rng = np.random.default_rng(0)
    p = {k: w + (rng.normal(0, 0.1, w.shape) if k.endswith("/b") else 0) for k, w in script.initial(rng).items()}
    x, y = rng.random((3, 8, 8, 1)), np.eye(10)[[1, 5, 9]]

    def loss() -> float:
        return float(-(y * np.log(script.softmax(script.forward(p, x)[0]))).sum())

    z, seen = script.forward(p, x)
    g = script.gradients(p, seen, script.softmax(z) - y)
    for name, w in p.items():
        for place in rng.integers(0, w.size, 5):
            at = np.unravel_index(place, w.shape)
            kept = w[at]
            w[at] = kept + 1e-6
            up = loss()
            w[at] = kept - 1e-6
            down = loss()
            w[at] = kept
            assert g[name][at] == pytest.approx((up - down) / 2e-6, rel=1e-4, abs=1e-6), name

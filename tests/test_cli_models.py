"""What the model commands compute, against the API and against obvious computations."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import edgeq
from edgeq.cli import main
from edgeq.graph import Activation, Graph, Op, SubGraph, Table, Tensor
from edgeq.tflite import write


@pytest.fixture
def here(demo_folder, tmp_path, monkeypatch):
    """A copy of the demo's folder to work in."""
    shutil.copytree(demo_folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


GRANTED = ["--grant", "device.eqg", "--identity", "device.key", "--trust", "publisher.pub"]


def add_model(batch: int = 1) -> bytes:
    """left + right, both (batch, 3) float32 → total."""
    names = ("left", "right", "total")
    options = Table("AddOptions", {"fused_activation_function": Activation.NONE})
    tensors = tuple(Tensor(n, (batch, 3), "float32") for n in names)
    return write(Graph((SubGraph(tensors, (Op("ADD", (0, 1), (2,), options),), (0, 1), (2,)),)))


def identity_model() -> bytes:
    """A model whose output has its input's shape: x + 0.5, (1, 4) float32."""
    tensors = (
        Tensor("x", (1, 4), "float32"),
        Tensor("half", (1, 4), "float32", np.full((1, 4), 0.5, np.float32)),
        Tensor("y", (1, 4), "float32"),
    )
    options = Table("AddOptions", {"fused_activation_function": Activation.NONE})
    return write(Graph((SubGraph(tensors, (Op("ADD", (0, 1), (2,), options),), (0,), (2,)),)))


def test_a_npy_file_is_the_samples_of_a_model_with_one_input(here, capsys) -> None:
    """`edgeq run` and `edgeq report` make of a .npy file what they make of its array as `x` of an NPZ file."""
    with np.load("held_out.npz") as held:
        np.save("held_out.npy", held["x"])
        np.savez("unlabelled.npz", x=held["x"])
    for name in ("held_out.npy", "unlabelled.npz"):
        assert main(["run", "digits_int8.tflite", "-i", name, "-o", f"{name}.out.npz"]) == 0
        assert main(["report", "digits.tflite", "digits_int8.tflite", "-d", name, "-o", f"{name}.html"]) == 0
    one, other = (np.load(f"{name}.out.npz")["probabilities"] for name in ("held_out.npy", "unlabelled.npz"))
    np.testing.assert_array_equal(one, other)
    capsys.readouterr()
    Path("broken.npy").write_bytes(b"no array")
    assert main(["run", "digits_int8.tflite", "-i", "broken.npy", "-o", "none.npz"]) != 0
    assert "broken.npy: expected a NPY file" in capsys.readouterr().err
    assert not Path("none.npz").exists()


@pytest.mark.parametrize("rounding", ["xnnpack", "tflite"])
def test_run_gives_what_the_api_gives(here, rounding) -> None:
    """`edgeq run` writes the model's integers, and with --dequantize what they stand for."""
    arguments = ["run", "digits_int8.tflite", "-i", "held_out.npz", "--rounding", rounding]
    assert main([*arguments, "-o", "codes.npz"]) == 0
    assert main([*arguments, "-o", "reals.npz", "--dequantize"]) == 0
    codes, reals = np.load("codes.npz")["probabilities"], np.load("reals.npz")["probabilities"]
    with edgeq.load("digits_int8.tflite", rounding=rounding) as model:
        expected = model(np.load("held_out.npz")["x"])
        assert codes.dtype == np.int8
        np.testing.assert_array_equal(codes, expected)
        np.testing.assert_array_equal(reals, model.outputs[0].quantmod.dequantize(expected))


def test_a_bundle_runs_as_its_model(here, monkeypatch) -> None:
    """With the grant in options or in the environment, the sealed model gives the same outputs."""
    assert main(["run", "digits_int8.tflite", "-i", "held_out.npz", "-o", "plain.npz"]) == 0
    assert main(["run", "digits.eqb", "-i", "held_out.npz", "-o", "sealed.npz", *GRANTED]) == 0
    for option, value in zip(GRANTED[::2], GRANTED[1::2], strict=True):
        monkeypatch.setenv(f"EDGEQ_{option[2:].upper()}", value)
    assert main(["run", "digits.eqb", "-i", "held_out.npz", "-o", "environment.npz"]) == 0
    plain = np.load("plain.npz")["probabilities"]
    for name in ("sealed.npz", "environment.npz"):
        np.testing.assert_array_equal(np.load(name)["probabilities"], plain)


def test_samples_of_the_inputs_dtype_pass_unchanged(here, capsys) -> None:
    """int8 samples are taken as codes; another integer type is refused, with what was expected."""
    with edgeq.load("digits_int8.tflite") as model:
        codes = model.inputs[0].quantmod.quantize(np.load("held_out.npz")["x"])
    np.savez("codes.npz", x=codes)
    np.savez("wrong.npz", x=codes.view(np.uint8))
    assert main(["run", "digits_int8.tflite", "-i", "held_out.npz", "-o", "a.npz"]) == 0
    assert main(["run", "digits_int8.tflite", "-i", "codes.npz", "-o", "b.npz"]) == 0
    np.testing.assert_array_equal(np.load("a.npz")["probabilities"], np.load("b.npz")["probabilities"])
    capsys.readouterr()
    assert main(["run", "digits_int8.tflite", "-i", "wrong.npz", "-o", "c.npz"]) == 1
    assert "uint8" in capsys.readouterr().err


def test_flat_samples_are_reshaped_and_said_to_be(here, capsys) -> None:
    """Samples (64,) are read as (8, 8, 1), and stderr says so."""
    held_out = np.load("held_out.npz")
    np.savez("flat.npz", x=held_out["x"].reshape(-1, 64))
    assert main(["run", "digits.tflite", "-i", "flat.npz", "-o", "flat_out.npz"]) == 0
    assert "(64,) are read as (8, 8, 1)" in capsys.readouterr().err
    assert main(["run", "digits.tflite", "-i", "held_out.npz", "-o", "out.npz"]) == 0
    np.testing.assert_array_equal(np.load("flat_out.npz")["probabilities"], np.load("out.npz")["probabilities"])


def test_several_inputs_are_found_by_name(tmp_path, capsys) -> None:
    """Each input takes the array of its name."""
    model, samples, out = tmp_path / "add.tflite", tmp_path / "in.npz", tmp_path / "out.npz"
    model.write_bytes(add_model())
    left, right = np.arange(15, dtype=np.float32).reshape(5, 3), np.ones((5, 3), np.float32)
    np.savez(samples, right=right, left=left)
    assert main(["run", str(model), "-i", str(samples), "-o", str(out)]) == 0
    np.testing.assert_array_equal(np.load(out)["total"], left + 1)
    np.savez(samples, x=left)
    assert main(["run", str(model), "-i", str(samples), "-o", str(out)]) == 1
    assert "expected samples under 'left', found 'x'" in capsys.readouterr().err


def test_a_batch_is_filled(tmp_path, capsys) -> None:
    """A model of batch 2 takes samples in twos, and refuses what does not fill a batch."""
    model, samples, out = tmp_path / "add.tflite", tmp_path / "in.npz", tmp_path / "out.npz"
    model.write_bytes(add_model(batch=2))
    for n, status in ((4, 0), (5, 1)):
        np.savez(samples, left=np.ones((n, 3), np.float32), right=np.ones((n, 3), np.float32))
        assert main(["run", str(model), "-i", str(samples), "-o", str(out)]) == status
    assert np.load(out)["total"].shape == (4, 3)
    assert "is expected" in capsys.readouterr().err


def test_eval_counts_right_answers(here, capsys) -> None:
    """top-1 and top-5 are the shares counted by hand, and the report says what it measured."""
    assert main(["eval", "digits_int8.tflite", "-d", "held_out.npz", "--json", "--threads", "2"]) == 0
    report = json.loads(capsys.readouterr().out)
    held_out = np.load("held_out.npz")
    with edgeq.load("digits_int8.tflite") as model:
        scores = model(held_out["x"])
    assert report["top1"] == (scores.argmax(1) == held_out["y"]).mean()
    order = np.argsort(-scores.astype(int), axis=1, kind="stable")
    assert report["top5"] == (order[:, :5] == held_out["y"][:, None]).any(1).mean()
    assert (report["samples"], report["threads"], report["rounding"]) == (500, 2, "xnnpack")
    assert 0 < report["latency_ms"]["median"] <= report["latency_ms"]["p95"]


@pytest.mark.parametrize(
    ("labels", "key", "expected"),
    [
        pytest.param(None, "mse_reconstruction", 0.25, id="no labels: reconstruction"),
        pytest.param([[1, 1, 1, 1], [1, 1, 1, 1.0]], "mse", 0.25, id="labels like the output"),
    ],
)
def test_eval_of_reconstructions(tmp_path, capsys, labels, key, expected) -> None:
    """A model that gives back its input is measured by the mean squared error."""
    model, samples = tmp_path / "m.tflite", tmp_path / "in.npz"
    model.write_bytes(identity_model())
    x = np.ones((2, 4), np.float32)
    np.savez(samples, x=x, **({} if labels is None else {"y": np.array(labels)}))
    assert main(["eval", str(model), "-d", str(samples), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[key] == expected


def test_eval_without_labels_says_what_it_needs(here, capsys) -> None:
    """A classifier without labels cannot be measured."""
    np.savez("unlabelled.npz", x=np.load("held_out.npz")["x"])
    assert main(["eval", "digits.tflite", "-d", "unlabelled.npz"]) == 1
    assert "expected labels in 'y'" in capsys.readouterr().err


def test_eval_with_too_few_labels(here, capsys) -> None:
    """Labels must be as many as samples."""
    held_out = np.load("held_out.npz")
    np.savez("few.npz", x=held_out["x"], y=held_out["y"][:10])
    assert main(["eval", "digits.tflite", "-d", "few.npz"]) == 1
    assert "found 10 labels and 500 samples" in capsys.readouterr().err


def test_bench_reports_every_runtime(here, capsys) -> None:
    """One entry a runtime, edgeq's ratio 1, times in order."""
    pytest.importorskip("ai_edge_litert")
    assert main(["bench", "digits_int8.tflite", "--against", "litert", "--rounds", "3", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [r["name"] for r in report["runtimes"]] == ["edgeq", "litert"]
    assert report["runtimes"][0]["ratio"] == 1.0
    assert all(0 < r["q1_s"] <= r["median_s"] <= r["q3_s"] for r in report["runtimes"])


def test_quantize_a_bundle_with_export(here) -> None:
    """Granted for calibrate and export, a sealed float model is quantized as the plain one."""
    seal = ["seal", "digits.tflite", "--key", "publisher.key", "--model-id", "demo/float", "--version", "1"]
    assert main([*seal, "-o", "float.eqb"]) == 0
    grant = ["grant", "float.eqb", "--key", "publisher.key", "--to", "device.pub", "--allow", "calibrate,export"]
    assert main([*grant, "-o", "float.eqg"]) == 0
    opened = ["--grant", "float.eqg", "--identity", "device.key", "--trust", "publisher.pub"]
    assert main(["quantize", "float.eqb", "-d", "calibration.npz", "-o", "again.tflite", *opened]) == 0
    assert (here / "again.tflite").read_bytes() == (here / "digits_int8.tflite").read_bytes()


def test_quantize_with_a_folder(here) -> None:
    """A folder of samples and the same samples in one file give the same model; so does a preprocessing function's."""
    samples = np.load("calibration.npz")["x"]
    Path("samples").mkdir()
    for k, x in enumerate(samples):
        np.save(f"samples/{k:04}.npy", x)
    assert main(["quantize", "digits.tflite", "-d", "samples", "-o", "folder.tflite"]) == 0
    assert (here / "folder.tflite").read_bytes() == (here / "digits_int8.tflite").read_bytes()
    np.savez("halves.npz", x=samples / 2)
    Path("double.py").write_text("def double(x):\n    return 2 * x\n")
    doubled = [
        "quantize",
        "digits.tflite",
        "-d",
        "halves.npz",
        "--preprocess",
        "double.py:double",
        "-o",
        "doubled.tflite",
    ]
    assert main(doubled) == 0
    assert (here / "doubled.tflite").read_bytes() == (here / "digits_int8.tflite").read_bytes()


def test_quantize_with_little_effort(here) -> None:
    """--effort fast gives a model of the same size, tried with less."""
    assert main(["quantize", "digits.tflite", "-d", "calibration.npz", "--effort", "fast", "-o", "fast.tflite"]) == 0
    assert abs((here / "fast.tflite").stat().st_size - (here / "digits_int8.tflite").stat().st_size) < 1000


def test_verify_with_a_grant_keeps_the_plan(here, monkeypatch, capsys) -> None:
    """After `edgeq verify --grant` an app's first start plans nothing; without the option nothing is opened, whatever the
    environment says; what may not be opened is refused, and nothing is kept of it."""
    monkeypatch.setenv("EDGEQ_PLANS", "plans")
    monkeypatch.setenv("EDGEQ_GRANT", "device.eqg")
    opening = ["verify", "digits.eqb", *GRANTED]
    assert main(["verify", "digits.eqb", "--trust", "publisher.pub"]) == 0
    assert not Path("plans").exists()
    assert main(["keys", "new", "device", "unknown"]) == 0
    assert main([*opening[:-4], "--identity", "unknown.key", "--trust", "publisher.pub"]) == 1
    assert not Path("plans").exists()
    capsys.readouterr()
    assert main(opening) == 0
    assert "kept for the next start" in capsys.readouterr().out
    (entry,) = Path("plans").iterdir()
    with edgeq.load("digits.eqb", grant="device.eqg", identity="device.key", trust="publisher.pub") as model:
        assert model._plan is None
    assert main(opening) == 0
    assert "kept for the next start" in capsys.readouterr().out
    assert list(Path("plans").iterdir()) == [entry]
    monkeypatch.setenv("EDGEQ_PLANS", "off")
    assert main(opening) == 0
    assert "not kept" in capsys.readouterr().out


def test_passphrases(here, monkeypatch, capsys) -> None:
    """A key under a passphrase opens with EDGEQ_PASSPHRASE, and not without or with another."""
    monkeypatch.setenv("EDGEQ_PASSPHRASE", "correct horse")
    assert main(["keys", "new", "device", "locked", "--passphrase"]) == 0
    assert b"ENCRYPTED" in (here / "locked.key").read_bytes()
    grant = ["grant", "digits.eqb", "--key", "publisher.key", "--to", "locked.pub", "-o", "locked.eqg"]
    assert main(grant) == 0
    run = [
        "run",
        "digits.eqb",
        "-i",
        "held_out.npz",
        "-o",
        "o.npz",
        "--grant",
        "locked.eqg",
        "--identity",
        "locked.key",
    ]
    run += ["--trust", "publisher.pub"]
    assert main(run) == 0
    monkeypatch.setenv("EDGEQ_PASSPHRASE", "wrong")
    assert main(run) == 1
    monkeypatch.delenv("EDGEQ_PASSPHRASE")
    assert main(run) == 1
    assert "passphrase" in capsys.readouterr().err


def test_names_in_models_do_nothing_to_a_terminal(tmp_path, capsys) -> None:
    """Control characters in a model's names are shown escaped."""
    model = tmp_path / "m.tflite"
    tensors = (Tensor("\x1b[31min", (1, 4), "float32"), Tensor("out\r\n", (1, 4), "float32"))
    options = Table("AddOptions", {"fused_activation_function": Activation.NONE})
    model.write_bytes(write(Graph((SubGraph(tensors, (Op("ADD", (0, 0), (1,), options),), (0,), (1,)),))))
    assert main(["inspect", str(model)]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\\x1b[31min" in out

"""edgeq convert: other formats to .tflite by others' converters, with what is missing or fails told in one line."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import edgeq
from edgeq import convert as converting
from edgeq import converters, demo
from edgeq.cli import main
from edgeq.errors import CheckError, ConvertError, FormatError, InputError
from edgeq.tflite import write
from tests.tflite_models import float_mlp
from tests.tflite_vectors import FOLDER


def python(folder: Path, script: str) -> str:
    """A program that is called as a Python is: script, source, output, options are its arguments 1 to 4."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"whatever its converter makes of it")
    return path


def test_what_the_converter_makes_is_checked_and_written(source: Path, tmp_path: Path, capsys) -> None:
    """The converter's file arrives unchanged, with a summary on stdout."""
    out = tmp_path / "m.tflite"
    fake = python(tmp_path, f'echo noise; cp "{demo.MODEL}" "$3"')
    assert main(["convert", str(source), "-o", str(out), "--python", fake]) == 0
    assert out.read_bytes() == demo.MODEL.read_bytes()
    printed = capsys.readouterr().out
    assert "onnx2tf" in printed
    assert "every operation" in printed
    assert "noise" not in printed


def test_the_converter_hears_what_was_asked(source: Path, tmp_path: Path) -> None:
    """Script, source, output and options reach the converter's process, and its words the log."""
    log = tmp_path / "log"
    fake = python(tmp_path, f'echo "$1" "$2" "$4"; cp "{demo.MODEL}" "$3"')
    done = converting.convert(source, batch=2, shapes={"x": (2, 3)}, python=fake, log=log)
    assert done.converter is converting.ONNX
    script, path, options = log.read_text().strip().split(" ", 2)
    assert Path(script).exists()
    assert path == str(source)
    assert options == '{"batch": 2, "shapes": {"x": [2, 3]}}'


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (
            f"exit {converters.MISSING}",
            r"m\.onnx: ONNX models are converted by onnx2tf, which is not installed: pip install",
        ),
        ("echo 'ValueError: bad node'; echo more; exit 1", "onnx2tf failed: ValueError: bad node"),
        ("echo 'only this'; exit 1", "onnx2tf failed: only this"),
        ("exit 1", "onnx2tf failed: it said nothing"),
        ("exit 0", "onnx2tf failed"),
        ("kill -9 $$", "onnx2tf failed"),
    ],
)
def test_failures_are_told_in_one_line(script: str, message: str, source: Path, tmp_path: Path, capsys) -> None:
    """A missing converter, and every way for one to fail, ends in one line and an exit status; nothing is written."""
    fake = python(tmp_path, script)
    with pytest.raises(ConvertError, match=message):
        converting.convert(source, python=fake)
    out = tmp_path / "m.tflite"
    assert main(["convert", str(source), "-o", str(out), "--python", fake]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize(("vector", "kind"), [("stride-zero", CheckError), ("half", FormatError)])
def test_unsound_results_are_refused(vector: str, kind: type[Exception], source: Path, tmp_path: Path) -> None:
    """What a converter makes is a file like any other."""
    fake = python(tmp_path, f'cp "{FOLDER / (vector + ".tflite")}" "$3"')
    with pytest.raises(kind, match="what onnx2tf made is refused"):
        converting.convert(source, python=fake)


@pytest.mark.parametrize(
    ("name", "package"),
    [("m.onnx", "onnx2tf"), ("M.KERAS", "tensorflow"), ("m.h5", "tensorflow"), ("m.pt2", "litert-torch")],
)
def test_kinds_are_told_by_name(name: str, package: str, tmp_path: Path) -> None:
    """The suffix says who converts a file."""
    (tmp_path / name).write_bytes(b"")
    assert converting.converter_of(tmp_path / name).package == package


def test_a_tflite_gets_other_shapes(tmp_path: Path, capsys) -> None:
    """Inputs in the shapes that were asked for, and the answers of the model that was given them when it was loaded."""
    source, out = tmp_path / "m.tflite", str(tmp_path / "of three.tflite")
    source.write_bytes(write(float_mlp()))
    assert main(["convert", str(source), "--batch", "3", "-o", out]) == 0
    assert "every operation" in capsys.readouterr().out
    name = float_mlp().input_names()[0]
    x = np.random.default_rng(0).standard_normal((3, *float_mlp().tensors[0].shape[1:])).astype(np.float32)
    with edgeq.load(out) as model, edgeq.load(source, shapes={name: x.shape}) as asked:
        np.testing.assert_array_equal(model(x), asked(x))
    shape = ",".join(map(str, x.shape))
    same = str(tmp_path / "same.tflite")
    assert main(["convert", str(source), "--shape", f"{name}={shape}", "-o", same]) == 0
    assert Path(same).read_bytes() == Path(out).read_bytes()


def test_folders_are_saved_models(tmp_path: Path) -> None:
    """A folder is a SavedModel if saved_model.pb lies in it, and nothing otherwise."""
    with pytest.raises(InputError, match=r"without saved_model\.pb"):
        converting.converter_of(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"")
    assert converting.converter_of(tmp_path) is converting.SAVED_MODEL


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.onnx"], "there is no such file"),
        ([str(Path(__file__))], "files that end in .onnx"),
        ([str(demo.MODEL), "--shape", "x"], "NAME=1,224,224,3 is expected"),
        ([str(demo.MODEL), "--shape", "x=0,2"], "NAME=1,224,224,3 is expected"),
        ([str(demo.MODEL)], "a .tflite already; expected shapes for its inputs, or a batch"),
        ([str(demo.MODEL), "--shape", "nobody=1,2"], "expected shapes for"),
    ],
)
def test_bad_arguments_are_refused(arguments: list[str], message: str, tmp_path: Path, capsys) -> None:
    """What is no model of a known kind, and what is no shape, is said."""
    assert main(["convert", *arguments, "-o", str(tmp_path / "m.tflite")]) != 0
    assert message in capsys.readouterr().err


def test_a_python_that_is_not_there(source: Path) -> None:
    """--python that cannot be run is said."""
    with pytest.raises(InputError, match="cannot be run"):
        converting.convert(source, python="/nowhere/python")


# --- the converters themselves, where they are installed ------------------------------------------------------------------


def needs(*modules: str) -> None:
    for module in modules:
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed")


def made(folder: Path, code: str) -> None:
    """Run a script that saves a model as m.* and x, y in expected.npz."""
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, capture_output=True)


ONNX_MODEL = """
import numpy as np, onnx, onnxruntime
from onnx import TensorProto as T, helper as h, numpy_helper as nh
rng = np.random.default_rng(0)
w = [nh.from_array((0.2 * rng.standard_normal(s)).astype(np.float32), n) for n, s in (("w", (8, 3, 3, 3)), ("v", (8, 5)))]
nodes = [h.make_node("Conv", ["x", "w"], ["c"], strides=[2, 2], pads=[1] * 4), h.make_node("Relu", ["c"], ["r"]),
         h.make_node("GlobalAveragePool", ["r"], ["p"]), h.make_node("Flatten", ["p"], ["f"]),
         h.make_node("Gemm", ["f", "v"], ["y"])]
g = h.make_graph(nodes, "g", [h.make_tensor_value_info("x", T.FLOAT, ["N", 3, 32, 32])],
                 [h.make_tensor_value_info("y", T.FLOAT, ["N", 5])], w)
onnx.save(h.make_model(g, opset_imports=[h.make_opsetid("", 13)], ir_version=8), "m.onnx")
x = rng.standard_normal((1, 3, 32, 32)).astype(np.float32)
np.savez("expected.npz", x=x.transpose(0, 2, 3, 1), y=onnxruntime.InferenceSession("m.onnx").run(None, {"x": x})[0])
"""

KERAS_MODEL = """
import numpy as np, tensorflow as tf
k = tf.keras.layers
m = tf.keras.Sequential([k.Input((8, 8, 1)), k.Conv2D(4, 3, activation="relu"), k.Flatten(), k.Dense(3)])
m.save("m.keras"); m.export("saved")
x = np.random.default_rng(0).standard_normal((1, 8, 8, 1)).astype(np.float32)
np.savez("expected.npz", x=x, y=m(x).numpy())
"""

TORCH_MODEL = """
import numpy as np, torch
m = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, stride=2), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(1800, 4)).eval()
x = torch.randn(1, 3, 32, 32)
torch.export.save(torch.export.export(m, (x,)), "m.pt2")
np.savez("expected.npz", x=x.numpy(), y=m(x).detach().numpy())
"""


@pytest.mark.parametrize(
    ("name", "modules", "code"),
    [
        ("m.onnx", ("onnx2tf", "onnxruntime"), ONNX_MODEL),
        ("m.keras", ("tensorflow",), KERAS_MODEL),
        ("saved", ("tensorflow",), KERAS_MODEL),
        ("m.pt2", ("litert_torch",), TORCH_MODEL),
    ],
)
def test_converted_models_compute_what_their_framework_does(name, modules, code, tmp_path: Path) -> None:
    """A model of each kind gives its framework's outputs in edgeq."""
    needs(*modules)
    made(tmp_path, code)
    out = tmp_path / "m.tflite"
    assert main(["convert", str(tmp_path / name), "-o", str(out)]) == 0
    expected = np.load(tmp_path / "expected.npz")
    with edgeq.load(out, backend="native") as model:
        np.testing.assert_allclose(model(expected["x"]), expected["y"], atol=1e-5)

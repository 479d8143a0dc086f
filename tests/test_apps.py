"""Three apps, each one script: what they print and compute is the same on edgeq, tflite_runtime and ai_edge_litert."""

from __future__ import annotations

import runpy
import subprocess
import sys
import warnings
import wave
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from edgeq.fallback import FallbackWarning

APPS = Path(__file__).resolve().parents[1] / "examples" / "apps"
SHARED = Path(__file__).resolve().parents[1].parent / "shared"


@dataclass(frozen=True)
class Run:
    """What a script printed, and its raw outputs."""

    text: str
    arrays: dict[str, np.ndarray]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models and inputs, made by the script that stands beside the apps."""
    out = tmp_path_factory.mktemp("apps")
    subprocess.run([sys.executable, str(APPS / "make_models.py"), str(out)], check=True)
    return out


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Run]:
    """Run a script as `python SCRIPT ARGUMENTS` would, in this process."""

    def call(script: str, *arguments: str) -> Run:
        saved = tmp_path / ("out.npz" if script == "estimate_pose.py" else "out.npy")
        saved.unlink(missing_ok=True)
        monkeypatch.setattr(sys, "argv", [script, *arguments, "--save", str(saved)])
        runpy.run_path(str(APPS / script), run_name="__main__")
        loaded = np.load(saved)
        arrays = {k: loaded[k] for k in loaded.files} if saved.suffix == ".npz" else {"": loaded}
        return Run(capsys.readouterr().out, arrays)

    return call


def arguments(app: str, folder: Path) -> tuple[str, ...]:
    """Script and arguments of a case that needs nothing but this checkout."""
    if app.startswith("classify"):
        images = sorted(map(str, folder.glob("digit-*.npy")))
        model = str(folder / f"digits_{app.split()[1]}.tflite")
        labels = str(folder / "digits.txt")
        return (
            "classify_image.py",
            "-m",
            model,
            "-l",
            labels,
            "--input_mean",
            "0",
            "--input_std",
            "255",
            "-i",
            *images,
        )
    if app.startswith("wake word"):
        model = str(folder / f"wake_{app.split()[2]}.tflite")
        return ("wake_word.py", "-m", model, "--wav", str(folder / "recording.wav"))
    images = sorted(str(p) for p in folder.glob("figure-?.npy"))
    return ("estimate_pose.py", "-m", str(folder / "pose_int8.tflite"), "-i", *images)


CASES = ("classify int8", "classify float", "wake word window", "wake word streaming", "wake word stateful", "pose")


def real_cases(folder: Path) -> dict[str, tuple[str, ...]]:
    """The same scripts on published models, where those lie beside the checkout."""
    models, data = SHARED / "models", SHARED / "data"
    photo, squat = str(folder / "photo.npy"), str(folder / "squat.npy")
    if not (models.exists() and data.exists()):
        return {}
    np.save(photo, np.load(data / "photos_224.npz")["x"][1])
    np.save(squat, np.load(data / "movenet_squat_192.npz")["x"])
    recording = str(folder / "recording.wav")
    mobilenet, movenet = models / "imagenet", models / "vision_quant"
    return {
        "MobileNetV1": ("classify_image.py", "-m", str(mobilenet / "mobilenet_v1_0.25_128_quant.tflite"), "-i", photo),
        "MobileNetV2": ("classify_image.py", "-m", str(mobilenet / "tf2_mobilenet_v2_1.0_224_ptq.tflite"), "-i", photo),
        "streaming wake word": (
            "wake_word.py",
            "-m",
            str(models / "mlperf_tiny/sww_1dcnn_int8.tflite"),
            "--wav",
            recording,
        ),
        "MoveNet": ("estimate_pose.py", "-m", str(movenet / "movenet_single_pose_lightning_ptq.tflite"), "-i", squat),
    }


def on(runtime: str) -> tuple[str, str]:
    """The argument that names a runtime; skips where it is not installed."""
    if find_spec(runtime) is None:
        pytest.skip(f"{runtime} is not installed")
    if runtime == "tflite_runtime" and int(np.__version__.split(".")[0]) >= 2:
        pytest.skip("tflite-runtime 2.14 fails with NumPy 2")
    return ("--runtime", runtime)


def assert_same(ours: Run, theirs: Run) -> None:
    """Equal to the last bit where they are integers."""
    assert ours.arrays.keys() == theirs.arrays.keys()
    for name, found in ours.arrays.items():
        expected = theirs.arrays[name]
        assert found.dtype == expected.dtype
        if found.dtype.kind == "f":
            np.testing.assert_allclose(found, expected, atol=1e-5 * max(1, float(np.abs(expected).max())), err_msg=name)
        else:
            np.testing.assert_array_equal(found, expected, err_msg=name)


def decided(app: str, text: str) -> list[str]:
    """What an app says but for its scores: the runtimes' own roundings differ, and the last digits with them."""
    lines = text.splitlines()
    if app.startswith("classify"):  # every image, and the label that comes first
        return [part for k, line in enumerate(lines) if ".npy" in line for part in (line, lines[k + 1].split(": ")[1])]
    return [line.rpartition("  wake word")[0] if "wake word" in line else line for line in lines]


@pytest.mark.parametrize("app", CASES)
def test_apps_print_the_same_on_litert(app: str, folder: Path, run: Callable[..., Run]) -> None:
    """An app run as it is prints the same on edgeq as on ai_edge_litert, and computes the same integers."""
    ours = run(*arguments(app, folder))
    theirs = run(*arguments(app, folder), *on("ai_edge_litert"))
    assert ours.text == theirs.text
    assert ours.text
    assert_same(ours, theirs)


@pytest.mark.parametrize("app", CASES)
def test_apps_decide_the_same_on_tflite_runtime(app: str, folder: Path, run: Callable[..., Run]) -> None:
    """An app run as it is decides the same on edgeq as on tflite_runtime."""
    ours = run(*arguments(app, folder))
    theirs = run(*arguments(app, folder), *on("tflite_runtime"))
    assert decided(app, ours.text) == decided(app, theirs.text)
    assert ours.text


@pytest.mark.parametrize("app", CASES)
def test_the_reference_kernels_are_chosen_as_there(app: str, folder: Path, run: Callable[..., Run]) -> None:
    """An app that asks for BUILTIN_REF gets tflite-runtime's reference integers, to the last bit."""
    ours = run(*arguments(app, folder), "--reference")
    theirs = run(*arguments(app, folder), "--reference", *on("tflite_runtime"))
    assert ours.text == theirs.text
    assert_same(ours, theirs)


@pytest.mark.parametrize("name", ["MobileNetV1", "MobileNetV2", "streaming wake word", "MoveNet"])
def test_apps_run_published_models(name: str, folder: Path, run: Callable[..., Run]) -> None:
    """The same scripts give LiteRT's outputs on models that others made."""
    case = real_cases(folder).get(name)
    if case is None:
        pytest.skip("no published models beside this checkout")
    ours = run(*case)
    theirs = run(*case, *on("ai_edge_litert"))
    assert ours.text == theirs.text
    assert_same(ours, theirs)


def test_variables_are_kept_as_on_litert(folder: Path) -> None:
    """A model with a variable gives LiteRT's scores, frame by frame."""
    on("ai_edge_litert")
    path = str(folder / "wake_stateful.tflite")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FallbackWarning)
        both = [import_module(f"{m}.interpreter").Interpreter(path) for m in ("edgeq", "ai_edge_litert")]
    found: list[list[np.ndarray]] = [[], []]
    for one, scores in zip(both, found, strict=True):
        one.allocate_tensors()
        rng, x, y = np.random.default_rng(5), one.get_input_details()[0], one.get_output_details()[0]
        for _ in range(80):
            one.set_tensor(x["index"], rng.integers(-128, 128, x["shape"]).astype(np.int8))
            one.invoke()
            scores.append(one.get_tensor(y["index"]))
    np.testing.assert_array_equal(found[0], found[1])
    assert len({s.tobytes() for s in found[0]}) > 10


def test_digits_are_read(folder: Path, run: Callable[..., Run]) -> None:
    """The first label is what an image's file name says, for nine of ten digits at least."""
    lines = run(*arguments("classify int8", folder)).text.splitlines()
    names = (folder / "digits.txt").read_text().split()
    first = [lines[k + 1].split(": ")[1] for k, line in enumerate(lines) if line.startswith("digit-")]
    assert sum(found == name for found, name in zip(first, names, strict=True)) >= 9


@pytest.mark.parametrize("kind", ["window", "streaming", "stateful"])
def test_the_wake_word_is_heard(kind: str, folder: Path, run: Callable[..., Run]) -> None:
    """It is heard where it is said in the recording, and nowhere else."""
    with wave.open(str(folder / "recording.wav")) as f:
        part = f.getnframes() / f.getframerate() / 10  # ten sounds, the wake word third and eighth
    times = [float(line.split()[0]) for line in run(*arguments(f"wake word {kind}", folder)).text.splitlines()]
    assert [int(t / part) for t in times] == [2, 7]


def test_the_points_are_found(folder: Path, run: Callable[..., Run]) -> None:
    """Every point lies in the cell where it was drawn."""
    lines = run(*arguments("pose", folder)).text.splitlines()
    for k in range(3):
        found = [tuple(map(float, line.split()[-2:])) for line in lines[18 * k + 1 : 18 * k + 18]]
        cells = np.load(folder / f"figure-{k}-points.npy")
        assert len(found) == len(cells) == 17
        for (x, y), (row, column) in zip(found, cells, strict=True):
            assert (int(y * 12), int(x * 12)) == (row, column)


@pytest.mark.parametrize("script", ["classify_image.py", "wake_word.py", "estimate_pose.py"])
def test_only_the_runtimes_module_is_named(script: str) -> None:
    """Nothing of edgeq is in an app but the name of its module."""
    text = (APPS / script).read_text("utf-8")
    assert "import edgeq" not in text
    assert "from edgeq" not in text
    assert text.count("edgeq") == 2  # the default of --runtime, and its choices

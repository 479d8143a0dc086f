"""Models, real samples and shifts of them that calibration is tried on.

Two sets. `judged`: what docs/calibration.md reports. `chosen_on`: other models and other data (digits apart, whose model is the
demo's), on which the guard's settings were chosen. No setting was chosen on what judges it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from real_inputs import DATA

from edgeq.graph import Graph
from edgeq.quantize.reconstruct import reconstruct
from edgeq.tflite import read

Array = npt.NDArray[Any]
Shift = Callable[[Array], Array]
ALL = DATA.parent / "models"
MODELS = ALL / "mlperf_tiny"
DEMO = Path(__file__).resolve().parents[1] / "edgeq" / "demo"


@dataclass(frozen=True)
class Task:
    """A float model, its published int8 form if there is one, samples to calibrate with and to test on, and shifts.

    more: other samples to draw those from that are calibrated with; labels: of `test`, if there are any.
    """

    name: str
    real: Graph
    published: Graph | None
    local: Array
    test: Array
    shifts: Mapping[str, Shift]
    more: Array
    labels: Array | None = None


def load(path: Path) -> Graph:
    return read(path.read_bytes())


def labels(name: str) -> Array:
    with np.load(DATA / name) as arrays:
        y: Array = arrays["y"]
    return y


def judged() -> list[Task]:
    """Those that are reported."""
    return _there(keywords, images, toycar)


def chosen_on() -> list[Task]:
    """Those that settings were chosen on."""
    return [digits(), *_there(sounds, people, things)]


def otherwise(task: Task) -> Task:
    """A task that is judged, under shifts of other kinds: no setting was chosen on them, nor on what came of them."""
    reach, spread = float(task.local.max()), float(task.local.std())

    def noisy(deviation: float) -> Shift:
        return lambda x: np.asarray(x + np.random.default_rng(5).normal(0, deviation, x.shape))

    def blurred(x: Array) -> Array:
        from scipy.ndimage import gaussian_filter

        return np.asarray(gaussian_filter(x, (0, 1, 1, 0)))

    mean = float(task.local.mean())
    kinds: dict[str, dict[str, Shift]] = {
        "digits": {
            "offset": lambda x: x + 0.3, "noise": noisy(0.2), "inverted": lambda x: 1 - x, "×10": lambda x: 10 * x,
            "×0.05": lambda x: 0.05 * x,
        },
        "keywords": {
            "noise": noisy(0.5 * spread), "offset": lambda x: x + spread, "×1.5": lambda x: 1.5 * x, "×0.6": lambda x: 0.6 * x,
        },
        "images": {
            "blur": blurred, "brighter by a quarter": lambda x: np.clip(x + 0.25 * reach, 0, reach),
            "noise": lambda x: np.clip(noisy(0.1 * reach)(x), 0, reach),
            "low contrast": lambda x: 0.35 * (x - x.mean()) + x.mean(), "gamma 2.5": lambda x: reach * (x / reach) ** 2.5,
        },
        "toycar": {
            "3 dB up": lambda x: x + 3, "5 dB up": lambda x: x + 5, "8 dB up": lambda x: x + 8, "noise": noisy(3.0),
            "half the contrast": lambda x: 0.5 * (x - mean) + mean,
        },
    }  # fmt: skip
    return replace(task, shifts=kinds[task.name])


def _there(*makers: Callable[[], Task]) -> list[Task]:
    found = []
    for make in makers:
        try:
            found.append(make())
        except FileNotFoundError:
            print(f"{make.__name__}: no data beside the checkout, left out", file=sys.stderr)
    return found


def picks(task: Task, samples: int, draws: int) -> list[Array]:
    """So many choices of `samples` local samples; the first is of those that were set aside for calibration."""
    rng = np.random.default_rng(0)
    pool = np.concatenate([task.local, task.more])
    return [task.local[:samples], *(pool[rng.permutation(len(pool))[:samples]] for _ in range(draws - 1))]


def digits() -> Task:
    with np.load(DEMO / "calibration.npz") as c, np.load(DEMO / "held_out.npz") as h:
        return Task(
            "digits",
            load(DEMO / "digits.tflite"),
            None,
            c["x"],
            h["x"][:300],
            {"darkened ×0.3": lambda x: 0.3 * x, "brightened ×3": lambda x: 3 * x},
            h["x"][300:],
            h["y"][:300],
        )


def keywords() -> Task:
    def real(name: str) -> Array:
        with np.load(DATA / name) as arrays:
            return np.asarray((arrays["x"].astype(np.float32) - 83) * np.float32(0.5847029))

    published = load(MODELS / "kws_dscnn_int8.tflite")
    # The published float file is a dynamic-range model: what the int8 codes stand for is the float model here.
    return Task(
        "keywords",
        reconstruct(published),
        published,
        real("kws_mfcc_calib_100.npz"),
        real("kws_mfcc_500.npz")[:200],
        {"gain ×0.3": lambda x: 0.3 * x, "gain ×3": lambda x: 3 * x},
        real("kws_mfcc_500.npz")[200:],
        labels("kws_mfcc_500.npz")[:200],
    )


CAST = np.array([1.3, 0.8, 0.5], np.float32)


def pictures(name: str) -> Array:
    """(n, 32, 32, 3) float32, 0 to 255."""
    with np.load(DATA / "restricted_internal" / name) as arrays:
        x: Array = arrays["x"].astype(np.float32)
    return x


def images() -> Task:
    others = pictures("cifar10_test_500.npz")
    return Task(
        "images",
        load(MODELS / "ic_resnet8_float.tflite"),
        load(MODELS / "ic_resnet8_int8.tflite"),
        pictures("cifar10_train_calib_256.npz"),
        others[:200],
        {"darkened ×0.3": lambda x: 0.3 * x, "colour cast": lambda x: np.clip(x * CAST, 0, 255)},
        others[200:],
        labels("restricted_internal/cifar10_test_500.npz")[:200],
    )


def toycar() -> Task:
    folder = DATA / "restricted_internal"
    with np.load(folder / "ad_toycar_50clips.npz") as clips, np.load(folder / "ad_calib_200windows.npz") as windows:
        test = np.concatenate([clips["x"][:, i : i + 5].reshape(len(clips["x"]), -1) for i in range(0, 190, 37)])
        local = windows["x"]

    def floor(level: float) -> Shift:
        return lambda x: (10 * np.log10(10 ** (x.astype(np.float64) / 10) + 10 ** (level / 10))).astype(np.float32)

    return Task(
        "toycar",
        load(MODELS / "ad_toycar_float.tflite"),
        load(MODELS / "ad_toycar_int8.tflite"),
        local,
        test[:200],
        {"noise floor 0 dB": floor(0.0), "20 dB down": lambda x: x - 20, "20 dB up": lambda x: x + 20},
        local[:0],
    )


def sounds() -> Task:
    """Another network for keywords, made of its int16 form, on other features."""

    def features(name: str) -> Array:
        with np.load(DATA / name) as arrays:
            x: Array = arrays["x"].astype(np.float32).reshape(len(arrays["x"]), -1)
        return x

    others = features("kws_arm_mfcc_500.npz")
    return Task(
        "sounds",
        reconstruct(load(ALL / "int16" / "ds_cnn_small_int16.tflite")),
        None,
        features("kws_arm_mfcc_calib_100.npz"),
        others[:200],
        {"gain ×0.3": lambda x: 0.3 * x, "gain ×3": lambda x: 3 * x},
        others[200:],
    )


def people() -> Task:
    """Is there a person? Of enlarged pictures of other things; as good as any to tell noise by."""
    return _enlarged(
        "people",
        load(MODELS / "vww_mobilenetv1_025_96_float.tflite"),
        load(MODELS / "vww_mobilenetv1_025_96_int8.tflite"),
        3,
        (0.0, 1.0),
    )


def things() -> Task:
    return _enlarged(
        "things",
        load(ALL / "imagenet" / "mobilenet_v1_0.25_128_dequant_float.tflite"),
        load(ALL / "imagenet" / "mobilenet_v1_0.25_128_quant.tflite"),
        4,
        (-1.0, 2.0),
    )


def _enlarged(name: str, real: Graph, published: Graph, times: int, scale: tuple[float, float]) -> Task:
    """A task of pictures, each pixel so many times as large. scale: what black is, and how much more white is."""
    black, white = np.float32(scale[0]), np.float32(scale[1])

    def made(x: Array) -> Array:
        out: Array = np.repeat(np.repeat(x, times, 1), times, 2) * (white / 255) + black
        return out

    def of_pixels(shift: Shift) -> Shift:
        return lambda x: np.clip(shift((x - black) / white), 0, 1) * white + black

    others = pictures("cifar10_test_500.npz")
    return Task(
        name,
        real,
        published,
        made(pictures("cifar10_train_calib_256.npz")),
        made(others[:100]),
        {
            "darkened ×0.3": of_pixels(lambda x: 0.3 * x),
            "brightened ×2": of_pixels(lambda x: 2 * x),
            "colour cast": of_pixels(lambda x: x * CAST),
        },
        made(others[200:]),
    )

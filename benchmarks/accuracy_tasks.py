"""What the accuracy of quantized models is measured on: tasks of real data, their metrics, and more samples of the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import varied
from real_inputs import DATA
from varied import Block, resized

from edgeq.metrics import auc, errors, top_k

Array = npt.NDArray[Any]
MODELS = DATA.parent / "models"
PRIVATE = DATA / "restricted_internal"


@dataclass(frozen=True)
class Task:
    """A float model with what measures it.

    calibration: () → (N, …) float32; test: (share) → (N, …) float32 and what the metric wants beside them; metric:
    (outputs (N, …), float outputs, inputs, truth) → a share in [0, 1]; published: the int8 form that its makers give.
    varied: () → more samples; scores: what each of their scores is, by name, the first of which is what limits are for: the
    same arguments → (scores,), of which the mean counts, or with `pairs` the chance that an anomalous one is larger.
    """

    model: str
    metric_name: str
    calibration: Callable[[], Array]
    test: Callable[[float], tuple[Array, Any]]
    metric: Callable[[Array, Array, Array, Any], float]
    scores: dict[str, Callable[[Array, Array, Array, Any], Array]]
    varied: Callable[[], Iterator[Block]]
    published: str | None = None
    labelled: bool = True
    pairs: bool = False


def stored(path: Path, prepare: Callable[[Array], Array] = lambda x: x, key: str = "x") -> Array:
    """An array of a sample file."""
    with np.load(path) as arrays:
        return prepare(arrays[key].astype(np.float32))


def labelled(path: Path, prepare: Callable[[Array], Array] = lambda x: x) -> Callable[[float], tuple[Array, Any]]:
    """The first `share` of a sample file, with its labels."""

    def load(share: float) -> tuple[Array, Any]:
        with np.load(path) as arrays:
            n = int(len(arrays["x"]) * share)
            return prepare(arrays["x"][:n].astype(np.float32)), arrays["y"][:n].astype(np.int64)

    return load


def keywords(x: Array) -> Array:
    """The features as the float model takes them: the file holds codes of scale 0.5847029, zero point 83."""
    return (x - 83) * np.float32(0.5847029)


def windows(share: float) -> tuple[Array, Any]:
    """ToyCar clips as windows of five frames of 128 bands; a part takes every so many-th window of each clip."""
    with np.load(PRIVATE / "ad_toycar_50clips.npz") as arrays:
        clips, anomalous = arrays["x"], arrays["y"]
    frames = np.lib.stride_tricks.sliding_window_view(clips, 5, axis=1).transpose(0, 1, 3, 2)
    frames = frames[:, :: max(1, round(1 / share))]
    return frames.reshape(-1, 640).astype(np.float32), anomalous == 1


def reconstruction(found: Array, wanted: Array, x: Array, anomalous: Any) -> Array:
    """Mean squared reconstruction error of each clip, (clips,): the outputs hold as many windows of each."""
    return np.asarray(errors(found, x).reshape(len(anomalous), -1).mean(axis=1))


def anomaly_auc(found: Array, wanted: Array, x: Array, anomalous: Any) -> float:
    """AUC of the clips' mean squared reconstruction error."""
    return auc(reconstruction(found, wanted, x, anomalous), anomalous)


def relative_error(found: Array, wanted: Array, x: Array, anomalous: Any) -> float:
    """Mean squared reconstruction error of the normal clips, the float model's being 1: less is better."""
    normal = np.repeat(~anomalous, len(x) // len(anomalous))
    return float(errors(found[normal], x[normal]).mean() / errors(wanted[normal], x[normal]).mean())


def nearness(found: Array, wanted: Array, x: Array, anomalous: Any) -> Array:
    """What each clip takes off 1 by its reconstruction error, the float model's on all of them being 1: more is better."""
    ours, floats = (reconstruction(y, wanted, x, anomalous) for y in (found, wanted))
    return np.asarray(1 - ours / floats.mean())


def right(found: Array, wanted: Array, x: Array, labels: Any) -> Array:
    """Whether the first choice is the label, of each sample."""
    return np.asarray(found.argmax(axis=1) == labels, np.float64)


def accuracy(found: Array, wanted: Array, x: Array, labels: Any) -> float:
    """Share of samples whose first choice is the label."""
    return top_k(found, labels)


def same(found: Array, wanted: Array, x: Array, nothing: Any) -> Array:
    """Whether the first choice is the float model's, of each sample."""
    return np.asarray(found.argmax(axis=1) == wanted.argmax(axis=1), np.float64)


def agreement(found: Array, wanted: Array, x: Array, nothing: Any) -> float:
    """Share of samples whose first choice is the float model's."""
    return top_k(found, wanted.argmax(axis=1))


def believed(found: Array, wanted: Array, x: Array, nothing: Any) -> Array:
    """The probability that the float model, whose outputs are such, gives the first choice: the chance that it is right, were
    the float model's probabilities. Two classes at .31 and .30 changing places costs .01, not a whole picture.
    """
    return np.asarray(wanted[np.arange(len(wanted)), found.argmax(axis=1)], np.float64)


def pictures(size: int, prepare: Callable[[Array], Array], calibrate: bool) -> Array:
    """Small pictures enlarged and crops of photographs, size × size; calibration and test share none of either."""
    name, rng = ("cifar10_train_calib_256.npz", 0) if calibrate else ("cifar10_test_500.npz", 1)
    draw = np.random.default_rng(rng)
    with np.load(PRIVATE / name) as small, np.load(DATA / "photos_224.npz") as large:
        found = [resized(p, size) for p in small["x"][:100]]
        photos = large["x"][:6] if calibrate else large["x"][6:]
        for k in range(60):
            side = int(draw.integers(96, 225))
            top, left = draw.integers(0, 225 - side, 2)
            found.append(resized(photos[k % len(photos)][top : top + side, left : left + side], size))
    return prepare(np.stack(found))


def more_pictures(size: int, prepare: Callable[[Array], Array]) -> Iterator[Block]:
    """Crops of the test pictures and photographs, thousands of them."""
    with np.load(PRIVATE / "cifar10_test_500.npz") as small, np.load(DATA / "photos_224.npz") as large:
        for block in varied.crops(small["x"][:100], large["x"][6:], size):
            yield replace(block, x=prepare(block.x))


def more_labelled(
    path: Path, vary: Callable[[Array], Iterator[Array]], prepare: Callable[[Array], Array]
) -> Iterator[Block]:
    """A sample file's samples, varied."""
    x, y = labelled(path, prepare)(1.0)
    return varied.blocks(vary(x), y)


def more_clips(normal: bool = False) -> Iterator[Block]:
    """Parts of the ToyCar clips, or of the normal ones, at other levels."""
    with np.load(PRIVATE / "ad_toycar_50clips.npz") as arrays:
        clips, anomalous = arrays["x"], arrays["y"] == 1
    some = ~anomalous if normal else np.full(len(clips), True)
    return varied.pieces(clips[some], anomalous[some])


def seen(size: int, prepare: Callable[[Array], Array]) -> dict[str, Any]:
    """Calibration and test of a vision model without labelled data."""

    def test(share: float) -> tuple[Array, Any]:
        x = pictures(size, prepare, False)
        return x[:: max(1, round(1 / share))], None

    return {
        "metric_name": "agreement", "metric": agreement, "labelled": False, "calibration": lambda: pictures(size, prepare, True),
        "test": test, "scores": {"chance to be right by float": believed, "agreement": same},
        "varied": lambda: more_pictures(size, prepare),
    }  # fmt: skip


def around_zero(x: Array) -> Array:
    """Bytes to [−1, 1]."""
    return x / np.float32(127.5) - 1


def as_they_are(x: Array) -> Array:
    """Bytes as numbers."""
    return x


TASKS = {
    "resnet8": Task(
        "mlperf_tiny/ic_resnet8_float.tflite", "top-1",
        lambda: stored(PRIVATE / "cifar10_train_calib_256.npz"),
        labelled(PRIVATE / "cifar10_test_500.npz"), accuracy, {"top-1": right, "agreement": same},
        lambda: more_labelled(PRIVATE / "cifar10_test_500.npz", varied.pictures, as_they_are),
        "mlperf_tiny/ic_resnet8_int8.tflite",
    ),
    "keywords": Task(
        "mlperf_tiny/kws_dscnn_float.tflite", "top-1",
        lambda: stored(DATA / "kws_mfcc_calib_100.npz", keywords),
        labelled(DATA / "kws_mfcc_500.npz", keywords), accuracy, {"top-1": right, "agreement": same},
        lambda: more_labelled(DATA / "kws_mfcc_500.npz", varied.recordings, keywords),
        "mlperf_tiny/kws_dscnn_int8.tflite",
    ),
    "toycar": Task(
        "mlperf_tiny/ad_toycar_float.tflite", "AUC",
        lambda: stored(PRIVATE / "ad_calib_200windows.npz"),
        windows, anomaly_auc, {"AUC": reconstruction}, more_clips, "mlperf_tiny/ad_toycar_int8.tflite", pairs=True,
    ),
    "toycar-error": Task(
        "mlperf_tiny/ad_toycar_float.tflite", "reconstruction error over float's",
        lambda: stored(PRIVATE / "ad_calib_200windows.npz"),
        windows, relative_error, {"1 − error over float's": nearness}, lambda: more_clips(normal=True),
        "mlperf_tiny/ad_toycar_int8.tflite", labelled=False,
    ),
    "visual-wake-words": Task(
        "mlperf_tiny/vww_mobilenetv1_025_96_float.tflite",
        published="mlperf_tiny/vww_mobilenetv1_025_96_int8.tflite", **seen(96, lambda x: x / np.float32(255)),
    ),
    "mobilenet-v1": Task(
        "imagenet/mobilenet_v1_0.25_128_dequant_float.tflite",
        published="imagenet/mobilenet_v1_0.25_128_quant.tflite", **seen(128, around_zero),
    ),
    "mobilenet-v2": Task(
        "imagenet/tf2_mobilenet_v2_1.0_224_dequant_float.tflite",
        published="imagenet/tf2_mobilenet_v2_1.0_224_ptq.tflite", **seen(224, around_zero),
    ),
}  # fmt: skip

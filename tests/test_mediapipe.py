"""MediaPipe's custom operations, which no runtime here has: held against loops that follow their sources line by line."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from engine_models import outputs
from flatbuffers import flexbuffers
from mediapipe_models import CHOSEN, MODELS, one, window

from edgeq.engine import build
from edgeq.errors import CheckError, EdgeqError
from edgeq.plan.flexbuffer import integers, scalars

f32 = np.float32
Arrays = list[np.ndarray]


def pooled(x: np.ndarray) -> Arrays:
    """max_pool_argmax.cc: SAME, strides of 2, a window of 2 by 3."""
    n, h, w, c = x.shape
    out_h, out_w = -(-h // 2), -(-w // 2)
    top, left = max((out_h - 1) * 2 + 2 - h, 0) // 2, max((out_w - 1) * 2 + 3 - w, 0) // 2
    y, where = np.zeros((n, out_h, out_w, c), f32), np.zeros((n, out_h, out_w, c), f32)
    for b, i, j, k in np.ndindex(y.shape):
        best, place = np.finfo(f32).min, 0
        for r in range(2):
            for s in range(3):
                row, column = i * 2 - top + r, j * 2 - left + s
                if 0 <= row < h and 0 <= column < w and x[b, row, column, k] > best:
                    best, place = x[b, row, column, k], r * 3 + s
        y[b, i, j, k], where[b, i, j, k] = best, f32(place) + f32(0.1)
    return [y, where]


def unpooled(x: np.ndarray, where: np.ndarray) -> Arrays:
    """max_unpooling.cc: strides of 2, a window of 2 by 2."""
    n, h, w, c = x.shape
    y = np.zeros((n, 2 * h, 2 * w, c), f32)
    for b, i, j, k in np.ndindex(x.shape):
        place = int(where[b, i, j, k])
        column, row = j * 2 + int(math.fmod(place, 2)), i * 2 + int(place / 2)
        if 0 <= row < 2 * h and 0 <= column < 2 * w:
            y[b, row, column, k] = x[b, i, j, k]
    return [y]


def matrix_of(x: np.ndarray) -> Arrays:
    """landmarks_to_transform_matrix.cc, version 2: products of 4×4 matrices."""
    points = x[0].astype(np.float64)
    turn = 0.3 - math.atan2(points[6, 1] - points[2, 1], points[6, 0] - points[2, 0])

    def rotation(r: float) -> np.ndarray:
        m = np.eye(4)
        m[:2, :2] = [[math.cos(r), -math.sin(r)], [math.sin(r), math.cos(r)]]
        return m

    def shift(a: float, b: float) -> np.ndarray:
        m = np.eye(4)
        m[:2, 3] = a, b
        return m

    seen = np.array([(rotation(turn) @ [*points[i, :2], 0, 1])[:2] for i in CHOSEN])
    low, high = seen.min(0), seen.max(0)
    middle = (rotation(-turn) @ [*(low + high) / 2, 0, 1])[:2]
    scale = np.diag([1.5 * (high[0] - low[0]) / 7, 1.25 * (high[1] - low[1]) / 5, 1, 1])
    return [(shift(*middle) @ rotation(-turn) @ scale @ shift(-3.5, -2.5)).astype(f32)[None]]


def seen_through(x: np.ndarray, m: np.ndarray) -> Arrays:
    """transform_tensor_bilinear.cc, version 2."""
    _, h, w, c = x.shape
    (a, b, _, p), (d, e, _, q) = m[0, :2].astype(np.float64)
    y = np.zeros((1, 5, 4, c), f32)
    for i, j in np.ndindex(5, 4):
        u, v = a * j + b * i + p + a / 2 + b / 2 - 0.5, d * j + e * i + q + d / 2 + e / 2 - 0.5
        if 0 <= u <= w - 1 and 0 <= v <= h - 1:
            for r in (0, 1):
                for s in (0, 1):
                    row, column = int(v) + r, int(u) + s
                    if row < h and column < w:
                        weight = (v - int(v) if r else 1 - v + int(v)) * (u - int(u) if s else 1 - u + int(u))
                        y[0, i, j] += f32(weight) * x[0, row, column]
    return [y]


def moved(x: np.ndarray, m: np.ndarray) -> Arrays:
    """transform_landmarks.cc, version 2."""
    y = x.copy()
    for k in range(x.shape[1]):
        y[0, k, :2] = [m[0, r, 0] * x[0, k, 0] + m[0, r, 1] * x[0, k, 1] + m[0, r, 3] for r in (0, 1)]
    return [y]


def given(name: str, seed: int) -> Arrays:
    """Inputs that reach the borders."""
    rng = np.random.default_rng(seed)
    noise = [rng.standard_normal(t.shape).astype(f32) for t in MODELS[name]().tensors if t.name.startswith("x")]
    if name == "MaxUnpooling2D":
        noise[1] = rng.integers(-3, 9, noise[1].shape).astype(f32) + f32(0.1)
    if name == "TransformTensorBilinear":
        noise[1][0, :2, 3] += 3
    return noise


TWINS: dict[str, Callable[..., Arrays]] = {
    "MaxPoolingWithArgmax2D": pooled, "MaxUnpooling2D": unpooled, "Landmarks2TransformMatrix": matrix_of,
    "TransformTensorBilinear": seen_through, "TransformLandmarks": moved,
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_equals_its_source(name: str) -> None:
    """The numbers of loops that do what MediaPipe's code does."""
    with build(MODELS[name]()) as model:
        for seed in range(5):
            inputs = given(name, seed)
            for got, expected in zip(outputs(model, inputs), TWINS[name](*inputs), strict=True):
                assert got.shape == expected.shape
                np.testing.assert_allclose(got, expected, rtol=1e-5, atol=2e-5)


def _matrix(**changes: object) -> bytes:
    whole = {
        "left_rotation_idx": 2, "right_rotation_idx": 6, "output_height": 5, "output_width": 7, "scale_x": 1.5, "scale_y": 1.25,
        "subset_idxs": CHOSEN, "target_rotation_radians": 0.3,
    } | changes  # fmt: skip
    return bytes(flexbuffers.Dumps({k: v for k, v in whole.items() if v is not None}))


REFUSED = {
    "options cut off": lambda: one("MaxUnpooling2D", [(2, 3, 4, 3)] * 2, [(2, 6, 8, 3)], window(1, 2, 2, 2)[:20]),
    "a window of none": lambda: one("MaxPoolingWithArgmax2D", [(2, 5, 7, 3)], [(2, 3, 4, 3)] * 2, window(1, 2, 0, 2)),
    "a huge stride": lambda: one("MaxPoolingWithArgmax2D", [(2, 5, 7, 3)], [(2, 3, 4, 3)] * 2, window(1, 2**30, 2, 2)),
    "places of another shape": lambda: one("MaxUnpooling2D", [(2, 3, 4, 3), (2, 3, 4, 1)], [(2, 6, 8, 3)], window(1, 2, 2, 2)),
    "a landmark outside": lambda: one("Landmarks2TransformMatrix", [(1, 9, 3)], [(1, 4, 4)], _matrix(subset_idxs=[1, 9])),
    "no landmarks": lambda: one("Landmarks2TransformMatrix", [(1, 9, 3)], [(1, 4, 4)], _matrix(subset_idxs=None)),
    "a factor that is no number": lambda: one("Landmarks2TransformMatrix", [(1, 9, 3)], [(1, 4, 4)], _matrix(scale_x=math.nan)),
    "no options": lambda: one("TransformTensorBilinear", [(1, 6, 9, 2), (1, 4, 4)], [(1, 5, 4, 2)], None),
    "a crop beyond the limit": lambda: one(
        "TransformTensorBilinear", [(1, 6, 9, 2), (1, 4, 4)], [(1, 5, 4, 2)],
        bytes(flexbuffers.Dumps({"output_height": 2**30, "output_width": 2**30})),
    ),
    "half a matrix": lambda: one("TransformLandmarks", [(1, 9, 3), (1, 2, 4)], [(1, 9, 3)], None),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_options_that_make_no_sense_are_refused(what: str) -> None:
    """Whatever would lead outside, or nowhere, is refused when the plan is made."""
    with pytest.raises(EdgeqError):
        build(REFUSED[what]())


def test_vectors_of_a_flexbuffer() -> None:
    """Integers of any width are read beside the numbers; what is no such vector is a ValueError."""
    data = bytes(flexbuffers.Dumps({"a": [1, 2, 300], "b": 7, "c": [2**40, 5], "d": [1.5, 2.5]}))
    assert (integers(data, "a"), integers(data, "c"), scalars(data)["b"]) == ([1, 2, 300], [2**40, 5], 7)
    for name in ("b", "d", "e"):
        with pytest.raises(ValueError, match="no integers"):
            integers(data, name)
    for end in range(len(data)):
        with pytest.raises((ValueError, CheckError)):
            integers(data[:end] + data[end + 1 :], "nothing")

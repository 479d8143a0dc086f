"""Real samples for the models that lie beside the checkout: which data belong to which model, as its float version takes them.

Nothing here is needed to use edgeq; on a lone checkout every function finds nothing and says so.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.graph import NUMPY_DTYPES, Graph, Tensor

Array = npt.NDArray[Any]
Inputs = tuple[Array, ...]

DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"
GOLDEN = "seanet_int16_golden_even.npz"


def real_inputs(name: str, graph: Graph, count: int, rng: np.random.Generator) -> list[Inputs]:
    """Up to `count` real inputs for the model of this file name, quantized where it takes integers; none if none are known."""
    if vectors := golden(name, graph):
        return [vectors[0]]
    source = next((s for prefix, s in SOURCES.items() if name.startswith(prefix)), None)
    if source is None or len(graph.inputs) != 1:
        return []
    try:
        samples = source(count, rng)
    except FileNotFoundError:
        return []
    t = graph.tensors[graph.inputs[0]]
    return [(as_input(x, t),) for x in samples[:count]]


def golden(name: str, graph: Graph) -> tuple[Inputs, Inputs] | None:
    """A model's published input and output vectors, None where there are none."""
    path = DATA / GOLDEN
    if not path.exists():
        return None
    with np.load(path) as arrays:
        if f"{name}__golden" not in arrays:
            return None
        inputs = tuple(
            arrays[f"{name}__input{k}"].reshape(graph.tensors[i].shape).astype(graph.tensors[i].dtype)
            for k, i in enumerate(graph.inputs)
        )
        return inputs, (arrays[f"{name}__golden"].reshape(graph.tensors[graph.outputs[0]].shape),)


def as_input(x: Array, t: Tensor) -> Array:
    """A sample in the input tensor's shape and type: floats are quantized to nearest and saturate."""
    x = x.reshape(t.shape)
    if t.dtype == "float32" or x.dtype == NUMPY_DTYPES[t.dtype]:
        return np.ascontiguousarray(x, NUMPY_DTYPES[t.dtype])
    assert t.quantization is not None, t.name
    info = np.iinfo(t.dtype)
    q = np.rint(x.astype(np.float64) / float(t.quantization.scale[0])) + int(t.quantization.zero_point[0])
    return np.asarray(np.clip(q, info.min, info.max), t.dtype)


def stored(file: str, prepare: Callable[[Array], Array] = lambda x: x) -> Callable[[int, np.random.Generator], Array]:
    """A source that reads `x` of a sample file."""

    def load(count: int, rng: np.random.Generator) -> Array:
        with np.load(DATA / file) as arrays:
            x = arrays["x"]
        return prepare(x[np.sort(rng.permutation(len(x))[:count])].astype(np.float32))

    return load


def photos(size: int, prepare: Callable[[Array], Array]) -> Callable[[int, np.random.Generator], Array]:
    """A source of square crops of photographs, some mirrored, sampled to size × size."""

    def load(count: int, rng: np.random.Generator) -> Array:
        with np.load(DATA / "photos_224.npz") as arrays:
            pictures = arrays["x"]
        crops = []
        for k in range(count):
            picture = pictures[k % len(pictures)]
            side = int(rng.integers(min(size, 160), 225)) if k >= len(pictures) else 224
            top, left = rng.integers(0, 225 - side, 2)
            grid = np.arange(size) * side // size
            crop = picture[top + grid][:, left + grid]
            crops.append(crop[:, ::-1] if k % 2 else crop)
        return prepare(np.stack(crops).astype(np.float32))

    return load


def angles(count: int, rng: np.random.Generator) -> Array:
    """What hello_world, a sine, takes: one turn."""
    return np.linspace(0, 2 * np.pi, count, dtype=np.float32)[:, None]


SOURCES: dict[str, Callable[[int, np.random.Generator], Array]] = {
    "ad_toycar": stored("restricted_internal/ad_calib_200windows.npz"),
    "ds_cnn_small": stored("kws_arm_mfcc_500.npz"),
    "hello_world": angles,
    "ic_resnet8": stored("restricted_internal/cifar10_test_500.npz"),
    "kws_dscnn": stored("kws_mfcc_500.npz", lambda x: (x - 83) * np.float32(0.5847029)),
    "mobilenet_v1_0.25_128": photos(128, lambda x: x / 127.5 - 1),
    "sww_1dcnn": stored("sww_specs_45.npz"),
    "tf2_mobilenet_v2_1.0_224": photos(224, lambda x: x / 127.5 - 1),
    "vww_mobilenetv1": photos(96, lambda x: x / 255),
}

"""What a guest is to compute, with the right answers: computed here, once for all targets, and carried there as one file.

Kernels: every case that the engine is held against the twins with. Models: the demo's, and the small ones of ../shared/models
where that is; the answers are those of the runtimes that the roundings are named for.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeq.engine import build
from edgeq.graph import Graph
from edgeq.kernels.isa import Isa
from edgeq.kernels.words import KERNELS
from edgeq.plan import make_plan
from edgeq.quantmod import Array
from edgeq.tflite import read, write
from tests import naive
from tests.engine_models import cases as engine_cases
from tests.engine_models import samples
from tests.naive.cases import cases as twin_cases
from tests.naive.oracle import Oracle, missing
from tests.test_naive_hybrid import hybrid_conv

ROUNDINGS = ("tflite", "xnnpack")
SHARED = Path(__file__).resolve().parents[3] / "shared" / "models"
MODELS = (
    "mlperf_tiny/ad_toycar_int8", "mlperf_tiny/kws_dscnn_int8", "mlperf_tiny/ic_resnet8_int8", "mlperf_tiny/sww_1dcnn_int8",
    "mlperf_tiny/vww_mobilenetv1_025_96_int8", "tflm/hello_world_int8", "tflm/micro_speech_quantized",
    "int16/ds_cnn_small_int16",
)  # fmt: skip

MODEL_SAMPLES = 2


@dataclass(frozen=True)
class Work:
    """One model, its inputs, and the right outputs by rounding."""

    name: str
    model: bytes
    inputs: tuple[Array, ...]
    outputs: dict[str, tuple[Array, ...]]


def kernels(isa: Isa) -> list[Work]:
    """Every case, with the twins' answers; they reach every kernel that plans for this instruction set use."""
    made: dict[str, tuple[Graph, list[Array]]] = {}
    for name, make in engine_cases().items():
        graph, rng = make(), np.random.default_rng(0)
        made[name] = graph, [samples(graph.tensors[i], rng) for i in graph.inputs]
    for case in twin_cases():
        made[case.name] = case.graph, case.draw(np.random.default_rng(0))
    for window, stride in ((1, 1), (3, 1), (3, 2)):
        x = np.random.default_rng(window).standard_normal((2, 9, 8, 5)) * [[[[0.01]]], [[[50.0]]]]
        made[f"hybrid conv {window}, stride {stride}"] = hybrid_conv(window, stride), [x.astype(np.float32)]
    used = {i.kernel for graph, _ in made.values() for i in make_plan(graph, isa, keep=True).instructions}
    unreached = set(KERNELS) - used - {"call_out"}  # calls functions that an application registers
    assert not unreached, f"no case reaches {sorted(unreached)}"
    return [_kernel(name, *case) for name, case in made.items()]


def _kernel(name: str, graph: Graph, inputs: list[Array]) -> Work:
    outputs = {}
    for rounding in ROUNDINGS:
        tensors = naive.run(graph, inputs, rounding)
        outputs[rounding] = tuple(np.asarray(tensors[i]) for i in graph.outputs)
    return Work(name, write(graph), tuple(inputs), outputs)


def models(folder: Path) -> list[Work]:
    """Whole models; `folder` holds what `edgeq demo --keep` leaves behind."""
    paths = [SHARED / f"{name}.tflite" for name in MODELS] if SHARED.is_dir() else []
    return [_model(path) for path in (*paths, folder / "digits_int8.tflite")]


def _model(path: Path) -> Work:
    content = path.read_bytes()
    graph, rng = read(content), np.random.default_rng(7)
    drawn = [tuple(samples(graph.tensors[i], rng) for i in graph.inputs) for _ in range(MODEL_SAMPLES)]
    outputs = {}
    for rounding in ROUNDINGS:
        if missing(rounding) is None:
            oracle = Oracle(content, rounding)
            found = [oracle(inputs) for inputs in drawn]
        else:  # this machine's kernels, which other tests hold against the twins
            with build(graph, rounding=rounding) as model:
                found = [_in_order(model, inputs, graph) for inputs in drawn]
        outputs[rounding] = tuple(np.concatenate(each) for each in zip(*found, strict=True))
    return Work(path.stem, content, tuple(np.concatenate(each) for each in zip(*drawn, strict=True)), outputs)


def _in_order(model, inputs: tuple[Array, ...], graph: Graph) -> list[Array]:
    found = model(dict(zip(graph.input_names(), inputs, strict=True)))
    return list(found.values()) if isinstance(found, dict) else [found]


def pack(path: Path, work: list[Work]) -> None:
    """One file for a guest: models as they are, arrays as .npy."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        file.writestr("names.json", json.dumps([w.name for w in work]))
        for number, w in enumerate(work):
            file.writestr(f"{number}/model.tflite", w.model)
            for name, array in _arrays(w):
                file.writestr(f"{number}/{name}.npy", _npy(array))


def _arrays(w: Work) -> Iterator[tuple[str, Array]]:
    yield from ((f"in{k}", array) for k, array in enumerate(w.inputs))
    for rounding, outputs in w.outputs.items():
        yield from ((f"{rounding}{k}", array) for k, array in enumerate(outputs))


def _npy(array: Array) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()

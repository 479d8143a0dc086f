"""What a guest is to compute, with the right answers: computed here, once for all targets, and carried there as one file.

Kernels: of the cases that the engine is held against the twins with, so many that each kernel is met often, and some whose
operations NumPy computes there. Models: the demo's,
and the small ones of ../shared/models where that is; the answers are those of the runtimes that the roundings are named for.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections import Counter
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
from tests.engine_models import outputs as in_order
from tests.engine_models import samples
from tests.naive.cases import cases as twin_cases
from tests.naive.oracle import Oracle, missing
from tests.test_detection import OPTIONS, post_process
from tests.test_naive_hybrid import hybrid_conv

ROUNDINGS = ("tflite", "xnnpack")
SHARED = Path(__file__).resolve().parents[3] / "shared" / "models"
MODELS = (
    "mlperf_tiny/ad_toycar_int8", "mlperf_tiny/kws_dscnn_int8", "mlperf_tiny/ic_resnet8_int8", "mlperf_tiny/sww_1dcnn_int8",
    "mlperf_tiny/vww_mobilenetv1_025_96_int8", "tflm/hello_world_int8", "tflm/micro_speech_quantized",
    "int16/ds_cnn_small_int16",
)  # fmt: skip

OFTEN, HARD = 12, 40
"""How many cases each kernel gets at least, if there are so many; HARD: convolutions."""

MODEL_SAMPLES = 2


@dataclass(frozen=True)
class Work:
    """One model, its inputs, and the right outputs by rounding."""

    name: str
    model: bytes
    inputs: tuple[Array, ...]
    outputs: dict[str, tuple[Array, ...]]


def kernels(isa: Isa) -> list[Work]:
    """Cases with the twins' answers; they reach every kernel that plans for this instruction set use."""
    made: dict[str, tuple[Graph, list[Array]]] = {}
    for name, make in engine_cases().items():
        graph, rng = make(), np.random.default_rng(0)
        made[name] = graph, [samples(graph.tensors[i], rng) for i in graph.inputs]
    for case in twin_cases():
        made[case.name] = case.graph, case.draw(np.random.default_rng(0))
    for window, stride in ((1, 1), (3, 1), (3, 2)):
        x = np.random.default_rng(window).standard_normal((2, 9, 8, 5)) * [[[[0.01]]], [[[50.0]]]]
        made[f"hybrid conv {window}, stride {stride}"] = hybrid_conv(window, stride), [x.astype(np.float32)]
    found = _detections()
    used = {
        name: {i.kernel for i in make_plan(graph, isa, keep=True).instructions} for name, (graph, _) in made.items()
    }
    seen = Counter(i.kernel for i in make_plan(read(found.model), isa).instructions)
    chosen = []
    for name, kernels_of in used.items():
        if any(seen[k] < (HARD if k.startswith(("conv", "depthwise")) else OFTEN) for k in kernels_of):
            seen.update(kernels_of)
            chosen.append(name)
    unreached = set(KERNELS) - set(seen) - {"call_out"}  # calls functions that an application registers
    if isa.lanes != 16:
        unreached -= {"pad_columns"}  # kernels/columns.py: plans for narrower vectors have none
    assert not unreached, f"no case reaches {sorted(unreached)}"
    return [*(_kernel(name, *made[name]) for name in chosen), found]


def _detections() -> Work:
    """Detections, which have no twin: the answers are this machine's, which other tests hold against the runtimes."""
    graph, rng = post_process({**OPTIONS, "max_detections": 3}), np.random.default_rng(0)
    boxes, scores = (graph.tensors[i].shape for i in graph.inputs)
    inputs = rng.standard_normal(boxes).astype(np.float32), rng.uniform(0, 1, scores).astype(np.float32)
    with build(graph) as model:
        outputs = tuple(in_order(model, inputs))
    return Work("detections", write(graph), inputs, dict.fromkeys(ROUNDINGS, outputs))


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
                found = [in_order(model, inputs) for inputs in drawn]
        outputs[rounding] = tuple(np.concatenate(each) for each in zip(*found, strict=True))
    return Work(path.stem, content, tuple(np.concatenate(each) for each in zip(*drawn, strict=True)), outputs)


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

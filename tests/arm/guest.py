"""Runs inside a guest, with nothing but what a device has: computes every model of a packed file and counts what differs.

    python guest.py KERNELS.zip MODELS.zip [BUNDLE GRANT IDENTITY TRUST SAMPLES]

Prints one line of JSON. Floats may differ by 1e-5 of the output's range, as everywhere in the tests; integers by nothing.
"""

from __future__ import annotations

import io
import json
import sys
import time
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np

import edgeq
from edgeq import machine
from edgeq.engine import Tracer, build
from edgeq.tflite import read

ROUNDINGS = ("tflite", "xnnpack")


def main(kernels: str, models: str, *sealed: str) -> dict[str, Any]:
    """What the host reads."""
    start = time.perf_counter()
    loaded = machine.get()
    found: dict[str, Any] = {"isa": loaded.isa.name, "source": loaded.source, "target": loaded.target}
    found["kernels"] = [(name, r, differing) for name, r, differing in _kernels(kernels)]
    found["kernel seconds"], start = time.perf_counter() - start, time.perf_counter()
    found["models"] = [(name, r, differing) for name, r, differing in _models(models)]
    found["model seconds"] = time.perf_counter() - start
    if sealed:
        bundle, grant, identity, trust, samples = sealed
        with np.load(samples) as file, edgeq.load(bundle, grant=grant, identity=identity, trust=trust) as model:
            scores = model(file["x"][:100], dequantize=True)
            found["sealed"] = float((scores.argmax(-1) == file["y"][:100]).mean())
    found["imported"] = sorted({"numba", "llvmlite", "click"} & set(sys.modules))
    return found


def _kernels(path: str) -> Iterator[tuple[str, str, int]]:
    for name, graph, inputs, expected in _unpack(path):
        for rounding in ROUNDINGS:
            tensors = Tracer(graph, rounding).run(inputs)
            pairs = zip(graph.outputs, expected(rounding), strict=True)
            yield name, rounding, sum(_differing(tensors[i], want) for i, want in pairs)


def _models(path: str) -> Iterator[tuple[str, str, int]]:
    for name, graph, inputs, expected in _unpack(path):
        for rounding in ROUNDINGS:
            with build(graph, rounding=rounding) as model:
                got = model(dict(zip(graph.input_names(), inputs, strict=True)))
            outputs = list(got.values()) if isinstance(got, dict) else [got]
            yield name, rounding, sum(_differing(a, b) for a, b in zip(outputs, expected(rounding), strict=True))


def _unpack(path: str) -> Iterator[tuple[str, Any, list[Any], Any]]:
    with zipfile.ZipFile(path) as file:
        present = set(file.namelist())

        def arrays(number: int, prefix: str) -> list[Any]:
            found: list[Any] = []
            while (member := f"{number}/{prefix}{len(found)}.npy") in present:
                found.append(np.load(io.BytesIO(file.read(member)), allow_pickle=False))
            return found

        for number, name in enumerate(json.loads(file.read("names.json"))):
            graph = read(file.read(f"{number}/model.tflite"))
            yield name, graph, arrays(number, "in"), lambda rounding, number=number: arrays(number, rounding)


def _differing(got: Any, want: Any) -> int:
    """How many values differ; all of them if the shape or type is another."""
    if got.shape != want.shape or got.dtype != want.dtype:
        return max(int(want.size), 1)
    if got.dtype.kind in "fc" and want.size:
        same = (np.abs(got - want) <= 1e-5 * (np.ptp(np.abs(want)) + np.abs(want).max())) | (got == want)
        return int((~(same | (np.isnan(got) & np.isnan(want)))).sum())
    return int((got != want).sum())


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))

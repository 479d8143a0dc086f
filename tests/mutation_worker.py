"""One process that runs mutants: read, check, build, one inference, under a limit on memory, with guard pages behind buffers.

Reads requests, one JSON object a line, `{"model": path or name of a small model, "seed": n}`; answers each with one line
`{"outcome": ..., "detail": ..., "ms": ...}`. The outcome is "ran", the name of the EdgeqError that refused the mutant, or
"stray" for any other exception, with its traceback in `detail`. Crashes and hangs are for the parent to see.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import mmap
import resource
import sys
import time
import traceback
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from mutation import mutant
from tflite_models import SMALL_MODELS

from edgeq import check as check_module
from edgeq import engine
from edgeq.errors import EdgeqError
from edgeq.tflite import decode, read, write

LARGEST_INPUT = 2**24
"""Bytes of input above which a mutant that was accepted is not run: making
the input would take the time, not edgeq."""


@lru_cache(maxsize=8)
def original(model: str) -> bytes:
    """The sound file."""
    return write(SMALL_MODELS[model]()) if model in SMALL_MODELS else Path(model).read_bytes()


def attempt(data: bytes, seed: int) -> str:
    """Do with a file what a device would; raises what edgeq raises."""
    graph = read(data)
    check_module.check(graph)
    with engine.build(graph, rounding="tflite" if seed % 2 else "xnnpack") as model:
        if sum(p.dtype.itemsize * float(np.prod(p.shape, dtype=float)) for p in model.inputs) > LARGEST_INPUT:
            return "built"
        model(_inputs(model, seed))
    return "ran"


def _inputs(model: engine.Model, seed: int) -> dict[str, np.ndarray]:
    """Noise, and where the model is made for one value of an input, that value."""
    rng = np.random.default_rng(seed)
    out = {p.name: (100 * rng.standard_normal(p.shape)).astype(p.dtype) for p in model.inputs}
    for i, value in model.plan.required.items():
        out[model.inputs[model.graph.inputs.index(i)].name] = value
    return out


def answer(model: str, seed: int | None) -> dict[str, Any]:
    """The outcome of one mutant, or of the sound file without a seed."""
    data, what = mutant(original(model), seed) if seed is not None else (original(model), "unchanged")
    start = time.perf_counter()
    try:
        outcome, detail = attempt(data, seed or 0), what
    except EdgeqError as e:
        outcome, detail = type(e).__name__, f"{what}: {e}"
    except BaseException:
        outcome, detail = "stray", f"{what}\n{traceback.format_exc()}"
    return {"outcome": outcome, "detail": detail, "ms": 1e3 * (time.perf_counter() - start)}


def _crash(*_: object) -> None:
    ctypes.string_at(0)


def _hang(*_: object) -> None:
    while True:
        pass


def _swell(*_: object) -> None:
    np.ones(2**40, np.uint8)


def _nothing(*_: object) -> None:
    return


def _guarded(size: int) -> np.ndarray:
    """Memory for the machine that ends where a page begins that nothing may touch: stepping over the end is a crash."""
    page = mmap.PAGESIZE
    pages = -(-size // page) + 2
    region = mmap.mmap(-1, pages * page)
    bytes_of = np.frombuffer(region, np.uint8)
    address = bytes_of.ctypes.data
    for guard in (address, address + (pages - 1) * page):
        if _LIBC.mprotect(ctypes.c_void_p(guard), ctypes.c_size_t(page), _PROT_NONE):
            raise OSError(ctypes.get_errno(), "mprotect")
    start = ((pages - 1) * page - size) // engine.ALIGNMENT * engine.ALIGNMENT
    return bytes_of[start : start + size]


_LIBC = ctypes.CDLL(None, use_errno=True)
_PROT_NONE = 0  # sys/mman.h; the mmap module does not have it


PLANTS: dict[str, tuple[object, str, object]] = {
    "no bounds in the reader": (decode.Decoder, "_need", _nothing),
    "no check of operations": (check_module, "_op", _nothing),
    "an arena too small": (engine, "SLACK", -2000),
    "a crash": (check_module, "_order", _crash),
    "a hang": (check_module, "_order", _hang),
    "too much memory": (check_module, "_order", _swell),
}
"""Faults that can be planted to see that the harness finds them: what is replaced, and by what."""


def main() -> None:
    """Answer requests until the input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--memory", type=int, required=True, help="address space, in bytes")
    parser.add_argument("--plant", choices=PLANTS)
    args = parser.parse_args()
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever prints must not be taken for an answer
    engine.aligned = _guarded
    ready = answer("float mlp", None)  # loads the kernels, compiles them if nobody has: not on a mutant's time
    if args.plant:
        owner, name, replacement = PLANTS[args.plant]
        setattr(owner, name, replacement)
    resource.setrlimit(resource.RLIMIT_AS, (args.memory, args.memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    print(json.dumps(ready), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(**json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()

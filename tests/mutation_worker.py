"""One process that runs mutants: read, check, plan, one inference, under a limit on memory, with guard pages behind buffers.

Reads requests, one JSON object a line, `{"model": a name of mutation_corpus, "seed": n}`; answers each with one line
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
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np
from mutation import mutant
from mutation_corpus import original
from trusted import NOW, device, granted, publisher, trust

from edgeq import check as check_module
from edgeq import dynamic, engine, explain, program, seal
from edgeq.errors import DataDependentError, EdgeqError, MachineError, TrustError
from edgeq.fallback import lacking
from edgeq.graph import Graph
from edgeq.interpreter import Interpreter
from edgeq.interpreter.dynamic import DynamicSession
from edgeq.loader import read_model
from edgeq.plan import builder
from edgeq.shapes import resize
from edgeq.tflite import decode, read

LARGEST_INPUT = 2**24
"""Bytes of input above which a mutant that was accepted is not run: making
the input would take the time, not edgeq."""

LONGEST_NS = 1e9
"""Estimated nanoseconds of an inference above which it is not run: a sound model may be as large as it likes."""

WAYS = ("run", "run", "run", "run", "sealed", "interpreter", "resized", "survey")
"""What is done with a mutant, by its seed: always read, checked and planned, and in all ways but the last run."""


def attempt(data: bytes, seed: int) -> str:
    """Do with a file what a device would; raises what edgeq raises."""
    way = WAYS[seed // 4 % len(WAYS)]
    rounding = "tflite" if seed // 2 % 2 else "xnnpack"
    if way == "sealed" and data:
        data = _unsealed(data, encrypt=seed % 3 == 0)
    if way == "interpreter":
        return _interpret(data, seed, rounding)
    graph = read(data)
    check_module.check(graph)
    if way == "survey":
        lacking(graph, rounding)
    if way == "resized":
        graph = resize(graph, _other_shapes(graph, seed))
    try:
        model = engine.build(graph, rounding=rounding)
    except DataDependentError:
        if not dynamic.is_dynamic(graph, rounding):
            raise
        return _unfixed(graph, seed, rounding)
    with model:
        if way == "survey":
            explain.steps(graph, model.plan, model.program.machine.isa)
        if sum(p.dtype.itemsize * float(np.prod(p.shape, dtype=float)) for p in model.inputs) > LARGEST_INPUT:
            return "built"
        if model.plan.nanoseconds > LONGEST_NS:
            return "built"
        model(_inputs(model, seed))
    return "ran"


def _unfixed(graph: Graph, seed: int, rounding: str) -> str:
    """A model that is planned while it runs, in inputs of several lengths where they are open."""
    rng = np.random.default_rng(seed)
    with dynamic.DynamicModel(graph, rounding=rounding, most_ns=LONGEST_NS) as model:
        for _ in range(1 + seed % 2):
            given = {}
            for p, i in zip(model.inputs, graph.inputs, strict=True):
                marks = graph.tensors[i].shape_signature or p.shape
                shape = tuple(int(rng.integers(0, 6)) if m == -1 else d for m, d in zip(marks, p.shape, strict=True))
                if p.dtype.itemsize * float(np.prod(shape, dtype=float)) > LARGEST_INPUT:
                    return "built"
                given[p.name] = _values(rng, shape, p.dtype)
            model(given)
    return "ran"


def _unsealed(data: bytes, *, encrypt: bool) -> bytes:
    """The same bytes through a bundle that is validly signed, and for every third seed encrypted and granted.

    The signature says who made a model, not that it is sound: what comes out must be refused like any other.
    """
    bundle = seal.seal(data, publisher(), model_id="acme/hostile", version=1, encrypt=encrypt)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.eqb"
        path.write_bytes(bundle.to_bytes())
        more: dict[str, Any] = {"grant": granted(bundle), "identity": device()} if encrypt else {}
        try:
            opened = bytes(read_model(path, trust=trust(), now=NOW, **more))
        except TrustError as error:
            raise AssertionError(f"a valid bundle was refused: {error}") from error
    assert opened == data
    return opened


def _interpret(data: bytes, seed: int, rounding: str) -> str:
    """The way of an app that moved over: details, a resize, and a run of the interpreter."""
    found = Interpreter(model_content=data or b"\0", backend="native", rounding=rounding)
    rng = np.random.default_rng(seed)
    found.get_tensor_details()
    inputs = found.get_input_details()
    if inputs and rng.random() < 0.5:
        shape = inputs[0]["shape"].tolist()
        if shape:
            shape[int(rng.integers(len(shape)))] = int(rng.choice([0, 1, 2, 3, 7, 100]))
        found.resize_tensor_input(inputs[0]["index"], shape)
    found.allocate_tensors()
    for d in found.get_input_details():
        if float(np.prod(d["shape"], dtype=float)) > LARGEST_INPUT:
            return "built"
        found.set_tensor(d["index"], _values(rng, tuple(d["shape"]), np.dtype(d["dtype"])))
    session = found._main._session if found._main is not None else None
    if session is None or (not isinstance(session, DynamicSession) and session.plan.nanoseconds > LONGEST_NS):
        return "built"
    if isinstance(session, DynamicSession):
        session._evaluator._most_ns = LONGEST_NS
    found.invoke()
    for d in found.get_output_details():
        found.get_tensor(d["index"])
    return "ran"


def _other_shapes(graph: Any, seed: int) -> dict[int, tuple[int, ...]]:
    rng = np.random.default_rng(seed)
    out = {}
    for i in graph.inputs:
        shape = list(graph.tensors[i].shape)
        if shape:
            at = 0 if rng.random() < 0.5 else int(rng.integers(len(shape)))
            shape[at] = int(rng.choice([0, 1, 2, 3, 5, 8, 33]))
        out[i] = tuple(shape)
    return out


def _inputs(model: engine.Model, seed: int) -> dict[str, np.ndarray]:
    """Values of any kind, and where the model is made for one value of an input, that value."""
    rng = np.random.default_rng(seed)
    out = {p.name: _values(rng, p.shape, p.dtype) for p in model.inputs}
    for i, value in model.plan.required.items():
        out[model.inputs[model.graph.inputs.index(i)].name] = value
    return out


def _values(rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    """Noise, or small integers (indices, sizes), or extremes; floats with infinities and NaN among them."""
    how = int(rng.integers(3))
    if how == 0:
        with np.errstate(all="ignore"):
            return (100 * rng.standard_normal(shape)).astype(dtype)
    if how == 1 or dtype == np.bool_:
        return rng.integers(-1 if dtype.kind in "if" else 0, 2 if dtype == np.bool_ else 6, shape).astype(dtype)
    if dtype.kind in "fc":
        return rng.choice(np.array([0.0, -0.0, 1e-45, 1.0, -1.0, 3e38, np.inf, -np.inf, np.nan]), shape).astype(dtype)
    info = np.iinfo(dtype)
    return rng.choice(np.array([info.min, info.max, 0, 1], dtype), shape)


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
    try:
        region = mmap.mmap(-1, pages * page)
    except OSError:
        raise MachineError(f"no memory for {size} bytes") from None
    bytes_of = np.frombuffer(region, np.uint8)
    address = bytes_of.ctypes.data
    for guard in (address, address + (pages - 1) * page):
        if _LIBC.mprotect(ctypes.c_void_p(guard), ctypes.c_size_t(page), _PROT_NONE):
            raise OSError(ctypes.get_errno(), "mprotect")
    start = ((pages - 1) * page - size) // program.ALIGNMENT * program.ALIGNMENT
    return bytes_of[start : start + size]


_LIBC = ctypes.CDLL(None, use_errno=True)
_PROT_NONE = 0  # sys/mman.h; the mmap module does not have it


def _trusting(b: builder.Builder, op: Any, shape: tuple[int, ...], k: int = 0) -> Any:
    """Builder.expect_shape without its comparison."""
    return b.output(op, k)


PLANTS: dict[str, tuple[object, str, object]] = {
    "no bounds in the reader": (decode.Decoder, "_need", _nothing),
    "no check of operations": (check_module, "_op", _nothing),
    "no check of computed shapes": (builder.Builder, "expect_shape", _trusting),
    "an arena too small": (program, "SLACK", -2000),
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
    program.aligned = _guarded
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

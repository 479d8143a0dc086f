"""Time and memory of quantizing, beside ai-edge-quantizer: the same model, the same samples, each in a process of its own.

    python benchmarks/quantizer.py MODEL.tflite SAMPLES.npy [--peer PYTHON] [--recipe NAME] [--rounds N] [--many] [--json]
    python benchmarks/quantizer.py --tasks [NAME,…] [--peer PYTHON] [--rounds N]

A process reads the model and the samples (mapped from the file), calibrates, quantizes and writes; what is timed is the whole
process, the processor's seconds in it (which other processes disturb less), and the part without imports; memory is the peak
resident size that the system saw. `--peer` names the Python of an environment with ai-edge-quantizer: its static int8 by minimum
and maximum, and by each of its other algorithms that takes the model. One row is of a process that imports NumPy, reads the model
and maps the samples: below that no quantizer in Python comes. Rounds alternate, the fastest counts. `--many` repeats edgeq's with
100 times as many samples (the same ones again, in a file of that size) and compares the memory. `--tasks` prints a table of the
models and calibration samples of benchmarks/accuracy.py, a row each.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from accuracy_tasks import MODELS, TASKS
from peers import ALGORITHMS

from edgeq.graph import Signature
from edgeq.recipe import EFFORTS
from edgeq.tflite import read, write

TIMES = 100
"""More samples with --many."""

OURS = """
import sys, time
start = time.perf_counter()
def peak():  # KiB; not ru_maxrss, which begins with what the parent had
    return open("/proc/self/status").read().split("VmHWM:")[1].split()[0]
from edgeq import late, trim
late.begin()  # as the command does
trim.one_arena()
from edgeq.quantize import quantize
from edgeq.recipe import recipe
from edgeq.samples import read_npy
from edgeq.tflite import read, write
from edgeq.records import replace
model, samples, out, how, effort = sys.argv[1:]
ready = time.perf_counter()
done = quantize(read(open(model, "rb").read()), read_npy(samples), replace(recipe(how), effort=effort))
open(out, "wb").write(write(done.graph))
print(time.perf_counter() - start, time.process_time(), time.perf_counter() - ready, peak())
"""

PEER = """
import sys, time
start = time.perf_counter()
def peak():  # KiB; not ru_maxrss, which begins with what the parent had
    return open("/proc/self/status").read().split("VmHWM:")[1].split()[0]
import numpy as np
from ai_edge_quantizer import algorithm_manager, quantizer, recipe
model, samples, out, how = sys.argv[1:]
ready = time.perf_counter()
q = quantizer.Quantizer(float_model=model)
q.load_quantization_recipe(recipe.static_wi8_ai8(algorithm_manager.AlgorithmName[how]))
x = np.load(samples, mmap_mode="r")
found = q.calibrate({"serving_default": [{"x": np.asarray(row[None])} for row in x]})
q.quantize(found).export_model(out)
print(time.perf_counter() - start, time.process_time(), time.perf_counter() - ready, peak())
"""

BOUND = """
import sys, time
start = time.perf_counter()
def peak():  # KiB; not ru_maxrss, which begins with what the parent had
    return open("/proc/self/status").read().split("VmHWM:")[1].split()[0]
import numpy as np
ready = time.perf_counter()
open(sys.argv[1], "rb").read()
np.load(sys.argv[2], mmap_mode="r")
print(time.perf_counter() - start, time.process_time(), time.perf_counter() - ready, peak())
"""
"""What any quantizer in Python pays: NumPy imported, both files opened, nothing done."""

NOTHING, PEERS = "Python with NumPy, nothing done", "ai-edge-quantizer"


@dataclass(frozen=True)
class Run:
    """One quantizer: seconds of the whole process, of processors in it, and without imports; peak MiB; or what it said
    last."""

    who: str
    seconds: float = 0.0
    cpu: float = 0.0
    work: float = 0.0
    mib: float = 0.0
    error: str = ""


def surroundings() -> dict[str, str]:
    """The environment of a process: modules are compiled once, as pip did for the peer's, and not at each start."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "TF_CPP_MIN_LOG_LEVEL": "3"}


def run(who: str, python: str, code: str, arguments: Sequence[str]) -> Run:
    with tempfile.TemporaryDirectory() as folder:
        command = [python, "-c", code, *arguments[:2], str(Path(folder) / "out.tflite"), *arguments[2:]]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=surroundings())
    try:
        seconds, cpu, work, kib = (float(v) for v in done.stdout.split()[-4:])
    except ValueError:
        return Run(who, error=(done.stderr.strip().splitlines() or ["no word"])[-1][:160])
    return Run(who, seconds, cpu, work, kib / 1024)


def best(runs: Sequence[Run]) -> Run:
    """The fastest of several, with the least memory of them."""
    good = [r for r in runs if not r.error]
    if not good:
        return runs[0]
    return replace(min(good, key=lambda r: r.seconds), cpu=min(r.cpu for r in good), mib=min(r.mib for r in good))


def named(model: Path, folder: Path) -> Path:
    """The model with a signature, which ai-edge-quantizer wants."""
    graph = read(model.read_bytes())
    names = Signature("serving_default", 0, (("x", graph.inputs[0]),), (("y", graph.outputs[0]),))
    out = folder / "model.tflite"
    out.write_bytes(write(replace(graph, signatures=(names,))))
    return out


def repeated(samples: Path, folder: Path) -> Path:
    """The samples TIMES over, written piece by piece."""
    x = np.load(samples, mmap_mode="r")
    out = folder / "many.npy"
    many = np.lib.format.open_memmap(out, "w+", x.dtype, (TIMES * len(x), *x.shape[1:]))
    for k in range(TIMES):
        many[k * len(x) : (k + 1) * len(x)] = x
    many.flush()
    return out


def measured(
    model: Path, samples: Path, folder: Path, recipes: Sequence[str], peer: str | None, rounds: int, many: bool = False
) -> list[Run]:
    """Ours, nothing done, and the peer's, the best of some rounds by turns."""
    signed = str(named(model, folder))
    ways: list[tuple[str, str, str, tuple[str, ...]]] = [
        (f"edgeq {r}, {effort}", sys.executable, OURS, (r, effort)) for r in recipes for effort in EFFORTS
    ]
    ways.append((NOTHING, sys.executable, BOUND, ()))
    if peer:
        ways += [(f"{PEERS} {a}", peer, PEER, (a,)) for a in ALGORITHMS]
    found: dict[str, list[Run]] = {who: [] for who, *_ in ways}
    for _ in range(rounds):
        for who, python, code, how in ways:
            found[who].append(run(who, python, code, (signed, str(samples), *how)))
    results = [best(runs) for runs in found.values()]
    if many:
        # Gone through once before, so that a first use's compilation is no part of it.
        more = str(repeated(samples, folder))
        for who, python, code, how in ways:
            if code == OURS:
                results.append(run(f"{who}, {TIMES} × the samples", python, code, (signed, more, *how)))
    return results


def tasks(names: str, folder: Path, peer: str | None, rounds: int) -> Iterator[tuple[str, int, Sequence[Run]]]:
    """The named tasks of benchmarks/accuracy.py, or all whose model is there, each model once: see `table`."""
    seen = set()
    for name in filter(None, names.split(",")) if names else TASKS:
        model = MODELS / TASKS[name].model
        if model not in seen and model.exists():
            seen.add(model)
            samples = folder / "samples.npy"
            x = TASKS[name].calibration()
            np.save(samples, x)
            yield name, len(x), measured(model, samples, folder, ["int8"], peer, rounds)


def table(rows: Sequence[tuple[str, int, Sequence[Run]]]) -> Iterator[str]:
    """Lines of a table, a model each: its name, how many samples, and what `measured` gave; (seconds of processors)."""
    yield "| model, samples | fast | full | ai-edge-quantizer | nothing done | peer over fast: time, memory | peer over full |"
    yield "|---|---|---|---|---|---|---|"
    for name, count, runs in rows:
        fast, full, nothing = runs[:3]
        peers = [r for r in runs[3:] if not r.error]
        cells = [f"{name}, {count}", *(f"{r.seconds:.2f} s ({r.cpu:.2f}), {r.mib:.0f} MiB" for r in (fast, full))]
        seconds, mib = [r.seconds for r in peers], min((r.mib for r in peers), default=0.0)
        cpu = min((r.cpu for r in peers), default=0.0)
        cells.append(f"{min(seconds):.2f} to {max(seconds):.2f} s (from {cpu:.2f}), {mib:.0f} MiB" if peers else "")
        cells.append(f"{nothing.seconds:.2f} s, {nothing.mib:.0f} MiB")
        for ours in (fast, full):
            times = f"{min(seconds) / ours.seconds:.1f} to {max(seconds) / ours.seconds:.1f} ×" if peers else ""
            cells.append(f"{times}, {ours.mib / mib:.2f} of its memory" if peers else "")
        yield "| " + " | ".join(cells) + " |"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("samples", type=Path, nargs="?", help="(N, …) float32 in a .npy file")
    parser.add_argument(
        "--tasks", nargs="?", const="", metavar="NAME,…", help="those of benchmarks/accuracy.py instead"
    )
    parser.add_argument("--peer", metavar="PYTHON", help="the Python of an environment with ai-edge-quantizer")
    parser.add_argument("--recipe", action="append", help="ours, int8 by default; may be given several times")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--many", action="store_true", help=f"edgeq's memory with {TIMES} times the samples")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args(arguments)
    if unknown := set(filter(None, (options.tasks or "").split(","))) - set(TASKS):
        parser.error(f"tasks are {', '.join(TASKS)}; got {', '.join(sorted(unknown))}")
    if (options.tasks is None) == (options.samples is None):
        parser.error("expected MODEL and SAMPLES, or --tasks")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.tasks is not None:
            for line in table(list(tasks(options.tasks, folder, options.peer, options.rounds))):
                print(line)
            return 0
        recipes = options.recipe or ["int8"]
        results = measured(options.model, options.samples, folder, recipes, options.peer, options.rounds, options.many)
    if options.json:
        print(json.dumps([asdict(r) for r in results], indent=2))
        return 0
    ours = results[0]
    for r in results:
        ratio = (
            ""
            if r is ours or r.error
            else f"   {r.seconds / ours.seconds:5.2f} × the time ({r.cpu / ours.cpu:.2f} of processors), "
            f"{r.mib / ours.mib:5.2f} × the memory"
        )
        print(
            f"{r.who:<42}"
            + (
                r.error
                or f"{r.seconds:7.2f} s ({r.cpu:.2f} s of processors, {r.work:.2f} s work) {r.mib:7.0f} MiB{ratio}"
            )
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())

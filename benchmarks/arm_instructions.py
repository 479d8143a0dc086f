"""Executed instructions per inference on emulated ARM processors, edgeq beside LiteRT, and what the hot loops cost on real ones.

    python benchmarks/arm_instructions.py [MODEL.tflite…] [--cpu cortex-a72] [--count 1] [--recount] [--json]
    python benchmarks/arm_instructions.py --cpu cortex-a7 [--objects FOLDER]

There is no ARM machine here, so this says nothing about time by itself. qemu-user logs every block of instructions that runs
inside the runtime's own library; the difference between N and 2N inferences is what an inference takes, and everything else
(Python, the C library, setting up) drops out, for both runtimes alike. Instructions are not cycles: an `sdot` does four times the
work of an `smlal` in the same slot. Hence the second table: the loops that most instructions are in, through llvm-mca's model of
the processor.

What LiteRT executes does not depend on edgeq: it is kept beside LiteRT's wheel once it was counted (--recount counts again), so
that a new build of edgeq's kernels takes half of the time. On a 32-bit processor, cortex-a7, there is no LiteRT, and edgeq is
counted alone. --objects: those of another folder than the cache's, built by `edgeq targets build -o FOLDER`.

Needs a Debian machine: emulator, userland, wheels and LLVM's tools are fetched as for `make arm`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from edgeq.files import write_atomic  # noqa: E402
from edgeq.targets.identity import source_digest  # noqa: E402
from edgeq.targets.objects import built_folder  # noqa: E402
from tests.arm import fetch  # noqa: E402
from tests.arm.debian import UnavailableError  # noqa: E402
from tests.arm.emulate import guest  # noqa: E402

MODELS = ("ad_toycar_int8", "kws_dscnn_int8", "ic_resnet8_int8", "vww_mobilenetv1_025_96_int8")
ARCHITECTURES = {"cortex-a72": "aarch64", "cortex-a76": "aarch64", "cortex-a53": "aarch64", "cortex-a7": "armv7"}
MODEL_OF = {"cortex-a72": "cortex-a72", "cortex-a76": "neoverse-n1", "cortex-a53": "cortex-a53"}
"""LLVM's scheduling models of 64-bit processors; a Neoverse N1 is a Cortex-A76 with other caches."""

WORKER = """
import sys
import numpy as np
runtime, path, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
if runtime == "edgeq":
    import edgeq
    from edgeq import machine
    model = edgeq.load(path)
    x = [np.random.default_rng(0).integers(-128, 128, p.shape).astype(p.dtype) for p in model.inputs]
    run, library = (lambda: model(x[0])), f"/{machine.get().target}.so"
else:
    from ai_edge_litert.interpreter import Interpreter
    interpreter = Interpreter(path, num_threads=1)
    interpreter.allocate_tensors()
    detail = interpreter.get_input_details()[0]
    interpreter.set_tensor(detail["index"], np.random.default_rng(0).integers(-128, 128, detail["shape"]).astype(detail["dtype"]))
    run, library = interpreter.invoke, "/ai_edge_litert/"
run()
spans = [line.split() for line in open("/proc/self/maps") if library in line and " r-xp " in line]
print(" ".join(f"{int(a, 16)}-{int(b, 16)}" for a, b in (s[0].split("-") for s in spans)))
for _ in range(count):
    run()
"""

MACS = {
    r"^[us]{1,2}dot\s.*\.4s": 16, r"^[us]{1,2}mmla\s": 32, r"^[us]ml[as]l2?\s.*\.8h": 8, r"^[us]mull2?\s.*\.8h": 8,
    r"^[us]ml[as]l2?\s.*\.4s": 4, r"^[us]mull2?\s.*\.4s": 4, r"^mla\s.*\.4s": 4, r"^mla\s.*\.8h": 8, r"^fmla\s.*\.4s": 4,
}  # fmt: skip
"""Multiply-adds of an instruction."""


@dataclass(frozen=True)
class Trace:
    """How often each block ran (by its address), and its instructions as hexadecimal words."""

    runs: Counter[int]
    code: dict[int, tuple[str, ...]]

    def instructions(self) -> int:
        """All that were executed."""
        return sum(count * len(self.code[at]) for at, count in self.runs.items())

    def minus(self, other: Trace) -> Trace:
        """What this one ran beyond the other."""
        return Trace(Counter({at: n - other.runs[at] for at, n in self.runs.items() if n > other.runs[at]}), self.code)

    def within(self, spans: Sequence[tuple[int, int]]) -> Trace:
        """What ran at these addresses."""
        return Trace(Counter({at: n for at, n in self.runs.items() if any(a <= at < b for a, b in spans)}), self.code)

    def moved(self, by: int) -> Trace:
        """The same at other addresses."""
        return Trace(Counter({at + by: n for at, n in self.runs.items()}), {at + by: c for at, c in self.code.items()})


@dataclass(frozen=True)
class Loop:
    """A block that many instructions are executed in: its share of all, llvm-mca's cycles for one pass, and its multiply-adds."""

    share: float
    instructions: int
    cycles: float
    macs: int
    used: str


@dataclass(frozen=True)
class Found:
    """What an inference executes."""

    instructions: float
    loops: tuple[Loop, ...]


@contextmanager
def objects(folder: Path) -> Iterator[Path]:
    """An EDGEQ_CACHE in which the objects of a folder are found, and nothing else."""
    with tempfile.TemporaryDirectory() as cache:
        into = Path(cache, "targets")
        into.mkdir()
        (into / source_digest()[:32]).symlink_to(folder.resolve())
        yield Path(cache)


def trace(cpu: str, runtime: str, model: Path, count: int, spans: str, cache: Path) -> tuple[Trace, str]:
    """Run `count` inferences and one before; log the blocks within `spans` of addresses; returns where the library lies, too."""
    there = guest(ARCHITECTURES[cpu], cpu, extra=() if runtime == "edgeq" else ("peer-arm64",))
    with tempfile.TemporaryDirectory() as folder:
        pipe, worker = Path(folder, "log"), Path(folder, "worker.py")
        os.mkfifo(pipe)
        worker.write_text(WORKER)
        filters = [f"{int(a):#x}..{int(b) - 1:#x}" for a, b in (span.split("-") for span in spans.split())]
        log = ["-d", "in_asm,exec,nochain", "-D", str(pipe), "-dfilter", ",".join(filters)]
        # Without address randomisation, a library lies where it lay in the run before.
        command = [
            "setarch",
            "-R",
            there.command[0],
            *log,
            *there.command[1:],
            str(worker),
            runtime,
            str(model),
            str(count),
        ]
        paths = os.pathsep.join([str(ROOT), there.environment["PYTHONPATH"]])
        environment = {**os.environ, **there.environment, "PYTHONPATH": paths, "EDGEQ_CACHE": str(cache),
                       "EDGEQ_MACHINE": "aot", "PYTHONHASHSEED": "0"}  # fmt: skip
        found = Trace(Counter(), {})
        reader = threading.Thread(target=_read, args=(pipe, found))
        reader.start()
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        reader.join()
    if done.returncode:
        sys.exit(f"{runtime} on {cpu} failed: {done.stderr.strip().splitlines()[-1:]}")
    return found, done.stdout.strip().splitlines()[-1]


def _read(pipe: Path, into: Trace) -> None:
    """Fill a trace from qemu's log."""
    block: list[str] = []
    start = None
    with open(pipe, "rb", buffering=1 << 20) as log:
        for line in log:
            if line.startswith(b"Trace "):
                into.runs[int(line.split(b"/", 2)[1], 16)] += 1
            elif line.startswith(b"0x"):
                address, words = line.split(b":", 1)
                if start is None:
                    start = int(address, 16)
                block.append(words.split()[0].decode())
            elif start is not None:
                into.code[start] = tuple(block)
                block, start = [], None


def per_inference(cpu: str, runtime: str, model: Path, count: int, seen: list[str], cache: Path) -> Found:
    """What one of `count` inferences executes. `seen`: where the runtime's library lay in runs before, none at first."""
    few, many = (settled(cpu, runtime, model, n, seen, cache) for n in (count, 2 * count))
    more = many.minus(few)
    hottest = [] if cpu not in MODEL_OF else loops(more)
    return Found(
        more.instructions() / count,
        tuple(Loop(share, len(words), *cycles(words, cpu)) for share, words in hottest),
    )


def settled(cpu: str, runtime: str, model: Path, count: int, seen: list[str], cache: Path) -> Trace:
    """A trace of the library at addresses from 0 on. `seen`: where it lay in earlier runs, any of which it may take again."""
    for _ in range(9):
        found, where = trace(cpu, runtime, model, count, " ".join(seen or ["1-2"]), cache)
        if where in seen:
            spans = [(int(start), int(end)) for start, end in (span.split("-") for span in where.split())]
            return found.within(spans).moved(-spans[0][0])
        seen.append(where)
    sys.exit(f"{runtime} on {cpu}: its library lies elsewhere in each run")


def kept(cpu: str, model: Path, again: bool, count: int, seen: list[str], cache: Path) -> Found:
    """What LiteRT executes, counted once for its wheel, the emulator, the processor and the model."""
    peer, facts = fetch.get("peer-arm64"), [fetch.get("qemu").name, cpu, hashlib.sha256(model.read_bytes()).hexdigest()]
    path = peer.with_name(f"{peer.name}-{hashlib.sha256(' '.join(facts).encode()).hexdigest()[:16]}.json")
    if again or not path.exists():
        write_atomic(path, json.dumps(asdict(per_inference(cpu, "litert", model, count, seen, cache))).encode())
    value = json.loads(path.read_bytes())
    return Found(value["instructions"], tuple(Loop(**loop) for loop in value["loops"]))


def loops(found: Trace, most: int = 3) -> list[tuple[float, tuple[str, ...]]]:
    """The blocks that most instructions are executed in, with their share."""
    total = found.instructions()
    ranked = sorted(found.runs, key=lambda at: -found.runs[at] * len(found.code[at]))
    return [(found.runs[at] * len(found.code[at]) / total, found.code[at]) for at in ranked[:most]]


def cycles(words: tuple[str, ...], cpu: str) -> tuple[float, int, str]:
    """llvm-mca's cycles for one pass through a block in a loop, its multiply-adds, and the instructions that do them."""
    tools = fetch.get("llvm")
    libraries = os.pathsep.join({str(f.parent) for f in tools.rglob("*.so*")})
    environment = {**os.environ, "LD_LIBRARY_PATH": libraries}
    raw = " ".join(f"0x{byte:02x}" for word in words for byte in bytes.fromhex(word)[::-1])
    tool = tools / "usr/lib/llvm-19/bin"
    text = subprocess.run([tool / "llvm-mc", "--disassemble", "--triple=aarch64", "--mattr=+all"], input=raw, env=environment,
                          capture_output=True, text=True, check=True).stdout  # fmt: skip
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith(".")]
    body = "\n".join(line for line in lines if not re.match(r"b|cb|tb|ret", line))
    model = ["--mtriple=aarch64", f"--mcpu={MODEL_OF[cpu]}", "--mattr=+dotprod", "-iterations=100"]
    done = subprocess.run(
        [tool / "llvm-mca", *model], input=body, env=environment, capture_output=True, text=True, check=True
    ).stdout
    used: Counter[str] = Counter()
    macs = 0
    for line in lines:
        for pattern, each in MACS.items():
            if re.search(pattern, line.replace("\t", " ")):
                used[line.split()[0]] += 1
                macs += each
                break
    total = re.search(r"Total Cycles:\s+(\d+)", done)
    assert total is not None, done
    return int(total[1]) / 100, macs, ", ".join(f"{n} {name}" for name, n in used.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=Path, metavar="MODEL.tflite")
    parser.add_argument(
        "--cpu", action="append", choices=sorted(ARCHITECTURES), help="default: cortex-a72 and cortex-a76"
    )
    parser.add_argument("--count", type=int, default=2, help="inferences in the shorter run")
    parser.add_argument("--recount", action="store_true", help="count what LiteRT executes again")
    parser.add_argument("--objects", type=Path, default=built_folder(source_digest()), metavar="FOLDER")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    shared = ROOT.parent / "shared/models/mlperf_tiny"
    models = options.models or [p for name in MODELS if (p := shared / f"{name}.tflite").exists()]
    if not models:
        parser.error("expected models, there are no ../shared/models to take by default")
    rows, hot = [], []
    try:
        with objects(options.objects) as cache:
            for cpu in options.cpu or ["cortex-a72", "cortex-a76"]:
                places: dict[str, list[str]] = {"edgeq": [], "litert": []}
                for model in models:
                    found = {"edgeq": per_inference(cpu, "edgeq", model, options.count, places["edgeq"], cache)}
                    if ARCHITECTURES[cpu] == "aarch64":
                        found["litert"] = kept(cpu, model, options.recount, options.count, places["litert"], cache)
                    row = {name: each.instructions for name, each in found.items()}
                    ratio = row["edgeq"] / row["litert"] if "litert" in row else None
                    rows.append({"cpu": cpu, "model": model.stem, **row, "ratio": ratio})
                    hot += [
                        {"cpu": cpu, "model": model.stem, "runtime": name, **asdict(loop)}
                        for name, each in found.items()
                        for loop in each.loops
                    ]
                    if not options.json:
                        counts = [f"{n:12,.0f}" for n in row.values()]
                        print(
                            cpu.ljust(11), model.stem.ljust(28), *counts, f"{ratio:6.2f}" if ratio else "", flush=True
                        )
    except UnavailableError as error:
        sys.exit(f"error: {error}")
    if options.json:
        print(json.dumps({"instructions": rows, "loops": hot}, indent=2))
        return
    for cpu in dict.fromkeys(r["cpu"] for r in rows if r["ratio"]):
        mean = statistics.geometric_mean(r["ratio"] for r in rows if r["cpu"] == cpu)
        print(f"{cpu:11} {'geometric mean':28} {'':12} {'':12} {mean:6.2f}")
    if hot:
        print("\ncpu         model                        runtime  of all  instructions  cycles  macs  cycles/mac  by")
    for h in hot:
        each = f"{h['cycles'] / h['macs']:.3f}" if h["macs"] else ""
        print(f"{h['cpu']:11} {h['model']:28} {h['runtime']:7} {h['share']:6.0%}  {h['instructions']:12}  {h['cycles']:6.1f}"
              f"  {h['macs']:4}  {each:>10}  {h['used']}")  # fmt: skip


if __name__ == "__main__":
    main()

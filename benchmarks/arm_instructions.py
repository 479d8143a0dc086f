"""Executed instructions per inference on emulated ARM processors, edgeq beside LiteRT, and what the hot loops cost on real ones.

    python benchmarks/arm_instructions.py [MODEL.tflite…] [--cpu cortex-a72] [--json]

There is no ARM machine here, so this says nothing about time by itself. qemu-user logs every block of instructions that runs
inside the runtime's own library; the difference between N and 2N inferences is what an inference takes, and everything else
(Python, the C library, setting up) drops out, for both runtimes alike. Instructions are not cycles: an `sdot` does four times the
work of an `smlal` in the same slot. Hence the second table: the loops that most instructions are in, through llvm-mca's model of
the processor.

Needs a Debian machine: emulator, userland, wheels and LLVM's tools are fetched as for `make arm`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from edgeq.machine import cache_folder  # noqa: E402
from tests.arm import fetch  # noqa: E402
from tests.arm.debian import UnavailableError  # noqa: E402
from tests.arm.emulate import guest  # noqa: E402

MODELS = ("ad_toycar_int8", "kws_dscnn_int8", "ic_resnet8_int8", "vww_mobilenetv1_025_96_int8")
MODEL_OF = {"cortex-a72": "cortex-a72", "cortex-a76": "neoverse-n1", "cortex-a53": "cortex-a53"}
"""LLVM's scheduling models; a Neoverse N1 is a Cortex-A76 with other caches."""

WORKER = """
import sys
import numpy as np
runtime, path, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
if runtime == "edgeq":
    import edgeq
    model = edgeq.load(path)
    x = [np.random.default_rng(0).integers(-128, 128, p.shape).astype(p.dtype) for p in model.inputs]
    run, library = (lambda: model(x[0])), "/targets/"
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


def trace(cpu: str, runtime: str, model: Path, count: int, spans: str) -> tuple[Trace, str]:
    """Run `count` inferences and one before; log the blocks within `spans` of addresses; returns where the library lies, too."""
    there = guest("aarch64", cpu, extra=("peer-arm64",))
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
        environment = {**os.environ, **there.environment, "PYTHONPATH": paths, "EDGEQ_CACHE": str(cache_folder()),
                       "PYTHONHASHSEED": "0"}  # fmt: skip
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


def per_inference(cpu: str, runtime: str, model: Path, count: int) -> Trace:
    """What `count` inferences execute."""
    seen = ["1-2"]
    few, many = (settled(cpu, runtime, model, n, seen) for n in (count, 2 * count))
    return many.minus(few)


def settled(cpu: str, runtime: str, model: Path, count: int, seen: list[str]) -> Trace:
    """A trace of the library at addresses from 0 on. `seen`: where it lay in earlier runs, any of which it may take again."""
    for _ in range(9):
        found, where = trace(cpu, runtime, model, count, " ".join(seen))
        if where in seen:
            spans = [tuple(map(int, span.split("-"))) for span in where.split()]
            return found.within(spans).moved(-spans[0][0])
        seen.append(where)
    sys.exit(f"{runtime} on {cpu}: its library lies elsewhere in each run")


def loops(found: Trace, count: int, most: int = 3) -> list[tuple[float, tuple[str, ...]]]:
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
    parser.add_argument("--cpu", action="append", choices=sorted(MODEL_OF), help="default: cortex-a72 and cortex-a76")
    parser.add_argument("--count", type=int, default=2, help="inferences in the shorter run")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    shared = ROOT.parent / "shared/models/mlperf_tiny"
    models = options.models or [p for name in MODELS if (p := shared / f"{name}.tflite").exists()]
    if not models:
        parser.error("expected models, there are no ../shared/models to take by default")
    rows, hot = [], []
    try:
        for cpu in options.cpu or ["cortex-a72", "cortex-a76"]:
            for model in models:
                found = {name: per_inference(cpu, name, model, options.count) for name in ("edgeq", "litert")}
                ours, theirs = (found[name].instructions() / options.count for name in ("edgeq", "litert"))
                rows.append({"cpu": cpu, "model": model.stem, "edgeq": ours, "litert": theirs, "ratio": ours / theirs})
                for name, each in found.items():
                    for share, words in loops(each, options.count):
                        spent, macs, used = cycles(words, cpu)
                        hot.append({"cpu": cpu, "model": model.stem, "runtime": name, "share": share, "instructions": len(words),
                                    "cycles": spent, "macs": macs, "used": used})  # fmt: skip
                if not options.json:
                    print(f"{cpu:11} {model.stem:28} {ours:12,.0f} {theirs:12,.0f}  {ours / theirs:5.2f}", flush=True)
    except UnavailableError as error:
        sys.exit(f"error: {error}")
    if options.json:
        print(json.dumps({"instructions": rows, "loops": hot}, indent=2))
        return
    for cpu in dict.fromkeys(r["cpu"] for r in rows):
        mean = statistics.geometric_mean(r["ratio"] for r in rows if r["cpu"] == cpu)
        print(f"{cpu:11} {'geometric mean':28} {'':12} {'':12}  {mean:5.2f}")
    print("\ncpu         model                        runtime  of all  instructions  cycles  macs  cycles/mac  by")
    for h in hot:
        each = f"{h['cycles'] / h['macs']:.3f}" if h["macs"] else ""
        print(f"{h['cpu']:11} {h['model']:28} {h['runtime']:7} {h['share']:6.0%}  {h['instructions']:12}  {h['cycles']:6.1f}"
              f"  {h['macs']:4}  {each:>10}  {h['used']}")  # fmt: skip


if __name__ == "__main__":
    main()

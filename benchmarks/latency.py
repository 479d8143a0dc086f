"""Times models in edgeq and in the other runtimes that are installed, taking turns: the README's table.

    python benchmarks/latency.py MODEL.tflite… [--threads 1] [--rounds 20] [--rounding xnnpack]

A ratio is the other runtime's time over edgeq's, the median over rounds: above 1, edgeq is faster. "–" stands for a runtime that
cannot run the model. Times on a shared machine drift; only ratios are comparable, and only within a row.
"""

from __future__ import annotations

import argparse
from importlib import metadata
from pathlib import Path

from edgeq import __version__, load, timing
from edgeq.cli import figures
from edgeq.errors import InputError

PEERS = {"litert": "ai-edge-litert", "tflite": "tflite-runtime"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--rounding", default="xnnpack")
    given = parser.parse_args()
    peers = [name for name in PEERS if _version(name)]
    print("| model | edgeq " + " | ".join([__version__, *(f"{PEERS[p]} {_version(p)}" for p in peers)]) + " |")
    print("|---" * (2 + len(peers)) + "|")
    for path in given.models:
        cells = _row(path, peers, given.threads, given.rounds, given.rounding)
        print(f"| {path.stem} | " + " | ".join(cells) + " |", flush=True)


def _version(peer: str) -> str | None:
    try:
        return metadata.version(PEERS[peer])
    except metadata.PackageNotFoundError:
        return None


def _row(path: Path, peers: list[str], threads: int, rounds: int, rounding: str) -> list[str]:
    """edgeq's time, and a ratio for each peer."""
    with load(path, rounding=rounding, threads=threads) as model:
        calls = {"edgeq": timing.edgeq(model)}
        for name in peers:
            try:
                calls[name] = timing.peer(name, path.read_bytes(), threads)
            except InputError:
                continue
        times = timing.alternate(calls, rounds, lambda done: None)
    found = {row.name: row for row in timing.summary(times, "edgeq")}
    ratios = [f"{found[name].ratio:.2f}" if name in found else "–" for name in peers]
    return [figures.duration(found["edgeq"].median), *ratios]


if __name__ == "__main__":
    main()

"""Damage model files by the thousand and count what becomes of them: `python benchmarks/mutations.py --count 10000 --seed 1`.

Each mutant is read, checked, planned and run once in a process with a limit on memory and 5 s of time; every eighth comes out of
a validly signed bundle, others go through edgeq.Interpreter, are resized or surveyed. Whatever is not an error of edgeq or a run
is printed with the model and seed that make it again, and the exit status is 1. Models are those given, else one of every
operation and type that the tests build and the real ones beside the checkout. --plant takes a check out of edgeq first, to see
that this is found.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from mutation_corpus import corpus, operations
from mutation_harness import TIME_LIMIT, Result, cases, run_all
from mutation_worker import PLANTS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help=".tflite files, or folders of them")
    parser.add_argument("--count", type=int, help="mutants; 10 000, or with --minutes as many as there is time for")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, help="stop after so long")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--plant", choices=sorted(PLANTS), help="a check to take out first")
    parser.add_argument("--show", type=int, default=20, help="failures to print in full")
    args = parser.parse_args()
    given = [f for m in map(Path, args.models) for f in (sorted(m.rglob("*.tflite")) if m.is_dir() else [m])]
    models = list(map(str, given)) or corpus()
    start = time.perf_counter()
    outcomes: Counter[str] = Counter()
    failed: list[Result] = []
    slowest: Result | None = None
    count = args.count or (None if args.minutes else 10_000)
    deadline = start + 60 * args.minutes if args.minutes else float("inf")
    k = 0
    for k, result in enumerate(run_all(cases(models, count, args.seed), args.workers, args.plant), start=1):
        outcomes[result.outcome] += 1
        slowest = result if slowest is None or result.ms > slowest.ms else slowest
        if result.failed:
            failed.append(result)
            if len(failed) <= args.show:
                print(f"\n{result.case.model} seed {result.case.seed}: {result.outcome}: {result.detail}")
        if sys.stderr.isatty() or k % 1000 == 0:
            print(f"\r{k} of {count or 'many'}, {len(failed)} failed", end="", file=sys.stderr, flush=True)
        if time.perf_counter() > deadline:
            break
    print(file=sys.stderr)
    for outcome, count in outcomes.most_common():
        print(f"{count:8d}  {outcome}")
    took, kinds = time.perf_counter() - start, len(operations(models))
    print(f"{k} mutants of {len(models)} models with {kinds} operations in {took:.0f} s")
    if slowest is not None:
        where = f"{slowest.case.model} seed {slowest.case.seed}"
        print(f"slowest {slowest.ms:.0f} ms of {1e3 * TIME_LIMIT:.0f} ms: {where}")
    print(f"{len(failed)} crashes, hangs or stray exceptions")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""Fuzz every reader: `python tests/fuzz/run.py --minutes 10`, which `make fuzz MINUTES=10` calls.

Each reader has a process of its own, with atheris where it is installed and the seeded mutator where not, under a limit of
memory and of seconds for one input. The table says how many inputs each was given and how much memory it took. The exit
status is not 0 if one raised anything but an EdgeqError, took too long or too much memory.

What fuzzing found worth keeping lies in build/fuzz; `--keep` copies the smallest of it to tests/fuzz/corpus,
at most 16 KiB a reader, which the tests read again.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILD = HERE.parents[1] / "build" / "fuzz"
CORPUS = HERE / "corpus"
KEPT = 16 * 1024
"""Bytes of a reader's corpus."""

UNKEPT = {
    "bundle",
    "signature",
    "second signature",
    "grant",
    "status",
    "root",
    "audit log",
    "state",
    "private key",
    "masked array",
}
"""Readers whose examples hold keys or signatures that are new each time."""


def main() -> int:
    """Fuzz, and print the table."""
    sys.path[:0] = [str(HERE.parent), str(HERE)]
    from readers import readers

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0, help="for all readers together [5]")
    parser.add_argument("--executions", type=int, help="end earlier, after as many inputs in all")
    parser.add_argument(
        "--engine", choices=["atheris", "mutator"], default="atheris" if find_spec("atheris") else "mutator"
    )
    parser.add_argument("--only", action="append", choices=sorted(readers()), help="one reader [all]")
    parser.add_argument("--keep", action="store_true", help="write the corpora to tests/fuzz/corpus")
    given = parser.parse_args()
    names = given.only or list(readers())
    seconds = 60 * given.minutes / len(names)
    runs = -(-given.executions // len(names)) if given.executions else 1 << 31
    print(f"{given.engine}, {given.minutes:g} minutes for {len(names)} readers")
    print(f"{'reader':<18}{'executions':>12}{'per second':>12}{'peak MB':>9}{'corpus':>8}  outcome")
    total, failed = 0, []
    for name in names:
        executions, line, ok = fuzz(name, given.engine, runs, seconds)
        print(line, flush=True)
        total += executions
        failed += [] if ok else [name]
        if given.keep and ok and name not in UNKEPT and given.engine == "atheris":
            keep(name)
    print(f"{'all':<18}{total:>12}")
    if failed:
        print(f"findings in {', '.join(failed)}: the inputs lie in {BUILD}", file=sys.stderr)
    return 1 if failed else 0


def fuzz(name: str, engine: str, runs: int, seconds: float) -> tuple[int, str, bool]:
    """How many inputs a reader was given, its line of the table, and whether nothing was found."""
    corpus = seeded(name)
    command = [sys.executable, str(HERE / "target.py"), name, engine, str(runs), str(seconds), str(corpus)]
    start = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    took = time.monotonic() - start
    executions, peak = (int((re.findall(rf"stat::{what}: *(\d+)", done.stderr) or ["0"])[-1]) for what in (
        "number_of_executed_units", "peak_rss_mb",
    ))  # fmt: skip
    ok = done.returncode == 0 and executions > 0
    if not ok:
        print(done.stdout, done.stderr[-4000:], sep="\n", file=sys.stderr)
    outcome = "nothing found" if ok else f"exit status {done.returncode}"
    count = len(list(corpus.iterdir()))
    return executions, f"{name:<18}{executions:>12}{executions / took:>12.0f}{peak:>9}{count:>8}  {outcome}", ok


def seeded(name: str) -> Path:
    """The reader's corpus in the build folder, with what the repository holds in it."""
    corpus = BUILD / name.replace(" ", "-")
    corpus.mkdir(parents=True, exist_ok=True)
    for path in (CORPUS / corpus.name).glob("*"):
        shutil.copy(path, corpus / path.name)
    return corpus


def keep(name: str) -> None:
    """Copy the inputs that reached something new, the smallest first, until there are KEPT bytes."""
    corpus, kept = BUILD / name.replace(" ", "-"), CORPUS / name.replace(" ", "-")
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True)
    size = 0
    for path in sorted(corpus.iterdir(), key=lambda path: (path.stat().st_size, path.name)):
        size += path.stat().st_size
        if size > KEPT:
            break
        shutil.copyfile(path, kept / path.name[:16])


if __name__ == "__main__":
    sys.exit(main())

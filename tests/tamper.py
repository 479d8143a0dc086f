"""The tamper matrix as a table: `python tests/tamper.py` runs its tests and prints, for each row, how many cases were tried,
how many were accepted (which must be 0), and with which errors the others were refused.

A case is one damaged or misused thing that was handed to edgeq. The exit status is not 0 if a case was accepted, a test
failed, or a row was not tried.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

from refusals import ACCEPTED, LEDGER

TESTS = Path(__file__).resolve().parent
COLUMN = 96
"""Characters of a line of error types."""

ROWS = {
    1: "flipped bits: all of the header, bytes of the rest",
    2: "cut at every chunk boundary, and a byte beside it",
    3: "chunks swapped, doubled, dropped",
    4: "the final flag moved; more behind the end",
    5: "chunks of another bundle under the same key",
    6: "a wrong key; one that the commitment does not name",
    7: "one bundle's manifest with another's payload",
    8: "a good signature by a key that is not trusted",
    9: "no, an empty, a second, a doubled signature",
    10: "another payload, predicate or media type",
    11: "certificates: expired, not yet valid, valid",
    12: "one of two required signatures taken away",
    13: "JSON and base64 with a second spelling",
    14: "lengths 0, 2^31, 2^32 - 1, past the end",
    15: "paths that leave, links, extra and missing files",
    16: "a wider list of files to ignore",
    17: "a file replaced between check and use",
    18: "an older version; one version, two payloads",
    19: "an older or expired status",
    20: "a root signed by one side only, or skipping one",
    21: "a threshold met by one key twice",
    22: "a grant for something else; beyond a delegation",
    23: "a wrapped key moved to another grant",
    24: "expired, not yet valid; a clock set back or never set",
    25: "loads raced by 50 processes; killed while counting",
    26: "state deleted, damaged, copied, put back; disk full",
    27: "a revoked grant, device, key, version",
    28: "audit lines edited, removed, moved, cut off",
    29: "key shares that give nothing",
    30: "malicious models under a good signature",
    31: "plaintext and keys in files, logs, tracebacks",
    32: "the command line after a failure",
}


def run(ledger: Path, arguments: list[str]) -> tuple[int, str]:
    """Run the matrix's tests, which note their cases in `ledger`; pytest's exit status, and its last line."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:randomly",
        *map(str, sorted(TESTS.glob("test_tamper_*.py"))),
    ]
    done = subprocess.run(
        [*command, *arguments], cwd=TESTS.parent, env={**os.environ, LEDGER: str(ledger)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if done.returncode:
        print(done.stdout, done.stderr, sep="\n", file=sys.stderr)
    return done.returncode, done.stdout.strip().rpartition("\n")[2]


def read(ledger: Path) -> dict[int, Counter[str]]:
    """How often each outcome was noted, by row."""
    found: dict[int, Counter[str]] = defaultdict(Counter)
    if ledger.exists():
        for line in ledger.read_text("ascii").splitlines():
            row, _, outcome = line.partition(" ")
            found[int(row)][outcome] += 1
    return found


def show(found: dict[int, Counter[str]]) -> None:
    """The table, on stdout."""
    width = max(map(len, ROWS.values()))
    print(f"{'row':>3}  {'what':<{width}}  {'cases':>6}  {'accepted':>8}  refused with")
    for row, what in ROWS.items():
        outcomes = found[row]
        kinds = [name for name, _ in outcomes.most_common() if name != ACCEPTED]
        first, *more = wrapped(kinds)
        print(f"{row:>3}  {what:<{width}}  {outcomes.total():>6}  {outcomes[ACCEPTED]:>8}  {first}")
        for line in more:
            print(" " * (width + 24) + line)
    total = sum((found[row] for row in ROWS), Counter())
    print(f"{'':>3}  {'all':<{width}}  {total.total():>6}  {total[ACCEPTED]:>8}")


def wrapped(names: list[str]) -> list[str]:
    """Names with commas, in lines of at most COLUMN characters; one empty line for none."""
    lines = [""]
    for name in names:
        longer = f"{lines[-1]}, {name}" if lines[-1] else name
        if len(longer) > COLUMN:
            lines.append(name)
        else:
            lines[-1] = longer
    return lines


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        ledger = Path(folder) / "ledger"
        status, last = run(ledger, sys.argv[1:])
        found = read(ledger)
    show(found)
    print(last)
    untried = [row for row in ROWS if not found[row]]
    if untried:
        print(f"not tried: row {', '.join(map(str, untried))}", file=sys.stderr)
    return 1 if status or untried or any(outcomes[ACCEPTED] for outcomes in found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())

"""Every writing command of the trust side, killed at random moments: `python tests/kill.py [--times 200] [--only NAME]`.

Each command runs in a process of its own that gets SIGKILL somewhere between its first moment and its end, as often as is
asked for; after each, every file is the old one or the new one, whole, and in the end the command works. The tests do the same
at each disk call, one after the other (tests/test_faults.py), which is fewer moments and the ones that matter; this is for
those between.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parent
sys.path.insert(0, str(TESTS))


def main() -> int:
    """Kill, check, count."""
    import test_faults as faults

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=200, help="how often each command is killed [200]")
    parser.add_argument("--only", action="append", choices=sorted(faults.COMMANDS), help="one command [all]")
    given = parser.parse_args()
    rng = random.Random(9)
    with tempfile.TemporaryDirectory() as name:
        source, place = Path(name, "source"), Path(name, "place")
        source.mkdir()
        faults.lay_out(source)
        for command in given.only or faults.COMMANDS:
            line = faults.COMMANDS[command]
            restore(source, place)
            took = timed(line)
            killed = 0
            for _ in range(given.times):
                restore(source, place)
                before = faults.snapshot()
                killed += kill(line, rng.uniform(0, took))
                faults.check(before)
            restore(source, place)
            assert faults.run(line) == 0, command
            print(f"{command:<20}{given.times:>6} runs{killed:>6} killed   nothing lost", flush=True)
    return 0


def restore(source: Path, place: Path) -> None:
    """The folder as it was, and the present one."""
    os.chdir(source)
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(source, place)
    os.chdir(place)


def timed(line: str) -> float:
    """Seconds that a command takes from the fork to its end."""
    start = time.perf_counter()
    kill(line, None)
    return time.perf_counter() - start


def kill(line: str, after: float | None) -> bool:
    """Run a command in a forked process and kill it after so many seconds; whether it was still there to be killed."""
    import test_faults as faults

    child = os.fork()
    if not child:
        os._exit(0 if faults.run(line) == 0 else 1)
    if after is not None:
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


if __name__ == "__main__":
    sys.exit(main())

"""Runs mutants in processes of their own and sorts what became of them: only an error of edgeq or a run will do."""

from __future__ import annotations

import itertools
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from threading import Event, Lock, Thread

WORKER = Path(__file__).with_name("mutation_worker.py")
MEMORY = 3 * 2**30
TIME_LIMIT = 5.0
START_LIMIT = 600.0
"""Seconds until a worker must be ready: compiling the kernels, once on a machine, takes most of them."""

FAILURES = frozenset({"stray", "crash", "hang"})
"""Outcomes that must not be; "ran", "built" and the names of edgeq's errors are the others."""


@dataclass(frozen=True)
class Case:
    """One mutant: of which model (a path, or the name of a small model), by which seed."""

    model: str
    seed: int


@dataclass(frozen=True)
class Result:
    """What became of a case; `ms` is read to run, without making the mutant."""

    case: Case
    outcome: str
    detail: str
    ms: float

    @property
    def failed(self) -> bool:
        """Whether this must not happen."""
        return self.outcome in FAILURES


class Worker:
    """A process that answers cases; it is replaced when it dies or does not answer."""

    def __init__(self, plant: str | None = None, time_limit: float = TIME_LIMIT) -> None:
        self._arguments = [f"--memory={MEMORY}", *([f"--plant={plant}"] if plant else [])]
        self._time_limit = time_limit
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, case: Case) -> Result:
        """Run one case, in time or not."""
        process = self._started()
        assert process.stdin is not None
        start = time.monotonic()
        process.stdin.write(json.dumps({"model": case.model, "seed": case.seed}).encode() + b"\n")
        process.stdin.flush()
        line = self._line(self._time_limit)
        ms = 1e3 * (time.monotonic() - start)
        if line is None:
            self.close()
            return Result(case, "hang", f"no answer in {self._time_limit} s", ms)
        if not line:
            code = process.wait()
            self.close()
            name = signal.Signals(-code).name if code < 0 else f"exit status {code}"
            return Result(case, "crash", name, ms)
        said = json.loads(line)
        return Result(case, said["outcome"], said["detail"], said["ms"])

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, str(WORKER), *self._arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            line = self._line(START_LIMIT)
            if not line or json.loads(line)["outcome"] != "ran":
                self.close()
                raise RuntimeError(f"the worker could not run a sound model: {line!r}")
        return self._process

    def _line(self, seconds: float) -> bytes | None:
        """The next line, b"" if the process is gone, None if it does not come in time."""
        assert self._process is not None
        assert self._process.stdout is not None
        out = b""
        deadline = time.monotonic() + seconds
        while not out.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._process.stdout], [], [], left)[0]:
                return None
            piece = os.read(self._process.stdout.fileno(), 65536)
            if not piece:
                return b""
            out += piece
        return out


def run_all(cases: Iterable[Case], workers: int = 1, plant: str | None = None) -> Iterator[Result]:
    """Run every case, `workers` at a time; results come as they are there. Cases are drawn as they are needed."""
    waiting = iter(cases)
    results: Queue[Result | BaseException | None] = Queue()
    turn, enough = Lock(), Event()
    started: list[Worker] = []

    def following() -> Case | None:
        with turn:
            return None if enough.is_set() else next(waiting, None)

    def serve() -> None:
        worker = Worker(plant)
        started.append(worker)
        try:
            while (case := following()) is not None:
                results.put(worker.run(case))
        except BaseException as e:
            results.put(e)
        finally:
            worker.close()
            results.put(None)

    threads = [Thread(target=serve, daemon=True) for _ in range(workers)]
    for t in threads:
        t.start()
    left = workers
    try:
        while left:
            result = results.get()
            if result is None:
                left -= 1
            elif isinstance(result, BaseException):
                raise result
            else:
                yield result
    finally:  # whoever has seen enough leaves no process behind
        enough.set()
        for worker in started:
            worker.close()
        for t in threads:
            t.join(2 * TIME_LIMIT)


RUN = 16
"""Cases of one model behind one another, so that a worker reads it once for them."""


def cases(models: Sequence[str], count: int | None, seed: int) -> Iterator[Case]:
    """`count` cases (None: without end) spread evenly over the models, with seeds of their own."""
    numbers = itertools.count() if count is None else range(count)
    return (Case(models[k // RUN % len(models)], seed * 1_000_000 + k) for k in numbers)

"""Processes that die, and disks that refuse, at every point of a piece of work."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

CALLS = ("open", "fsync", "replace", "rename", "link", "unlink", "mkdir", "write", "ftruncate")
"""The functions of `os` through which the package changes a disk; a buffered file's own write lies between two of them."""


@contextmanager
def at_call(number: int, act: Callable[[], object]) -> Iterator[Callable[[], int]]:
    """Call `act` in place of the disk call of this number, from 0; gives a function that tells how many there were."""
    count = 0
    original = {name: getattr(os, name) for name in CALLS}

    def wrapped(name: str) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count == number + 1:
                act()
            return original[name](*args, **options)

        return call

    for name in CALLS:
        setattr(os, name, wrapped(name))
    try:
        yield lambda: count
    finally:
        for name, function in original.items():
            setattr(os, name, function)


def killed_at_every_call(work: Callable[[], object], after: Callable[[int], object]) -> int:
    """Do `work` in a new process that is killed at its first disk call, then in one killed at its second, and so on to
    the end; call `after(number)` after each. Returns how many were killed."""
    for number in range(1000):
        child = os.fork()
        if not child:
            with at_call(number, lambda: os.kill(os.getpid(), signal.SIGKILL)):
                _work_and_exit(work)
        _, status = os.waitpid(child, 0)
        after(number)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            return number
    raise AssertionError("the work never ended")


def killed_at_random(work: Callable[[], object], after: Callable[[], object], times: int) -> None:
    """`times` times: do `work` again and again in a new process that is killed within the first few of them, then call
    `after`."""
    rng = random.Random(9)
    start = time.perf_counter()
    for _ in range(5):
        work()
    longest = time.perf_counter() - start
    for _ in range(times):
        child = os.fork()
        if not child:
            while True:
                work()
        time.sleep(rng.uniform(0, longest))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        after()


def failing_at_every_call(work: Callable[[], object], reason: int) -> Iterator[Exception | None]:
    """Do `work` again and again, its first disk call failing with this errno, then its second, and so on to the end;
    gives what it raised each time, None if it got over the failure."""
    for number in range(1000):
        raised: Exception | None = None
        with at_call(number, lambda: _fail(reason)) as count:
            try:
                work()
            except Exception as error:
                raised = error
        if count() <= number:
            return
        yield raised
    raise AssertionError("the work never ended")


def _fail(reason: int) -> None:
    raise OSError(reason, os.strerror(reason))


def _work_and_exit(work: Callable[[], object]) -> None:
    """The end of a forked process: neither pytest's nor anybody's cleaning up runs in it."""
    try:
        work()
    except BaseException:
        os._exit(1)
    os._exit(0)

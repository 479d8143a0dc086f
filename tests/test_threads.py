"""Threads inside one inference: the same numbers, whenever the next call comes, and no thread left behind."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from edgeq import program
from edgeq.engine import build
from edgeq.errors import InputError
from edgeq.kernels.words import frame as fw
from edgeq.kernels.words.instruction import GRAIN_AT, SHARE
from edgeq.plan import cost
from edgeq.records import replace
from tests.engine_models import cases, conv, samples

CASES = cases()

GAPS = (0.0, 0.00005, 0.0002, 0.0003, 0.002)
"""Seconds between calls: within and beyond the time that a thread stands by, and about as long."""


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch):
    """A layer that is shared between threads whatever it costs, its inputs and what one thread makes of them."""
    monkeypatch.setattr(program, "PARALLEL_NS", 0.0)
    monkeypatch.setattr(program, "WORTH", 1e9)
    graph = conv("int8", h=40, w=36, c=16, out=48)
    inputs = [np.random.default_rng(i).integers(-128, 128, (1, 40, 36, 16)).astype(np.int8) for i in range(3)]
    with build(graph) as model:
        expected = [model(x) for x in inputs]
    return graph, inputs, expected


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("gap", GAPS)
def test_threads_that_stand_by_hear_the_next_call(wide, gap: float, threads: int) -> None:
    """Calls at any distance are answered, and rightly."""
    graph, inputs, expected = wide
    with build(graph, threads=threads) as model:
        for i in range(40):
            assert np.array_equal(model(inputs[i % 3]), expected[i % 3])
            end = time.perf_counter() + gap
            while time.perf_counter() < end:
                pass


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("name", [n for n in CASES if n.endswith(("int8", "float32")) and "softmax" not in n])
def test_every_kernel_can_be_shared(name: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that share every instruction in as many pieces as it has, however small, compute what one does."""
    monkeypatch.setattr(cost, "PIECE_NS", 0.0)
    monkeypatch.setattr(program, "COLD_CALLS", 0)
    monkeypatch.setattr(program, "PARALLEL_NS", 0.0)
    monkeypatch.setattr(program, "WORTH", 1e9)
    monkeypatch.setattr(cost, "MEETING_NS", 0.0)
    graph = CASES[name]()
    rng = np.random.default_rng(0)
    x = {n: samples(graph.tensors[i], rng) for n, i in zip(graph.input_names(), graph.inputs, strict=True)}
    with build(graph, threads=threads) as several, build(graph) as one:
        for _ in range(2):
            assert np.array_equal(several(x), one(x))


def test_calls_alone_and_together_mix(wide, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that stands by may sit out inferences that one thread does alone."""
    graph, inputs, expected = wide
    with build(graph, threads=2) as model:
        for i in range(60):
            monkeypatch.setattr(program, "PARALLEL_NS", 1e18 if i % 3 == 1 else 0.0)
            assert np.array_equal(model(inputs[i % 3]), expected[i % 3])


@pytest.mark.parametrize("suspended", [0, 1, 5])
def test_inferences_that_stalled_are_done_alone_for_a_while(wide, suspended: int) -> None:
    """As many calls as the machine has been told sit the other threads out; the numbers stay the same."""
    graph, inputs, expected = wide
    with build(graph, threads=2) as model:
        assert np.array_equal(model(inputs[0]), expected[0])
        context = model._direct
        assert context is not None
        context.account[fw.SUSPENDED] = suspended
        for i in range(suspended):
            assert context.account[fw.SUSPENDED] == suspended - i
            assert np.array_equal(model(inputs[i % 3]), expected[i % 3])
        assert np.array_equal(model(inputs[1]), expected[1])


READ_CLOCK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p)


class Timed:
    """Calls of a model with two threads whose clock says what a test wants."""

    def __init__(self, model, taken: Callable[[bool], int]) -> None:
        """taken(alone): nanoseconds of the next call, of one thread or of two."""
        self.program, self.taken, self.run = model.program, taken, model.program.machine.run
        self.context, self.ns, self.together = self.program.acquire(), 0, 0
        self.clock = READ_CLOCK(self._read)
        self.context.frame[fw.CLOCK] = ctypes.cast(self.clock, ctypes.c_void_p).value
        self.program.machine = replace(self.program.machine, run=self._run)

    def _read(self, _: int, at: int) -> int:
        """clock_gettime."""
        (ctypes.c_int64 * 2).from_address(at)[:] = divmod(self.ns if self.looks == 0 else self.end, 10**9)
        self.looks += 1
        return 0

    def _run(self, address: int, thread: int) -> int:
        """An entry, at whose end so much time has passed; calls that the machine does not time take time too."""
        if thread > 0:
            return self.run(address, thread)
        alone, self.looks = self.context.account[fw.SUSPENDED] > 0, 0
        self.end = self.ns + self.taken(alone)
        status = self.run(address, thread)
        if status == 0:
            self.ns, self.together = self.end, self.together + (not alone)
        return status

    def call(self, x, y) -> None:
        """One inference."""
        self.program.run_in(self.context, [x], [y], 1)


def test_threads_that_cost_time_cost_a_hundredth(wide) -> None:
    """Where two threads take longer than one, all calls together take little longer than one thread's."""
    graph, inputs, expected = wide
    with build(graph, threads=2) as model:
        timed, y, n = (
            Timed(model, lambda alone: 100_000 if alone else 130_000),
            np.empty((1, 40, 36, 48), np.int8),
            4000,
        )
        for i in range(n):
            timed.call(inputs[i % 3], y)
            assert np.array_equal(y, expected[i % 3])
        assert timed.together > 0
        assert (
            timed.ns
            <= 1.01 * n * 100_000 + fw.OVERDRAFT + 5 * 100_000 + program.CREDIT * model.program.plan.nanoseconds
        )


def test_threads_that_save_time_work_together(wide) -> None:
    """Where two threads take less than one, nearly all calls are theirs, and a rare stall changes nothing."""
    graph, inputs, expected = wide
    with build(graph, threads=2) as model:
        stalls = iter([False] * 500 + [True])
        timed = Timed(model, lambda alone: 100_000 if alone else 3_000_000 if next(stalls, False) else 55_000)
        y = np.empty((1, 40, 36, 48), np.int8)
        for i in range(2000):
            timed.call(inputs[i % 3], y)
            assert np.array_equal(y, expected[i % 3])
        assert timed.together >= 0.98 * 2000


def test_threads_are_tried_again_where_they_begin_to_pay(wide) -> None:
    """A second core that was busy and is free again is used again."""
    graph, inputs, _ = wide
    with build(graph, threads=2) as model:
        busy = True
        timed = Timed(model, lambda alone: 100_000 if alone else 900_000 if busy else 55_000)
        y = np.empty((1, 40, 36, 48), np.int8)
        for _ in range(200):
            timed.call(inputs[0], y)
        assert timed.together < 10
        busy, before = False, timed.together
        for _ in range(4000):
            timed.call(inputs[0], y)
        assert timed.together - before > 1000


def test_a_second_thread_joins_calls_that_come_close(wide) -> None:
    """A short call waits for nobody, yet calls in a row are soon those of two threads."""
    graph, inputs, expected = wide
    with build(graph, threads=2) as model:
        context = model._direct
        assert context is not None
        end = time.perf_counter() + 20
        while context.barrier[0] < 100 and time.perf_counter() < end:
            context.account[fw.SUSPENDED] = 0  # whether it pays is not the question
            assert np.array_equal(model(inputs[0]), expected[0])
        assert context.barrier[0] >= 100


@pytest.mark.parametrize("at", [0, 11_000, 40 * 40 * 16 - 1])
def test_every_thread_looks_for_values_without_a_code(wide, at: int) -> None:
    """NaN in any part of an input that threads share is refused, and the next call is answered."""
    graph, inputs, expected = wide
    x = np.zeros((1, 40, 36, 16), np.float32)
    x.reshape(-1)[at % x.size] = np.nan
    with build(graph, threads=2) as model:
        for _ in range(5):
            with pytest.raises(InputError, match="NaN"):
                model(x)
            assert np.array_equal(model(inputs[0]), expected[0])


PLANS = {
    "one large": ([5000.0], [64], [True]),
    "one small": ([100.0], [64], [False]),
    "small between two large": ([5000.0, 100.0, 5000.0], [64, 64, 64], [True, True, True]),
    "small ones behind": ([5000.0, 100.0, 100.0], [64, 64, 64], [True, False, False]),
    "large of one unit": ([5000.0, 9000.0], [64, 1], [True, False]),
    "none": ([], [], []),
}


@pytest.mark.parametrize("name", PLANS)
def test_what_is_shared(name: str) -> None:
    """Threads share what pays, and what lies between two shared instructions, where they meet anyway."""
    costs, units, expected = PLANS[name]
    flags, together = cost.shared(costs, units, [False] * len(costs))
    assert flags == expected
    assert together <= sum(costs) + 3 * cost.MEETING_NS
    assert together >= sum(costs) / 2


def test_pieces_are_whole_tiles_that_take_a_while() -> None:
    """A long convolution is done in pieces of whole tiles, a short one in one."""
    pieces = {}
    for size in (8, 24, 96):
        with build(conv("int8", h=size, w=size, c=16, out=48)) as model:
            table = model.plan.table
            found = [row for row, i in zip(table, model.plan.instructions, strict=True) if i.kernel == "conv_u8"]
            pieces[size] = int(found[-1][SHARE]) & 0xFF
            assert int(found[-1][SHARE]) >> GRAIN_AT & 0xFFFF >= (1 if pieces[size] else 0)
    assert pieces[8] <= 1
    assert pieces[8] <= pieces[24] <= pieces[96]
    assert pieces[96] > 1


def test_a_thread_that_does_nothing_has_its_pieces_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every piece of a thread that comes to every meeting, but last and with nothing done, is done by the other."""
    for module, name, value in (cost, "PIECE_NS", 0.0), (cost, "MEETING_NS", 0.0), (program, "WORTH", 1e9):
        monkeypatch.setattr(module, name, value)
    with build(conv("int8", h=16, w=16, c=16, out=48), threads=2) as model:
        found, x = model.program, np.random.default_rng(7).integers(-128, 128, (3, 16, 16, 16)).astype(np.int8)
        context, y = program.Context(model.plan, found.constants, 2), np.empty((16, 16, 48), np.int8)
        pieces = context.table[:, SHARE] & 0xFF
        context.table[pieces == 1, SHARE] = 0  # a part in one piece is nobody else's
        assert (pieces > 1).any()
        state, barrier, frame = context.lines[1].data, context.barrier.data, context.frame
        for i in range(3):
            context.account[fw.SUSPENDED] = 0
            frame[context.slots[0]], frame[context.slots[1]] = x[i].ctypes.data, y.ctypes.data
            frame[fw.BATCH], frame[fw.ATTEND], state[fw.STATE] = 1, 1, fw.STANDING
            first = threading.Thread(target=found.machine.run, args=(context.address, 0))
            first.start()
            end = time.perf_counter() + 20
            while first.is_alive() and time.perf_counter() < end:
                if barrier[0] % 2:  # the other one is there, and waits
                    state[fw.TAKEN + (barrier[0] // 2 + 1) % 2] = 0
                    barrier[0] += 1
                time.sleep(0)
            first.join(1)
            assert not first.is_alive()
            assert np.array_equal(y, model(x[i : i + 1])[0])


def test_a_model_too_small_for_two_threads_runs_on_one() -> None:
    """Where meetings would cost more than half of the work, `threads` changes nothing."""
    with build(conv("int8", h=4, w=4, c=2, out=2), threads=2) as small:
        assert small.program.threads == 1


def test_callers_take_turns(wide) -> None:
    """Several callers of one model with threads each get their own answer."""
    graph, inputs, expected = wide
    wrong: list[int] = []
    with build(graph, threads=2) as model:

        def ask(i: int) -> None:
            wrong.extend(i for _ in range(30) if not np.array_equal(model(inputs[i]), expected[i]))

        callers = [threading.Thread(target=ask, args=(i,)) for i in range(3)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(60)
            assert not caller.is_alive()
    assert wrong == []


def test_a_closed_model_leaves_no_thread(wide) -> None:
    """close() returns when the threads have left the machine."""
    graph, inputs, _ = wide
    before = threading.active_count()
    model = build(graph, threads=2)
    model(inputs[0])
    model.close()
    assert threading.active_count() == before

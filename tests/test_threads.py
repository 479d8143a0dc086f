"""Threads inside one inference: the same numbers, whenever the next call comes, and no thread left behind."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from edgeq import program
from edgeq.engine import build
from edgeq.errors import InputError
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


@pytest.mark.parametrize("name", [n for n in CASES if n.endswith(("int8", "float32")) and "softmax" not in n])
def test_every_kernel_can_be_shared(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads that share every instruction, however small, compute what one does."""
    monkeypatch.setattr(program, "PARALLEL_NS", 0.0)
    monkeypatch.setattr(program, "WORTH", 1e9)
    monkeypatch.setattr(cost, "MEETING_NS", 0.0)
    graph = CASES[name]()
    rng = np.random.default_rng(0)
    x = {n: samples(graph.tensors[i], rng) for n, i in zip(graph.input_names(), graph.inputs, strict=True)}
    with build(graph, threads=2) as two, build(graph) as one:
        assert np.array_equal(two(x), one(x))


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
        context.suspended.value = suspended
        for i in range(suspended):
            assert context.suspended.value == suspended - i
            assert np.array_equal(model(inputs[i % 3]), expected[i % 3])
        assert np.array_equal(model(inputs[1]), expected[1])


def test_long_calls_that_stall_are_done_alone(wide) -> None:
    """Where others want the cores from the first call on, most calls soon are one thread's."""
    graph, inputs, expected = wide
    with build(graph, threads=2) as model:
        program = model.program
        context, run, together = program.acquire(), program.machine.run, 0

        def stalling(address: int, thread: int) -> int:
            nonlocal together
            alone = thread != 0 or context.suspended.value
            status = run(address, thread)
            if not alone and status == 0:
                together += 1
                time.sleep(0.005)
            return status

        program.machine = replace(program.machine, run=stalling)
        y = np.empty(model.outputs[0].shape, np.int8)
        for i in range(60):
            program.run_in(context, [inputs[i % 3]], [y], 1)
            assert np.array_equal(y, expected[i % 3])
        assert 2 <= together <= 12


def test_a_second_thread_joins_calls_that_come_close(wide) -> None:
    """A short call waits for nobody, yet calls in a row are soon those of two threads."""
    graph, inputs, expected = wide
    with build(graph, threads=2) as model:
        context = model._direct
        assert context is not None
        end = time.perf_counter() + 20
        while context.barrier[0] < 100 and time.perf_counter() < end:
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

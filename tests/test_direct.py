"""The builtin way into the machine: the same answers as the long way, for every kind of argument, and nothing left behind."""

from __future__ import annotations

import sys
import threading
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from control_models import counter

from edgeq import direct, machine
from edgeq.engine import Model, build
from edgeq.errors import InputError
from edgeq.graph import Array
from tests.engine_models import conv, dense

pytestmark = pytest.mark.skipif(not (direct.fits() and machine.get().call), reason="objects lie elsewhere here")


class Sub(np.ndarray):
    """An array of another type."""


def long_way(model: Model, x: object) -> Array:
    """The same call without the builtin."""
    kept, model._direct = model._direct, None
    try:
        return model(x)
    finally:
        model._direct = kept


CASES: dict[str, Callable[[Array], object]] = {
    "as it is": lambda x: x,
    "read-only": lambda x: np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape),
    "every second column": lambda x: np.repeat(x, 2, -1)[..., ::2],
    "columns first": np.asfortranarray,
    "a subclass": lambda x: x.view(Sub),
    "float32": lambda x: (x * np.float32(0.1)).astype(np.float32),
    "float32, reversed": lambda x: (x * np.float32(0.1)).astype(np.float32)[..., ::-1],
    "float64": lambda x: x * 0.1,
    "a batch of two": lambda x: np.concatenate([x, x[:, ::-1]]),
    "a batch of none": lambda x: x[:0],
    "by name": lambda x: {"x": x},
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("graph", [dense("int8"), conv("int8")], ids=["dense", "conv"])
def test_answers_are_those_of_the_long_way(graph, name: str) -> None:
    """Whatever array is given, the builtin answers as the long way does, or leaves it the call."""
    model = build(graph)
    assert model._direct is not None
    p = model.inputs[0]
    x = CASES[name](np.random.default_rng(3).integers(-128, 128, p.shape).astype(p.dtype))
    assert np.array_equal(model(x), long_way(model, x))


def test_the_builtin_takes_the_models_own_dtype_and_floats_and_nothing_else() -> None:
    """It returns None for an array that the ticket does not describe, and for anything that is no array."""
    model = build(dense("int8"))
    assert model._direct is not None
    call, blank = model._direct.call, model._direct.blank
    x = np.zeros((1, 37), np.int8)
    y = blank()
    assert call(x, y) is y
    assert call(x.astype(np.float32), y) is y
    for other in (x[0], x.T, x.view(np.uint8), x.astype(np.float64), x[..., ::-1], x.view(Sub), None, 3, "x", [0] * 37):
        assert call(other, y) is None
    assert call(x) is None
    assert call() is None


def test_what_goes_wrong_in_the_machine_is_told() -> None:
    """A NaN is refused on the fast way as on the long one."""
    model = build(dense("int8"))
    with pytest.raises(InputError, match="NaN"):
        model(np.full((1, 37), np.nan, np.float32))


def test_a_hundred_thousand_calls_leave_nothing_behind() -> None:
    """References to arguments, results and None stay as they were, and memory does not grow."""
    model = build(dense("int8"))
    assert model._direct is not None
    good, bad = np.zeros((1, 37), np.int8), np.zeros((1, 37), np.int8)[:, ::-1]
    for x in (good, bad, good.astype(np.float32)):
        model(x)
    before = [sys.getrefcount(o) for o in (good, bad, None, model._direct.call)]
    tracemalloc.start()
    try:
        start, _ = tracemalloc.get_traced_memory()
        for _ in range(50_000):
            model(good)
            model(bad)
        end, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    after = [sys.getrefcount(o) for o in (good, bad, None, model._direct.call)]
    assert all(abs(a - b) < 100 for a, b in zip(after, before, strict=True))
    assert end - start < 4096
    assert peak - start < 65536
    held, plain = sys.getrefcount(model(good)), sys.getrefcount(np.zeros(1))
    assert held == plain


def test_threads_do_not_meet_in_a_frame() -> None:
    """Several threads that call one model each get the answer to their own question."""
    model = build(dense("int8"))
    inputs = [np.random.default_rng(i).integers(-128, 128, (1, 37)).astype(np.int8) for i in range(4)]
    expected = [long_way(model, x) for x in inputs]
    wrong: list[int] = []

    def ask(i: int) -> None:
        wrong.extend(i for _ in range(2000) if not np.array_equal(model(inputs[i]), expected[i]))

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert wrong == []


def test_what_a_model_remembers_is_one_memory_for_all_ways_in() -> None:
    """A model with variables goes the builtin's way too; batches, names and resets in between find and leave the same state."""
    x = np.array([1, 2, 3], np.float32)
    with build(counter()) as model:
        assert model._direct is not None
        seen = [model(x)[0], long_way(model, x)[0], model({"x": x})[0], model(x.astype(np.float64))[0], model(x)[0]]
        assert seen == [11, 12, 13, 14, 15]
        model.reset()
        assert [model(x)[1], long_way(model, x)[1], model(x)[1]] == [12, 14, 16]


def test_threads_count_every_call_of_a_model_that_remembers() -> None:
    """Calls by the builtin and by the long way, from several threads, each add to the variable once."""
    x = np.ones(3, np.float32)
    with build(counter()) as model:
        ways = [lambda: model(x), lambda: model({"x": x}), lambda: model(x), lambda: model(x.astype(np.float64))]
        threads = [threading.Thread(target=lambda way=way: [way() for _ in range(500)]) for way in ways]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert model(x)[0] == 10 + 4 * 500 + 1


def test_a_closed_model_is_not_called() -> None:
    """close() closes the fast way too."""
    model = build(dense("int8"))
    model.close()
    with pytest.raises(InputError, match="closed"):
        model(np.zeros((1, 37), np.int8))

"""Subgraphs that are called, and variables that outlive a run: the engine against the runtimes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from control_models import add, composite, conditional, counter, counter_of_three, endless, loop, stream
from engine_models import outputs
from naive.oracle import Oracle, missing

from edgeq import program
from edgeq.engine import build
from edgeq.errors import InputError
from edgeq.graph import Graph, SubGraph, Tensor
from edgeq.interpreter import Interpreter
from edgeq.tflite import write

ROUNDINGS = ("tflite", "xnnpack")
f32 = np.float32


def fed(graph: Graph, seed: int) -> list[np.ndarray]:
    """Random inputs, small whole numbers for integers."""
    rng = np.random.default_rng(seed)
    out = []
    for i in graph.inputs:
        t = graph.tensors[i]
        out.append(
            (rng.standard_normal(t.shape) if t.dtype == "float32" else rng.integers(0, 9, t.shape)).astype(t.dtype)
        )
    return out


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("make", [conditional, loop])
def test_control_flow_equals_the_runtime(make: Callable[[], Graph], rounding: str) -> None:
    """Either branch is taken, and a loop goes round as often as its input says, none included."""
    if reason := missing(rounding):
        pytest.skip(reason)
    graph = make()
    oracle = Oracle(write(graph), rounding)
    with build(graph, rounding=rounding) as model:
        for seed in range(12):
            inputs = fed(graph, seed)
            for got, expected in zip(outputs(model, inputs), oracle(inputs), strict=True):
                np.testing.assert_array_equal(got, expected)


@pytest.mark.skipif(missing("xnnpack") is not None, reason=str(missing("xnnpack")))
def test_a_composite_is_what_its_subgraph_says() -> None:
    """STABLEHLO_COMPOSITE runs the subgraph that spells it out, as LiteRT does."""
    graph = composite()
    oracle, inputs = Oracle(write(graph), "xnnpack"), fed(graph, 1)
    with build(graph) as model:
        np.testing.assert_array_equal(outputs(model, inputs)[0], oracle(inputs)[0])


def test_two_threads_take_the_same_branches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that share the work of a body come to every branch together."""
    monkeypatch.setattr(program, "PARALLEL_NS", 0.0)
    monkeypatch.setattr(program, "WORTH", 1e9)
    graph = loop()
    with build(graph) as one, build(graph, threads=2) as two:
        assert two.program.threads == 2
        inputs = fed(graph, 3)
        many = [np.concatenate([a] * 1) for a in inputs]
        for got, expected in zip(outputs(two, many), outputs(one, inputs), strict=True):
            np.testing.assert_array_equal(got, expected)


def test_an_endless_loop_is_stopped() -> None:
    """A loop that comes back a million times is an error, not a hang."""
    with build(endless()) as model:
        assert not model(np.array([False]))[0]
        with pytest.raises(InputError, match=r"operation 0: the loop does not end"):
            model(np.array([True]))


@pytest.mark.parametrize("dtype", ["float32", "int8"])
@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_variables_survive_between_runs(dtype: str, rounding: str) -> None:
    """A variable starts at its first value and keeps what each run leaves in it, as in the runtime."""
    if reason := missing(rounding):
        pytest.skip(reason)
    graph = counter(dtype)
    oracle = Oracle(write(graph), rounding)
    with build(graph, rounding=rounding) as model:
        for seed in range(5):
            inputs = fed(graph, seed)
            np.testing.assert_array_equal(outputs(model, inputs)[0], oracle(inputs)[0])


@pytest.mark.parametrize("late", [False, True], ids=["used at once", "used behind the assignment"])
def test_a_variable_is_read_as_it_was_then(late: bool) -> None:
    """What READ_VARIABLE gives stays what it is when the variable changes, and is copied only where that matters."""
    if reason := missing("tflite"):
        pytest.skip(reason)
    graph = stream(late)
    oracle = Oracle(write(graph), "tflite")
    with build(graph) as model:
        reads = [i for i in model.plan.instructions if graph.ops[i.op].code == "READ_VARIABLE"]
        assert len(reads) == int(late)
        for seed in range(5):
            inputs = fed(graph, seed)
            np.testing.assert_allclose(outputs(model, inputs)[0], oracle(inputs)[0], rtol=1e-6)


def test_reset_forgets() -> None:
    """After a reset a model answers as it did first; a batch counts as its samples one after another."""
    with build(counter()) as model:
        x = np.array([1, 2, 3], f32)
        first = model(x)
        assert model(x).tolist() == [12, 14, 16]
        model.reset()
        np.testing.assert_array_equal(model(x), first)


def interpreters(content: bytes) -> list[Any]:
    """edgeq's interpreter and those of the runtimes that are installed."""
    made: list[Any] = [Interpreter(model_content=content, backend="native")]
    made += [Oracle(content, rounding)._interpreter for rounding in ROUNDINGS if not missing(rounding)]
    for one in made:
        one.allocate_tensors()
    return made


def test_an_interpreter_keeps_resource_variables_over_a_reset() -> None:
    """reset_all_variables leaves resource variables alone, in edgeq as in the runtimes."""
    for interpreter in interpreters(write(counter())):
        x, y = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
        seen = []
        for k in range(4):
            if k == 2:
                interpreter.reset_all_variables()
            interpreter.set_tensor(x, np.ones(3, f32))
            interpreter.invoke()
            seen.append(float(interpreter.get_tensor(y)[0]))
        assert seen == [11, 12, 13, 14]


def test_signatures_share_their_variables() -> None:
    """What one signature assigns another reads, whichever runs first, in edgeq as in the runtimes."""
    for interpreter in interpreters(write(counter_of_three())):
        step, clear, look = map(interpreter.get_signature_runner, ("step", "clear", "look"))
        x = np.array([1, 2, 3], f32)
        runs = (look, {}), (step, {"x": x}), (step, {"x": x}), (look, {}), (clear, {}), (look, {}), (step, {"x": x})
        seen = [signature(**inputs)["y"].tolist() for signature, inputs in runs]
        ten, one = [10.0] * 3, [11.0, 12.0, 13.0]
        assert seen == [ten, one, [12, 14, 16], [12, 14, 16], [12, 14, 16], [0, 0, 0], [1, 2, 3]]


def test_a_single_number_comes_as_numpys_scalar() -> None:
    """get_tensor of a tensor without dimensions gives what the runtimes give."""
    graph = Graph((SubGraph((Tensor("x", (), "float32"), Tensor("y", (), "float32")), (add(0, 0, 1),), (0,), (1,)),))
    for interpreter in interpreters(write(graph)):
        interpreter.set_tensor(0, f32(3))
        interpreter.invoke()
        assert type(interpreter.get_tensor(1)) is f32

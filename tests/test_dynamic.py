"""Models whose shapes depend on what they are fed: held against the runtimes, and refused in one line where nothing fits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dynamic_models import SINGLE, WHOLE, counted, fed, growing, ints, masked, noise, opened, vector
from engine_models import outputs
from naive.absent import is_absent
from naive.oracle import Oracle, missing

from edgeq import dynamic, load
from edgeq.cli import main
from edgeq.dynamic import DynamicModel, Evaluator
from edgeq.errors import EdgeqError, InputError
from edgeq.graph import Graph, Tensor
from edgeq.interpreter import Interpreter
from edgeq.machine import get
from edgeq.plan.types import Rounding
from edgeq.tflite import write

f32 = np.float32
CASES = {**SINGLE, **WHOLE}
ROUNDINGS = ("tflite", "xnnpack")


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("name", CASES)
def test_shapes_and_values_are_the_runtimes(name: str, rounding: str) -> None:
    """Every run gives outputs of the shapes and values that the runtime gives, one model fed again and again."""
    if reason := missing(rounding):
        pytest.skip(reason)
    make, feeds = CASES[name]
    graph = make()
    if is_absent(name, "float32", rounding):
        with pytest.raises(ValueError, match=r"\S"):
            Oracle(write(graph), rounding)
        pytest.skip("the runtime does not have it")
    oracle = Oracle(write(graph), rounding)
    with dynamic.build(graph, rounding=rounding) as model:
        assert isinstance(model, DynamicModel)
        for inputs in feeds:
            for got, expected in zip(outputs(model, list(inputs)), oracle(inputs), strict=True):
                assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
                if got.dtype == f32:  # sums are added up in another order
                    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
                else:
                    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("name", CASES)
def test_an_interpreter_does_the_same_and_shows_the_shapes(name: str) -> None:
    """edgeq.Interpreter gives such outputs no memory before a run, and their details after it are the model's."""
    make, feeds = CASES[name]
    found = Interpreter(model_content=write(make()), backend="native")
    found.allocate_tensors()
    slots = [d["index"] for d in found.get_input_details()]
    places = [d["index"] for d in found.get_output_details()]
    with pytest.raises(ValueError, match="Tensor data is null"):
        found.get_tensor(places[0])
    with dynamic.build(make()) as model:
        for inputs in feeds:
            for i, x in zip(slots, inputs, strict=True):
                found.set_tensor(i, x)
            found.invoke()
            for i, expected in zip(places, outputs(model, list(inputs)), strict=True):
                np.testing.assert_array_equal(found.get_tensor(i), expected)
                np.testing.assert_array_equal(found.tensor(i)(), expected)
            assert [tuple(d["shape"]) for d in found.get_output_details()] == [
                found.get_tensor(i).shape for i in places
            ]


REFUSED = {
    "a slice outside": ("SLICE", lambda: (noise(2, 3, 4), ints(0, 1, 0), ints(1, 3, 4))),
    "a negative length": ("FILL", lambda: (ints(-2, 3), np.array(1, f32))),
    "more than there is memory for": ("FILL", lambda: (ints(2**20, 2**20), np.array(1, f32))),
    "a product that overflows": ("FILL", lambda: (ints(2**31 - 1, 2**31 - 1), np.array(1, f32))),
    "a range without end": ("RANGE", lambda: tuple(np.array(v, np.int32) for v in (0, 5, 0))),
    "a range the wrong way": ("RANGE", lambda: tuple(np.array(v, np.int32) for v in (0, 5, -1))),
    "a range that is too long": ("RANGE", lambda: tuple(np.array(v, np.int32) for v in (-(2**31), 2**31 - 1, 1))),
    "a range to infinity": ("RANGE of floats", lambda: tuple(np.array(v, f32) for v in (0, np.inf, 1))),
    "a range in vanishing steps": ("RANGE of floats", lambda: tuple(np.array(v, f32) for v in (0, 3e38, 1e-38))),
    "repetitions beyond the limit": ("TILE", lambda: (noise(2, 3, 4), ints(2**20, 2**20, 2**20))),
    "paddings beyond the limit": ("PAD", lambda: (noise(2, 3, 4), ints([[0, 2**31 - 1], [0, 2**31 - 1], [0, 0]]))),
    "a shape of other size": ("RESHAPE", lambda: (noise(2, 3, 4), ints(5, 5))),
    "an axis twice": ("TRANSPOSE", lambda: (noise(2, 3, 4), ints(0, 0, 1))),
    "an image of no height": ("RESIZE_BILINEAR", lambda: (noise(1, 5, 7, 3), ints(0, 4))),
    "an image beyond the limit": ("RESIZE_BILINEAR", lambda: (noise(1, 5, 7, 3), ints(2**20, 2**20))),
    "more than there are": ("TOPK_V2", lambda: (noise(2, 3, 4), np.array(5, np.int32))),
    "shapes that do not broadcast": ("BROADCAST_ARGS", lambda: (ints(3, 2), ints(2, 1, 4))),
}


@pytest.mark.parametrize("what", REFUSED)
def test_hostile_values_are_refused_in_one_line(what: str) -> None:
    """Values that lead to no shape, or to one that is too large, are an error of one line; the next run is as good as any."""
    name, make = REFUSED[what]
    graph, feeds = CASES[name][0](), CASES[name][1]
    with dynamic.build(graph) as model:
        with pytest.raises(EdgeqError) as caught:
            outputs(model, list(make()))
        assert "\n" not in str(caught.value)
        outputs(model, list(feeds[0]))
    found = Interpreter(model_content=write(graph), backend="native")
    found.allocate_tensors()
    for d, x in zip(found.get_input_details(), make(), strict=True):
        found.set_tensor(d["index"], x)
    with pytest.raises(RuntimeError):
        found.invoke()


def test_numbers_that_overflow_make_no_model_dynamic(monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph whose numbers cannot be computed with is refused as such, not run anew for each input."""

    def overflow(*_: object) -> None:
        raise OverflowError("cannot convert float infinity to integer")

    graph = growing()
    assert dynamic.is_dynamic(graph, "tflite")
    monkeypatch.setattr("edgeq.plan.survey.lower", overflow)
    assert not dynamic.is_dynamic(graph, "tflite")


def test_plans_are_kept_by_shape_and_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values that give no shape need no new plan, and no more plans are kept than the limit says."""
    from edgeq.dynamic import evaluate

    monkeypatch.setattr(evaluate, "MAX_KEPT", 3)
    made: list[object] = []
    planner = evaluate.make_piece
    monkeypatch.setattr(evaluate, "make_piece", lambda *a: made.append(a) or planner(*a))
    evaluator = Evaluator(fed("SLICE", Tensor("x", (2, 3, 4), "float32"), vector("b", 3), vector("s", 3), rank=3), get(),
                          Rounding.XNNPACK)  # fmt: skip
    for seed in range(5):
        evaluator.run([noise(2, 3, 4, seed=seed), ints(0, 0, 0), ints(1, 1, 1)])
    assert len(made) == 1
    for k in range(4):
        evaluator.run([noise(2, 3, 4), ints(0, 0, k), ints(1, 1, 1)])
    assert len(evaluator._made) == 3


def test_a_loop_without_end_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop whose tensor grows comes back as often as the limit says, and no more."""
    from edgeq.dynamic import evaluate

    monkeypatch.setattr(evaluate, "MAX_TURNS", 50)
    with dynamic.build(growing()) as model, pytest.raises(InputError, match="more than 50 turns"):
        outputs(model, [np.array(2**31 - 1, np.int32), noise(1, 2)])


def test_intermediate_values_can_be_kept() -> None:
    """With experimental_preserve_all_tensors every tensor has its value, and its shape, after a run."""
    found = Interpreter(model_content=write(masked()), backend="native", experimental_preserve_all_tensors=True)
    found.allocate_tensors()
    x = noise(6, 3, seed=1)
    found.set_tensor(0, x)
    found.invoke()
    np.testing.assert_allclose(found.get_tensor(2), x.sum(1), rtol=1e-5)
    np.testing.assert_array_equal(found.get_tensor(6), x[found.get_tensor(5)[:, 0]])
    assert tuple(found.get_tensor_details()[6]["shape"]) == found.get_tensor(6).shape


def test_reset_forgets() -> None:
    """After a reset the state is what it was first."""
    with dynamic.build(counted()) as model:
        assert [outputs(model, [noise(6)])[0].size for _ in range(3)] == [1, 2, 3]
        model.reset()
        assert outputs(model, [noise(6)])[0].size == 1


def test_inputs_take_any_length_that_is_open(tmp_path: Path) -> None:
    """A length of −1 may be any; another is refused, as are ranks and types."""
    op = fed("SLICE", opened("x", (-1, 4)), vector("b", 2), vector("s", 2), rank=2)
    path = tmp_path / "m.tflite"
    path.write_bytes(write(op))
    with load(path, backend="native") as model:
        for rows in (1, 5):
            assert outputs(model, [noise(rows, 4), ints(0, 1), ints(-1, 2)])[0].shape == (rows, 2)
        for wrong in (noise(2, 5), noise(4), np.zeros((2, 4), np.int8)):
            with pytest.raises(InputError, match=r"input 'x'"):
                outputs(model, [wrong, ints(0, 1), ints(-1, 2)])


def test_resized_interpreters_run_too() -> None:
    """A resize before allocation is what a model that is planned while it runs starts from."""
    graph: Graph = fed("SLICE", opened("x", (-1, 4)), vector("b", 2), vector("s", 2), rank=2)
    found = Interpreter(model_content=write(graph), backend="native")
    found.resize_tensor_input(0, [3, 4])
    found.allocate_tensors()
    for i, x in enumerate([noise(3, 4), ints(1, 0), ints(2, 4)]):
        found.set_tensor(i, x)
    found.invoke()
    np.testing.assert_array_equal(found.get_tensor(3), noise(3, 4)[1:])


def test_commands_run_and_show_such_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`edgeq lint` has nothing to say, `inspect` tells that plans are made while it runs, `run` takes sample by sample."""
    path, given, out = (str(tmp_path / n) for n in ("m.tflite", "in.npz", "out.npz"))
    Path(path).write_bytes(write(fed("SLICE", Tensor("x", (2, 3), "float32"), vector("b", 2), vector("s", 2), rank=2)))
    assert main(["lint", path]) == 0
    assert main(["inspect", path]) == 0
    assert "made while it runs" in capsys.readouterr().out
    x, begins = np.stack([noise(2, 3, seed=k) for k in range(4)]), np.array([[0, 0], [1, 0], [0, 1], [1, 1]], np.int32)
    sizes = np.full((4, 2), 1, np.int32)
    np.savez(given, x=x.reshape(8, 3), b=begins.reshape(-1), s=sizes.reshape(-1))
    assert main(["run", path, "-i", given, "-o", out]) == 0
    with np.load(out) as found:
        np.testing.assert_array_equal(found["y0"].reshape(-1), [x[k, b, c] for k, (b, c) in enumerate(begins)])
    sizes[3] = [1, 2]
    begins[3] = [0, 0]
    np.savez(given, x=x.reshape(8, 3), b=begins.reshape(-1), s=sizes.reshape(-1))
    assert main(["run", path, "-i", given, "-o", out]) != 0
    assert "outputs of different shapes do not go into one array" in capsys.readouterr().err

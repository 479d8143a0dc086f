"""The model as users call it: names, shapes, types, batches, and one clear line for everything else."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from edgeq.engine import Tracer, build, zeros
from edgeq.errors import CheckError, InputError, MachineError, UnsupportedError
from edgeq.graph import Graph, Op, SubGraph, Tensor
from edgeq.interpreter import Interpreter
from edgeq.machine import get
from edgeq.plan.bounded import bounded
from edgeq.tflite import write
from edgeq.tflite.schema import table
from tests.engine_models import binary, conv, dense, pool, softmax


@pytest.mark.parametrize("code", ["RESHAPE", "TILE", "FILL", "BROADCAST_TO", "TRANSPOSE"])
def test_lists_of_a_million_lengths_are_refused_at_once(code: str) -> None:
    """A product over a hostile shape would take minutes, so its length is looked at first."""
    long = Tensor("s", (1 << 20,), "int32", np.full(1 << 20, 1 << 30, np.int32))
    tensors = (Tensor("x", (2, 3), "float32"), long, Tensor("y", (6,), "float32"))
    inputs = (1, 0) if code == "FILL" else (0, 1)
    options = {"RESHAPE": table("ReshapeOptions"), "TRANSPOSE": table("TransposeOptions"), "FILL": table("FillOptions")}
    op = Op(code, inputs, (2,), options.get(code))
    get()  # compiling the kernels, once on a machine, is not on the clock
    start = time.perf_counter()
    with pytest.raises((CheckError, UnsupportedError)):
        build(Graph((SubGraph(tensors, (op,), (0,), (2,)),)))
    assert time.perf_counter() - start < 5


def test_a_dimension_of_millions_does_not_come_apart() -> None:
    """UNPACK of more indices than there are outputs is refused in one line, which does not list them."""
    tensors = (Tensor("x", (2, 1 << 24), "float32"), Tensor("y", (2,), "float32"), Tensor("z", (2,), "float32"))
    op = Op("UNPACK", (0,), (1, 2), table("UnpackOptions", axis=1, num=2))
    with pytest.raises(CheckError, match=r"2 outputs of lengths \[1, 1\] from a dimension of 16777216"):
        build(Graph((SubGraph(tensors, (op,), (0,), (1, 2)),)))


def test_an_open_output_has_the_shape_that_planning_found() -> None:
    """A file may leave an output's lengths open and state others: results are as large as what is computed."""
    tensors = (
        Tensor("x", (4, 3, 5), "float32"),
        Tensor("y", (1, 1, 1), "float32", shape_signature=(-1, -1, -1)),
    )
    graph = Graph((SubGraph(tensors, (Op("ADD", (0, 0), (1,), table("AddOptions")),), (0,), (1,)),))
    x = np.arange(60, dtype=np.float32).reshape(4, 3, 5)
    with build(graph) as model:
        assert model.outputs[0].shape == (4, 3, 5)
        np.testing.assert_array_equal(model(x), 2 * x)
    np.testing.assert_array_equal(Tracer(graph).run([x])[1], 2 * x)
    interpreter = Interpreter(model_content=write(graph), backend="native")
    interpreter.allocate_tensors()
    interpreter.set_tensor(0, x)
    interpreter.invoke()
    np.testing.assert_array_equal(interpreter.get_tensor(1), 2 * x)
    assert interpreter.get_output_details()[0]["shape"].tolist() == [4, 3, 5]


def test_shape_dtype_and_parameters_are_shown() -> None:
    """Inputs and outputs tell their name, shape, dtype and what the integers mean."""
    model = build(dense("int8"))
    (x,), (y,) = model.inputs, model.outputs
    assert (x.name, x.shape, x.dtype) == ("x", (1, 37), np.int8)
    assert (y.name, y.shape, y.dtype) == ("y", (1, 21), np.int8)
    assert x.quantmod is not None
    assert x.quantmod.dequantize(np.array([5], np.int8))[0] == 0
    assert build(dense("float32")).inputs[0].quantmod is None


def test_floats_are_quantized_by_the_inputs_parameters() -> None:
    """Floats given to an int8 input are what the same integers would be."""
    model = build(dense("int8"))
    q = np.random.default_rng(0).integers(-128, 128, (1, 37)).astype(np.int8)
    real = model.inputs[0].quantmod.dequantize(q)
    assert np.array_equal(model(real), model(q))


def test_outputs_can_come_as_real_numbers() -> None:
    """dequantize=True gives scale · (q − zero_point)."""
    model = build(dense("int8"))
    x = np.zeros((1, 37), np.int8)
    assert np.allclose(model(x, dequantize=True), np.float32(0.1) * model(x).astype(np.float32))


def test_a_batch_is_any_multiple() -> None:
    """The leading dimension may be any multiple of the model's own; an exact fit keeps its shape."""
    model = build(conv("int8", n=3))
    x = np.random.default_rng(0).integers(-128, 128, (6, 7, 6, 5)).astype(np.int8)
    y = model(x)
    assert y.shape == (6, 7, 6, 9)
    assert np.array_equal(y[3:], model(x[3:]))
    assert model(x[:0]).shape == (0, 7, 6, 9)
    with pytest.raises(InputError, match=r"has shape \[4, 7, 6, 5\], \(N·3, 7, 6, 5\) is expected"):
        model(x[:4])


def test_arrays_need_not_lie_in_order() -> None:
    """Strided and reversed views are read as what they show."""
    model = build(conv("int8"))
    x = np.random.default_rng(0).integers(-128, 128, (1, 7, 6, 5)).astype(np.int8)
    view = np.asfortranarray(x)[:, :, ::-1]
    assert np.array_equal(model(view), model(view.copy()))


def test_several_inputs_go_by_name() -> None:
    """Two inputs are given as a dict; missing, extra and unnamed ones are refused."""
    model = build(binary("ADD", "int8"))
    a = np.zeros((1, 5, 4, 6), np.int8)
    assert model({"a": a, "b": a}).shape == a.shape
    with pytest.raises(InputError, match=r"inputs are named \['a'\], \['a', 'b'\] are expected"):
        model({"a": a})
    with pytest.raises(InputError, match="a dict with"):
        model(a)
    with pytest.raises(InputError, match="the same number is expected"):
        model({"a": a, "b": np.zeros((2, 5, 4, 6), np.int8)})


@pytest.mark.parametrize(
    ("x", "says"),
    [
        (np.zeros((1, 36), np.int8), r"has shape \[1, 36\], \(N, 37\) is expected"),
        (np.zeros(37, np.int8), r"has shape \[37\]"),
        (np.zeros((1, 37), np.int32), "is int32, int8 or floats is expected"),
        (np.zeros((1, 37), np.uint8), "is uint8, int8 or floats is expected"),
        (np.array([["a"] * 37]), "is <U1"),
    ],
)
def test_anything_else_is_one_clear_line(x: np.ndarray, says: str) -> None:
    """A wrong shape or type says what was found and what was expected."""
    with pytest.raises(InputError, match=says):
        build(dense("int8"))(x)


def test_bad_arguments_are_refused() -> None:
    """Threads below one, an unknown rounding, a closed model."""
    with pytest.raises(InputError, match="threads is 0"):
        build(dense("int8"), threads=0)
    with pytest.raises(InputError, match="rounding is 'exact'"):
        build(dense("int8"), rounding="exact")
    with build(dense("int8")) as model:
        pass
    with pytest.raises(InputError, match="closed"):
        model(np.zeros((1, 37), np.int8))


def test_calls_from_many_threads_do_not_meet() -> None:
    """Twenty threads over one model get their own answers, with one and with two threads inside."""
    for inside in (1, 2):
        model = build(conv("int8", h=20, w=20), threads=inside)
        rng = np.random.default_rng(0)
        xs = [rng.integers(-128, 128, (1, 20, 20, 5)).astype(np.int8) for _ in range(20)]
        want = [model(x) for x in xs]
        wrong: list[int] = []

        def work(k: int, model=model, xs=xs, want=want, wrong=wrong) -> None:
            for _ in range(20):
                if not np.array_equal(model(xs[k]), want[k]):
                    wrong.append(k)

        threads = [threading.Thread(target=work, args=(k,)) for k in range(20)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert not wrong
        model.close()


def test_an_operation_that_edgeq_lacks_is_named() -> None:
    """An unknown operation is refused before anything runs."""
    graph = softmax("float32")
    graph = graph.with_main(ops=(Op("CUMSUM", (0,), (1,), None),))
    with pytest.raises((UnsupportedError, CheckError), match="CUMSUM"):
        build(graph)


def test_a_shape_that_contradicts_is_refused() -> None:
    """An output whose stated shape is not the computed one never reaches the machine."""
    graph = pool("AVERAGE_POOL_2D", "int8")
    x, y = graph.tensors
    with pytest.raises(CheckError, match="yields shape"):
        build(graph.with_main(tensors=(x, replace(y, shape=(1, 400, 300, 5)))))


def test_the_tracer_shows_every_tensor() -> None:
    """A trace holds the input as given and the output as the model computes it."""
    graph = conv("int8")
    x = np.random.default_rng(0).integers(-128, 128, (1, 7, 6, 5)).astype(np.int8)
    tracer = Tracer(graph)
    seen = tracer.run([x])
    assert np.array_equal(seen[0], x)
    assert np.array_equal(seen[3], build(graph)(x))
    with pytest.raises(InputError, match="is expected"):
        tracer.run([x.astype(np.float32)])


def test_overflowing_arithmetic_is_refused_as_the_models() -> None:
    """Where planning meets an infinity that some lowering has made of huge numbers, the model is refused."""

    @bounded
    def plan() -> int:
        return int(np.float32(3e38) * np.float32(10))

    with pytest.raises(CheckError, match="too large to compute with"):
        plan()


def test_no_array_can_be_that_large() -> None:
    """A shape whose other dimensions overflow is refused as one without memory is, though it holds nothing."""
    with pytest.raises(MachineError, match="more than NumPy can hold"):
        zeros((0, 8, 2**31 - 1, 2**31 - 2), np.dtype(np.uint8))

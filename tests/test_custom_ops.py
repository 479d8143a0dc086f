"""edgeq.register_op: functions of the application's as operations of a plan."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba import cfunc, njit, types

import edgeq
from edgeq import Prepared, customs, engine, interpreter
from edgeq.errors import CheckError, CustomOpError, InputError, UnsupportedError
from edgeq.fallback import lacking
from edgeq.graph import Graph, Op, Quantization, SubGraph, Tensor
from edgeq.kernels.memory import f32
from edgeq.shapes import resize
from edgeq.tflite import write
from edgeq.tflite.schema import table

Q = Quantization(np.array([0.05], np.float32), np.array([-3], np.int64))


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """No test leaves an operation behind."""
    before = dict(customs._REGISTERED)
    yield
    customs._REGISTERED.clear()
    customs._REGISTERED.update(before)


def between_adds(dtype: str, shape: tuple[int, ...] = (2, 5), name: str = "Mine", **fields: Any) -> Graph:
    """x → ADD x → custom `name` → ADD itself, in one type."""
    q = Q if dtype in ("int8", "uint8", "int16") else None
    if dtype == "uint8":
        q = Quantization(Q.scale, np.array([7], np.int64))
    if dtype == "int16":
        q = Quantization(Q.scale, np.array([0], np.int64))
    tensors = tuple(Tensor(n, shape, dtype, quantization=q) for n in "xabcy")
    add = table("AddOptions")
    ops = (
        Op("ADD", (0, 0), (1,), add, version=2),
        Op("CUSTOM", (1,), (2,), custom_code=name, **fields),
        Op("ADD", (2, 2), (4,), add, version=2),
    )
    return Graph((SubGraph(tensors, ops, (0,), (4,)),))


def only(dtype: str, shape: tuple[int, ...] = (2, 5), **fields: Any) -> Graph:
    """x → custom "Mine" → y."""
    tensors = tuple(Tensor(n, shape, dtype, quantization=Q if dtype == "int8" else None) for n in "xy")
    return Graph((SubGraph(tensors, (Op("CUSTOM", (0,), (1,), custom_code="Mine", **fields),), (0,), (1,)),))


def accept(node: edgeq.CustomNode) -> None:
    """The file's shapes, no parameters."""


def reverse(x: np.ndarray, y: np.ndarray) -> None:
    """The last axis backwards."""
    y[...] = x[..., ::-1]


@njit
def reverse_compiled(x, y):  # type: ignore[no-untyped-def]
    n = x.shape[-1]
    for i in range(x.shape[0]):
        for k in range(n):
            y[i, k] = x[i, n - 1 - k]


@cfunc(types.int64(types.CPointer(types.int64)))
def reverse_raw(words):  # type: ignore[no-untyped-def]
    """The same for float32 (rows, columns), as a C function."""
    x, y, rows, n = f32(words[0]), f32(words[1]), words[2], words[3]
    for i in range(rows):
        for k in range(n):
            y[i * n + k] = x[i * n + n - 1 - k]
    return 0


KERNELS = {"python": reverse, "numba": reverse_compiled}
TYPES = ("float32", "int8", "uint8", "int16", "int32", "int64", "bool")


@pytest.mark.parametrize("kind", KERNELS)
@pytest.mark.parametrize("dtype", TYPES)
def test_a_registered_kernel_computes(kind: str, dtype: str) -> None:
    """A custom operation gives what its function gives, in every type, alone and from a sample to a batch."""
    edgeq.register_op("Mine", accept, KERNELS[kind])
    rng = np.random.default_rng(1)
    x = rng.integers(-128 if dtype == "int8" else 0, 2 if dtype == "bool" else 127, (6, 5)).astype(dtype)
    with engine.build(only(dtype)) as model:
        np.testing.assert_array_equal(model(x), x[..., ::-1])
        np.testing.assert_array_equal(model(x[:2]), x[:2, ::-1])


@pytest.mark.parametrize("kind", KERNELS)
@pytest.mark.parametrize("dtype", ["float32", "int8", "uint8", "int16"])
def test_it_lies_between_other_operations(kind: str, dtype: str) -> None:
    """What a custom operation reads and writes is what its neighbours write and read."""
    edgeq.register_op("Mine", accept, KERNELS[kind])
    edgeq.register_op("Same", accept, lambda x, y: np.copyto(y, x))
    rng = np.random.default_rng(2)
    x = rng.integers(0, 100, (2, 5)).astype(dtype)
    with engine.build(between_adds(dtype)) as model, engine.build(between_adds(dtype, name="Same")) as plain:
        np.testing.assert_array_equal(model(x), plain(x)[..., ::-1])


def test_a_c_function_computes() -> None:
    """A numba.cfunc gets addresses, and the parameters as integers behind them."""
    edgeq.register_op("Mine", lambda node: Prepared(parameters=node.inputs[0].shape), reverse_raw)  # type: ignore[union-attr]
    x = np.arange(10, dtype=np.float32).reshape(2, 5)
    with engine.build(only("float32")) as model:
        np.testing.assert_array_equal(model(x), x[:, ::-1])


@pytest.mark.parametrize("compiled", [False, True])
def test_parameters_options_and_shapes_come_from_prepare(compiled: bool) -> None:
    """Numbers and arrays of prepare reach the kernel; outputs take the shapes that it returns, also after a resize."""

    def scale_and_repeat(x, table, y, factor, offsets):  # type: ignore[no-untyped-def]
        for i in range(y.shape[0]):
            for k in range(y.shape[1]):
                y[i, k] = x[i % x.shape[0], k] * factor + offsets[k] + table[0]

    def prepare(node: edgeq.CustomNode) -> Prepared:
        (rows, columns), times = node.inputs[0].shape, node.options[0]  # type: ignore[union-attr]
        assert node.inputs[1] is not None
        assert node.inputs[1].value is not None
        assert node.inputs[1].value.tolist() == [4.0]
        assert node.inputs[1].dtype == np.float32
        return Prepared([(rows * times, columns)], (2.5, np.arange(columns, dtype=np.int32)))

    edgeq.register_op("Mine", prepare, njit(scale_and_repeat) if compiled else scale_and_repeat)
    tensors = (
        Tensor("x", (2, 5), "float32", shape_signature=(-1, 5)),
        Tensor("c", (1,), "float32", np.array([4], np.float32)),
        Tensor("y", (6, 5), "float32", shape_signature=(-1, 5)),
    )
    op = Op("CUSTOM", (0, 1), (2,), custom_code="Mine", custom_options=b"\x03")
    graph = Graph((SubGraph(tensors, (op,), (0,), (2,)),))
    for rows in (2, 4):
        x = np.arange(rows * 5, dtype=np.float32).reshape(rows, 5)
        with engine.build(resize(graph, {0: (rows, 5)})) as model:
            np.testing.assert_array_equal(model(x), np.tile(x * 2.5 + np.arange(5) + 4, (3, 1)))


@pytest.mark.parametrize("kind", KERNELS)
def test_an_input_left_out_is_none(kind: str) -> None:
    """An optional input that a model omits reaches the kernel as None."""

    def kernel(x, bias, y):  # type: ignore[no-untyped-def]
        y[...] = x
        if bias is None:
            y[...] = y + 1

    edgeq.register_op("Mine", accept, njit(kernel) if kind == "numba" else kernel)
    tensors = (Tensor("x", (2, 5), "float32"), Tensor("y", (2, 5), "float32"))
    graph = Graph((SubGraph(tensors, (Op("CUSTOM", (0, -1), (1,), custom_code="Mine"),), (0,), (1,)),))
    x = np.ones((2, 5), np.float32)
    with engine.build(graph) as model:
        np.testing.assert_array_equal(model(x), x + 1)


def test_models_files_and_interpreters_have_it(tmp_path: Path) -> None:
    """edgeq.load, several threads, and edgeq.Interpreter run a model with a registered operation natively."""
    edgeq.register_op("Mine", accept, reverse)
    path = tmp_path / "m.tflite"
    path.write_bytes(write(between_adds("float32", (2, 5))))
    x = np.arange(10, dtype=np.float32).reshape(2, 5)
    expected = 4 * x[:, ::-1]
    with edgeq.load(path, backend="native", threads=2) as model:
        np.testing.assert_array_equal(model(x), expected)
    found = interpreter.Interpreter(model_path=path, backend="native")
    found.allocate_tensors()
    found.set_tensor(0, x)
    found.invoke()
    np.testing.assert_array_equal(found.get_tensor(4), expected)
    assert found._get_ops_details()[1]["op_name"] == "Mine"
    assert lacking(between_adds("float32"), "tflite") == ()


def test_calls_from_many_threads_do_not_meet() -> None:
    """Each call has its own arrays, and its own failure."""

    def kernel(x: np.ndarray, y: np.ndarray) -> None:
        if x[0, 0] < 0:
            raise ValueError(f"negative {x[0, 0]}")
        y[...] = x

    edgeq.register_op("Mine", accept, kernel)
    wrong: list[str] = []
    with engine.build(only("float32")) as model:

        def work(value: float) -> None:
            x = np.full((2, 5), value, np.float32)
            for _ in range(50):
                try:
                    if not (model(x) == x).all():
                        wrong.append("another call's values")
                except CustomOpError as error:
                    if f"negative {x[0, 0]}" not in str(error):
                        wrong.append(str(error))

        threads = [threading.Thread(target=work, args=(v,)) for v in (1.0, -2.0, 3.0, -4.0)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert wrong == []


# --- errors -----------------------------------------------------------------------------------------------------------


def _raises(*_: Any) -> None:
    raise KeyError("no such thing")


@njit
def raises_compiled(x, y):  # type: ignore[no-untyped-def]
    raise ValueError("no")


@njit
def does_not_compile(x, y):  # type: ignore[no-untyped-def]
    return x.nothing_of_the_kind()


def test_a_failing_kernel_is_an_error_and_the_model_goes_on() -> None:
    """What a kernel raises ends the call with CustomOpError, its cause attached; the next call works."""
    edgeq.register_op("Mine", accept, lambda x, y: np.copyto(y, x) if x.max() < 5 else _raises())
    x = np.zeros((2, 5), np.float32)
    with engine.build(only("float32")) as model:
        with pytest.raises(
            CustomOpError, match=r"operation 0: its registered kernel failed: KeyError: 'no such thing'"
        ) as e:
            model(x + 9)
        assert isinstance(e.value.__cause__, KeyError)
        np.testing.assert_array_equal(model(x), x)


def test_ctrl_c_in_a_kernel_is_ctrl_c() -> None:
    """KeyboardInterrupt inside a kernel comes out as itself."""

    def interrupted(x: np.ndarray, y: np.ndarray) -> None:
        raise KeyboardInterrupt

    edgeq.register_op("Mine", accept, interrupted)
    with engine.build(only("float32")) as model, pytest.raises(KeyboardInterrupt):
        model(np.zeros((2, 5), np.float32))


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (raises_compiled, "its registered kernel failed: it raised an exception"),
        (lambda x, y: x, "the kernel returns ndarray, writing into its outputs is expected"),
        (lambda x, y: np.copyto(x, y), "read-only"),
        (lambda x, y: np.copyto(y, np.zeros(3)), "could not broadcast"),
        (lambda x: None, "positional argument"),
    ],
    ids=["raises, compiled", "returns", "writes its input", "wrong shape", "other arguments"],
)
def test_failures_at_run_time_are_told(kernel: Any, message: str) -> None:
    """Every way to fail while running names the operation and says what happened."""
    edgeq.register_op("Mine", accept, kernel)
    with engine.build(only("float32")) as model, pytest.raises(CustomOpError, match=message):
        model(np.zeros((2, 5), np.float32))


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (_raises, "its prepare refuses: KeyError: 'no such thing'"),
        (lambda n: [(2, 5)], "its prepare returns list, Prepared or None is expected"),
        (lambda n: Prepared([(2, 5), (1,)]), "its prepare returns 2 shapes, 1 are expected"),
        (lambda n: Prepared([(2, -5)]), "no negative or huge length"),
        (lambda n: Prepared([(2**40, 2**40)]), "no negative or huge length"),
        (lambda n: Prepared([("a",)]), "lists of whole numbers"),
        (lambda n: Prepared(parameters=["text"]), "a finite number or an array"),
        (lambda n: Prepared(parameters=[np.array(["text"])]), "a type of tensors"),
        (lambda n: Prepared(parameters=[float("nan")]), "a finite number or an array"),
    ],
)
def test_bad_preparations_are_refused(prepare: Any, message: str) -> None:
    """What prepare refuses or gets wrong is refused before anything runs."""
    edgeq.register_op("Mine", prepare, reverse)
    with pytest.raises(CustomOpError, match=message):
        engine.build(only("float32"))


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (does_not_compile, r"operation 0 \(Mine\): Numba cannot compile its kernel"),
        (cfunc(types.float64(types.float64))(lambda v: v), "its kernel is a cfunc"),
    ],
    ids=["does not compile", "other signature"],
)
def test_kernels_that_cannot_be_called_are_refused(kernel: Any, message: str) -> None:
    """A kernel that Numba cannot compile for the operation's types, or of another signature, is refused when planning."""
    edgeq.register_op("Mine", accept, kernel)
    with pytest.raises(CustomOpError, match=message):
        engine.build(only("float32"))


def test_a_shape_that_the_file_contradicts_is_refused() -> None:
    """prepare cannot give a fixed output another shape: its reader was checked against the file's."""
    edgeq.register_op("Mine", lambda n: Prepared([(4, 5)]), reverse)
    with pytest.raises(CheckError, match="yields shape"):
        engine.build(only("float32"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("", accept, reverse), "the operation's name is ''"),
        (("Mine", None, reverse), "prepare of 'Mine' is NoneType"),
        (("Mine", accept, 3), "kernel of 'Mine' is int"),
    ],
)
def test_registrations_are_checked(arguments: tuple[Any, ...], message: str) -> None:
    """What is no name or no function is refused at once."""
    with pytest.raises(InputError, match=message):
        edgeq.register_op(*arguments)


def test_a_name_is_taken_once() -> None:
    """A second registration of a name needs replace=True, and planned models keep the first."""
    edgeq.register_op("Mine", accept, reverse)
    x = np.arange(10, dtype=np.float32).reshape(2, 5)
    with engine.build(only("float32")) as model:
        with pytest.raises(InputError, match="registered already"):
            edgeq.register_op("Mine", accept, reverse)
        edgeq.register_op("Mine", accept, lambda x, y: np.copyto(y, x), replace=True)
        np.testing.assert_array_equal(model(x), x[:, ::-1])
    with engine.build(only("float32")) as model:
        np.testing.assert_array_equal(model(x), x)


def test_without_registration_it_is_lacking() -> None:
    """An operation that nobody registered is refused, by its name and with what helps."""
    with pytest.raises(UnsupportedError, match=r"operation 1 \(Mine\)"):
        engine.build(between_adds("float32"))
    (finding,) = lacking(between_adds("float32"), "xnnpack")
    assert "edgeq.register_op" in finding.remedy

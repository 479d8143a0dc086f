"""The same calls on edgeq.Interpreter, tflite_runtime and ai_edge_litert: details, values, errors and when they come."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeq
from edgeq import demo, fallback, interpreter, seal
from edgeq.errors import (
    CheckError,
    FormatError,
    GrantOperationError,
    InputError,
    MachineError,
    UnsignedError,
    UnsupportedError,
)
from edgeq.fallback import FallbackWarning
from edgeq.graph import Graph
from edgeq.tflite import write
from tests import engine_models
from tests.fallback_models import diagonal, two_outputs
from tests.naive.oracle import MODULES, missing
from tests.tflite_models import float_mlp, int8_cnn, shared_weights, uint8_residual
from tests.trusted import device, granted, publisher, trust

SHARED = Path(__file__).resolve().parents[1].parent / "shared" / "models"
FAMILIES = ("tflite", "xnnpack")


def runtime(rounding: str) -> Any:
    """The module of the runtime that defines a family of roundings."""
    if why := missing(rounding):
        pytest.skip(why)
    return import_module(f"{MODULES[rounding]}.interpreter")


def pair(content: bytes, rounding: str, **options: Any) -> tuple[Any, Any]:
    """edgeq's interpreter and the runtime's, over one model; "tflite" asks both for the reference kernels."""
    theirs = runtime(rounding)
    resolver = "BUILTIN_REF" if rounding == "tflite" else "AUTO"
    return tuple(
        m.Interpreter(model_content=content, experimental_op_resolver_type=m.OpResolverType[resolver], **options)
        for m in (interpreter, theirs)
    )  # type: ignore[return-value]


def random(detail: dict[str, Any], rng: np.random.Generator) -> np.ndarray:
    """A value for an input."""
    if np.issubdtype(detail["dtype"], np.floating):
        return rng.standard_normal(detail["shape"]).astype(detail["dtype"])
    low, high = (0, 2) if detail["dtype"] in (np.bool_, np.int32, np.int64) else (None, None)
    info = None if low is not None else np.iinfo(detail["dtype"])
    return rng.integers(
        low if info is None else info.min, high if info is None else info.max + 1, detail["shape"]
    ).astype(detail["dtype"])


MODELS: dict[str, Callable[[], bytes]] = {
    "demo": demo.MODEL.read_bytes,
    "float mlp": lambda: write(float_mlp()),
    "int8 cnn": lambda: write(int8_cnn()),
    "uint8 residual, two outputs": lambda: write(uint8_residual()),
    "two signatures": lambda: write(shared_weights()),
    "two inputs": lambda: write(engine_models.binary("ADD", "int8")),
    "int16 convolution": lambda: write(engine_models.conv("int16")),
    "float softmax": lambda: write(engine_models.softmax("float32")),
}


def public_models() -> list[Path]:
    """Models of the shared folder that edgeq runs itself, small enough to run twice."""
    return [p for p in sorted(SHARED.rglob("*.tflite")) if p.stat().st_size < 8_000_000] if SHARED.exists() else []


def content_of(name: str) -> bytes:
    return MODELS[name]() if name in MODELS else (SHARED / name).read_bytes()


OPEN = {"ops_float/single_slice.tflite"}
"""Models that run only when their inputs are resized: tests/test_dynamic.py has the like."""

NAMES = [*MODELS, *sorted({str(p.relative_to(SHARED)) for p in public_models()} - OPEN)]


def native(content: bytes, **options: Any) -> Any:
    """edgeq's interpreter without another runtime's help; skips a model that needs it."""
    try:
        return interpreter.Interpreter(model_content=content, backend="native", **options)
    except UnsupportedError as error:
        pytest.skip(str(error)[:200])


# --- details ----------------------------------------------------------------------------------------------------------


def assert_same_details(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Every key that the runtime has, with a value of the same type."""
    assert set(ours) == set(theirs)
    for key, expected in theirs.items():
        found = ours[key]
        assert type(found) is type(expected), key
        if key == "quantization_parameters":
            assert set(found) >= set(expected)  # LiteRT has block_size besides
            for name, value in expected.items():
                assert type(found[name]) is type(value), name
                assert np.asarray(found[name]).dtype == np.asarray(value).dtype, name
                np.testing.assert_array_equal(found[name], value, err_msg=name)
        elif isinstance(expected, np.ndarray):
            assert found.dtype == expected.dtype, key
            np.testing.assert_array_equal(found, expected, err_msg=key)
        else:
            assert found == expected, key


@pytest.mark.parametrize("rounding", FAMILIES)
@pytest.mark.parametrize("name", NAMES)
def test_details_are_the_runtimes(name: str, rounding: str) -> None:
    """Inputs, outputs, tensors and signatures are described alike before and after allocation."""
    content = content_of(name)
    native(content)
    try:
        ours, theirs = pair(content, rounding)
    except ValueError as error:
        pytest.skip(f"the runtime refuses the model: {error}")
    for allocated in (False, True):
        compared = [
            (ours.get_input_details(), theirs.get_input_details()),
            (ours.get_output_details(), theirs.get_output_details()),
        ]
        if not (allocated and rounding == "xnnpack"):  # LiteRT rewrites weights' scales when it allocates
            mine = ours.get_tensor_details()
            compared.append((mine, theirs.get_tensor_details()[: len(mine)]))
        for mine, other in compared:
            assert len(mine) == len(other)
            for a, b in zip(mine, other, strict=True):
                assert_same_details(a, b)
        assert ours.get_signature_list() == theirs.get_signature_list()
        ours.allocate_tensors()
        try:
            theirs.allocate_tensors()
        except RuntimeError:
            return  # a delegate that does not like the model


def test_operations_are_listed_as_litert_lists_them() -> None:
    """`_get_ops_details`, which apps use though it is private."""
    ours, theirs = pair(write(int8_cnn()), "xnnpack")
    for mine, other in zip(ours._get_ops_details(), theirs._get_ops_details(), strict=True):
        assert set(mine) == set(other)
        for key, value in other.items():
            np.testing.assert_array_equal(mine[key], value)


# --- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rounding", FAMILIES)
@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_the_runtimes(name: str, rounding: str) -> None:
    """Set, invoke, get: integers equal bit for bit, floats within 1e-4 of the output's range."""
    content = content_of(name)
    native(content)
    if rounding == "xnnpack" and "float" in name and name not in MODELS:
        rounding = "tflite"  # LiteRT's default departs from the reference on floats (docs/exactness.md)
    try:
        ours, theirs = pair(content, rounding)
        theirs.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        pytest.skip(f"the runtime refuses the model: {error}")
    ours.allocate_tensors()
    rng = np.random.default_rng(7)
    for _ in range(3):
        for detail in ours.get_input_details():
            fixed = ours._main._session.plan.required.get(detail["index"])  # an output's shape, as an input
            value = random(detail, rng) if fixed is None else fixed.reshape(detail["shape"])
            for one in (ours, theirs):
                one.set_tensor(detail["index"], value)
        for one in (ours, theirs):
            one.invoke()
        for detail in ours.get_output_details():
            mine, other = (one.get_tensor(detail["index"]) for one in (ours, theirs))
            assert mine.dtype == other.dtype
            assert mine.shape == other.shape
            if mine.dtype.kind == "f":
                assert np.array_equal(np.isnan(mine), np.isnan(other))
                real = ~np.isnan(other)
                span = float(np.abs(other[real]).max(initial=0))
                assert np.abs(mine[real] - other[real]).max(initial=0) <= 2e-4 * span
            else:
                np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize("name", ["int8 cnn", "uint8 residual, two outputs", "demo"])
def test_preserved_tensors_are_the_runtimes(name: str) -> None:
    """With experimental_preserve_all_tensors every computed tensor is what the reference kernels compute."""
    ours, theirs = pair(content_of(name), "tflite", experimental_preserve_all_tensors=True)
    rng = np.random.default_rng(3)
    for one in (ours, theirs):
        one.allocate_tensors()
    for detail in ours.get_input_details():
        value = random(detail, rng)
        for one in (ours, theirs):
            one.set_tensor(detail["index"], value)
    for one in (ours, theirs):
        one.invoke()
    for detail in ours.get_tensor_details():
        mine, other = (one.get_tensor(detail["index"]) for one in (ours, theirs))
        assert mine.shape == other.shape
        if mine.dtype.kind == "f":
            np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-5)
        else:
            np.testing.assert_array_equal(mine, other, err_msg=detail["name"])


def test_intermediates_are_not_guessed() -> None:
    """Without it, an intermediate value is an error, where TFLite hands out whatever lies in its place."""
    one = interpreter.Interpreter(model_content=write(int8_cnn()))
    one.allocate_tensors()
    one.invoke()
    with pytest.raises(ValueError, match=r"tensor 3 \(conv\) is an intermediate value: experimental_preserve"):
        one.get_tensor(3)


def test_what_planning_computes_can_be_read() -> None:
    """A tensor that is constant once the plan is made (dequantized weights) has its value."""
    graph = engine_models.unary("DEQUANTIZE", "int8", to="float32")
    x = np.arange(37, dtype=np.int8).reshape(1, 37)
    folded = graph.with_main(tensors=(replace(graph.tensors[0], data=x, buffer=1), graph.tensors[1]), inputs=())
    one = interpreter.Interpreter(model_content=write(folded), experimental_preserve_all_tensors=True)
    one.allocate_tensors()
    one.invoke()
    expected = np.float32(0.05) * (x.astype(np.float32) + 9)
    np.testing.assert_array_equal(one.get_tensor(1), expected)


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_change_nothing(threads: int) -> None:
    """num_threads is taken, and the values stay."""
    content = write(engine_models.conv("int8", h=20, w=20))
    found = []
    for n in (None, threads):
        one = interpreter.Interpreter(model_content=content, num_threads=n)
        one.allocate_tensors()
        one.set_tensor(0, np.arange(2000, dtype=np.int8).reshape(1, 20, 20, 5))
        one.invoke()
        found.append(one.get_tensor(3))
    np.testing.assert_array_equal(*found)


# --- errors -----------------------------------------------------------------------------------------------------------

X = np.arange(128, dtype=np.int8).reshape(1, 8, 8, 2)
CNN = write(int8_cnn())
MLP = write(float_mlp())


@dataclass(frozen=True)
class Call:
    """A call on an interpreter over a model, before or after allocation."""

    run: Callable[[Any], Any]
    content: bytes = CNN
    allocated: bool = True


def held(one: Any, call: Callable[[], Any]) -> Any:
    """A call while an array of the input's memory, or a piece of it, is held."""
    view = one.tensor(0)()[0]
    try:
        return call()
    finally:
        del view


def resized(*shape: int) -> Callable[[Any], Any]:
    """Resize, allocate, run, and see the output's shape."""

    def run(one: Any) -> list[int]:
        one.resize_tensor_input(0, shape)
        one.allocate_tensors()
        one.set_tensor(0, np.zeros(shape, np.float32))
        one.invoke()
        return list(one.get_tensor(6).shape)

    return run


CALLS = {
    "invoke before allocation": Call(lambda i: i.invoke(), allocated=False),
    "get before allocation": Call(lambda i: i.get_tensor(0), allocated=False),
    "get a constant before allocation": Call(lambda i: i.get_tensor(1).tolist(), allocated=False),
    "set before allocation": Call(lambda i: i.set_tensor(0, X), allocated=False),
    "view before allocation": Call(lambda i: i.tensor(0)(), allocated=False),
    "allocate": Call(lambda i: i.allocate_tensors()),
    "set": Call(lambda i: i.set_tensor(0, X)),
    "set another order in memory": Call(lambda i: (i.set_tensor(0, np.asfortranarray(X)), i.get_tensor(0).tolist())),
    "set a float": Call(lambda i: i.set_tensor(0, X.astype(np.float32))),
    "set a double": Call(lambda i: i.set_tensor(0, X.astype(np.float64))),
    "set another sign": Call(lambda i: i.set_tensor(0, X.view(np.uint8))),
    "set booleans": Call(lambda i: i.set_tensor(0, X.astype(bool))),
    "set a list": Call(lambda i: i.set_tensor(0, X.tolist())),
    "set a number": Call(lambda i: i.set_tensor(0, 3)),
    "set nothing": Call(lambda i: i.set_tensor(0, None)),
    "set text": Call(lambda i: i.set_tensor(0, "abc")),
    "set another size": Call(lambda i: i.set_tensor(0, X[:, :4])),
    "set another rank": Call(lambda i: i.set_tensor(0, X[0])),
    "set an output": Call(lambda i: (i.set_tensor(10, np.ones((1, 3), np.int8)), i.get_tensor(10).tolist())),
    "set by a NumPy index": Call(lambda i: i.set_tensor(np.int64(0), X)),
    "set by a text index": Call(lambda i: i.set_tensor("a", X)),
    "get an index too high": Call(lambda i: i.get_tensor(99)),
    "get an index below": Call(lambda i: i.get_tensor(-1)),
    "get by no index": Call(lambda i: i.get_tensor(None)),
    "get by a text index": Call(lambda i: i.get_tensor("0")),
    "get of a subgraph": Call(lambda i: i.get_tensor(0, subgraph_index=0).shape),
    "get of a subgraph too high": Call(lambda i: i.get_tensor(0, 1)),
    "view": Call(lambda i: (i.tensor(0)().shape, i.tensor(0)().dtype.name, i.tensor(0)().flags.writeable)),
    "write through a view": Call(lambda i: (i.tensor(0)().fill(5), i.get_tensor(0).tolist())),
    "view an index too high": Call(lambda i: i.tensor(99)()),
    "invoke while held": Call(lambda i: held(i, i.invoke)),
    "allocate while held": Call(lambda i: held(i, i.allocate_tensors)),
    "resize while held": Call(lambda i: held(i, lambda: i.resize_tensor_input(0, [1, 8, 8, 2]))),
    "set while held": Call(lambda i: held(i, lambda: i.set_tensor(0, X))),
    "invoke after it was held": Call(lambda i: (held(i, lambda: None), i.invoke())),
    "reset variables": Call(lambda i: i.reset_all_variables()),
    "list signatures": Call(lambda i: i.get_signature_list()),
    "run a signature": Call(lambda i: i.get_signature_runner()(image=X)["scores"].shape),
    "run a signature by key": Call(lambda i: sorted(i.get_signature_runner("serving_default")(image=X))),
    "run a signature of another key": Call(lambda i: i.get_signature_runner("nope")),
    "run a signature without input": Call(lambda i: i.get_signature_runner()()),
    "run a signature with another input": Call(lambda i: i.get_signature_runner()(foo=X)),
    "run a signature with a float": Call(lambda i: i.get_signature_runner()(image=X.astype(np.float32))),
    "run a signature with a list": Call(lambda i: i.get_signature_runner()(image=X.tolist())),
    "run a signature in a batch that does not fit": Call(
        lambda i: i.get_signature_runner()(image=np.concatenate([X, X]))
    ),
    "no signature": Call(lambda i: i.get_signature_runner(), MLP),
    "no signature of a key": Call(lambda i: i.get_signature_runner("a"), MLP),
    "resize to a batch": Call(resized(4, 8), MLP),
    "resize to rows that fit": Call(resized(1, 16), MLP),
    "resize to rows that do not fit": Call(resized(1, 9), MLP),
    "resize to a negative size": Call(resized(-1, 8), MLP),
    "resize to a number": Call(lambda i: i.resize_tensor_input(0, 8), MLP),
    "resize to rows of sizes": Call(lambda i: i.resize_tensor_input(0, [[1, 8]]), MLP),
    "resize to text": Call(lambda i: i.resize_tensor_input(0, "ab"), MLP),
    "resize to nothing": Call(lambda i: i.resize_tensor_input(0, None), MLP),
    "resize a constant": Call(lambda i: i.resize_tensor_input(1, [5, 9]), MLP),
    "resize an index too high": Call(lambda i: i.resize_tensor_input(77, [5, 9]), MLP),
    "resize strictly": Call(lambda i: i.resize_tensor_input(0, [4, 8], strict=True), MLP),
    "resize a fixed size strictly": Call(lambda i: i.resize_tensor_input(0, [4, 9], strict=True), MLP),
    "resize the rank strictly": Call(lambda i: i.resize_tensor_input(0, [8], strict=True), MLP),
    "resize strictly without a signature": Call(lambda i: i.resize_tensor_input(0, [2, 8, 8, 2], strict=True)),
    "invoke after resizing": Call(lambda i: (i.resize_tensor_input(0, [4, 8]), i.invoke()), MLP),
    "get after resizing": Call(lambda i: (i.resize_tensor_input(0, [4, 8]), i.get_tensor(0)), MLP),
    "set after resizing": Call(lambda i: (i.resize_tensor_input(0, [4, 8]), i.set_tensor(0, np.ones((4, 8)))), MLP),
    "resize to the same": Call(lambda i: (i.resize_tensor_input(0, [1, 8]), i.invoke()), MLP),
    "resize there and back": Call(
        lambda i: (i.resize_tensor_input(0, [4, 8]), i.resize_tensor_input(0, [1, 8]), i.invoke()), MLP
    ),
    "shapes before and after allocation": Call(
        lambda i: (
            i.resize_tensor_input(0, [4, 8]),
            [i.get_input_details()[0]["shape"].tolist(), i.get_output_details()[0]["shape"].tolist()],
            i.allocate_tensors(),
            [i.get_input_details()[0]["shape"].tolist(), i.get_output_details()[0]["shape"].tolist()],
            i.get_input_details()[0]["shape_signature"].tolist(),
        ),
        MLP,
    ),
}

SAME_WORDS = (
    "Cannot set tensor: Got", "Cannot set tensor: Dim", "Cannot set tensor: Tensor is", "Tensor data is null", "Invalid",
    "SignatureDef signature_key", "Shape should be 1D", "Invoke called", "There is at least 1", "Attempting to resize dimension",
)  # fmt: skip
"""Messages that begin so are TFLite's own, and kept."""


def outcome(call: Call, one: Any) -> tuple[str, Any]:
    """What comes of a call: a value, or which of Python's errors and, where it is to be the same, its message."""
    try:
        if call.allocated:
            one.allocate_tensors()
        return "value", call.run(one)
    except (ValueError, RuntimeError, TypeError, AttributeError) as error:
        kind = next(k for k in (ValueError, RuntimeError, TypeError, AttributeError) if isinstance(error, k))
        said = " ".join(str(error).split())
        return kind.__name__, next((begin for begin in SAME_WORDS if begin in said), "")


@pytest.mark.parametrize("rounding", FAMILIES)
@pytest.mark.parametrize("name", CALLS)
def test_calls_end_as_in_the_runtimes(name: str, rounding: str) -> None:
    """The same value, or the same of Python's errors with what TFLite says."""
    call = CALLS[name]
    ours, theirs = pair(call.content, rounding)
    found, expected = outcome(call, ours), outcome(call, theirs)
    if name == "resize to rows that do not fit" and rounding == "tflite":
        assert found[0] == "RuntimeError"  # tflite-runtime 2.14 runs the first 8 of 9 values
    elif "index too high" in name or "index below" in name:  # the runtimes count their temporary tensors too
        assert found[0] == expected[0]
    else:
        assert found == expected


CONSTRUCTIONS: dict[str, Callable[[Any, Path], Any]] = {
    "nothing": lambda m, _: m.Interpreter(),
    "path and content": lambda m, path: m.Interpreter(str(path), CNN),
    "a path that is not there": lambda m, path: m.Interpreter(str(path / "no.tflite")),
    "a folder": lambda m, path: m.Interpreter(str(path.parent)),
    "other bytes": lambda m, _: m.Interpreter(model_content=b"garbage garbage"),
    "empty bytes": lambda m, _: m.Interpreter(model_content=b""),
    "text as content": lambda m, _: m.Interpreter(model_content="abc"),
    "no threads": lambda m, _: m.Interpreter(model_content=CNN, num_threads=0),
    "threads as text": lambda m, _: m.Interpreter(model_content=CNN, num_threads="2"),
    "another resolver": lambda m, _: m.Interpreter(model_content=CNN, experimental_op_resolver_type=1),
    "another argument": lambda m, _: m.Interpreter(model_content=CNN, foo=1),
    "no delegates": lambda m, _: m.Interpreter(model_content=CNN, experimental_delegates=[]).get_input_details()[0]["name"],
    "a path": lambda m, path: m.Interpreter(str(path)).get_input_details()[0]["name"],
    "all by position": lambda m, path: m.Interpreter(str(path), None, None, 1, m.OpResolverType.BUILTIN, False)
    .get_input_details()[0]["name"],
}  # fmt: skip


@pytest.mark.parametrize("rounding", FAMILIES)
@pytest.mark.parametrize("name", CONSTRUCTIONS)
def test_constructions_end_as_in_the_runtimes(name: str, rounding: str, tmp_path: Path) -> None:
    """The same of Python's errors for arguments that cannot be."""
    path = tmp_path / "model.tflite"
    path.write_bytes(CNN)
    found = []
    for module in (interpreter, runtime(rounding)):
        try:
            found.append(CONSTRUCTIONS[name](module, path))
        except (ValueError, TypeError) as error:
            found.append(next(k for k in (ValueError, TypeError) if isinstance(error, k)))
    assert found[0] == found[1]


def test_errors_are_edgeqs_too(tmp_path: Path) -> None:
    """Each is a ValueError or RuntimeError for apps that moved over, and of edgeq's tree for those that know it."""
    with pytest.raises(FormatError) as refused:
        interpreter.Interpreter(model_content=b"garbage garbage")
    assert isinstance(refused.value, ValueError)
    assert str(refused.value).startswith("file identifier is")
    one = interpreter.Interpreter(model_content=CNN)
    with pytest.raises(InputError):
        one.invoke()
    one.resize_tensor_input(0, [2, 8, 8, 2])
    with pytest.raises(CheckError) as contradicted:
        one.allocate_tensors()
    assert isinstance(contradicted.value, RuntimeError)


def test_truncated_models_are_refused() -> None:
    """Every prefix of a model is a ValueError, where tflite_runtime may crash."""
    for size in range(1, len(CNN) - 1, 37):
        with pytest.raises(ValueError, match=r"\S"):
            interpreter.Interpreter(model_content=CNN[:size])


def test_a_copy_that_memory_does_not_hold() -> None:
    """A tensor too large to be copied is an error of edgeq, which says its shape."""

    class Large:
        def copy(self) -> Any:
            raise MemoryError

    one = native(CNN)
    one.allocate_tensors()
    i = one.get_output_details()[0]["index"]
    one._main._memory = {**one._main._memory, i: Large()}
    with pytest.raises(MachineError, match=rf"no memory for a copy of tensor {i}, of shape \["):
        one.get_tensor(i)


def test_a_constant_cannot_be_overwritten() -> None:
    """TFLite writes into the caller's bytes; edgeq refuses, and its views of constants are read-only."""
    one = interpreter.Interpreter(model_content=CNN)
    one.allocate_tensors()
    with pytest.raises(ValueError, match=r"1 \(conv/w\) is a constant of the model"):
        one.set_tensor(1, np.zeros((4, 3, 3, 2), np.int8))
    with pytest.raises(ValueError, match="read-only"):
        one.tensor(1)()[...] = 0


def test_content_may_be_any_bytes(tmp_path: Path) -> None:
    """bytearray and memoryview besides bytes, and paths of any kind; later changes to them do not matter."""
    content = bytearray(CNN)
    one = interpreter.Interpreter(model_content=content)
    content[:] = bytes(len(content))
    one.allocate_tensors()
    one.set_tensor(0, X)
    one.invoke()
    (tmp_path / "model.tflite").write_bytes(CNN)
    other = interpreter.Interpreter(tmp_path / "model.tflite")
    other.allocate_tensors()
    other.set_tensor(0, X)
    other.invoke()
    np.testing.assert_array_equal(one.get_tensor(10), other.get_tensor(10))


def test_roundings_are_chosen_by_name_or_resolver() -> None:
    """rounding= decides; without it BUILTIN_REF of any runtime's enumeration means "tflite"."""
    runtimes = [interpreter, *(import_module(f"{MODULES[r]}.interpreter") for r in FAMILIES if not missing(r))]
    for module in runtimes:
        for resolver, expected in (("AUTO", "xnnpack"), ("BUILTIN", "xnnpack"), ("BUILTIN_REF", "tflite")):
            one = interpreter.Interpreter(
                model_content=CNN, experimental_op_resolver_type=module.OpResolverType[resolver]
            )
            assert one._options.rounding == expected
    assert interpreter.Interpreter(model_content=CNN, rounding="tflite")._options.rounding == "tflite"
    with pytest.raises(ValueError, match="rounding is 'exact'"):
        interpreter.Interpreter(model_content=CNN, rounding="exact")


def test_every_public_name_is_there() -> None:
    """Whatever an app imports from a runtime's module, it can import from edgeq's; C++ operations are refused by name."""
    for family in FAMILIES:
        theirs = runtime(family)
        own = {n for n, v in vars(theirs).items() if isinstance(v, type) and v.__module__ == theirs.__name__}
        assert {n for n in own if not n.startswith("_")} <= set(interpreter.__all__)
    with pytest.raises(ValueError, match="register_op"):
        interpreter.InterpreterWithCustomOps(["MyOps"], model_content=CNN)
    interpreter.InterpreterWithCustomOps(model_content=CNN).allocate_tensors()
    with pytest.raises(ValueError, match="Failed to load delegate"):
        interpreter.Delegate("libedgetpu.so.1")


def test_delegates_are_ignored_and_not_loaded() -> None:
    """One warning for delegates that are given; load_delegate raises what apps are told to expect."""
    with pytest.warns(UserWarning, match=r"1 delegate\(s\) ignored") as said:
        interpreter.Interpreter(model_content=CNN, experimental_delegates=[object()])
    assert len(said) == 1
    with pytest.raises(ValueError, match=r"Failed to load delegate from libedgetpu\.so\.1"):
        interpreter.load_delegate("libedgetpu.so.1", {"device": "usb"})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        interpreter.Interpreter(model_content=CNN, experimental_disable_delegate_clustering=True)


# --- shapes and signatures --------------------------------------------------------------------------------------------


def delegated_conv() -> Graph:
    """An int8 CONV_2D that LiteRT's delegate takes: its bias has the scales that it must have."""
    graph = engine_models.conv("int8")
    x, w, b, y = graph.tensors
    scales = x.quantization.scale * w.quantization.scale
    return graph.with_main(tensors=(x, w, replace(b, quantization=engine_models.q(scales)), y))


@pytest.mark.parametrize("rounding", FAMILIES)
def test_resized_models_compute_what_the_runtimes_do(rounding: str) -> None:
    """Other batches and sizes, one after another, with equal outputs."""
    ours, theirs = pair(write(delegated_conv()), rounding)
    rng = np.random.default_rng(5)
    for shape in ((1, 7, 6, 5), (3, 7, 6, 5), (2, 12, 9, 5), (1, 7, 6, 5)):
        value = rng.integers(-128, 128, shape).astype(np.int8)
        found = []
        for one in (ours, theirs):
            one.resize_tensor_input(0, shape)
            one.allocate_tensors()
            one.set_tensor(0, value)
            one.invoke()
            found.append(one.get_tensor(3))
        np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("rounding", FAMILIES)
def test_every_signature_runs(rounding: str) -> None:
    """Signatures of different subgraphs, in batches, each with its own details."""
    ours, theirs = pair(write(shared_weights()), rounding)
    assert ours.num_subgraphs() == 2
    with pytest.raises(ValueError, match="model has 2 Signatures"):
        ours.get_signature_runner()
    for key in ("s0", "s1", "s0"):
        mine, other = ours.get_signature_runner(key), theirs.get_signature_runner(key)
        for batch in (1, 3):
            x = np.arange(4 * batch, dtype=np.float32).reshape(batch, 4) - 5
            np.testing.assert_allclose(mine(x=x)["y"], other(x=x)["y"], rtol=1e-6)
        for side in ("get_input_details", "get_output_details"):
            (a,), (b,) = getattr(mine, side)().values(), getattr(other, side)().values()
            assert_same_details(a, b)
    np.testing.assert_allclose(ours.get_tensor(2, 1), theirs.get_tensor(2, 1), rtol=1e-6)


# --- bundles and other runtimes ---------------------------------------------------------------------------------------


def bundle(folder: Path, graph: Graph, allow: tuple[str, ...]) -> dict[str, Any]:
    """The model sealed in a file, with a grant of these operations."""
    made = seal.seal(write(graph), publisher(), model_id="acme/model", version=1)
    path = folder / "model.eqb"
    path.write_bytes(b"".join(made.pieces()))
    return {"model_path": path, "grant": granted(made, allow=allow), "identity": device(), "trust": trust()}


@pytest.fixture
def granted_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time at which the tests' grants hold."""
    from datetime import datetime

    from edgeq import opening
    from tests.trusted import NOW

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return NOW

    monkeypatch.setattr(opening, "datetime", Clock)


@pytest.mark.usefixtures("granted_now")
def test_a_bundle_runs_under_its_grant(tmp_path: Path) -> None:
    """Inputs and outputs as of the plain model; constants and intermediate values stay inside without `debug`."""
    one = interpreter.Interpreter(**bundle(tmp_path, int8_cnn(), ("load",)))
    plain = interpreter.Interpreter(model_content=CNN)
    for each in (one, plain):
        each.allocate_tensors()
        each.set_tensor(0, X)
        each.invoke()
    np.testing.assert_array_equal(one.get_tensor(10), plain.get_tensor(10))
    np.testing.assert_array_equal(one.get_tensor(0), X)
    for read_inside in (lambda: one.get_tensor(1), lambda: one.tensor(3)()):
        with pytest.raises(GrantOperationError, match="under a grant that allows debug"):
            read_inside()


@pytest.mark.usefixtures("granted_now")
def test_preserving_a_bundles_tensors_needs_debug(tmp_path: Path) -> None:
    """The grant must allow it, and then everything can be read."""
    with pytest.raises(GrantOperationError, match="not debug") as refused:
        interpreter.Interpreter(**bundle(tmp_path, int8_cnn(), ("load",)), experimental_preserve_all_tensors=True)
    assert isinstance(refused.value, ValueError)
    one = interpreter.Interpreter(
        **bundle(tmp_path, int8_cnn(), ("load", "debug")), experimental_preserve_all_tensors=True
    )
    one.allocate_tensors()
    one.invoke()
    np.testing.assert_array_equal(one.get_tensor(1), int8_cnn().tensors[1].data)
    assert one.get_tensor(3).shape == (1, 8, 8, 4)


def test_plain_bytes_are_refused_where_a_bundle_is_meant() -> None:
    """With trust given, content without a signature cannot take the bundle's place."""
    with pytest.raises(UnsignedError, match="bundles come by path"):
        interpreter.Interpreter(model_content=CNN, trust=trust())


ELSEWHERE = pytest.mark.skipif(fallback.find("xnnpack") is None, reason="no other runtime is installed")


@ELSEWHERE
@pytest.mark.usefixtures("without_matrix_diag")
def test_another_runtime_takes_over_whole() -> None:
    """A model that edgeq lacks an operation for goes through the same calls, run elsewhere, with one warning."""
    with pytest.warns(FallbackWarning, match=r"operation 1 \(MATRIX_DIAG\)") as said:
        one = edgeq.Interpreter(model_content=write(two_outputs()))
    assert len(said) == 1
    one.allocate_tensors()
    assert [d["name"] for d in one.get_output_details()] == ["diagonal", "relu"]
    one.set_tensor(0, np.array([[-5, -3, 7]], np.int8))
    one.invoke()
    np.testing.assert_array_equal(one.get_tensor(3), [[-3, -3, 7]])
    np.testing.assert_array_equal(one.tensor(2)()[0, 2, 2], 5)
    one.resize_tensor_input(0, [2, 3])
    one.allocate_tensors()
    assert one.get_output_details()[0]["shape"].tolist() == [2, 3, 3]
    one.reset_all_variables()
    assert one.get_signature_list() == {}
    with pytest.raises(ValueError, match="Got value of type FLOAT32"):
        one.set_tensor(0, np.zeros((2, 3), np.float32))


@pytest.mark.usefixtures("without_matrix_diag")
def test_native_refuses_what_edgeq_lacks() -> None:
    """backend="native" is a ValueError that lists the operations."""
    with pytest.raises(UnsupportedError, match=r"operation 0 \(MATRIX_DIAG\): edgeq lacks") as refused:
        interpreter.Interpreter(model_content=write(diagonal()), backend="native")
    assert isinstance(refused.value, ValueError)
    with pytest.raises(ValueError, match="backend is 'gpu'"):
        interpreter.Interpreter(model_content=CNN, backend="gpu")


@ELSEWHERE
@pytest.mark.usefixtures("granted_now", "without_matrix_diag")
def test_a_bundle_goes_over_only_with_export(tmp_path: Path) -> None:
    """Without `export` in the grant the plain bytes stay, and the model is refused."""
    with pytest.raises(UnsupportedError, match="the grant does not allow export"):
        interpreter.Interpreter(**bundle(tmp_path, diagonal(), ("load",)))
    with pytest.warns(FallbackWarning):
        interpreter.Interpreter(**bundle(tmp_path, diagonal(), ("load", "export")))

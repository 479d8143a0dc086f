"""Operations that an application brings along: what `register_op` keeps, and how a registered function sees its operation.

A registered operation is found by its name when a model is planned. Its `prepare` runs once per plan and its `kernel` at
every inference, inside the plan (edgeq.plan.callout); a model can name an operation, but never bring its code.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from edgeq.errors import CustomOpError, InputError
from edgeq.graph import NUMPY_DTYPES, Array, Op, Quantization, Tensor
from edgeq.records import dataclass
from edgeq.tflite.limits import MAX_RANK, MAX_TENSOR_BYTES

Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class NodeTensor:
    """A tensor of a custom operation: `value` is a constant's (read-only), None for what is computed.

    dtype: None for types that NumPy has not (string, int4, resource), which no kernel gets.
    """

    name: str
    shape: Shape
    dtype: np.dtype[Any] | None
    quantization: Quantization | None
    value: Array | None


@dataclass(frozen=True, eq=False)
class CustomNode:
    """A custom operation as its `prepare` sees it.

    options: the operation's custom options as the file has them (TFLite's converters write FlexBuffers). inputs: None
    for one that is left out. outputs: in the shapes that the file states.
    """

    name: str
    options: bytes
    inputs: tuple[NodeTensor | None, ...]
    outputs: tuple[NodeTensor, ...]


@dataclass(frozen=True)
class Prepared:
    """What `prepare` found: the outputs' shapes (None: those of the file), and what the kernel gets behind its tensors.

    parameters: numbers and arrays, in order.
    """

    shapes: Sequence[Sequence[int]] | None = None
    parameters: Sequence[Any] = ()


@dataclass(frozen=True)
class CustomOp:
    """A registered operation."""

    name: str
    prepare: Callable[[CustomNode], Prepared | None]
    kernel: Any


_REGISTERED: dict[str, CustomOp] = {}


def register_op(
    name: str, prepare: Callable[[CustomNode], Prepared | None], kernel: Any, *, replace: bool = False
) -> None:
    """Run the custom operation `name` of any model with a function of yours.

    prepare: called with a CustomNode when a model is planned; checks what the kernel relies on, raises ValueError for
        what it refuses, and returns Prepared (or None: the file's shapes, no parameters).
    kernel: called as kernel(*inputs, *outputs, *parameters) at every inference, and writes into the outputs; an input
        that is left out is None. One of
        - a function compiled by numba.njit: it works on the plan's own memory, without Python;
        - a numba.cfunc of the signature int64(CPointer(int64)): its words are the addresses of the inputs (0 for one
          that is left out), outputs and arrays, and the parameters that are integers; it returns 0, or else has failed;
        - any other Python function of NumPy arrays: its inputs are copies that cannot be written to, its outputs zero
          at first. It holds Python's lock while it runs.
    replace: take the place of an operation that was registered before; models planned with that keep it.

    A kernel is part of the application: nothing checks where a compiled one reads and writes.

    Raises InputError for a name that is taken and for what is no function.
    """
    if not isinstance(name, str) or not name:
        raise InputError(f"the operation's name is {name!r}, the custom code of a model's operation is expected")
    for what, function in (("prepare", prepare), ("kernel", kernel)):
        if not callable(function):
            raise InputError(f"{what} of {name!r} is {type(function).__name__}, a function is expected")
    if name in _REGISTERED and not replace:
        raise InputError(f"operation {name!r} is registered already; replace=True takes its place")
    _REGISTERED[name] = CustomOp(name, prepare, kernel)


def any_registered() -> bool:
    """Whether the application has brought operations of its own."""
    return bool(_REGISTERED)


def registered(op: Op) -> CustomOp | None:
    """The registered operation behind one of a model, None if there is none."""
    return _REGISTERED.get(op.custom_code or "") if op.code == "CUSTOM" else None


def prepared(
    custom: CustomOp,
    op: Op,
    inputs: Sequence[tuple[Tensor, Array | None] | None],
    outputs: Sequence[Tensor],
    where: str,
) -> tuple[list[Shape], tuple[Any, ...]]:
    """The outputs' shapes and the parameters that `prepare` gives; inputs are tensors with their value, where it is known.

    Raises CustomOpError where prepare raises anything, or returns what it should not.
    """
    node = CustomNode(
        custom.name,
        bytes(op.custom_options or b""),
        tuple(_seen(*pair) if pair is not None else None for pair in inputs),
        tuple(_seen(t, None) for t in outputs),
    )
    try:
        found = custom.prepare(node)
    except Exception as error:
        raise CustomOpError(f"{where}: its prepare refuses: {type(error).__name__}: {error}") from error
    if found is None:
        found = Prepared()
    if not isinstance(found, Prepared):
        raise CustomOpError(f"{where}: its prepare returns {type(found).__name__}, Prepared or None is expected")
    shapes = [t.shape for t in outputs] if found.shapes is None else _shapes(found.shapes, len(outputs), where)
    return shapes, tuple(found.parameters)


def _shapes(given: Sequence[Sequence[int]], outputs: int, where: str) -> list[Shape]:
    try:
        shapes = [tuple(operator.index(d) for d in shape) for shape in given]
    except TypeError:
        raise CustomOpError(
            f"{where}: its prepare returns shapes {given!r}, lists of whole numbers are expected"
        ) from None
    if len(shapes) != outputs:
        raise CustomOpError(f"{where}: its prepare returns {len(shapes)} shapes, {outputs} are expected")
    for shape in shapes:
        if len(shape) > MAX_RANK or min(shape, default=0) < 0 or math.prod(shape) > MAX_TENSOR_BYTES:
            raise CustomOpError(
                f"{where}: its prepare returns shape {list(shape)}, no negative or huge length is expected"
            )
    return shapes


def _seen(t: Tensor, value: Array | None) -> NodeTensor:
    if value is not None:
        value = value.view()
        value.setflags(write=False)
    return NodeTensor(t.name, t.shape, NUMPY_DTYPES.get(t.dtype), t.quantization, value)

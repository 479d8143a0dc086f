"""CUSTOM: operations by name, edgeq's own and those that the application has registered."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edgeq import customs
from edgeq.errors import CustomOpError
from edgeq.graph import NUMPY_DTYPES, Op
from edgeq.kernels.words import callout as cw
from edgeq.kernels.words import unary as uw
from edgeq.plan.builder import Builder
from edgeq.plan.callout import Argument, entry, is_raw
from edgeq.plan.lower import known
from edgeq.plan.types import FLIPPED, Ref, Word

LACKING = "edgeq lacks this operation"

OWN: Mapping[str, Callable[[Builder, Op], None]] = known.LOWERINGS
"""Custom code → lowering, for the custom operations that edgeq runs itself; a registered one of the same name comes first."""


def custom(b: Builder, op: Op) -> None:
    """The registered operation of this name, or edgeq's own."""
    found = customs.registered(op)
    if found is not None:
        call_out(b, op, found)
    elif (own := OWN.get(op.custom_code or "")) is not None:
        own(b, op)
    else:
        raise b.unsupported(op, LACKING)


def call_out(b: Builder, op: Op, found: customs.CustomOp) -> None:
    """Call the registered kernel."""
    inputs = [(b.tensors[i], b.known(i)) if i >= 0 else None for i in op.inputs]
    outputs = [b.output(op, k) for k in range(len(op.outputs))]
    shapes, parameters = customs.prepared(found, op, inputs, outputs, b.where(op))
    call(b, op, found.kernel, shapes, parameters)


def call(
    b: Builder,
    op: Op,
    kernel: Any,
    shapes: Sequence[Sequence[int]],
    parameters: Sequence[Any] = (),
    inputs: int | None = None,
    macs: int = 0,
) -> None:
    """Call a function on the operation's tensors; int8 ones, which lie in the arena as q + 128, are turned for it and back.

    kernel: as register_op takes it; shapes: the outputs'; inputs: how many of the operation's it gets, all by default;
    macs: about how many multiply-adds it makes.
    """
    where, raw = b.where(op), is_raw(kernel)
    arguments: list[Argument] = []
    words: list[Word] = []
    for k, i in enumerate(op.inputs[:inputs]):
        if i < 0:
            arguments.append(Argument())
            words += [0] if raw else []
        else:
            t = b.tensors[i]
            arguments.append(Argument(_dtype(b, op, t.dtype), t.shape))
            words.append(_turned(b, b.read(op, k), t.size) if t.dtype == "int8" else b.read(op, k))
    back: list[tuple[Ref, Ref, int]] = []
    for k, shape in enumerate(shapes):
        t = b.expect_shape(op, tuple(shape), k)
        arguments.append(Argument(_dtype(b, op, t.dtype), t.shape, output=True))
        place = b.write(op, k)
        if t.dtype == "int8":
            turned = b.block(t.size)
            words.append(turned)
            back.append((turned, place, t.size))
        else:
            words.append(place)
    for value in parameters:
        if isinstance(value, np.ndarray):
            if value.dtype not in NUMPY_DTYPES.values():
                raise CustomOpError(f"{where}: a parameter is an array of {value.dtype}, a type of tensors is expected")
            arguments.append(Argument(value.dtype, value.shape))
            words.append(b.constant(value))
            continue
        number = value.item() if isinstance(value, np.generic) else value
        if not isinstance(number, int | float) or (isinstance(number, float) and not math.isfinite(number)):
            raise CustomOpError(f"{where}: a parameter is {value!r}, a finite number or an array is expected")
        if raw:
            if not isinstance(number, int) or not -(2**63) <= number < 2**63:
                raise CustomOpError(f"{where}: a parameter is {value!r}, a cfunc takes integers of 64 bits and arrays")
            words.append(number)
        arguments.append(Argument(value=number))
    if len(words) > cw.MOST:
        raise b.unsupported(op, f"{len(words)} tensors and parameters, at most {cw.MOST} are expected")
    made = entry(kernel, arguments, where)
    b.keep_alive(made)
    b.emit("call_out", 1, {cw.FUNCTION: made.address, **{cw.ARGUMENTS + k: w for k, w in enumerate(words)}}, macs)
    for x, y, size in back:
        b.emit("table_u8", size, {uw.X: x, uw.Y: y, uw.TABLE: _flip(b)})


def _dtype(b: Builder, op: Op, name: str) -> np.dtype[np.generic]:
    if name not in NUMPY_DTYPES:
        raise b.unsupported(op, f"a tensor of type {name}, which has no NumPy arrays")
    return NUMPY_DTYPES[name]


def _turned(b: Builder, place: Ref, size: int) -> Ref:
    """A copy of int8 values as int8."""
    copy = b.block(size)
    b.emit("table_u8", size, {uw.X: place, uw.Y: copy, uw.TABLE: _flip(b)})
    return copy


def _flip(b: Builder) -> Ref:
    return b.constant(np.arange(256, dtype=np.uint8) ^ FLIPPED)


LOWERINGS = {"CUSTOM": custom}

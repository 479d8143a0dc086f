"""Variables that outlive a run: VAR_HANDLE names one, ASSIGN_VARIABLE copies to it, and READ_VARIABLE from it where it has to."""

from __future__ import annotations

import numpy as np

from edgeq.errors import CheckError
from edgeq.graph import NUMPY_DTYPES, Op, Tensor
from edgeq.plan.builder import Builder, Variable, itemsize, nbytes, stored
from edgeq.plan.types import Ref
from edgeq.plan.window import copy


def var_handle(b: Builder, op: Op) -> None:
    """VAR_HANDLE: the variable of a container and a name."""
    o = op.options
    assert o is not None
    if b.output(op).dtype != "resource":
        raise CheckError(f"{b.where(op)} yields {b.output(op).dtype}, a resource is expected")
    b.handles[op.outputs[0]] = f"{o.container or ''}/{o.shared_name or ''}"


def named(b: Builder, op: Op) -> str:
    """The variable that input 0 stands for."""
    name = b.handles.get(op.inputs[0])
    if name is None:
        raise b.unsupported(op, "input 0 comes from no VAR_HANDLE")
    return name


def read_variable(b: Builder, op: Op) -> None:
    """READ_VARIABLE: a copy where the variable may change before it is used."""
    name, y = named(b, op), b.output(op)
    variable = b.variables.get(name)
    if variable is None:
        raise CheckError(f"{b.where(op)} reads variable {name!r}, which nothing has given a value")
    if y.dtype != variable.dtype:
        raise CheckError(f"{b.where(op)} reads {y.dtype}, variable {name!r} is {variable.dtype}")
    y = b.expect_shape(op, variable.shape)
    if not b.keep and used_at_once(b, op, name):
        b.view(op, 0, variable.place)
    elif y.size:
        size = itemsize(y)
        copy(b, variable.place, b.write(op), (y.size,), (size,), (size,), size)
    else:
        b.write(op)


COPIES = frozenset({"CONCATENATION", "ADD", "MUL", "SUB", "FULLY_CONNECTED"})
"""Operations whose outputs lie apart from what they read."""

CHANGES = frozenset({"ASSIGN_VARIABLE", "CALL", "CALL_ONCE", "IF", "WHILE"})


def used_at_once(b: Builder, op: Op, name: str) -> bool:
    """Whether all that read a READ_VARIABLE's output do so before the variable may change."""
    i = op.outputs[0]
    users = [k for k, o in enumerate(b.graph.ops) if i in o.inputs]
    if b.depth or i in b.graph.outputs or any(b.graph.ops[k].code not in COPIES for k in users):
        return False
    between = b.graph.ops[b.at + 1 : max(users, default=0)]
    return not any(
        o.code in CHANGES and b.handles.get(o.inputs[0] if o.inputs else -1) in (None, name) for o in between
    )


def assign_variable(b: Builder, op: Op) -> None:
    """ASSIGN_VARIABLE: input 1 into the variable; in the subgraph of a CALL_ONCE, its first value."""
    name, x = named(b, op), b.tensor(op, 1)
    size, known = itemsize(x), b.known(op.inputs[1])
    if b.initialising:
        if known is None:
            raise b.unsupported(op, "a variable's first value is computed; edgeq needs it to be a constant")
        b.variables[name] = Variable(x.dtype, x.shape, b.remembered(stored(known)))
        return
    if name not in b.variables:
        b.variables[name] = Variable(x.dtype, x.shape, b.remembered(np.zeros(nbytes(x), np.uint8)))
    variable = b.variables[name]
    if (variable.dtype, variable.shape) != (x.dtype, x.shape):
        raise b.unsupported(
            op, f"{x.dtype}{list(x.shape)} into variable {name!r}, which is {variable.dtype}{list(variable.shape)}"
        )
    if x.size:
        copy(b, b.read(op, 1), variable.place, (x.size,), (size,), (size,), size)


def state(b: Builder, op: Op, k: int, dtype: str, shape: tuple[int, ...]) -> tuple[Tensor, Ref]:
    """Input k, a tensor that keeps its values from run to run; real zero at first."""
    t, i = b.tensor(op, k), op.inputs[k]
    if not t.is_variable or b.known(i) is not None:
        raise b.unsupported(op, f"input {k} is no variable tensor")
    if b.reshaped and i >= len(b.graph.tensors):
        raise b.unsupported(op, "a state inside a subgraph that is called, in a model whose shapes depend on values")
    if t.dtype != dtype or t.shape != shape:
        raise CheckError(f"{b.where(op)}: state {t.dtype}{list(t.shape)}, {dtype}{list(shape)} is expected")
    if i not in b.places:
        first = np.zeros(t.shape, NUMPY_DTYPES[t.dtype])
        if t.dtype == "int8" and t.quantization is not None:  # interpreter.cc ResetVariableTensors
            first[...] = t.quantization.zero_point[0]
        b.places[i] = b.remembered(stored(first))
    return t, b.places[i]


LOWERINGS = {"VAR_HANDLE": var_handle, "READ_VARIABLE": read_variable, "ASSIGN_VARIABLE": assign_variable}

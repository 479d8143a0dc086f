"""Seeded damage to what a model says, written as a well-formed file: the lies that only the checks behind the reader can find.

Each mutation takes a graph and a generator and gives a graph and in words what was done. Most strike one operation of the main
subgraph: an option (also those that files leave out), the operation's code, its inputs and outputs, or a tensor that it reads or
writes (shape, type, quantization, values, constant or not).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from edgeq.graph import NUMPY_DTYPES, Graph, Op, Quantization, SubGraph, Table, Tensor
from edgeq.tflite.ops import OP_FACTS
from edgeq.tflite.schema import ENUM_MEMBERS, TABLE_NAMES, layout, table

Rng = np.random.Generator
Mutation = Callable[[SubGraph, Rng], tuple[SubGraph, str]]

INTEGERS = (
    0,
    1,
    -1,
    2,
    3,
    4,
    5,
    7,
    8,
    16,
    127,
    128,
    255,
    256,
    1000,
    2**15,
    2**16,
    2**20,
    2**30,
    2**31 - 1,
    -(2**31),
    -2,
    -7,
)
FLOATS = (
    0.0,
    -0.0,
    1.0,
    -1.0,
    1e-38,
    1e-30,
    1e-7,
    0.5,
    256.0,
    1e7,
    1e30,
    3.4e38,
    float("inf"),
    float("-inf"),
    float("nan"),
)
SHAPES = (0, 1, 2, 3, 4, 5, 7, 8, 16, 31, 64, 100, 1024, 2**16, 2**20, 2**31 - 1)
TYPES = tuple(NUMPY_DTYPES)
CODES = tuple(sorted(OP_FACTS))


def mutated(graph: Graph, seed: int) -> tuple[Graph, str]:
    """One mutant of a graph and what was done to it, one to three mutations."""
    rng = np.random.default_rng([0x6EA9, seed])
    done = []
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        at = 0 if rng.random() < 0.8 else int(rng.integers(len(graph.subgraphs)))
        mutate = MUTATIONS[int(rng.choice(len(MUTATIONS), p=_WEIGHTS))]
        g, what = mutate(graph.subgraphs[at], rng)
        subgraphs = (*graph.subgraphs[:at], g, *graph.subgraphs[at + 1 :])
        graph = replace(graph, subgraphs=subgraphs)
        done.append(what)
    if rng.random() < 0.7:  # a name for a tensor that is gone would hide what else is wrong
        graph = replace(graph, signatures=())
    return graph, "; ".join(done)


# --- picking ----------------------------------------------------------------------------------------------------------


def _one(rng: Rng, things: Any) -> Any:
    return things[int(rng.integers(len(things)))]


def _op(g: SubGraph, rng: Rng) -> int:
    return int(rng.integers(len(g.ops)))


def _with_op(g: SubGraph, k: int, **changes: Any) -> SubGraph:
    return replace(g, ops=(*g.ops[:k], replace(g.ops[k], **changes), *g.ops[k + 1 :]))


def _tensor(g: SubGraph, rng: Rng) -> int:
    """A tensor that some operation reads or writes, mostly."""
    if g.ops and rng.random() < 0.9:
        op = g.ops[_op(g, rng)]
        used = [i for i in (*op.inputs, *op.outputs) if 0 <= i < len(g.tensors)]
        if used:
            return int(_one(rng, used))
    return int(rng.integers(len(g.tensors)))


def _with_tensor(g: SubGraph, i: int, t: Tensor) -> SubGraph:
    return replace(g, tensors=(*g.tensors[:i], t, *g.tensors[i + 1 :]))


def _integer(rng: Rng, old: int = 0) -> int:
    return old + int(rng.integers(-3, 4)) if rng.random() < 0.4 else int(_one(rng, INTEGERS))


# --- operations -------------------------------------------------------------------------------------------------------


def option(g: SubGraph, rng: Rng) -> tuple[SubGraph, str]:
    """One option gets another value: an extreme, a neighbour, or for an enumeration any member and one beyond."""
    with_options = [k for k, op in enumerate(g.ops) if op.options is not None and op.options.values]
    if not with_options:
        return code(g, rng)
    k = int(_one(rng, with_options))
    options = g.ops[k].options
    assert options is not None
    name = str(_one(rng, sorted(options.values)))
    facts = next(f for f in layout(options.type).fields if f.name == name)
    value: Any = options.values[name]
    if facts.kind == "scalar" and facts.of in ENUM_MEMBERS:
        value = int(rng.integers(0, len(ENUM_MEMBERS[facts.of]) + 1))
    elif facts.kind == "scalar" and facts.letter == "?":
        value = not value
    elif facts.kind == "scalar" and facts.letter == "f":
        value = float(_one(rng, FLOATS))
    elif facts.kind == "scalar":
        value = _integer(rng, int(value or 0)) % 2 ** (8 * facts.size - 1)
        value = -value if facts.letter.islower() and rng.random() < 0.2 else value
    elif facts.kind == "vector" and facts.items == "scalar" and facts.letter not in "Bf":
        value = tuple(_integer(rng) % 2**31 for _ in range(int(rng.integers(0, 8))))
    else:
        value = None
    changed = Table(options.type, {**options.values, name: value})
    return _with_op(g, k, options=changed), f"op {k} {g.ops[k].code}.{name} = {value}"


def options(g: SubGraph, rng: Rng) -> tuple[SubGraph, str]:
    """Options removed, or those of another type."""
    if not g.ops:
        return output(g, rng)
    k = _op(g, rng)
    kind = str(_one(rng, sorted(n for n in TABLE_NAMES if n.endswith("Options"))))
    new = None if rng.random() < 0.4 else table(kind)
    return _with_op(g, k, options=new), f"op {k} {g.ops[k].code} options = {kind if new else None}"


def code(g: SubGraph, rng: Rng) -> tuple[SubGraph, str]:
    """Another operation over the same tensors, with its own options at their defaults, or nearly."""
    if not g.ops:
        return output(g, rng)
    k, name = _op(g, rng), str(_one(rng, CODES))
    kind = OP_FACTS[name].options
    new = table(kind) if kind else None
    changes: dict[str, Any] = {"code": name, "options": new, "custom_code": None, "custom_options": None}
    return _with_op(g, k, **changes), f"op {k} {g.ops[k].code} is {name}"


def inputs(g: SubGraph, rng: Rng) -> tuple[SubGraph, str]:
    """An input rewired, left out, removed, doubled or added."""
    if not g.ops:
        return output(g, rng)
    k = _op(g, rng)
    side = "inputs" if rng.random() < 0.8 else "outputs"
    found = list(getattr(g.ops[k], side))
    how = int(rng.integers(5))
    at = int(rng.integers(len(found))) if found else 0
    other = int(rng.integers(-1, len(g.tensors) + 1))
    if how <= 1 and found:
        found[at] = other
    elif how == 2 and found:
        del found[at]
    elif how == 3 and len(found) > 1:
        found[at], found[0] = found[0], found[at]
    else:
        found.append(other)
    return _with_op(g, k, **{side: tuple(found)}), f"op {k} {g.ops[k].code} {side} = {found}"


def repeat(g: SubGraph, rng: Rng) -> tuple[SubGraph, str]:
    """An operation once more, in another place: into tensors of its own, or the same ones."""
    if not g.ops:
        return output(g, rng)
    k, at = _op(g, rng), int(rng.integers(len(g.ops) + 1))
    op, tensors = g.ops[k], list(g.tensors)
    if rng.random() < 0.8:
        fresh = []
        for i in op.outputs:
            if 0 <= i < len(tensors):
                fresh.append(len(tensors))
                tensors.append(tensors[i])
        op = replace(op, outputs=tuple(fresh))
    return replace(g, tensors=tuple(tensors), ops=(*g.ops[:at], op, *g.ops[at:])), f"op {k} again at {at}"


def chain(g: SubGraph, rng: Rng) -> tuple[SubGraph, str]:
    """An operation of one input behind an output: what it reads was computed, not given."""
    if not g.outputs:
        return output(g, rng)
    i, name = int(_one(rng, g.outputs)), str(_one(rng, [n for n in CODES if OP_FACTS[n].inputs.allows(1)]))
    if not 0 <= i < len(g.tensors):
        return output(g, rng)
    kind = OP_FACTS[name].options
    op = Op(name, (i,), (len(g.tensors),), table(kind) if kind else None)
    outputs = (*g.outputs, len(g.tensors))
    return replace(g, tensors=(*g.tensors, g.tensors[i]), ops=(*g.ops, op), outputs=outputs), f"{name} behind {i}"


def output(g: SubGraph, rng: Rng) -> tuple[SubGraph, str]:
    """Another list of outputs, or of inputs."""
    side = "outputs" if rng.random() < 0.7 else "inputs"
    found = [*getattr(g, side), int(rng.integers(0, len(g.tensors) + 1))]
    if rng.random() < 0.3 and len(found) > 1:
        del found[0]
    return replace(g, **{side: tuple(found)}), f"{side} of the graph = {found}"


# --- tensors ----------------------------------------------------------------------------------------------------------


def _filled(t: Tensor, shape: tuple[int, ...], dtype: str) -> np.ndarray | None:
    """Values for a constant in another shape or type: its own, repeated."""
    if t.data is None or dtype not in NUMPY_DTYPES or np.prod(shape, dtype=float) > 2**20:
        return t.data
    if t.dtype not in NUMPY_DTYPES or not t.data.size:
        return np.zeros(shape, NUMPY_DTYPES[dtype])
    with np.errstate(all="ignore"):
        data = t.data.real if t.data.dtype.kind == "c" else t.data
        return np.resize(data, shape).astype(NUMPY_DTYPES[dtype])


def shape(g: SubGraph, rng: Rng) -> tuple[SubGraph, str]:
    """Another shape; a constant's values follow, so that only its meaning is wrong."""
    i = _tensor(g, rng)
    t = g.tensors[i]
    new = list(t.shape)
    how = int(rng.integers(5))
    at = int(rng.integers(len(new))) if new else 0
    if how <= 2 and new:
        new[at] = max(0, new[at] + int(rng.integers(-2, 3))) if rng.random() < 0.5 else int(_one(rng, SHAPES))
    elif how == 3 and new:
        del new[at]
    else:
        new.insert(at, int(_one(rng, SHAPES[:8])))
    changed = replace(t, shape=tuple(new), shape_signature=None, data=_filled(t, tuple(new), t.dtype))
    return _with_tensor(g, i, changed), f"tensor {i} shape {list(t.shape)} = {new}"


def open_shape(g: SubGraph, rng: Rng) -> tuple[SubGraph, str]:
    """A shape that the file leaves open, along one axis or all, or a rank that it does not know."""
    i = _tensor(g, rng)
    t = g.tensors[i]
    if rng.random() < 0.3 or not t.shape:
        return _with_tensor(
            g, i, replace(t, shape=() if t.data is None else t.shape, has_rank=False)
        ), f"tensor {i} has no rank"
    signature = tuple(-1 if rng.random() < 0.6 else d for d in t.shape)
    stated = tuple(
        1 if s == -1 and t.data is None and rng.random() < 0.5 else d for s, d in zip(signature, t.shape, strict=True)
    )
    signature = tuple(-1 if s == -1 else d for s, d in zip(signature, stated, strict=True))
    return _with_tensor(
        g, i, replace(t, shape=stated, shape_signature=signature)
    ), f"tensor {i} signature = {signature}"


def dtype(g: SubGraph, rng: Rng) -> tuple[SubGraph, str]:
    """Another type of the tensor, or of all of an operation's."""
    new = str(_one(rng, TYPES))
    if rng.random() < 0.3 and g.ops:
        op = g.ops[_op(g, rng)]
        chosen = [i for i in dict.fromkeys((*op.inputs, *op.outputs)) if 0 <= i < len(g.tensors)]
    else:
        chosen = [_tensor(g, rng)]
    for i in chosen:
        t = g.tensors[i]
        g = _with_tensor(g, i, replace(t, dtype=new, data=_filled(t, t.shape, new)))
    return g, f"tensors {chosen} are {new}"


def quantization(g: SubGraph, rng: Rng) -> tuple[SubGraph, str]:
    """Other scales or zero points, one for each channel, or none."""
    i = _tensor(g, rng)
    t = g.tensors[i]
    how = int(rng.integers(5))
    axis = int(rng.integers(len(t.shape))) if t.shape else 0
    count = t.shape[axis] if how == 1 and t.shape and t.shape[axis] < 2**16 else 1
    scale = np.full(count, 0.02, np.float32) if t.quantization is None else np.resize(t.quantization.scale, count)
    zero = np.zeros(count, np.int64) if t.quantization is None else np.resize(t.quantization.zero_point, count)
    if how == 0:
        return _with_tensor(g, i, replace(t, quantization=None)), f"tensor {i} has no quantization"
    scale, zero = scale.astype(np.float32).copy(), zero.astype(np.int64).copy()
    at = int(rng.integers(count)) if count else 0
    if how == 2 and len(scale):
        scale[at] = np.float32(_one(rng, FLOATS))
    elif how == 3 and len(scale):
        scale[at] = np.float32(scale[at] * 10.0 ** rng.integers(-12, 13))
    elif how == 4 and len(zero):
        zero[at] = _integer(rng, int(zero[at]))
    changed = replace(t, quantization=Quantization(scale, zero, axis))
    return _with_tensor(g, i, changed), f"tensor {i} scale {scale[:2]}, zero {zero[:2]}, axis {axis}"


def values(g: SubGraph, rng: Rng) -> tuple[SubGraph, str]:
    """Numbers of a constant: extremes, and where it holds integers what would be an index or a size."""
    constants = [
        i for i, t in enumerate(g.tensors) if t.data is not None and t.data.size and t.data.dtype.kind in "iuf"
    ]
    small = [i for i in constants if g.tensors[i].size <= 16]
    if not constants:
        return shape(g, rng)
    i = int(_one(rng, small if small and rng.random() < 0.8 else constants))
    t = g.tensors[i]
    assert t.data is not None
    data = t.data.copy()
    flat = data.reshape(-1)
    at = int(rng.integers(flat.size))
    with np.errstate(all="ignore"):
        flat[at] = np.asarray(_one(rng, FLOATS) if data.dtype.kind == "f" else _integer(rng, int(flat[at]))).astype(
            data.dtype
        )
    return _with_tensor(g, i, replace(t, data=data)), f"tensor {i} [{at}] = {flat[at]}"


def fed(g: SubGraph, rng: Rng) -> tuple[SubGraph, str]:
    """A constant becomes an input (what was known is computed), an input a constant, or a tensor a variable."""
    i = _tensor(g, rng)
    t = g.tensors[i]
    how = rng.random()
    if how < 0.2:
        return _with_tensor(g, i, replace(t, is_variable=not t.is_variable)), f"tensor {i} is a variable or not"
    if t.data is not None:
        return replace(_with_tensor(g, i, replace(t, data=None)), inputs=(*g.inputs, i)), f"constant {i} is an input"
    if i in g.inputs and t.dtype in NUMPY_DTYPES and np.prod(t.shape, dtype=float) < 2**20:
        data = rng.integers(0, 3, t.shape).astype(NUMPY_DTYPES[t.dtype])
        left = tuple(k for k in g.inputs if k != i)
        return replace(_with_tensor(g, i, replace(t, data=data)), inputs=left), f"input {i} is a constant"
    return shape(g, rng)


_TABLE: tuple[tuple[Mutation, float], ...] = (
    (option, 4), (options, 0.7), (code, 2), (inputs, 2), (repeat, 1), (chain, 1), (output, 0.7), (shape, 4), (open_shape, 1.5),
    (dtype, 2), (quantization, 3), (values, 4), (fed, 2),
)  # fmt: skip
MUTATIONS = tuple(m for m, _ in _TABLE)
_WEIGHTS = np.array([w for _, w in _TABLE]) / sum(w for _, w in _TABLE)

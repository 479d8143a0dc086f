"""`check(graph)`: refuse every graph that later code could not handle safely, before anything else looks at it.

A model file is untrusted even when its signature is good. What passes here holds for every subgraph, and later code
relies on it: every index points at something; shapes, element types and byte lengths agree and are within `limits`;
scales are positive and finite; operations stand in an order in which they can run, and have the inputs, outputs and
options that they read. What an operation makes of its inputs (the shapes it computes, the dtypes it takes) is for the
plan to derive and compare.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import numpy as np

from edgeq.errors import CheckError, UnsupportedError
from edgeq.graph import NUMPY_DTYPES, Array, Graph, Op, Quantization, Signature, SubGraph, Table, Tensor
from edgeq.packed import densified
from edgeq.subgraphs import callees
from edgeq.tflite import limits
from edgeq.tflite.limits import shown
from edgeq.tflite.ops import OP_FACTS
from edgeq.tflite.schema import DTYPE_CODES, ENUM_MEMBERS, OPERATOR_CODES, PACKED_BITS, TABLE_NAMES, Field, layout

_POSITIVE = frozenset(
    {"stride_d", "stride_w", "stride_h", "dilation_d_factor", "dilation_w_factor", "dilation_h_factor"}
    | {"filter_width", "filter_height", "block_size", "num_splits"}
)
"""Options that count steps or pieces: 1 to `limits.MAX_STEP`."""

_F32, _S64 = np.dtype(np.float32), np.dtype(np.int64)

_FEW = 32
"""Numbers up to which Python finds the least and the greatest sooner than NumPy."""

_TINY, _HUGE = 2.0**-126, (2 - 2.0**-23) * 2.0**127
"""The least normal float32, and the greatest."""

_ZERO_POINTS = {
    "int8": (-(2**7), 2**7 - 1),
    "uint8": (0, 2**8 - 1),
    "int16": (-(2**15), 2**15 - 1),
    "uint16": (0, 2**16 - 1),
    "int32": (-(2**31), 2**31 - 1),
    "int4": (-8, 7),
    "uint4": (0, 15),
    "int2": (-2, 1),
}
"""Element type → the values that a zero point of it can have."""


def sound(graph: Graph) -> Graph:
    """The graph with its sparse constants dense, checked. Raises CheckError and UnsupportedError."""
    graph = densified(graph)
    check(graph)
    return graph


def check(graph: Graph) -> None:
    """Raise unless every index, shape, element type, scale, buffer length, option and the order of operations is sound.

    Raises:
        CheckError: something in the graph contradicts something else; the message names it, and says what was found
            and what was expected.
        UnsupportedError: the graph keeps constants where edgeq does not read them (sparse, in another file).
    """
    if not graph.subgraphs:
        raise CheckError("the model has no subgraph, expected at least one")
    for s, g in enumerate(graph.subgraphs):
        _subgraph(g, f"subgraph {s}", len(graph.subgraphs))
    if not graph.main.outputs:
        raise CheckError("subgraph 0 has no outputs, expected at least one")
    _calls(graph)
    for k, signature in enumerate(graph.signatures):
        _signature(signature, k, graph)


def _subgraph(g: SubGraph, where: str, subgraphs: int) -> None:
    total = 0
    for i, t in enumerate(g.tensors):
        total += _tensor(t, _Place(where, i, t), len(g.tensors))
    if total > limits.MAX_GRAPH_BYTES:
        raise CheckError(f"{where}: tensors of {total} bytes together, expected at most {limits.MAX_GRAPH_BYTES}")
    _indices(g.inputs, len(g.tensors), where, "inputs")
    _indices(g.outputs, len(g.tensors), where, "outputs")
    for i, op in enumerate(g.ops):
        _op(op, f"{where} op {i} ({op.code})", len(g.tensors), subgraphs)
    _order(g, where)


# --- tensors ----------------------------------------------------------------------------------------------------------


class _Place:
    """How messages name a tensor: a text that is made where one is needed."""

    __slots__ = ("i", "subgraph", "t")

    def __init__(self, subgraph: str, i: int, t: Tensor) -> None:
        self.subgraph, self.i, self.t = subgraph, i, t

    def __str__(self) -> str:
        return f"{self.subgraph} tensor {self.i} ({shown(self.t.name)})"


def _tensor(t: Tensor, where: _Place, tensors: int) -> int:
    """Check one tensor; its bytes, 0 where its elements have no fixed size."""
    if t.dtype not in DTYPE_CODES:
        raise CheckError(f"{where}: dtype {t.dtype!r}, expected one of the schema's")
    if len(t.shape) > limits.MAX_RANK:
        raise CheckError(f"{where}: {len(t.shape)} dimensions, expected at most {limits.MAX_RANK}")
    if min(t.shape, default=0) < 0:
        raise CheckError(f"{where}: shape {list(t.shape)}, expected no negative dimension")
    if t.shape_signature and t.shape_signature != t.shape:
        _shape_signature(t, where)
    dtype, size = NUMPY_DTYPES.get(t.dtype), t.size
    nbytes = (size * PACKED_BITS.get(t.dtype, 0) + 7) // 8 if dtype is None else size * dtype.itemsize
    if nbytes > limits.MAX_TENSOR_BYTES or size > limits.MAX_TENSOR_BYTES:
        raise CheckError(
            f"{where}: shape {list(t.shape)} is {nbytes} bytes, expected at most {limits.MAX_TENSOR_BYTES}"
        )
    if t.sparsity is not None:
        raise UnsupportedError(f"{where}: a sparse tensor, edgeq reads dense ones")
    if t.extra is not None and t.extra.values.get("external_buffer"):
        raise UnsupportedError(f"{where}: its data lies in another file, edgeq reads models of one file")
    if t.data is not None:
        _data(t.data, t, nbytes, where)
    if t.quantization is not None:
        _quantization(t.quantization, t, where, tensors)
    return nbytes


def _shape_signature(t: Tensor, where: _Place) -> None:
    """The signature is the shape with −1 where a length may change."""
    signature = t.shape_signature or ()
    agrees = len(signature) == len(t.shape) and all(s in (-1, d) for s, d in zip(signature, t.shape, strict=True))
    if not agrees:
        raise CheckError(f"{where}: shape signature {_some(signature)}, expected {list(t.shape)} or −1 in places")


def _data(data: Array, t: Tensor, nbytes: int, where: _Place) -> None:
    """The array is what its tensor says, as far as NumPy can say it."""
    dtype = NUMPY_DTYPES.get(t.dtype)
    if dtype is None:
        if data.dtype != np.uint8 or data.ndim != 1:
            raise CheckError(f"{where}: data is {data.dtype} of {data.ndim} dimensions, expected the raw bytes")
        if t.dtype in PACKED_BITS and len(data) != nbytes:
            raise CheckError(
                f"{where}: data of {len(data)} bytes, but shape {list(t.shape)} of {t.dtype} needs {nbytes}"
            )
        return
    if data.dtype != dtype or data.shape != t.shape:
        raise CheckError(
            f"{where}: data is {data.dtype} of shape {list(data.shape)}, expected {dtype} of {list(t.shape)}"
        )
    if t.dtype == "bool" and data.size and data.view(np.uint8).max() > 1:
        raise CheckError(f"{where}: a byte of {data.view(np.uint8).max()} in a bool constant, expected 0 or 1")


def _quantization(q: Quantization, t: Tensor, where: _Place, tensors: int) -> None:
    scale, zero_point = q.scale, q.zero_point
    if q.details is not None:
        _details(q.details, where, tensors)
        if not len(scale) and not len(zero_point):
            return
    if scale.dtype != _F32 or zero_point.dtype != _S64 or scale.ndim != 1 or zero_point.ndim != 1:
        raise CheckError(
            f"{where}: scale and zero_point are {scale.dtype} and {zero_point.dtype} of {scale.ndim} and "
            f"{zero_point.ndim} dimensions, expected float32 and int64 of 1"
        )
    rank = len(t.shape)
    if not 0 <= q.axis < max(rank, 1):
        raise CheckError(f"{where}: quantized along axis {q.axis} of {rank}, expected 0 to {max(rank, 1) - 1}")
    if len(scale) != 1 and (rank == 0 or len(scale) == 0 or len(scale) != t.shape[q.axis]):
        raise CheckError(
            f"{where}: {len(scale)} scales along axis {q.axis} of shape {list(t.shape)}, expected 1 or as many as it is long"
        )
    if len(zero_point) != len(scale):
        raise CheckError(f"{where}: {len(zero_point)} zero points for {len(scale)} scales, expected as many")
    least, most = _ends(scale)
    if not (least >= _TINY and most <= _HUGE):  # NaN is neither
        bad = scale[~((scale >= _TINY) & np.isfinite(scale))][0]
        raise CheckError(f"{where}: scale {bad}, expected a finite number > 0 (at least {_TINY})")
    low, high = _ZERO_POINTS.get(t.dtype, (-(2**63), 2**63 - 1))
    first, last = _ends(zero_point)
    if not low <= first <= last <= high:
        raise CheckError(
            f"{where}: zero point {first if first < low else last}, expected {low} to {high} for {t.dtype}"
        )


def _ends(values: Array) -> tuple[Any, Any]:
    """The least and the greatest of some numbers, NaN if one of them is."""
    if len(values) == 1:
        only = values.item()
        return only, only
    if values.dtype == _S64 and not np.count_nonzero(values):  # as zero points of weights are, told fastest
        return 0, 0
    if 0 < len(values) <= _FEW:
        found = values.tolist()
        if math.isfinite(sum(found)):
            return min(found), max(found)
    return np.minimum.reduce(values), np.maximum.reduce(values)


def _details(details: Table, where: _Place, tensors: int) -> None:
    """Block-wise quantization keeps its scales in tensors of their own."""
    for name in ("scales", "zero_points"):
        index = details.values.get(name, -1)
        if not -1 <= index < tensors:
            raise CheckError(f"{where}: {details.type}.{name} is tensor {index}, but there are {tensors}")


# --- operations -------------------------------------------------------------------------------------------------------


def _op(op: Op, where: str, tensors: int, subgraphs: int) -> None:
    if op.code not in OPERATOR_CODES:
        raise CheckError(f"{where}: not an operation of the schema")
    if op.code == "CUSTOM" and not op.custom_code:
        raise CheckError(f"{where}: a custom operation without a name")
    facts = OP_FACTS.get(op.code)
    for k, i in enumerate(op.inputs):
        if i == -1 and (facts is None or facts.may_omit(k)):
            continue
        if not 0 <= i < tensors:
            raise CheckError(f"{where}: input {k} is tensor {i}, expected 0 to {tensors - 1}")
    _indices(op.outputs, tensors, where, "outputs")
    if op.intermediates:
        _indices((i for i in op.intermediates if i != -1), tensors, where, "intermediates")
    if op.mutating_variable_inputs and len(op.mutating_variable_inputs) != len(op.inputs):
        raise CheckError(
            f"{where}: {len(op.mutating_variable_inputs)} marks of mutated inputs for {len(op.inputs)} inputs"
        )
    if facts is not None:
        if not facts.inputs.allows(len(op.inputs)):
            raise CheckError(f"{where}: {len(op.inputs)} inputs, expected {facts.inputs}")
        if not facts.outputs.allows(len(op.outputs)):
            raise CheckError(f"{where}: {len(op.outputs)} outputs, expected {facts.outputs}")
        found = op.options.type if op.options is not None else None
        if facts.options is not None and found != facts.options and (facts.options_required or found is not None):
            raise CheckError(f"{where}: options {found}, expected {facts.options}")
    if op.options is not None:
        _options(op.options, where, subgraphs)


def _options(options: Table, where: str, subgraphs: int) -> None:
    """Every field of the options' type is there, and has a value that it can have."""
    if options.type not in TABLE_NAMES:
        raise UnsupportedError(f"{where}: options {options.type}, which edgeq does not know")
    values = options.values
    for f, members, positive in _rules(options.type):
        if f.name not in values:
            raise CheckError(
                f"{where}: options without {f.name}, expected a value (the schema's default is {f.default})"
            )
        value = values[f.name]
        if members and not 0 <= value < members:
            raise CheckError(f"{where}: {f.name} is {value}, expected 0 to {members - 1} ({f.of})")
        if f.of == "f32" and f.kind == "scalar" and not math.isfinite(value):
            raise CheckError(f"{where}: {f.name} is {value}, expected a finite number")
        if positive and not 1 <= value <= limits.MAX_STEP:
            raise CheckError(f"{where}: {f.name} is {value}, expected 1 to {limits.MAX_STEP}")
    for target in callees(options):
        if not 0 <= target < subgraphs:
            raise CheckError(f"{where}: calls subgraph {target}, but there are {subgraphs}")


@cache
def _rules(options: str) -> tuple[tuple[Field, int, bool], ...]:
    """Each field of options of this type, how many values its enum has (0: it is of none), and whether it counts something."""
    rules = []
    for f in layout(options).fields:
        scalar = f.kind == "scalar"
        rules.append((f, len(ENUM_MEMBERS.get(f.of, ())) if scalar else 0, scalar and f.name in _POSITIVE))
    return tuple(rules)


def _order(g: SubGraph, where: str) -> None:
    """Every operation reads what is there before it, and writes what nothing else has given a value."""
    inputs = set(g.inputs)
    if len(inputs) != len(g.inputs):
        raise CheckError(f"{where}: inputs {_some(g.inputs)}, expected each tensor once")
    for i in g.inputs:
        if g.tensors[i].data is not None:
            raise CheckError(f"{where}: input tensor {i} ({shown(g.tensors[i].name)}) is a constant")
    constant = {i for i, t in enumerate(g.tensors) if t.data is not None}
    ready = inputs | constant | {i for i, t in enumerate(g.tensors) if t.is_variable}
    written: dict[int, int] = {}
    for k, op in enumerate(g.ops):
        for i in op.inputs:
            if i >= 0 and i not in ready:
                raise CheckError(
                    f"{where} op {k} ({op.code}): reads {_named(g, i)}, which nothing before it has written"
                )
        for i in op.outputs:
            if i in written or i in ready:
                kind = "a constant" if i in constant else "an input" if i in inputs else "a variable"
                kind = f"op {written[i]} has written" if i in written else f"is {kind}"
                raise CheckError(f"{where} op {k} ({op.code}): writes {_named(g, i)}, which {kind}")
            written[i] = k
        ready.update(op.outputs)
    for i in g.outputs:
        if i not in ready:
            raise CheckError(f"{where}: output {_named(g, i)} is computed by nothing")


def _calls(graph: Graph) -> None:
    """Subgraphs call each other without coming back to themselves: a run ends."""
    calls = [{s for op in g.ops if op.options is not None for s in callees(op.options)} for g in graph.subgraphs]
    callers: list[list[int]] = [[] for _ in calls]
    for s, called in enumerate(calls):
        for c in called:
            callers[c].append(s)
    waiting = [len(called) for called in calls]
    free = [s for s, n in enumerate(waiting) if n == 0]
    for s in free:  # grows while it is walked
        for caller in callers[s]:
            waiting[caller] -= 1
            if waiting[caller] == 0:
                free.append(caller)
    if len(free) < len(calls):
        circle = sorted(set(range(len(calls))) - set(free))
        raise CheckError(f"subgraphs {_some(circle)} call each other in a circle")


def _signature(s: Signature, k: int, graph: Graph) -> None:
    where = f"signature {k} ({shown(s.key or '')})"
    if not 0 <= s.subgraph < len(graph.subgraphs):
        raise CheckError(f"{where}: subgraph {s.subgraph}, but there are {len(graph.subgraphs)}")
    g = graph.subgraphs[s.subgraph]
    for side, named, own in (("input", s.inputs, set(g.inputs)), ("output", s.outputs, set(g.outputs))):
        for name, i in named:
            if i not in own:
                raise CheckError(f"{where}: {side} {shown(name)} is tensor {i}, expected one of {_some(sorted(own))}")


# --- helpers ----------------------------------------------------------------------------------------------------------


def _indices(indices: Iterable[int], count: int, where: str, which: str) -> None:
    for i in indices:
        if not 0 <= i < count:
            raise CheckError(f"{where} {which}: tensor {i}, expected 0 to {count - 1}")


def _named(g: SubGraph, i: int) -> str:
    return f"tensor {i} ({shown(g.tensors[i].name)})"


def _some(values: Sequence[int]) -> str:
    """The first few, for a message."""
    return str(list(values)) if len(values) <= 16 else f"{list(values[:16])[:-1]} and {len(values) - 15} more"

"""Subgraphs that operations call: IF, WHILE, CALL_ONCE, STABLEHLO_COMPOSITE. They are laid out where they are called, between
branches.

What goes round a WHILE lies in blocks of its own, from which condition and body read and to which the body's outputs go back.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeq.errors import CheckError
from edgeq.graph import Op
from edgeq.packed import unpacked
from edgeq.plan.builder import MAX_TURNS, Builder, itemsize, nbytes
from edgeq.plan.cost import estimated_ns
from edgeq.plan.types import FLIPPED, Ref
from edgeq.plan.window import copy
from edgeq.records import replace

MAX_DEPTH = 16
"""Calls inside one another."""

MAX_TENSORS = 1 << 18
"""Tensors of a plan, those of every call counted."""

LOOP_NS = 20e9
"""A loop may take about this long on one core, and come back 4096 times however long that takes."""


def inlined(b: Builder, op: Op, index: int, feeds: Sequence[int]) -> list[int]:
    """Emit a subgraph; feeds: the tensors that are its inputs. The tensors that are its outputs."""
    g, base = b.graph.subgraphs[index], len(b.tensors)
    if len(feeds) != len(g.inputs):
        raise CheckError(f"{b.where(op)} gives subgraph {index} {len(feeds)} inputs, it has {len(g.inputs)}")
    if b.depth >= MAX_DEPTH or base + len(g.tensors) > MAX_TENSORS:
        raise b.unsupported(op, f"more than {MAX_DEPTH} calls inside one another, or {MAX_TENSORS} tensors")
    b.tensors += [unpacked(t) for t in g.tensors]
    for i, j in zip(g.inputs, feeds, strict=True):
        bind(b, op, base + i, j)
    b.depth += 1
    for inner in g.ops:
        inputs = tuple(i + base if i >= 0 else i for i in inner.inputs)
        b.lower(replace(inner, inputs=inputs, outputs=tuple(i + base for i in inner.outputs)))
    b.depth -= 1
    return [base + i for i in g.outputs]


def bind(b: Builder, op: Op, i: int, j: int) -> None:
    """Tensor i, of a subgraph or an output, is tensor j."""
    given, wanted = b.tensors[j], b.tensors[i]
    if given.dtype != wanted.dtype:
        raise CheckError(f"{b.where(op)} gives {given.dtype} for {wanted.name!r}, {wanted.dtype} is expected")
    b.as_stated = b.as_stated and wanted.shape == given.shape
    b.tensors[i] = replace(wanted, shape=given.shape, shape_signature=None, has_rank=True)
    known = b.known(j)
    if j in b.handles:
        b.handles[i] = b.handles[j]
    elif known is not None:
        b.folded[i] = known
    else:
        b.places[i] = place_of(b, op, j)


def place_of(b: Builder, op: Op, i: int) -> Ref:
    """Where a tensor lies; a constant is laid out."""
    if i not in b.places:
        data = b.known(i)
        if data is None:
            raise CheckError(f"{b.where(op)}: tensor {i} ({b.tensors[i].name}) has no value")
        b.places[i] = b.constant(data.view(np.uint8) ^ FLIPPED if data.dtype == np.int8 else data)
    return b.places[i]


def moved(b: Builder, op: Op, i: int, target: Ref) -> None:
    """Emit a copy of a tensor."""
    t, source = b.tensors[i], place_of(b, op, i)
    if t.size and source != target:
        size = itemsize(t)
        copy(b, source, target, (t.size,), (size,), (size,), size)


def same_shapes(b: Builder, op: Op, found: Sequence[int], expected: Sequence[int], what: str) -> None:
    """Refuse outputs of two branches, or of a body and its inputs, that differ."""
    for i, j in zip(found, expected, strict=True):
        t, u = b.tensors[i], b.tensors[j]
        if t.dtype != u.dtype:
            raise CheckError(f"{b.where(op)}: {what} yields {t.dtype}, {u.dtype} is expected")
        if t.shape != u.shape:
            raise b.data_dependent(op, -1, f"{what} yields shape {list(t.shape)} where there was {list(u.shape)}")


def if_(b: Builder, op: Op) -> None:
    """IF: a condition of one bool, and the inputs of the branches."""
    o = op.options
    assert o is not None
    c = b.tensor(op, 0)
    if c.dtype != "bool" or c.size != 1:
        raise CheckError(f"{b.where(op)}: the condition is {c.dtype}{list(c.shape)}, one bool is expected")
    sides, feeds = (o.then_subgraph_index, o.else_subgraph_index), op.inputs[1:]
    if b.is_constant(op, 0):
        chosen = sides[0] if b.constant_value(op, 0).reshape(-1)[0] else sides[1]
        for i, j in zip(op.outputs, inlined(b, op, chosen, feeds), strict=True):
            bind(b, op, i, j)
        return
    otherwise = b.branch(b.read(op, 0))
    first = inlined(b, op, sides[0], feeds)
    if len(first) != len(op.outputs):
        raise CheckError(f"{b.where(op)} has {len(op.outputs)} outputs, a branch has {len(first)}")
    targets = [b.block(nbytes(b.tensors[i])) if i not in b.handles else None for i in first]
    for i, target in zip(first, targets, strict=True):
        if target is not None:
            moved(b, op, i, target)
    behind = b.branch()
    b.lead(otherwise)
    second = inlined(b, op, sides[1], feeds)
    if len(second) != len(first):
        raise CheckError(f"{b.where(op)}: its branches have {len(first)} and {len(second)} outputs")
    same_shapes(b, op, second, first, "the other branch")
    for i, target in zip(second, targets, strict=True):
        if target is not None:
            moved(b, op, i, target)
    b.lead(behind)
    for k, (i, j, target) in enumerate(zip(first, second, targets, strict=True)):
        if target is None:
            if b.handles.get(i) != b.handles.get(j):
                raise b.unsupported(op, "its branches yield different variables")
            b.handles[op.outputs[k]] = b.handles[i]
        else:
            b.expect_shape(op, b.tensors[i].shape, k)
            b.view(op, k, target)


def while_(b: Builder, op: Op) -> None:
    """WHILE: the inputs go round through body as long as condition holds."""
    o = op.options
    assert o is not None
    if len(op.outputs) != len(op.inputs):
        raise CheckError(
            f"{b.where(op)} has {len(op.inputs)} inputs and {len(op.outputs)} outputs, as many are expected"
        )
    round_ = []  # tensors of the loop's own
    for i in op.inputs:
        t = b.tensors[i]
        b.tensors.append(replace(t, data=None, is_variable=False))
        round_.append(len(b.tensors) - 1)
        if i in b.handles:
            b.handles[round_[-1]] = b.handles[i]
        else:
            b.places[round_[-1]] = b.block(nbytes(t))
            moved(b, op, i, b.places[round_[-1]])
    start = len(b.instructions)
    conditions = inlined(b, op, o.cond_subgraph_index, round_)
    if len(conditions) != 1:
        raise CheckError(f"{b.where(op)}: its condition has {len(conditions)} outputs, 1 is expected")
    condition = conditions[0]
    c = b.tensors[condition]
    if c.dtype != "bool" or c.size != 1:
        raise CheckError(f"{b.where(op)}: the condition is {c.dtype}{list(c.shape)}, one bool is expected")
    known = b.known(condition)
    if known is not None and known.reshape(-1)[0]:
        raise CheckError(f"{b.where(op)}: the condition always holds")
    out = b.branch(place_of(b, op, condition))
    found = inlined(b, op, o.body_subgraph_index, round_)
    if len(found) != len(round_):
        raise CheckError(f"{b.where(op)}: its body has {len(found)} outputs, {len(round_)} are expected")
    same_shapes(b, op, found, round_, "the body")
    carried = {b.places[i].block for i in round_ if i in b.places}
    late = []
    for i, j in zip(found, round_, strict=True):
        if j in b.handles:
            if b.handles.get(i) != b.handles[j]:
                raise b.unsupported(op, "another variable goes round the loop")
            continue
        source = place_of(b, op, i)
        if source.block in carried and source != b.places[j]:  # the body only hands it on, to another place
            t = b.tensors[i]
            b.tensors.append(replace(t, data=None))
            b.places[len(b.tensors) - 1] = b.block(nbytes(t))
            moved(b, op, i, b.places[len(b.tensors) - 1])
            late.append((len(b.tensors) - 1, j))
        else:
            late.append((i, j))
    for i, j in late:
        moved(b, op, i, b.places[j])
    back = b.branch()
    spent = sum(estimated_ns(i, b.isa) for i in b.instructions[start:])
    b.lead(back, start, int(min(MAX_TURNS, max(4096, LOOP_NS / max(spent, 1.0)))))
    b.lead(out)
    b.hold(start)
    for k, i in enumerate(round_):
        if i in b.handles:
            b.handles[op.outputs[k]] = b.handles[i]
        else:
            b.expect_shape(op, b.tensors[i].shape, k)
            if b.output(op, k).dtype != b.tensors[i].dtype:
                raise CheckError(
                    f"{b.where(op)}: output {k} is {b.output(op, k).dtype}, {b.tensors[i].dtype} goes round"
                )
            b.view(op, k, b.places[i])


def call_once(b: Builder, op: Op) -> None:
    """CALL_ONCE: a subgraph that gives variables their first values, which must be constants."""
    o, before = op.options, len(b.instructions)
    assert o is not None
    b.initialising += 1
    inlined(b, op, o.init_subgraph_index, [])
    b.initialising -= 1
    if len(b.instructions) != before:
        raise b.unsupported(op, "its subgraph computes more than constants")


def composite(b: Builder, op: Op) -> None:
    """STABLEHLO_COMPOSITE: what its name stands for, spelled out in a subgraph."""
    o = op.options
    assert o is not None
    found = inlined(b, op, o.decomposition_subgraph_index, op.inputs)
    if len(found) != len(op.outputs):
        raise CheckError(f"{b.where(op)} has {len(op.outputs)} outputs, its subgraph has {len(found)}")
    for i, j in zip(op.outputs, found, strict=True):
        bind(b, op, i, j)


LOWERINGS = {"IF": if_, "WHILE": while_, "CALL_ONCE": call_once, "STABLEHLO_COMPOSITE": composite}

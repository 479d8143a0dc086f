"""Recurrent layers: one step, or a sequence of them, beside a state that keeps its shape."""

from __future__ import annotations

from collections.abc import Sequence

from edgeq.shapes.node import Node, Shape


def svdf(n: Node) -> Sequence[Shape]:
    """Input (batch, features), weights (filters, features), state (batch, memory · filters); filters = units · rank."""
    (batch, features), weights, state = n.rank(0, 2), n.rank(1, 2), n.rank(4, 2)
    filters, rank = weights[0], n.option("rank", 1)
    if rank < 1 or filters % rank or weights[1] != features or state[0] != batch:
        raise n.wrong(
            f"an input of shape {[batch, features]}, weights of shape {list(weights)} of rank {rank} and a state of "
            f"{state[0]} rows do not go together"
        )
    return [(batch, filters // rank)]


def sequence_lstm(n: Node) -> Sequence[Shape]:
    """Input (batch, time, features) or (time, batch, …); input 18 is the output state (batch, outputs)."""
    x, state = n.rank(0, 3), n.rank(18, 2)
    batch = x[1] if n.option("time_major", False) else x[0]
    if state[0] != batch:
        raise n.wrong(f"a state of {state[0]} rows for a batch of {batch}")
    return [(*x[:2], state[1])]


def lstm(n: Node) -> Sequence[Shape]:
    """One step; the basic kernel has four outputs, the full one a single (lstm.cc)."""
    x = n.shape(0)
    if n.option("kernel_type") == 1:
        state = n.rank(4, 2)
        if state[0] != x[0]:
            raise n.wrong(f"a state of {state[0]} rows for a batch of {x[0]}")
        gates = n.rank(2, 2)
        return [(x[0], state[1]), state, (x[0], gates[1]), (x[0], gates[0])][: len(n.stated)]
    state = n.rank(18, 2)
    if state[0] != x[0]:
        raise n.wrong(f"a state of {state[0]} rows for a batch of {x[0]}")
    return [(x[0], state[1])]


def sequence_rnn(n: Node) -> Sequence[Shape]:
    """Input (batch, time, features) or time first; input 4 is the state (batch, units)."""
    x, (units, _) = n.rank(0, 3), n.rank(1, 2)
    return [(*x[:2], units)]


def rnn(n: Node) -> Sequence[Shape]:
    """One step: (batch, units)."""
    return [(n.rank(0, 2)[0], n.rank(1, 2)[0])]


def bidirectional_lstm(n: Node) -> Sequence[Shape]:
    """As sequence_lstm, each way; inputs 35 and 37 are the output states. Merged, the outputs lie side by side."""
    return _both(n, n.rank(35, 2)[1], n.rank(37, 2)[1])


def bidirectional_rnn(n: Node) -> Sequence[Shape]:
    """As sequence_rnn, each way; inputs 1 and 5 are the weights."""
    return _both(n, n.rank(1, 2)[0], n.rank(5, 2)[0])


def _both(n: Node, forward: int, backward: int) -> Sequence[Shape]:
    lead = n.rank(0, 3)[:2]
    if n.option("merge_outputs", False):
        return [(*lead, forward + backward)]
    return [(*lead, forward), (*lead, backward)]

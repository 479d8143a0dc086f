"""What each layer alone costs: the float model with one layer in integers, and the noise that this makes at the outputs.

A layer in integers has its weights read back from their codes and its output rounded to its codes; all else is float. So the
figures say where precision is worth spending, unlike the noise of a tensor, which holds all that came from upstream.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

import numpy as np

from edgeq.calibrate import Inputs
from edgeq.errors import UnsupportedError
from edgeq.feed import quantmod_of
from edgeq.graph import Array, Graph
from edgeq.quantize.canonical import real
from edgeq.quantize.compare import judged
from edgeq.quantize.rules import RULES
from edgeq.report.match import layers
from edgeq.reverse import Tape

_MOVED = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS")  # codes that were rounded before

BUDGET = 2e11
"""Multiplications that all passes together may take."""


def sensitivity(
    plain: Graph, coded: Graph, place: Mapping[int, int], inputs: Sequence[Inputs], scaled: Container[int] = ()
) -> dict[int, float]:
    """Noise per signal at the outputs by operation of `coded`; empty where the float model has operations without a rule.

    scaled: tensors of `plain` whose channels count in other units in `coded`; what reads or writes them is left out.
    """
    targets = [i for i in judged(plain) if i in place]
    try:
        tape = Tape(plain, targets)
    except UnsupportedError:
        return {}
    on_path = set(tape.path)
    of = {
        n: m
        for n, m in layers(plain, coded, place).items()
        if m in on_path and not any(i in scaled for i in (*plain.ops[m].inputs, *plain.ops[m].outputs))
    }
    macs = sum(_macs(plain, k) for k in tape.path)
    most = max(2, int(BUDGET / max(macs * max(len(of), 1), 1)))
    given = _stacked(plain, list(inputs[: most if tape.batchable else 1]))
    wanted = tape.forward(given, {})
    out = {}
    for n, m in of.items():
        weights = _weights(plain, coded, n, m)
        i = plain.ops[m].outputs[0]
        q = quantmod_of(coded.tensors[place[i]])
        if (weights is None and q is None) or plain.ops[m].code in _MOVED:
            continue

        def rounded(k: int, v: Array, i: int = i, q=q):  # type: ignore[no-untyped-def]
            if k != i or q is None:
                return None
            return q.dequantize(q.quantize(np.ascontiguousarray(v))).astype(np.float32), lambda g: g

        found = tape.forward(given, weights or {}, (), rounded)
        out[n] = float(np.mean([_noise(wanted[t], found[t]) for t in targets]))
    return out


def _weights(plain: Graph, coded: Graph, n: int, m: int) -> dict[int, Array] | None:
    op, there = coded.ops[n], plain.ops[m]
    rule = RULES.get(op.code)
    if rule is None or rule.weights is None or op.code != there.code:
        return None
    t, w = coded.tensors[op.inputs[rule.weights]], plain.tensors[there.inputs[rule.weights]]
    if t.data is None or w.data is None or t.shape != w.shape or t.quantization is None or t.dtype == "float32":
        return None
    return {there.inputs[rule.weights]: real(t)}


def _stacked(graph: Graph, inputs: Sequence[Inputs]) -> dict[int, Array]:
    return {i: np.concatenate([x[k] for x in inputs]) for k, i in enumerate(graph.inputs)}


def _macs(graph: Graph, k: int) -> int:
    op = graph.ops[k]
    rule = RULES.get(op.code)
    if rule is None or rule.weights is None:
        return graph.tensors[op.outputs[0]].size
    w = graph.tensors[op.inputs[rule.weights]]
    return graph.tensors[op.outputs[0]].size * w.size // max(w.shape[rule.axis], 1)


def _noise(wanted: Array, found: Array) -> float:
    a = wanted.astype(np.float64).reshape(-1)
    d = found.reshape(-1) - a
    return float(d @ d) / max(float(a @ a), 1e-30)

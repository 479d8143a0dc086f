"""Which tensor of an integer model stands for which of its float model.

Quantizers keep tensors' names or they do not; the operations' order they keep. Names are believed where both models have them
once and the shapes agree; what is left is aligned by operation and shape.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from difflib import SequenceMatcher

from edgeq.errors import InputError
from edgeq.feed import quantmod_of
from edgeq.graph import Graph

_CHANGES = ("QUANTIZE", "DEQUANTIZE")
_ALIKE = {"AVERAGE_POOL_2D": "MEAN"}
"""What a quantizer may write for what."""


def match(real: Graph, coded: Graph) -> dict[int, int]:
    """Computed float32 tensors of `real` → their counterparts in `coded`. Raises InputError for models that do not match.

    Inputs and outputs are matched by position; those whose shapes differ are refused.
    """
    for side in ("inputs", "outputs"):
        wanted = [real.tensors[i].shape for i in getattr(real, side)]
        given = [coded.tensors[i].shape for i in getattr(coded, side)]
        if wanted != given:
            raise InputError(f"expected two forms of one model, found {side} of shapes {wanted} and {given}")
    found = dict(zip(real.inputs, coded.inputs, strict=True))
    found |= _by_name(real, coded)
    found |= {a: b for a, b in _by_order(real, coded).items() if a not in found}
    for a, b in zip(real.outputs, coded.outputs, strict=True):
        found[a] = b
    return {i: j for i, j in found.items() if real.tensors[i].dtype == "float32" and _has_values(coded, j)}


def _has_values(graph: Graph, j: int) -> bool:
    return graph.tensors[j].dtype == "float32" or quantmod_of(graph.tensors[j]) is not None


def _by_name(real: Graph, coded: Graph) -> dict[int, int]:
    names = [Counter(t.name for t in g.tensors) for g in (real, coded)]
    there = {t.name: j for j, t in enumerate(coded.tensors) if t.data is None}
    out = {}
    for i, t in enumerate(real.tensors):
        j = there.get(t.name)
        if t.data is not None or not t.name or j is None or coded.tensors[j].shape != t.shape:
            continue
        if all(n[t.name] == 1 for n in names):
            out[i] = j
    return out


def _by_order(real: Graph, coded: Graph) -> dict[int, int]:
    rows = []
    for g in (real, coded):
        rows.append(
            [
                (_ALIKE.get(op.code, op.code), g.tensors[op.outputs[0]].shape, op.outputs[0])
                for op in g.ops
                if op.code not in _CHANGES
            ]
        )
    a, b = rows
    blocks = SequenceMatcher(None, [r[:2] for r in a], [r[:2] for r in b], autojunk=False).get_matching_blocks()
    return {a[m.a + k][2]: b[m.b + k][2] for m in blocks for k in range(m.size)}


def layers(real: Graph, coded: Graph, place: Mapping[int, int]) -> dict[int, int]:
    """Operations of `coded` → those of `real` that write the same tensor."""
    written = coded.main.producers()
    return {written[place[op.outputs[0]]]: n for n, op in enumerate(real.ops) if place.get(op.outputs[0]) in written}

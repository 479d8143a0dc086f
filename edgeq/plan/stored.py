"""A plan as bytes, for a process that comes later on the same machine: what running needs, and the names and types of its ports.

    size of the facts (8, native) ‖ facts (JSON) ‖ table ‖ arena_words ‖ constant_words ‖ constants

Each part begins at a multiple of 64 bytes; numbers are int64 in this machine's order. Who reads it knows that it comes from here
(edgeq/shelf.py): the machine believes what a plan says, so nobody reads one that somebody else may have made.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeq.kernels.words.instruction import WORDS
from edgeq.plan.runnable import CONSTANT, Port, Ref, Runnable
from edgeq.spelling import spell, understand

if TYPE_CHECKING:
    from edgeq.graph import Array

ALIGNMENT = 64


def storable(plan: Runnable) -> bool:
    """Whether a plan means the same in another process: it calls no function of this one, keeps no state, asks for no values."""
    return not plan.kept and not plan.initial and not plan.variables and not plan.required


def to_parts(plan: Runnable, constants: Array, about: Any) -> list[memoryview]:
    """The pieces of the content in order. constants: (bytes,) uint8, those of the plan, wherever they lie now; about: a JSON
    value that comes back with it."""
    ports = (*plan.inputs, *plan.outputs)
    facts = {
        "about": about,
        "arena_bytes": plan.arena_bytes,
        "nanoseconds": plan.nanoseconds,
        "together": plan.together,
        "words": [len(plan.table), len(plan.arena_words), len(plan.constant_words), len(constants)],
        "inputs": len(plan.inputs),
        "ports": [
            [
                p.tensor,
                p.place.block == CONSTANT,
                p.place.offset if p.place.block == CONSTANT else plan.offset(p.place),
                p.size,
                p.words,
                p.float_words,
            ]
            for p in ports
        ],
    }
    text = spell(facts).encode()
    head = memoryview(len(text).to_bytes(8, sys.byteorder) + text)
    arrays = (plan.table, plan.arena_words, plan.constant_words, constants)
    parts = []
    for part in (head, *(np.ascontiguousarray(a).view(np.uint8).reshape(-1).data for a in arrays)):
        parts += [part, memoryview(bytes(-len(part) % ALIGNMENT))]
    return parts


def from_content(content: memoryview) -> tuple[Runnable, Any]:
    """The plan and what was said about it; its arrays lie in `content`."""
    size = int.from_bytes(content[:8], sys.byteorder)
    facts = understand(str(content[8 : 8 + size], "utf-8"))
    rows, arena, constant, constants = facts["words"]
    at = -(-(8 + size) // ALIGNMENT) * ALIGNMENT
    found = []
    for length in (8 * rows * WORDS, 8 * arena, 8 * constant, constants):
        found.append(np.frombuffer(content[at : at + length], np.uint8))
        at += -(-length // ALIGNMENT) * ALIGNMENT
    table, arena_words, constant_words = (a.view(np.int64) for a in found[:3])
    offsets = tuple(p[2] for p in facts["ports"])
    ports = _ports(facts["ports"])
    return Runnable(
        table=table.reshape(rows, WORDS),
        arena_words=arena_words,
        constant_words=constant_words,
        constants=found[3],
        arena_bytes=facts["arena_bytes"],
        offsets=offsets,
        inputs=ports[: facts["inputs"]],
        outputs=ports[facts["inputs"] :],
        nanoseconds=facts["nanoseconds"],
        together=facts["together"],
        required={},
        kept=(),
        initial=(),
        variables={},
    ), facts["about"]


def _ports(described: Sequence[Sequence[Any]]) -> tuple[Port, ...]:
    return tuple(
        Port(tensor, Ref(CONSTANT, at) if constant else Ref(k), size, tuple(words), floats and tuple(floats))
        for k, (tensor, constant, at, size, words, floats) in enumerate(described)
    )

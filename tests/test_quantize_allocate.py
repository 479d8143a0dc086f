"""Bytes of a bundle shared out among layers by what they lose."""

from __future__ import annotations

from dataclasses import replace

import pytest
from quantize_models import answers, inputs_of, sqnr
from test_quantize_recipes import larger

from edgeq import codebooks
from edgeq.errors import InputError
from edgeq.quantize import quantize
from edgeq.quantize.allocate import AROUND, Offer, _shared
from edgeq.quantize.rounding import Grade
from edgeq.recipe import RECIPES, Recipe
from edgeq.tflite import read, write

A, B, C = (Grade(step=s) for s in (1.0, 2.0, 4.0))
OFFERS = {
    0: [Offer(A, 80, 1e-6), Offer(B, 60, 4e-6), Offer(C, 40, 16e-6)],
    1: [Offer(A, 80, 1e-4), Offer(B, 60, 4e-4), Offer(C, 40, 16e-4)],
}


@pytest.mark.parametrize(
    ("room", "expected"),
    [(160, {0: A, 1: A}), (120, {0: C, 1: A}), (100, {0: C, 1: B}), (80, {0: C, 1: C}), (10, {0: C, 1: C})],
)
def test_bytes_go_where_they_help_most(room, expected):
    """What a layer loses decides who is coded finely; with too little room all are as small as they come."""
    assert _shared(OFFERS, room) == expected


def size(graph) -> int:
    """Bytes of a model as a bundle holds it."""
    model = bytes(write(graph))
    coded = codebooks.coded(model, read(model))
    return AROUND + len(model if coded is None else coded)


def test_a_share_of_the_bytes():
    """A recipe's share of the int8 model's bytes is kept to and put to use: more of it, less noise."""
    graph = larger()
    inputs, others = inputs_of(graph, 48, seed=1), inputs_of(graph, 24, seed=2)
    whole, wanted = size(quantize(graph, inputs).graph), answers(graph, others)
    found = []
    for share in (0.5, 0.7):
        done = quantize(graph, inputs, replace(RECIPES["codebook2"], bundle=share))
        assert any(step.startswith("bytes shared out") for step in done.steps)
        assert size(done.graph) <= 1.02 * share * whole
        found.append(min(sqnr(wanted, answers(done.graph, others))))
    assert found[0] + 2 < found[1]


@pytest.mark.parametrize("share", [-0.1, 1.5, True, "half"])
def test_a_share_is_one(share):
    """What is no share is refused."""
    with pytest.raises(InputError, match="bundle must be"):
        Recipe("r", bundle=share)

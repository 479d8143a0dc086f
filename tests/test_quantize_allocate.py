"""Bytes of a bundle shared out among layers by what they lose."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from quantize_models import Net, answers, inputs_of, sqnr
from test_quantize_recipes import larger

from edgeq import codebooks
from edgeq.errors import InputError
from edgeq.graph import Graph
from edgeq.quantize import allocate, quantize
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


def pruned() -> Graph:
    """[1, 8, 8, 3] → convolutions, of whose channels four of five are 0 → softmax."""
    net = Net((1, 8, 8, 3))
    a = 0
    for width in (64, 128, 128):
        a = net.conv(a, width, k=1, act=1)
    graph = net.graph(net.softmax(net.dense(net.reshape(net.global_pool(a), 1, 128), 10)))
    tensors = tuple(
        replace(t, data=np.where(np.arange(t.shape[0]) % 5 == 0, t.data.T, 0).T.astype(np.float32).copy())
        if t.data is not None and t.dtype == "float32" and t.size > 4096
        else t
        for t in graph.tensors
    )
    return graph.with_main(tensors=tensors)


def test_weights_that_are_mostly_zero_keep_all_codes():
    """Where all codes fit into the bytes, no layer but one has fewer of them."""
    graph = pruned()
    inputs = inputs_of(graph, 32)
    done, whole = quantize(graph, inputs, RECIPES["codebook4"]), size(quantize(graph, inputs).graph)
    assert any("codebooks for 0" in step for step in done.steps), done.steps
    widest = [np.abs(t.data.astype(int)).max() for t in done.graph.tensors if t.dtype == "int8" and t.data is not None]
    assert sum(w < 127 for w in widest) <= 1
    assert size(done.graph) < 0.52 * whole


def test_all_codes_are_kept_where_few_levels_take_more_bytes(monkeypatch):
    """Of what fits the least noise counts, not the most bytes: codebooks that take more than even steps are no better for it."""
    parted = allocate._Sizes.parted

    def larger_books(sizes, grades):
        whole, rest = parted(sizes, grades)
        return whole + 6000, rest

    monkeypatch.setattr(allocate._Sizes, "parted", larger_books)
    graph = pruned()
    done = quantize(graph, inputs_of(graph, 32), RECIPES["codebook4"])
    assert any("even steps for 3 layers, codebooks for 0" in step for step in done.steps), done.steps


@pytest.mark.parametrize("share", [-0.1, 1.5, True, "half"])
def test_a_share_is_one(share):
    """What is no share is refused."""
    with pytest.raises(InputError, match="bundle must be"):
        Recipe("r", bundle=share)

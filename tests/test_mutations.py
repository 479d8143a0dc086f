"""Damaged model files: an error of edgeq or a run, never a crash, a hang, another exception or memory without end."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from mutation import mutant
from mutation_corpus import case_models, operations, small_models
from mutation_graph import mutated
from mutation_harness import Case, Worker, cases, run_all
from tflite_compare import difference
from tflite_models import SMALL_MODELS, int8_cnn, real_models

from edgeq.errors import EdgeqError
from edgeq.plan.build import UNSHAPED
from edgeq.plan.lower import LOWERINGS
from edgeq.plan.lower.custom import OWN
from edgeq.tflite import read, write

LARGEST = 600_000
"""Bytes of the real models that the suite mutates; benchmarks/mutations.py takes them all."""


def test_a_seed_is_a_mutant():
    """The same seed makes the same mutant, another seed another; most differ from the sound file."""
    data = write(int8_cnn())
    mutants = [mutant(data, seed) for seed in range(200)]
    assert mutants == [mutant(data, seed) for seed in range(200)]
    assert len({m for m, _ in mutants} - {data}) > 160


@pytest.mark.parametrize(
    ("plant", "outcome"),
    [
        ("no bounds in the reader", "stray"),
        ("no check of operations", "stray"),
        ("no check of computed shapes", "crash or stray"),
        ("an arena too small", "crash"),
        ("a crash", "crash"),
        ("a hang", "hang"),
        ("too much memory", "stray"),
    ],
)
def test_harness_finds_what_is_planted(plant, outcome):
    """With one check taken out of edgeq, or a fault put in, the harness reports it within some hundred mutants."""
    worker = Worker(plant, time_limit=2.0)
    try:
        found = next((r for seed in range(1500) if (r := worker.run(Case("int8 cnn", seed))).failed), None)
    finally:
        worker.close()
    assert found is not None
    assert found.outcome in outcome, found


def test_small_models():
    """Mutants of the models that tests build."""
    _expect_none_failed(cases(small_models(), 400, seed=11))


def test_every_operation() -> None:
    """Mutants of a model of every operation in every type."""
    models = case_models()
    _expect_none_failed(cases(models, 4000, seed=13))


def test_every_operation_and_option_is_struck() -> None:
    """The corpus holds every operation that edgeq runs, and a mutation reaches each option of each."""
    found = operations([*small_models(), *case_models()])
    held = {"CUSTOM", *found} if set(OWN) <= set(found) else set(found)  # custom operations go by their own names
    assert sorted({*LOWERINGS, *UNSHAPED} - held) == []
    graph = SMALL_MODELS["int8 cnn"]()
    struck = " ".join(mutated(graph, seed)[1] for seed in range(4000))
    for op in graph.ops:
        for name in op.options.values if op.options else ():
            assert f"{op.code}.{name} =" in struck


def test_real_models():
    """Mutants of real models, each of a few kilobytes to half a megabyte."""
    models = [str(p) for p in real_models() if p.stat().st_size <= LARGEST]
    if not models:
        pytest.skip("no real models beside this checkout")
    _expect_none_failed(cases(models, 2 * len(models), seed=12))


def _expect_none_failed(given: Iterable[Case]) -> None:
    these = list(given)
    results = list(run_all(these))
    assert len(results) == len(these)
    assert [r for r in results if r.failed] == []
    ran = sum(r.outcome in ("ran", "built") for r in results)
    assert 0.05 < ran / len(results) < 0.9  # both roads are taken


def test_what_reads_writes_back():
    """A mutant that reads, sound or not, is written and read again as the same graph, or refused by name."""
    sources = [write(make()) for make in SMALL_MODELS.values()]
    survived = 0
    for seed in range(1000):
        data, what = mutant(sources[seed % len(sources)], seed)
        try:
            graph = read(data)
            again = read(write(graph))
        except EdgeqError:
            continue
        assert difference(graph, again) is None, what
        survived += 1
    assert survived > 200

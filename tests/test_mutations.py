"""Damaged model files: an error of edgeq or a run, never a crash, a hang, another exception or memory without end."""

from __future__ import annotations

import pytest
from mutation import mutant
from mutation_harness import Case, Worker, cases, run_all
from tflite_compare import difference
from tflite_models import SMALL_MODELS, int8_cnn, real_models

from edgeq.errors import EdgeqError
from edgeq.tflite import read, write

SMALL = [n for n in SMALL_MODELS if n != "exotic"]
LARGEST = 600_000
"""Bytes of the real models that the suite mutates; benchmarks/mutations.py takes them all."""


def test_a_seed_is_a_mutant():
    """The same seed makes the same mutant, another seed another; nearly all differ from the sound file."""
    data = write(int8_cnn())
    mutants = [mutant(data, seed) for seed in range(200)]
    assert mutants == [mutant(data, seed) for seed in range(200)]
    assert len({m for m, _ in mutants} - {data}) > 190


@pytest.mark.parametrize(
    ("plant", "outcome"),
    [
        ("no bounds in the reader", "stray"),
        ("no check of operations", "stray"),
        ("an arena too small", "crash"),
        ("a crash", "crash"),
        ("a hang", "hang"),
        ("too much memory", "stray"),
    ],
)
def test_harness_finds_what_is_planted(plant, outcome):
    """With one check taken out of edgeq, or a fault put in, the harness reports it within a few hundred mutants."""
    worker = Worker(plant, time_limit=2.0)
    try:
        found = next((r for seed in range(600) if (r := worker.run(Case("int8 cnn", seed))).failed), None)
    finally:
        worker.close()
    assert found is not None
    assert found.outcome == outcome, found


def test_small_models():
    """Mutants of the models that tests build."""
    _expect_none_failed(cases(SMALL, 400, seed=11))


def test_real_models():
    """Mutants of real models, each of a few kilobytes to half a megabyte."""
    models = [str(p) for p in real_models() if p.stat().st_size <= LARGEST]
    if not models:
        pytest.skip("no real models beside this checkout")
    _expect_none_failed(cases(models, 2 * len(models), seed=12))


def _expect_none_failed(these: list[Case]) -> None:
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

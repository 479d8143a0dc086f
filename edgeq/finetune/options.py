"""How to learn, and what came of it."""

from __future__ import annotations

from edgeq.errors import InputError
from edgeq.finetune.goal import Figure
from edgeq.graph import Graph
from edgeq.records import dataclass

BATCH = 32
"""Samples a step."""


@dataclass(frozen=True)
class Options:
    """How to learn.

    epochs: passes over the samples, None for what BUDGET allows; minutes: of time at most, None for no end; batch: samples
    a step, None for BATCH; seed: of order and variations; rate: times RATES; mix: the share of batches that are varied, None
    for all of them, or half of them where there are labels, which a mixture has not.
    """

    epochs: int | None = None
    minutes: float | None = None
    batch: int | None = None
    seed: int = 0
    rate: float = 1.0
    mix: float | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "minutes", "batch", "rate"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"{name} must be > 0, got {value}")
        if self.mix is not None and not 0 <= self.mix <= 1:
            raise InputError(f"mix must be in [0, 1], got {self.mix}")


@dataclass(frozen=True, eq=False)
class Finetuned:
    """What came of it.

    graph: the best model on the samples held out, the start itself (`changed` False) if nothing was better; history: the
    figure at the start and those taken since; best: which of them; epochs: passes over the samples; learned, held: how many
    samples; finished: whether all epochs were gone through (else time was up, or it was interrupted).
    """

    graph: Graph
    history: tuple[Figure, ...]
    best: int
    epochs: int
    learned: int
    held: int
    finished: bool
    interrupted: bool
    codebooks: int

    @property
    def changed(self) -> bool:
        """Whether learning helped."""
        return self.best > 0

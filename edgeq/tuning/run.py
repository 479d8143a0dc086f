"""The search: recipes, then single layers in int16, then ranges and rounding offsets one at a time, by a metric.

Everything is decided on validation samples, and a change is kept only if it helps in nearly all bootstrap resamples of them:
a search that tries hundreds of changes on a few hundred samples would otherwise learn those samples by heart.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from edgeq.calibrate import Progress, silent
from edgeq.errors import EdgeqError, InputError, QuantizeError
from edgeq.feed import Source
from edgeq.files import PathLike
from edgeq.finetune.checkpoint import digest
from edgeq.finetune.goal import answering, answers
from edgeq.finetune.rows import Rows
from edgeq.graph import Array, Graph
from edgeq.quantize import quantize
from edgeq.quantize.canonical import fold_weights
from edgeq.quantize.prepare import prepare
from edgeq.recipe import RANGE_METHODS, RECIPES, Recipe, Scope
from edgeq.records import dataclass, replace
from edgeq.report.match import match
from edgeq.report.sensitivity import sensitivity
from edgeq.tflite import write
from edgeq.tuning.journal import Journal, Try
from edgeq.tuning.metric import Bootstrap, Metric, metric
from edgeq.tuning.setting import Setting, applied, biased, groups

FACTORS = (0.85, 1.15, 0.95, 1.05)
OFFSETS = (0.25, 0.75, 0.4, 0.6)
RAISED = 4
"""Layers tried in int16, the most sensitive first."""

AT_ONCE = 256
"""Inferences that go through a model in one call."""


@dataclass(frozen=True)
class Split:
    """A metric on one split: of the float model, the recipe's model, the tuned one; interval: 95 % of what tuning gained."""

    samples: int
    float_: float
    before: float
    after: float
    interval: tuple[float, float]


@dataclass(frozen=True, eq=False)
class Tuned:
    """What came of it. steps: what was kept, a line each; tries: how many candidates; finished: whether the search came to
    its end, and not to that of its time."""

    graph: Graph
    metric: str
    validation: Split
    test: Split | None
    steps: tuple[str, ...]
    tries: int
    finished: bool

    @property
    def changed(self) -> bool:
        """Whether anything was kept."""
        return bool(self.steps)


def tune(
    graph: Graph,
    samples: Source,
    validation: Mapping[str, Array],
    by: str = "accuracy",
    *,
    test: Mapping[str, Array] | None = None,
    recipe: Recipe = RECIPES["int8"],
    minutes: float = 10.0,
    progress: Progress | None = None,
    saved: PathLike | None = None,
) -> Tuned:
    """A quantized model tuned by a metric on `validation` (arrays by name, labels in y).

    samples: what calibrates, as edgeq.feed takes it; test: samples that decide nothing and are only reported; saved: a
    journal, written after every try, taken up if it is there. Raises InputError for samples that the metric cannot use.
    """
    search = _Search(graph, samples, validation, by, recipe, minutes, progress or silent, saved)
    finished = search.run()
    return Tuned(
        search.graph, by, search.split(search.held), None if test is None else search.split(search.on(test)),
        tuple(search.steps), len(search.journal.tries), finished,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Held:
    """One split: its inferences, the metric over it, and the float model's answers."""

    rows: Rows
    metric: Metric
    wanted: list[Array]


class _Search:
    def __init__(
        self, graph: Graph, samples: Source, validation: Mapping[str, Array], by: str, recipe: Recipe, minutes: float,
        say: Progress, saved: PathLike | None,
    ) -> None:  # fmt: skip
        if not minutes > 0:
            raise InputError(f"minutes must be > 0, got {minutes}")
        self.float = fold_weights(prepare(graph, RECIPES["int8"]))
        self._given, self._samples, self._by, self._say = graph, samples, by, say
        self._end = time.monotonic() + 60 * minutes
        self.held = self.on(validation)
        self.boot = Bootstrap(len(self.held.wanted[0]))
        key = digest(write(graph), by, repr(recipe), *(o.tobytes() for o in self.held.wanted))
        self.journal = Journal(saved, key)
        self._made: dict[Recipe, Graph] = {}
        self.steps: list[str] = []
        self.at = Setting(recipe)
        # The longest try so far, of those that quantize anew and of the others.
        self._longest = {True: 0.0, False: 0.0}
        begun = time.monotonic()
        self._base = self._quantized(recipe)
        self._longest[True] = time.monotonic() - begun
        self.graph = self._base
        self._now: list[Array] | None = None

    # --- measuring --------------------------------------------------------------------------------------------------------

    def on(self, samples: Mapping[str, Array]) -> _Held:
        """A split of samples."""
        rows = Rows(self.float, samples)
        wanted = _outputs(self.float, rows)
        x = rows.take(range(len(rows)))[0] if len(self.float.inputs) == 1 else None
        return _Held(rows, metric(self._by, samples, x, wanted, self.float.output_names()), wanted)

    def split(self, held: _Held) -> Split:
        """The figures of a split."""
        old, new = _outputs(self._base, held.rows), _outputs(self.graph, held.rows)
        boot, value = Bootstrap(len(held.wanted[0])), held.metric.value
        float_, before, after = (value(o, boot.all) for o in (held.wanted, old, new))
        return Split(len(held.wanted[0]), float_, before, after, boot.interval(held.metric, old, new))

    def _quantized(self, recipe: Recipe) -> Graph:
        if recipe not in self._made:
            self._made[recipe] = quantize(self._given, self._samples, recipe).graph
        return self._made[recipe]

    def _try(self, what: str, at: Setting) -> None:
        """Make a candidate, keep it if it is better beyond chance, write that down."""
        known = self.journal.recall(what)
        if known is None:
            self._say(len(self.journal.tries), 0, what)
            try:
                made = applied(self._quantized(at.recipe), at)
                new = _outputs(made, self.held.rows)
            except InputError:
                raise
            except EdgeqError:  # a setting that cannot be built (a bias that does not fit) is no candidate
                self.journal.add(Try(what, float("-inf"), False))
                return
            if self._now is None:
                self._now = _outputs(self.graph, self.held.rows)
            kept = self.boot.better(self.held.metric, self._now, new)
            known = Try(what, self.held.metric.value(new, self.boot.all), kept)
            if kept:
                self._now = new
        elif known.kept:
            made, self._now = applied(self._quantized(at.recipe), at), None
        self.journal.add(known)
        if known.kept:
            self.at, self.graph = at, made
            self.steps.append(f"{what}: {known.value:.6g}")

    # --- searching --------------------------------------------------------------------------------------------------------

    def run(self) -> bool:
        """All candidates in order, as far as time goes; whether that was to the end."""
        stages: tuple[Callable[[], Iterator[tuple[str, Setting]]], ...] = (self._recipes, self._layers, self._numbers)
        for stage in stages:
            for what, at in stage():
                anew = at.recipe not in self._made
                begun = time.monotonic()
                # What would not come to its end in time is not begun, as far as the tries so far tell.
                if begun + (self._longest[anew] if self.journal.recall(what) is None else 0.0) > self._end:
                    return False
                self._try(what, at)
                self._longest[anew] = max(self._longest[anew], time.monotonic() - begun)
        return True

    def _recipes(self) -> Iterator[tuple[str, Setting]]:
        for ranges in RANGE_METHODS:
            if ranges != self.at.recipe.ranges:
                yield f"{ranges} ranges", Setting(replace(self.at.recipe, ranges=ranges))

    def _layers(self) -> Iterator[tuple[str, Setting]]:
        if self.at.recipe.precision != "int8":
            return
        found = sensitivity(
            self.float, self.graph, match(self.float, self.graph), [tuple(self.held.rows.take([k])) for k in range(4)]
        )
        for n in sorted(found, key=lambda k: -found[k])[:RAISED]:
            name = self.graph.tensors[self.graph.ops[n].outputs[0]].name
            scope = Scope(tensor=f"^{re.escape(name)}$", precision="int16x8")
            recipe = replace(self.at.recipe, scopes=(*self.at.recipe.scopes, scope))
            yield f"{self.graph.ops[n].code} {name} in int16", Setting(recipe)

    def _numbers(self) -> Iterator[tuple[str, Setting]]:
        start = self._quantized(self.at.recipe)
        places = [("range", g) for g in groups(start)] + [("offset", n) for n in biased(start)]
        for pair in (slice(0, 2), slice(2, 4)):
            for kind, at in places:
                values: tuple[float, ...] = FACTORS if kind == "range" else OFFSETS
                for value in values[pair]:
                    before = self.at.stretched.get(at, 1.0)
                    name = start.tensors[at].name if kind == "range" else start.tensors[start.ops[at].outputs[0]].name
                    moved = self.at.moved(kind, at, before * value if kind == "range" else value)
                    yield f"{kind} of {name} (#{at}) {'times ' if kind == 'range' else ''}{value:g}", moved


def _outputs(graph: Graph, rows: Rows) -> list[Array]:
    """Real outputs (N, …) for all rows."""
    with answering(graph, graph.outputs) as model:
        pieces = [
            answers(model, rows.take(range(at, min(at + AT_ONCE, len(rows))))) for at in range(0, len(rows), AT_ONCE)
        ]
    if not pieces:
        raise QuantizeError("expected at least one validation sample, got none")
    return [np.concatenate(parts) for parts in zip(*pieces, strict=True)]

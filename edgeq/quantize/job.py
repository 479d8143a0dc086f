"""What a search works on: a float graph in some form, what was seen of it, and how integer graphs are made of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgeq.calibrate import Inputs, Progress, Ranges, evenly, observe, silent
from edgeq.graph import Array, Graph
from edgeq.histogram import Histogram
from edgeq.quantize.bias import correct, mean_inputs
from edgeq.quantize.compare import Judge, judge_by, judged
from edgeq.quantize.gptq import MOST, hessians
from edgeq.quantize.layout import Layout
from edgeq.quantize.parameters import Rewritten, histograms, parameters
from edgeq.quantize.rewrite import Codes, Made, rewrite
from edgeq.quantize.rounding import FINEST, Grade, all_rounded, clipped, layers, one_each, plain, rounded
from edgeq.quantize.search import Spans
from edgeq.quantize.weights import Coded
from edgeq.recipe import Recipe
from edgeq.records import dataclass, field, replace

if TYPE_CHECKING:
    from edgeq.quantize.importance import Importance

MEANS = 32
"""Inputs that tell the means of layers' inputs."""


TRIED = 16
"""Inputs that tell whether a layer had better stay on its grid."""


ENDS = 64
"""Inputs that tell the channels' extremes, and the ranges of a form of the graph with other scales."""

FORMS = 0.25
"""Of the work of telling what errors do to the outputs, that is done for another form of the graph."""


@dataclass(frozen=True, eq=False)
class Job:
    """A float graph on its way.

    graph: what is quantized, of the same values as the user's; seen: by group. derive: inputs that parameters come from.
    codes: weights that were rounded with regard to more than themselves; biases: real ones that were fitted with them;
    known: the longest rows for which that was done under a Hessian. grades: of layers' weights, where that is not the
    finest. means: of the layers' inputs, if biases are to be corrected. wider: whether samples that are spread wider count in
    Hessians (edgeq.quantize.wider). alone: noise per signal at the outputs that a layer's hybrid form adds by itself, where it
    was asked (edgeq.quantize.hybrid).
    """

    graph: Graph
    layout: Layout
    seen: Mapping[int, Histogram]
    recipe: Recipe
    derive: list[Inputs] = field(repr=False)
    codes: Codes = field(default_factory=dict, repr=False)
    biases: Mapping[int, Array] = field(default_factory=dict, repr=False)
    known: int = 0
    grades: Mapping[int, Grade] = field(default_factory=dict)
    means: Mapping[int, Array] | None = field(default=None, repr=False)
    wider: bool = False
    outward: bool = False
    """Whether layers with one scale are rounded by what that does to the outputs (edgeq.quantize.importance)."""
    share: float = 1.0
    """Of the work that this may take."""
    alone: Mapping[int, float] = field(default_factory=dict)
    plain: dict[tuple[int, bool], Coded] = field(default_factory=dict, repr=False)
    """Weights at their nearest codes, once they were asked for; by operation and whether they have a scale per channel."""
    met: dict[int, Mapping[int, Array]] = field(default_factory=dict, repr=False)
    """Means of the layers' inputs, once they were asked for; by how many inputs tell them."""
    made: Made = field(default_factory=dict, repr=False)
    """Constants of its integer graphs (edgeq.quantize.rewrite)."""
    important: dict[int, Importance] = field(default_factory=dict, repr=False)
    """What errors of layers with one scale do to the outputs, once it was asked for."""

    def make(self, at: Spans) -> Rewritten:
        """The integer graph for these spans."""
        at_scales = parameters(self.graph, self.layout, at)
        done = rewrite(self.graph, self.layout, at_scales, codes=self._codes(), biases=self.biases, made=self.made)
        if self.means is None:
            return done
        return replace(done, graph=correct(self.graph, done.graph, done.ops, self.means, self.made))

    def _codes(self) -> dict[int, Coded]:
        return {n: self.codes[n] if n in self.codes else self._plain(n) for n in layers(self.layout)}

    def _plain(self, n: int) -> Coded:
        key = (n, one_each(self.layout, n, self.graph.ops[n].code))
        if key not in self.plain:
            self.plain[key] = plain(self.graph, self.layout, n)
        return self.plain[key]

    def on(self, graph: Graph, ranges: Ranges, scaled: frozenset[int]) -> Job:
        """The same on another form of the graph, its weights not rounded yet (see `like`); ranges: of that, which count for the
        groups that hold a tensor of `scaled`.
        """
        new = histograms(graph, self.layout, ranges)
        touched = {self.layout.groups[i] for i in scaled if i in self.layout.groups}
        seen = {g: new[g] if g in touched else h for g, h in self.seen.items()}
        return replace(
            self,
            graph=graph,
            seen=seen,
            codes={},
            biases={},
            means=None,
            plain={},
            met={},
            made={},
            important={},
            share=FORMS,
            known=0,
        )

    def like(self, other: Job) -> Job:
        """This one, a form of the other, with weights rounded and biases corrected where the other's are."""
        done = self.rounding(other.known) if other.known else self.graded(self.grades) if other.codes else self
        return done.correcting() if other.means is not None and done.means is None else done

    def balanced(self) -> Job:
        """With scale moved between channels by what that does to the outputs, and weights rounded anew; the same one where none
        is. Its layers with one scale are rounded by what that does to the outputs."""
        from edgeq.quantize.balance import balanced, carried
        from edgeq.quantize.equalize import ends, scaled
        from edgeq.quantize.links import links

        important = self._importances()
        chosen = balanced(self.graph, important, ends(self.graph, links(self.graph), self.derive))
        if not chosen:
            return self
        graph = scaled(self.graph, chosen)
        tensors = frozenset(i for link, _ in chosen for i in link.tensors)
        other = self.on(graph, observed(graph, list(evenly(self.derive, ENDS))), tensors)
        return replace(other, important=carried(self.graph, important, chosen), share=self.share).rounding(self.known)

    def finely(self) -> Job:
        """The same with the nearest codes of a scale per channel for all weights, and biases corrected if the recipe says so:
        about the least noise that its activations leave to any codes."""
        fine = {n: replace(t, per_channel=True) for n, t in self.layout.treatments.items()}
        done = replace(
            self, layout=replace(self.layout, treatments=fine), codes={}, biases={}, grades={}, plain={}, made={}
        )
        return done.correcting() if self.recipe.bias_correction else done

    def rounding(self, longest: int = MOST) -> Job:
        """With weights rounded under their layers' Hessians, or to codebooks; longest: of the rows for which that is done."""
        used = self.recipe.rounding != "nearest"
        if not used:
            codes = all_rounded(self.graph, self.layout, {}, self.grades, self.recipe.codebook)
            return replace(self, codes=codes, known=0)
        corrected = self.recipe.bias_correction
        known = hessians(self.graph, layers(self.layout), self.derive, longest, corrected)
        if self.wider:
            from edgeq.quantize.wider import once, widened

            found = dict(known)
            more = [*self.derive, *widened(self.derive)]
            found.update(hessians(self.graph, once(self.graph, found), more, longest, corrected))
            known = iter(found.items())
        codes, some, kind = {}, {}, self.recipe.codebook
        of = self._importances()
        for n, h in known:  # one by one: there may be more of them than memory
            codes[n] = rounded(self.graph, self.layout, n, h, self.grades.get(n, FINEST), kind, of.get(n))
            other = clipped(self.graph, self.layout, n, h, kind, of.get(n)) if n not in self.grades else None
            if other is not None:
                some[n] = other
        left = {n: grade for n, grade in self.grades.items() if n not in codes}
        codes |= all_rounded(self.graph, self.layout, {}, left, kind)
        done = replace(self, codes=codes, known=longest)
        return (done.correcting() if corrected else done)._on_grids(some)

    def _importances(self) -> Mapping[int, Importance]:
        """Of the layers that have one scale, where they count."""
        if self.outward and not self.important:
            from edgeq.quantize.importance import importances

            means = self.correcting().means or {}
            wanted = [
                n for n in self.layout.rules if n in means and not one_each(self.layout, n, self.graph.ops[n].code)
            ]
            some = importances(self.graph, judged(self.graph), wanted, self.derive, means, self.recipe.seed, self.share)
            self.important.update(some)
        return self.important if self.outward else {}

    def _on_grids(self, some: Mapping[int, Coded]) -> Job:
        """With layers on a grid that has weights beyond ±127 clipped to it, where that does less to the outputs.

        some: their codes then.
        """
        if not some:
            return self
        from edgeq.quantize.alone import alone

        judge, means = judge_by(self.graph, evenly(self.derive, TRIED)), self.means or {}

        def noise(n: int, coded: Coded) -> float:
            return alone(self.graph, n, coded, means, judge)

        better = {n: coded for n, coded in some.items() if noise(n, coded) < noise(n, self.codes[n])}
        return replace(self, codes={**self.codes, **better})

    def weights_alone(self, judge: Judge) -> float:
        """Noise per signal at the outputs that the rounding of weights makes, all values between layers being float."""
        from edgeq.quantize.alone import weights_alone

        return weights_alone(self.graph, self._codes(), self.means or {}, judge)

    def graded(self, grades: Mapping[int, Grade]) -> Job:
        """With weights of these grades, each at its nearest code or its codebook's nearest level."""
        codes = all_rounded(self.graph, self.layout, {}, grades, self.recipe.codebook)
        return replace(self, codes=codes, grades=grades, known=0)

    def fitting(self, at: Spans, longest: int = MOST, say: Progress = silent) -> Job:
        """With layers fitted one after another to what they meet at these spans."""
        from edgeq.quantize.fitting import fitted

        at_scales = parameters(self.graph, self.layout, at)
        codes, biases = fitted(
            self.graph,
            self.layout,
            at_scales,
            self._codes(),
            self.derive,
            self.grades,
            self.recipe.codebook,
            say,
            longest,
            self._importances(),
        )
        return replace(self, codes=codes, biases=biases, means=None, known=longest)

    def correcting(self, inputs: int = MEANS) -> Job:
        """With corrected biases; inputs: how many tell the means."""
        if inputs not in self.met:
            self.met[inputs] = mean_inputs(self.graph, evenly(self.derive, inputs))
        return replace(self, means=self.met[inputs])


def observed(graph: Graph, inputs: list[Inputs]) -> Ranges:
    """Ranges on inputs that are at hand."""
    return observe(graph, inputs)

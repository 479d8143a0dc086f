"""What is tried to bring an integer graph closer to its float graph, one step after another, and kept where it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from edgeq.calibrate import Progress, evenly
from edgeq.graph import Graph
from edgeq.quantize.bias import mean_inputs
from edgeq.quantize.compare import Judge, judge_by, judged
from edgeq.quantize.gptq import FINE, MOST, hessians
from edgeq.quantize.job import ENDS, MEANS, Job, observed
from edgeq.quantize.refine import refined, spans, winners
from edgeq.quantize.rounding import grades
from edgeq.quantize.rounding import layers as layers_of
from edgeq.quantize.search import ENOUGH, Found, Search, chosen, noise, noisiest
from edgeq.records import replace
from edgeq.stepping import forget
from edgeq.trim import give_back

METHODS = ("minmax", "percentile", "mse", "average", "entropy")
"""What "best" tries for all tensors, the last two on small models only: they seldom win."""

SMALL = 1_000_000
"""Values that a small model computes for one inference."""

BLOCKS = 16
"""Of samples after one another, of which every fourth tells what layers lose. Neighbours are often alike (windows of one
recording, pictures of one scene): held back one by one, they would be judged by what they were fitted to.
"""

COMPARED = 8
"""Inputs on which all tensors are compared."""

WORTH = 0.2
"""Of the noise that moving scale between channels has to save: it spends room that channels have beyond what was seen. Half of
it where weights are coarse: evening their ranges is good for what was not seen, too."""

EVENED = "weights equalised"
"""Of coarse weights alone: kept where nothing is lost by it on the samples that judge. Layers that answer little to those, and
more to others, have the most of it."""

MOSTLY = 0.25
"""Of the noise, that fitting layers may leave for nothing else to be tried on weights and biases: it corrects, rounds and makes
up for itself what the other steps do apart."""

PLAIN = 0.5
"""Of the noise that it has to save, once biases are corrected, for rounding not to be tried beside it."""

FITTED = "layers fitted to what they meet"

FEW = 16
"""Inputs that judge, and that tell means, where it has to be fast."""

STEPS = 6
"""Of the search, for those who watch."""


def improved(job: Job, given: Graph, judging: Judge, whole: Judge, say: Progress) -> tuple[Job, Found]:
    """The best form, ranges, weights and biases, as far as the recipe says to look for them.

    judging: by samples that nothing is derived from; whole: by all, for what leans on samples little, and is spoilt by few of
    them: ranges, and scale moved between channels, which others of their values may leave.
    """
    recipe = job.recipe
    later: list[int] = []
    if job.layout.stored:
        from edgeq.quantize import hybrid

        job, later = hybrid.without(job)
    start, given_grades = job.graph, grades(job.graph, job.layout)
    codebooks = bool(given_grades)
    shared: list[str] = []
    if codebooks:
        job = job.graded(given_grades)
        if recipe.bundle and job.layout.rules:
            job, *shared = _shared_out(job, given, say)
    search = Search(job.make, judging)
    look = recipe.ranges == "best" and bool(job.seen)
    small = sum(t.size for t in job.graph.tensors if t.data is None) <= SMALL
    fast = recipe.effort == "fast"
    methods = list(METHODS[1:3] if fast else METHODS if small else METHODS[:3]) if look else [recipe.ranges]
    method = "mse" if look else recipe.ranges
    best = search.candidate(f"{method} ranges", spans(job.seen, method))

    def attempt(name: str, other: Job, again: bool = False, gain: float = 0.0, by: Judge = judging) -> bool:
        """Keep another job where it has less noise, by a share of `gain` and more, by another judge, too; with `again`, its
        ranges are its own. Whether it was kept."""
        nonlocal job, best, search
        give_back()
        trial = Search(other.make, judging)
        at = spans(other.seen, method) if again else best.spans
        found = trial.candidate(best.name, at)
        kept, told = found.error < (1 - gain) * best.error, ""
        if kept and by is not judging:
            now, was = (Search(j.make, by).candidate("", s).error for j, s in ((other, at), (job, best.spans)))
            kept, told = now < (1 - gain) * was, f", {100 * now:.3g} on all samples (was {100 * was:.3g})"
        steps = (*best.steps, f"{name}: {noise(found.error)}{told}{' (kept)' if kept else ' (not kept)'}")
        if kept:
            job, search = other, trial
        best = replace(found if kept else best, steps=steps)
        return kept

    on_coarse = codebooks or _coarse(job) or recipe.rounding == "gptq"
    rounds = codebooks or recipe.rounding != "nearest"
    if on_coarse and rounds:  # noise of coarse weights would hide what ranges do
        from edgeq.quantize.wider import once

        say(1, STEPS, "rounding weights")
        attempt("weights rounded one after another", job.rounding(MOST))
        if job.known and recipe.bias_correction and any(not t.per_channel for t in job.layout.treatments.values()):
            job, line = _by_outputs(job, judging)
            search = Search(job.make, judging)
            best = replace(search.candidate(best.name, best.spans), steps=(*best.steps, line))
            if job.outward and recipe.equalize:
                job, line = _balanced(job, judging)
                search = Search(job.make, judging)
                best = replace(search.candidate(best.name, spans(job.seen, method)), steps=(*best.steps, line))
        if job.known and job.grades and once(job.graph, layers_of(job.layout)):  # one scale per layer only loses by it
            job, line = _for_wider(job, judging)
            search = Search(job.make, judging)
            best = replace(search.candidate(best.name, best.spans), steps=(*best.steps, line))
    shared += best.steps

    def by_all(found: Found, judge: Judge) -> Found:
        """The same, with its error by another judge."""
        if whole is judging:
            return found
        return replace(Search(job.make, judge).candidate(found.name, found.spans), steps=found.steps)

    # Where channels are in other units than given, a tensor's noise is told in those.
    real = given if job.graph is start else job.graph
    best = _ranged(job, by_all(best, whole), methods, real if look and not fast else None, Search(job.make, whole))
    best = by_all(replace(best, steps=(*shared, *best.steps)), judging)
    method = next((m for m in methods if best.name.startswith(m)), "mse")

    def fitting() -> Job:
        say(4, STEPS, "fitting layers")
        forget(job.graph)  # each layer is planned by itself; the whole's plan holds all weights once more
        give_back()
        return job.fitting(best.spans, MOST if on_coarse else FINE, lambda n, m, what: say(4, STEPS, what))

    def far(gain: float) -> bool:
        """Whether fitting, of this graph, was kept for saving so much of the noise; if not, its turn comes again."""
        nonlocal best
        if fit is None or fit.graph is not job.graph:
            return False
        kept = attempt(FITTED, fit, gain=gain)
        best = best if kept else replace(best, steps=best.steps[:-1])
        return kept

    # What is lost most is looked after first: coarse weights by rounding, fine ones by fitting, which has to save most of the
    # noise for what it goes through too not to be tried by itself; fine weights are rounded once scale has moved.
    fits = not fast and recipe.rounding != "nearest" and bool(job.layout.rules)
    fit = fitting() if fits and not on_coarse and not job.layout.stored else None
    done = far(1 - MOSTLY)
    if recipe.bias_correction and not fast and not done:
        say(1, STEPS, "correcting biases")
        attempt("bias correction", job.correcting())
    if recipe.equalize and job.graph is start and (on_coarse or (best.error >= ENOUGH and not fast and not done)):
        say(2, STEPS, "equalising channels")
        for name, bare in _equalized(job):
            gain = 0.0 if name == EVENED else WORTH / 2 if on_coarse else WORTH
            if on_coarse and rounds and not codebooks:  # to round its weights takes longest, and may be for nothing
                fine = bare.finely()
                least = Search(fine.make, judging).candidate(name, spans(fine.seen, method)).error
                if least >= (1 - gain) * best.error:
                    line = f"{name}: {noise(least)} with a scale per channel (not kept)"
                    best = replace(best, steps=(*best.steps, line))
                    continue
            by = judging if _coarse(job) else whole
            attempt(name, bare.like(job), again=True, gain=gain, by=by)
            del bare  # its weights, and their plan, need not be there beside the next one's
    done = done or far(PLAIN)
    if rounds and not on_coarse and not fast and not done:
        say(1, STEPS, "rounding weights")
        # It leans on the samples, so on a fine grid it must be worth that.
        attempt("weights rounded one after another", job.rounding(FINE), gain=WORTH / 2)
    coarse = _coarse_products(job)
    if coarse:
        from edgeq.quantize import hybrid

        attempt(
            f"{len(coarse)} FULLY_CONNECTED as 1 × 1 convolutions, a scale per channel",
            hybrid.as_convolutions(job, coarse),
            gain=WORTH,
        )
    if job.layout.stored:
        from edgeq.quantize import hybrid

        job, best = hybrid.settled(job, best, later, judging, lambda n, m, what: say(2, STEPS, what))
    if recipe.bias_correction and job.means is None and not done:
        say(3, STEPS, "correcting biases")
        attempt("bias correction", job.correcting(FEW if fast else MEANS))
    if fits and not done:
        other = fit if fit is not None and fit.graph is job.graph else fitting()
        attempt(FITTED, other, gain=0.0 if on_coarse else WORTH / 2)
    best, search = by_all(best, whole), Search(job.make, whole)
    if look and not fast and best.error >= ENOUGH:
        best = refined(search, best, noisiest(job.seen, best.spans, job.layout), lambda n, m, what: say(4, STEPS, what))
    if look:
        say(5, STEPS, "looking for headroom")
        expected = {g: h.expected() for g, h in job.seen.items()}
        wide = search.with_headroom(best, expected)
        if wide is best:
            wide = search.with_room(best, {g: expected[g] for g in _answers(job)})
        best = wide
    return job, by_all(best, judging)


def _answers(job: Job) -> list[int]:
    """The groups that hold outputs as they are told, and not what a softmax or the like is made of."""
    groups = job.layout.groups
    told = {groups.get(i) for i in judged(job.graph)} & {groups.get(i) for i in job.graph.outputs}
    return sorted(g for g in told if g is not None and g in job.seen)


def _ranged(job: Job, best: Found, methods: Sequence[str], given: Graph | None, search: Search) -> Found:
    """The ranges of least error by these methods. best: by one of them; given: a float graph to hold each tensor of the best two
    against, and take the better for each."""
    if not job.seen:
        return chosen([one := replace(best, name="weights alone")], one)
    named = {f"{m} ranges": m for m in methods}
    candidates = [
        best if name == best.name else search.candidate(name, spans(job.seen, m)) for name, m in named.items()
    ]
    if given is not None:
        two = sorted(candidates, key=lambda c: c.error)[:2]
        picked = winners(given, job.layout, two, search.judge.inputs[: COMPARED // 2])
        candidates.append(search.candidate("the better of the best two for each tensor", picked))
    return chosen(candidates, min(candidates, key=lambda c: c.error))  # of equals the first


def _shared_out(job: Job, given: Graph, say: Progress) -> tuple[Job, str]:
    """The job with grades that its recipe's share of bytes pays for, and a line on it."""
    from edgeq.quantize.allocate import allocated

    held = [k * BLOCKS // len(job.derive) % 4 == 1 for k in range(len(job.derive))]
    judge = [x for x, h in zip(job.derive, held, strict=True) if h] or job.derive
    rest = [x for x, h in zip(job.derive, held, strict=True) if not h] or job.derive
    known = dict(hessians(job.graph, job.grades, rest))
    fed = replace(job, means=mean_inputs(job.graph, evenly(rest, MEANS)))
    done, line = allocated(fed, spans(job.seen, "minmax"), known, judge_by(given, judge), say)
    return replace(done, means=None), line


def _for_wider(job: Job, judging: Judge) -> tuple[Job, str]:
    """The job with weights rounded for samples that are spread wider, too, if that takes a tenth off what weights do to the
    outputs on such samples and on those that judge: off the geometric mean of both, so that what is won on one by losing as
    much on the other is nothing. Where bytes are shared out a thirtieth does: steps are coarsest there where samples tell least.
    """
    from edgeq.quantize.wider import widened

    judges = judging, judge_by(job.graph, widened(judging.inputs))
    other = replace(job, wider=True).rounding(job.known)
    (near, far), (near_now, far_now) = ([of.weights_alone(by) for by in judges] for of in (job, other))
    gain = WORTH / 6 if job.recipe.bundle else WORTH / 2
    kept = near_now * far_now < (1 - gain) ** 2 * near * far
    told = f"{noise(near_now)} by weights (was {100 * near:.3g}), on such samples {100 * far_now:.3g} % (was {100 * far:.3g})"
    line = f"weights rounded for samples spread wider, too: {told}{' (kept)' if kept else ' (not kept)'}"
    return (other if kept else job), line


def _by_outputs(job: Job, judging: Judge) -> tuple[Job, str]:
    """The job with layers of one scale rounded by what that does to the outputs, if that takes a fifth off what weights do to
    them on the samples that judge: few samples tell little of it, and of layers that need it little.
    """
    other = replace(job, outward=True, important={}).rounding(job.known)
    was, now = job.weights_alone(judging), other.weights_alone(judging)
    kept = now < (1 - WORTH) * was
    line = f"one scale per layer by what it does to the outputs: {noise(now)} by weights (was {100 * was:.3g})"
    return (other if kept else job), f"{line}{' (kept)' if kept else ' (not kept)'}"


def _balanced(job: Job, judging: Judge) -> tuple[Job, str]:
    """The job with channels scaled by what that does to the outputs, if that takes a tenth off what weights do to them."""
    other = job.balanced()
    was, now = job.weights_alone(judging), other.weights_alone(judging)
    kept = now < (1 - WORTH / 2) * was
    line = f"channels scaled by what that does to the outputs: {noise(now)} by weights (was {100 * was:.3g})"
    return (other if kept else job), f"{line}{' (kept)' if kept else ' (not kept)'}"


def _coarse(job: Job) -> bool:
    """Whether weights are rounded so coarsely that it shows."""
    return bool(_coarse_products(job)) or any(not t.per_channel for t in job.layout.treatments.values())


def _coarse_products(job: Job) -> list[int]:
    """The FULLY_CONNECTED layers that quantize their input at run time, and so have one scale for all their weights."""
    stored = job.layout.stored.items()
    return [n for n, how in stored if how == "dynamic" and job.graph.ops[n].code == "FULLY_CONNECTED"]


def _equalized(job: Job) -> Iterator[tuple[str, Job]]:
    """Forms of the graph with other scales between its channels, as far as they may be of use."""
    from edgeq.quantize import equalize
    from edgeq.quantize.links import links

    found = links(job.graph)
    coarse = _coarse(job)
    if not coarse:  # channels under RELU6 have like ranges
        found = [link for link in found if not link.capped]
    if not found or not (coarse or job.layout.rules):
        return
    some = list(evenly(job.derive, ENDS))
    seen = equalize.ends(job.graph, found, some)
    forms: list[tuple[str, Callable[[], Graph]]] = []
    if job.layout.rules and not coarse:
        forms.append(("channels lifted", lambda: equalize.by_activations(job.graph, found, seen)))
    if coarse:
        forms.append((EVENED, lambda: equalize.by_weights(job.graph, found, seen)))
    if coarse and any(link.capped for link in found):
        open_, free = equalize.uncapped(job.graph, found)
        forms.append(("weights equalised, RELU6 as RELU", lambda: equalize.by_weights(open_, free, seen)))
    if coarse and job.layout.rules:
        forms.append(("channels lifted", lambda: equalize.by_activations(job.graph, found, seen, 0.5)))
    forms.append(("biases absorbed", lambda: equalize.absorbed(job.graph, found, seen)))
    scaled = frozenset(i for link in found for i in link.tensors)
    for name, make in forms:
        graph = make()
        if graph is not job.graph and len(graph.tensors) != len(job.graph.tensors):
            yield name, job.on(graph, observed(graph, some), scaled)
        del graph

"""Float graph → integer graph, the whole way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext

from edgeq.calibrate import Inputs, Keeper, Progress, Ranges, evenly, observe, silent
from edgeq.errors import QuantizeError
from edgeq.feed import Source, count, feed, quantmod_of
from edgeq.graph import Activation, Graph
from edgeq.lasting import Lasting
from edgeq.quantize.bias import mean_inputs
from edgeq.quantize.blas import one_thread
from edgeq.quantize.canonical import fold_dequantize, fold_weights, fuse_activations, prune
from edgeq.quantize.compare import Judge, compare, decibels, judge_by, judged
from edgeq.quantize.folding import fold_batch_norm, fold_pads
from edgeq.quantize.gptq import FINE, MOST, hessians
from edgeq.quantize.job import MEANS, Job, observed
from edgeq.quantize.layout import INTEGERS, LEAST_STORED, arrange
from edgeq.quantize.observation import Budget, looked_at
from edgeq.quantize.parameters import histograms
from edgeq.quantize.pooling import means
from edgeq.quantize.probe import runs
from edgeq.quantize.reconstruct import reconstruct
from edgeq.quantize.refine import refined, spans, winners
from edgeq.quantize.remainders import reals, remembered, with_remainders
from edgeq.quantize.report import Quantized, layers
from edgeq.quantize.rounding import grades
from edgeq.quantize.rounding import layers as layers_of
from edgeq.quantize.rules import RULES, hybrid_kernel
from edgeq.quantize.search import ENOUGH, Found, Search, chosen, noise, noisiest
from edgeq.recipe import RECIPES, Recipe
from edgeq.records import replace
from edgeq.stepping import forget
from edgeq.tflite import write
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

MOSTLY = 0.25
"""Of the noise, that fitting layers may leave for nothing else to be tried on weights and biases: it corrects, rounds and makes
up for itself what the other steps do apart."""

PLAIN = 0.5
"""Of the noise that it has to save, once biases are corrected, for rounding not to be tried beside it."""

LOOKED = 64
"""Inferences that ranges come from where it has to be fast, evenly spread over the samples."""

FITTED = "layers fitted to what they meet"

FEW = 16
"""Inputs that judge, and that tell means, where it has to be fast."""

FAST = 128, 8 << 20
"""Inputs that are kept then, and their bytes."""

FEWEST = 2
"""Inputs on which all tensors are then compared."""

ENDS = 64
"""Inputs that tell the channels' extremes."""

STEPS = 6
"""Of the search, for those who watch."""


@one_thread()
def quantize(
    graph: Graph, samples: Source, recipe: Recipe = RECIPES["int8"], progress: Progress | None = None
) -> Quantized:
    """A float model in the form that a recipe describes, calibrated on `samples` (edgeq.feed says what those may be; gone
    through once).

    Operations without an integer form stay float between QUANTIZE and DEQUANTIZE. Only the main subgraph is quantized.
    Raises QuantizeError for a model without float operations to quantize and for samples that give no finite ranges,
    InputError for samples that do not fit the model, UnsupportedError for operations that the engine, which calibrates,
    does not run.
    """
    with Lasting() if recipe.effort == "fast" else nullcontext():  # it is over before there is much to collect
        return _quantized(graph, samples, recipe, progress or silent, progress)


def _quantized(graph: Graph, samples: Source, recipe: Recipe, say: Progress, progress: Progress | None) -> Quantized:
    before, given = graph, prepare(graph, recipe)
    # The same tensors and operations: `given` is what the result is held against.
    graph = fold_weights(given, _stored_already(given, recipe))
    layout = arrange(graph, recipe, runs)
    if not layout.rules and not layout.stored:  # there is nothing else in it
        graph = fold_weights(given)
        layout = arrange(graph, recipe, runs)
    if not layout.rules and not layout.stored:
        if any(t.data is None and quantmod_of(t) is not None for t in graph.tensors):
            raise QuantizeError("expected a float model, found one that is quantized already: calibrate tunes it")
        codes = ", ".join(sorted({op.code for op in graph.ops})) or "none"
        raise QuantizeError(f"expected float operations that have {_wanted(recipe)}, found {codes}")
    fast = recipe.effort == "fast"
    keeper = Keeper(*FAST) if fast else Keeper()
    total = count(graph, samples) or 0
    inputs = feed(graph, samples)
    if fast and total > LOOKED:
        total, some = looked_at(graph, samples, None, Budget(LOOKED))
        inputs = (x for x, _ in some)
    ranges = observe(graph, keeper.watch(inputs), progress, total)
    # Each part is spread over all the samples; a single one has to do for both.
    judge: Sequence[Inputs] = keeper.kept[1::4] or keeper.kept
    if fast:
        judge = evenly(judge, FEW)
    derive = [x for k, x in enumerate(keeper.kept) if k % 4 != 1] or keeper.kept
    if any(not t.per_channel for t in layout.treatments.values()):
        from edgeq.quantize.idle import without_idle

        graph = without_idle(graph, ranges)
    own, line = means(graph, layout, ranges)
    if line:
        graph, layout = own, arrange(own, recipe, runs)
    seen = histograms(graph, layout, ranges)

    say(0, STEPS, "choosing ranges")
    judging = judge_by(given, judge)
    job, found = _search(Job(graph, layout, seen, recipe, derive), given, judging, say)
    if recipe.sqnr or recipe.size:
        from edgeq.quantize import mixed

        job, found = mixed.raised(job, found, judging, say, lambda j: _rearranged(j, ranges))
    comparison = compare(given, found.done.graph, found.done.tensors, judge[: FEWEST if fast else COMPARED])
    say(STEPS, STEPS, "quantized")
    return Quantized(
        _remembering(job, given, found, judging),
        layers(
            job.graph, job.layout, found.done, comparison, {n: decibels(1.0, cost) for n, cost in job.alone.items()}
        ),
        min(comparison.sqnr(i) for i in judged(given)),
        before,
        ranges.samples,
        (*line, *found.steps),
    )


def _remembering(job: Job, given: Graph, found: Found, judging: Judge) -> Graph:
    """The integer graph with the remainders of its weights, where its recipe asks for them and its size leaves room.

    Few levels are few so as to be small. Where a RELU6 became a RELU, the weights are those of another function. Else they are
    those given by construction; where there is time, what they say is compared with that.
    """
    done, recipe = found.done, job.recipe
    if not recipe.remainders or job.grades or not job.layout.rules or _caps(job.graph) < _caps(given):
        return done.graph
    graph = with_remainders(done.graph, reals(job.graph, done), recipe.remainders)
    if recipe.effort != "fast":
        near = remembered(graph, reconstruct(graph))
        if near is None or judging.error(near, done.tensors) > max(found.error, ENOUGH):
            return done.graph
    return done.graph if recipe.size and len(write(graph)) > recipe.size else graph


def _caps(graph: Graph) -> int:
    """Operations that end at 6."""
    fused = [op.options.values.get("fused_activation_function") for op in graph.ops if op.options is not None]
    return sum(op.code == "RELU6" for op in graph.ops) + fused.count(Activation.RELU6)


def foreseen(graph: Graph, recipe: Recipe) -> tuple[str, ...]:
    """What the recipe asks for that the format or the runtimes have no form for, a line each, before anything is done.

    An operation that only moves what is float anyway is not spoken of.
    """
    ready = prepare(graph, recipe)
    ready = fold_weights(ready, _stored_already(ready, recipe))
    layout = arrange(ready, recipe, runs)
    stays: Counter[tuple[str, str]] = Counter()
    for n, op in enumerate(ready.ops):
        wanted = recipe.treatment(op.code, ready.tensors[op.outputs[0]].name).precision
        rule = RULES.get(op.code)
        moves = rule is not None and rule.same_scale
        reals = any(ready.tensors[i].dtype == "float32" and ready.tensors[i].data is None for i in op.inputs if i >= 0)
        if wanted in INTEGERS and n not in layout.rules and reals and not moves:
            stays[op.code, wanted] += 1
    lines = [f"{count} × {code} stays float: it has no {wanted} form here" for (code, wanted), count in stays.items()]
    if any(how == "weights" or not hybrid_kernel(ready.ops[n], ready.tensors) for n, how in layout.stored.items()):
        lines.append("weights behind a DEQUANTIZE of channels: not for tflite-runtime 2.14's reference resolver")
    for name, i in zip(graph.input_names(), graph.inputs, strict=True):
        t = graph.tensors[i]
        if t.shape_signature is not None and min(t.shape_signature[1:], default=0) < 0:
            lines.append(
                f"input {name!r} leaves its shape open and is taken as {list(t.shape)}: edgeq convert --shape makes it another"
            )
    return tuple(lines)


def _stored_already(graph: Graph, recipe: Recipe) -> list[int]:
    """The layers of a dynamic-range model that are what the recipe wants: rounding their weights again would only add to
    what was lost.
    """
    found = []
    for n, op in enumerate(graph.ops):
        rule = RULES.get(op.code)
        if rule is None or rule.weights is None or rule.weights >= len(op.inputs):
            continue
        w = graph.tensors[op.inputs[rule.weights]]
        wanted = recipe.treatment(op.code, graph.tensors[op.outputs[0]].name).precision
        if w.data is not None and w.dtype == "int8" and wanted in ("dynamic", "weights"):
            found.append(n)
    return found


def _wanted(recipe: Recipe) -> str:
    stored = recipe.precision in ("dynamic", "weights")
    return f"weights to store, {LEAST_STORED} of them or more," if stored else "an integer form"


def _rearranged(job: Job, ranges: Ranges) -> Job:
    """The job under another recipe than it was laid out for; what is stored still stays as it was chosen to be."""
    layout = arrange(job.graph, job.recipe, runs)
    chosen = {n: job.layout.stored.get(n, how) for n, how in layout.stored.items()}
    layout = replace(layout, stored=chosen)
    return replace(job, layout=layout, seen=histograms(job.graph, layout, ranges))


def _search(job: Job, given: Graph, judging: Judge, say: Progress) -> tuple[Job, Found]:
    """The best form, ranges, weights and biases, as far as the recipe says to look for them."""
    recipe = job.recipe
    later: list[int] = []
    if job.layout.stored:
        from edgeq.quantize import hybrid

        job, later = hybrid.without(job)
    given_grades = grades(job.graph, job.layout)
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

    def attempt(name: str, other: Job, again: bool = False, gain: float = 0.0) -> bool:
        """Keep another job where it has less noise, by a share of `gain` and more; with `again`, its ranges are its own. Whether
        it was kept."""
        nonlocal job, best, search
        give_back()
        trial = Search(other.make, judging)
        at = spans(other.seen, method) if again else best.spans
        found = trial.candidate(best.name, at)
        kept = found.error < (1 - gain) * best.error
        steps = (*best.steps, f"{name}: {noise(found.error)}{' (kept)' if kept else ' (not kept)'}")
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
        if job.known and job.grades and once(job.graph, layers_of(job.layout)):  # one scale per layer only loses by it
            job, line = _for_wider(job, judging)
            search = Search(job.make, judging)
            best = replace(search.candidate(best.name, best.spans), steps=(*best.steps, line))
    shared += best.steps
    best = _ranged(job, best, methods, given if look and not fast else None, search)
    best = replace(best, steps=(*shared, *best.steps))
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
    if recipe.equalize and (on_coarse or (best.error >= ENOUGH and not fast and not done)):
        say(2, STEPS, "equalising channels")
        for name, bare in _equalized(job):
            if on_coarse and rounds and not codebooks:  # to round its weights takes longest, and may be for nothing
                fine = bare.finely()
                least = Search(fine.make, judging).candidate(name, spans(fine.seen, method)).error
                if least >= (1 - WORTH / 2) * best.error:
                    line = f"{name}: {noise(least)} with a scale per channel (not kept)"
                    best = replace(best, steps=(*best.steps, line))
                    continue
            attempt(name, bare.like(job), again=True, gain=WORTH / 2 if on_coarse else WORTH)
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
    if look and not fast and best.error >= ENOUGH:
        best = refined(search, best, noisiest(job.seen, best.spans, job.layout), lambda n, m, what: say(4, STEPS, what))
    if look:
        say(5, STEPS, "looking for headroom")
        expected = {g: h.expected() for g, h in job.seen.items()}
        wide = search.with_headroom(best, expected)
        if wide is best:
            wide = search.with_room(best, {g: expected[g] for g in _answers(job)})
        best = wide
    return job, best


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
    seen = equalize.ends(job.graph, found, job.derive[:ENDS])
    forms: list[tuple[str, Callable[[], Graph]]] = []
    if job.layout.rules and not coarse:
        forms.append(("channels lifted", lambda: equalize.by_activations(job.graph, found, seen)))
    if coarse:
        forms.append(("weights equalised", lambda: equalize.by_weights(job.graph, found, seen)))
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
            yield name, job.on(graph, observed(graph, job.derive[:ENDS]), scaled)
        del graph


def prepare(graph: Graph, recipe: Recipe) -> Graph:
    """The float graph that is quantized: the same values, said in the plainest way."""
    graph = fold_dequantize(graph)
    if recipe.fuse:
        graph = fuse_activations(fold_batch_norm(fold_pads(graph)))
    return prune(graph)[0]


__all__ = ["foreseen", "prepare", "quantize"]

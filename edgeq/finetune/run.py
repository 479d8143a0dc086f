"""Quantization-aware fine-tuning: an integer model learns to answer as its float model does.

Rates are tried, then the run goes on from the best of them, epoch by epoch (course.py). What came nearest on samples held out
is what comes back, however the run ends.
"""

from __future__ import annotations

import time

from edgeq.calibrate import Progress, silent
from edgeq.feed import Source
from edgeq.files import PathLike
from edgeq.finetune import checkpoint
from edgeq.finetune.checkpoint import Standing
from edgeq.finetune.course import Course
from edgeq.finetune.goal import Figure
from edgeq.finetune.options import Finetuned, Options
from edgeq.graph import Array, Graph
from edgeq.quantize.blas import one_thread
from edgeq.quantize.canonical import fold_weights
from edgeq.quantize.prepare import prepare
from edgeq.quantize.remainders import without
from edgeq.recipe import RECIPES
from edgeq.records import replace
from edgeq.tflite import write


@one_thread()
def finetune(
    graph: Graph,
    samples: Source,
    start: Graph,
    *,
    labels: Array | None = None,
    validation: tuple[Source, Array | None] | None = None,
    options: Options | None = None,
    progress: Progress | None = None,
    saved: PathLike | None = None,
) -> Finetuned:
    """`start`, a quantized form of the float model `graph`, with weights, biases and steps that come nearer to it.

    samples: as edgeq.feed takes them, at least eight; labels: (N,) classes or (N, …) real values, learned from beside the
    float model's answers; validation: samples (and labels) to hold out instead of every fourth of `samples`; saved: a
    checkpoint, written after each epoch, taken up if it is there, removed at the end.

    A codebook model stays one: each channel keeps its number of levels, on the integer grid. Ctrl-C ends early and keeps
    the best. Raises QuantizeError for models that do not belong together, UnsupportedError for operations without a
    gradient, InputError for samples or labels that do not fit.
    """
    options, say = options or Options(), progress or silent
    teacher = fold_weights(prepare(graph, RECIPES["int8"]))
    run = Course(teacher, start, samples, labels, validation, options)
    key = checkpoint.digest(write(graph), write(start), repr(options), run.rows_digest())
    at: Standing = (checkpoint.load(saved, key) if saved is not None else None) or run.standing
    trials = run.trials if at.epoch == 0 and options.minutes is None else ()
    began, interrupted, given_up, steps = time.monotonic(), False, False, run.steps_an_epoch()
    fittings = run.fittings if at.epoch == 0 else 0
    done, every = 0, fittings * run.layers + steps * (run.epochs + sum(n for _, n in trials[1:]))

    def spent() -> float:
        """The share of the time that is over."""
        return 0.0 if options.minutes is None else (time.monotonic() - began) / (60 * options.minutes)

    def through(at: Standing, end: int, what: str) -> Standing:
        """The run some epochs later, of `end`."""
        told = f"{what} {at.epoch + 1}, {at.history[at.best]}"

        def advance(n: int) -> None:
            nonlocal done
            done += n
            say(done, every, told)

        return run.turn(at, end, advance, spent)

    def fitting() -> None:
        nonlocal done
        done += 1
        say(done, every, f"fitting layers, {at.history[at.best]}")

    known = len(at.history)

    def nearest(at: Standing) -> Figure:
        """The best figure that an epoch had."""
        return min(at.history[known:], default=at.history[0])

    try:
        for k in range(fittings):
            if spent() < 1:
                at = run.fitted(at, k, fitting)
        if fittings:
            at = replace(at, now=at.best_point, mean=at.best_point, around=at.best_point)
        fitted, known = at, len(at.history)
        for rate, end in trials:
            trial = replace(fitted, rate=rate)
            while trial.epoch < end:
                trial = through(trial, end, f"rate {rate:g}, epoch")
                if at.epoch == 0 or nearest(trial) < nearest(at):
                    at = trial
            if nearest(trial) <= nearest(at):
                at = trial
        # Gradients lead weights of few levels badly (slopes.py): where samples are few and no rate helps, none will.
        given_up = bool(trials and fittings and run.scarce) and not run.worth(nearest(at), fitted)
        if trials and not given_up:
            at = replace(at, begun=at.epoch)
            if saved is not None:
                checkpoint.save(saved, key, at)
        done = every - steps * (run.epochs - at.epoch)
        while at.epoch < run.epochs and spent() < 1 and not given_up:
            at = through(at, run.epochs, "epoch")
            if saved is not None:
                checkpoint.save(saved, key, at)
    except KeyboardInterrupt:
        interrupted = True
    best = without(run.student.graph_of(at.best_point)) if at.best else start  # they are of the weights before
    return Finetuned(
        best,
        at.history,
        at.best,
        at.epoch,
        run.learned,
        run.held,
        given_up or at.epoch >= run.epochs,
        interrupted,
        run.student.codebooks,
    )

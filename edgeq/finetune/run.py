"""Quantization-aware fine-tuning: an integer model learns to answer as its float model does.

Every fourth sample is held out, those that the start was not fitted to; every now and then the integer model is built, run
on those by edgeq's engine, and kept if it came nearer. The rest is learned from in batches of samples that were varied
(varied.py) or moved to where they wake other units (sought.py): the float model answers those too, so a hundred samples go
further than a hundred.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cached_property
from math import ceil

import numpy as np

from edgeq.calibrate import Progress, silent
from edgeq.errors import InputError, QuantizeError
from edgeq.feed import Source
from edgeq.files import PathLike
from edgeq.finetune import checkpoint
from edgeq.finetune.adam import Adam, falling
from edgeq.finetune.asked import Asked, some_of
from edgeq.finetune.checkpoint import Standing
from edgeq.finetune.goal import Figure, Judge, Target, answering, answers, checked_labels, loss, targets
from edgeq.finetune.rows import Rows
from edgeq.finetune.student import Parameters, Student
from edgeq.graph import Array, Graph
from edgeq.quantize.blas import one_thread
from edgeq.quantize.canonical import fold_weights
from edgeq.quantize.run import prepare
from edgeq.quantize.search import ENOUGH
from edgeq.recipe import RECIPES
from edgeq.records import dataclass, replace
from edgeq.tflite import write

HOLD_OUT, JUDGES = 4, 1
"""Samples whose number leaves 1 when divided by 4 are not learned from: they judge. `edgeq.quantize` derives no weight from
these either: they judge there too, or are not kept. A start that was fitted to what judges would seem to get only worse."""

LEAST_GAIN = 0.05
"""Of the start's distance: for less, samples held out are too few to tell luck from learning."""

BUDGET = 1.5e12
"""Multiplications that learning may take where no number of epochs is given: counted, and not timed, so that the same
samples give the same model on every machine. Some minutes of two cores."""

MOST_EPOCHS = 4000

FACTORS = (10.0, 3.0, 1.0, 0.3, 0.1)
"""Of the rate, each tried for a share TRIAL of the epochs, falling to nothing like the whole: a start that is near already is
lost at a rate that serves one that is far. The run goes on from where the best of them came to."""

CODEBOOKS_FACTOR = 3.0
"""Of the rate, for codebooks, where none are tried."""

TRIAL = 0.05

LAST = 5
"""Figures that a figure is seen among."""

TURN, TURNS = 1024, 25
"""Samples between two figures, as long as so many figures are taken."""

MOST_HELD = 4096
"""Samples that judge."""

LEAST_EPOCHS = 20
"""For fewer it is not worth trying."""

BATCH = 32
"""Samples a step."""

MEMORY = 192 << 20
"""Bytes that the values of one pass may take, about; batches that need more go through in pieces."""

RATES = {"w": 2e-3, "c": 6e-4, "b": 5e-4, "s": 5e-4, "a": 5e-4}
"""Of weights, levels and biases in units of their own (student.py), of the logarithms of weights' and activations' steps."""


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
    run = _Run(teacher, start, samples, labels, validation, options)
    key = checkpoint.digest(write(graph), write(start), repr(options), run.rows_digest())
    at = checkpoint.load(saved, key) if saved is not None else None
    at = at or run.standing
    trials = run.trials if at.epoch == 0 and options.minutes is None else ()
    began, interrupted, steps = time.monotonic(), False, run.steps_an_epoch()
    done, every = 0, steps * (run.epochs + sum(n for _, n in trials[1:]))

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

    try:
        for rate, end in trials:
            trial = replace(run.standing, rate=rate)
            while trial.epoch < end:
                trial = through(trial, end, f"rate {rate:g}, epoch")
                if at.epoch == 0 or trial.nearest < at.nearest:
                    at = trial
            if trial.nearest <= at.nearest:
                at = trial
        if trials:
            at = replace(at, begun=at.epoch)
            if saved is not None:
                checkpoint.save(saved, key, at)
        done = every - steps * (run.epochs - at.epoch)
        while at.epoch < run.epochs and spent() < 1:
            at = through(at, run.epochs, "epoch")
            if saved is not None:
                checkpoint.save(saved, key, at)
    except KeyboardInterrupt:
        interrupted = True
    best = run.student.graph_of(at.best_point) if at.best else start
    return Finetuned(
        best,
        at.history,
        at.best,
        at.epoch,
        run.learned,
        run.held,
        at.epoch >= run.epochs,
        interrupted,
        run.student.codebooks,
    )


class _Run:
    """What stays the same from epoch to epoch."""

    def __init__(
        self,
        teacher: Graph,
        start: Graph,
        samples: Source,
        labels: Array | None,
        validation: tuple[Source, Array | None] | None,
        options: Options,
    ) -> None:
        self.options = options
        self.teacher = teacher
        self.goals = targets(teacher)
        self.student = Student(start, teacher)
        self._match(start)
        self.rows = Rows(teacher, samples)
        self._labels, self._truth = self._checked(labels, len(self.rows))
        everything = np.arange(len(self.rows))
        apart = everything % HOLD_OUT == JUDGES if validation is None else np.zeros(len(everything), bool)
        self._learn = everything[~apart]
        if len(self._learn) < 6 or (validation is None and not apart.any()):
            raise QuantizeError(f"expected at least 8 samples to learn from and judge by, got {len(self.rows)}")
        self._answers = answering(teacher, [g.tensor for g in self.goals])
        self._batch = options.batch or BATCH
        self._piece = _piece(self.student, self._batch)
        held_rows, held_labels = self.rows, self._labels
        held = everything[apart]
        if validation is not None:
            held_rows = Rows(teacher, validation[0])
            held = np.arange(len(held_rows))
            held_labels, _ = self._checked(validation[1], len(held_rows))
            if labels is None:
                held_labels = None
        held = some_of(held, held_rows, MOST_HELD)
        inputs = held_rows.take(held)
        tensors = [g.tensor for g in self.goals]
        self._asked = Asked(teacher, tensors, self._teach, self.rows, self._learn, self._piece)
        wide = self._asked.elsewhere(inputs, np.random.default_rng(options.seed))
        wanted = tuple(self._teach(inputs))
        asked = tuple(self._teach(wide)) if wide is not None else ()
        self._judge = Judge(self.goals, inputs, wanted, self._of(held_labels, held), wide, asked)
        self.learned, self.held = len(self._learn), len(held)
        self._signals = [max(float((w.astype(np.float64) ** 2).mean()), 1e-30) for w in wanted]
        self.epochs = options.epochs or _epochs(self.student, self.learned)
        if labels is None and self.standing.history[0].distance < ENOUGH:
            self.epochs = 0  # what could be won on such samples costs more on others (docs/finetuning.md)
        self._turn = min(ceil(TURN / self.learned), max(1, self.epochs // TURNS))

    def _match(self, start: Graph) -> None:
        """Refuse a start that is not a form of the float model."""
        wanted = [self.teacher.tensors[g.tensor].shape for g in self.goals]
        found = [self.student.real.tensors[i].shape for i in self.student.targets]
        inputs = [self.teacher.tensors[i].shape for i in self.teacher.inputs]
        given = [start.tensors[i].shape for i in start.inputs]
        if wanted != found or inputs != given:
            raise QuantizeError(
                f"expected a quantized form of the float model, from {inputs} to {wanted}; found one from {given} to {found}"
            )
        if not self.student.layers:
            raise QuantizeError("expected layers with constant weights, found none that could learn")

    def _checked(self, labels: Array | None, count: int) -> tuple[Array | None, Target | None]:
        if labels is None:
            return None, None
        if len(self.goals) != 1:
            raise InputError(f"labels are for a model with one output, this one has {len(self.goals)}")
        goal = self.goals[0]
        shape = self.teacher.tensors[goal.tensor].shape
        per = shape[0] if shape else 1
        checked, target = checked_labels(labels, count * per, goal, shape)
        return checked.reshape(count, per, *checked.shape[1:]), target

    def _of(self, labels: Array | None, numbers: Array) -> Array | None:
        return None if labels is None else labels[numbers].reshape(-1, *labels.shape[2:])

    def rows_digest(self) -> str:
        """What tells these samples from others."""
        some = self.rows.take(np.unique(np.linspace(0, len(self.rows) - 1, 16).astype(int)))
        parts = [len(self.rows).to_bytes(8, "little"), *(a.tobytes() for a in some)]
        if self._labels is not None:
            parts.append(self._labels.tobytes())
        parts += [a.tobytes() for a in self._judge.wanted]
        return checkpoint.digest(*parts)

    @cached_property
    def standing(self) -> Standing:
        """The run before its first epoch."""
        point, figure = self.student.initial, self._figure(self.student.start)
        # Where rates are tried, those start with others.
        rate = self.options.rate * (CODEBOOKS_FACTOR if self.student.codebooks else 1.0)
        return Standing(0, point, Adam(), 0, point, figure, (figure,), rate)

    @cached_property
    def trials(self) -> tuple[tuple[float, int], ...]:
        """Rates to try, each with how many epochs."""
        if self.epochs < LEAST_EPOCHS:
            return ()
        return tuple((factor * self.options.rate, max(2, round(TRIAL * self.epochs))) for factor in FACTORS)

    def steps_an_epoch(self) -> int:
        """Batches of an epoch."""
        return ceil(len(self._learn) / self._batch)

    def turn(self, at: Standing, end: int, advance: Callable[[int], object], spent: Callable[[], float]) -> Standing:
        """The run some epochs later, judged again, of those up to `end`."""
        point, adam, epoch = at.now, at.adam, at.epoch
        while epoch < min(at.epoch + self._turn, end) and (spent() < 1 or epoch == at.epoch):
            point, adam = self._epoch(replace(at, now=point, adam=adam, epoch=epoch), end, advance, spent)
            epoch += 1
        figure = self._figure(self.student.graph_of(point))
        # One figure among many is near by luck: it counts for no more than the middle one of the last few, the start's too.
        last = sorted((*at.history, figure)[-LAST:])
        sound = max(figure, last[len(last) // 2])
        better = sound < at.sound and sound < self._least(at.history[0])
        return replace(
            at,
            epoch=epoch,
            now=point,
            adam=adam,
            best=len(at.history) if better else at.best,
            best_point=point if better else at.best_point,
            sound=sound if better else at.sound,
            history=(*at.history, figure),
        )

    def _epoch(
        self, at: Standing, end: int, advance: Callable[[int], object], spent: Callable[[], float]
    ) -> tuple[Parameters, Adam]:
        """Parameters an epoch later. The order is the seed's and the epoch's, whatever came before."""
        draw = np.random.default_rng([self.options.seed, at.epoch])
        order = draw.permutation(self._learn)
        share = self.options.mix
        share = share if share is not None else 1.0 if self._labels is None else 0.5
        steps, point, adam = self.steps_an_epoch(), at.now, at.adam
        for k, numbers in enumerate(np.array_split(order, steps)):
            varied = draw.random() < share
            gradients = self._gradients(point, numbers, draw if varied else None)
            # The rate has fallen when time is up, too.
            gone = (at.epoch - at.begun + k / steps) / (end - at.begun)
            rate = at.rate * falling(max(gone, spent()))
            point, adam = adam.moved(point, gradients, {n: r * rate for n, r in RATES.items()})
            if self._labels is None:  # labels may teach what the float model does not know
                point = self.student.held(point)
            advance(1)
        return point, adam

    def _least(self, start: Figure) -> Figure:
        """What is worth a change: fewer wrong answers, or a distance shorter by LEAST_GAIN."""
        return Figure(start.wrong, (1 - LEAST_GAIN) * start.distance)

    def _gradients(self, point: Parameters, numbers: Array, draw: np.random.Generator | None) -> dict[str, Array]:
        """The mean gradient of a batch, in pieces that fit into memory."""
        total: dict[str, Array] = {}
        for start in range(0, len(numbers), self._piece):
            piece = numbers[start : start + self._piece]
            # A mixture has no label; the float model answers it.
            inputs = self.rows.take(piece) if draw is None else self._asked.varied(piece, draw)
            labels = self._of(self._labels, piece) if draw is None else None
            weight = len(piece) / len(numbers)
            for name, g in self._piece_gradients(point, inputs, labels).items():
                total[name] = total[name] + weight * g if name in total else weight * g
        return total

    def _piece_gradients(self, point: Parameters, inputs: list[Array], labels: Array | None) -> dict[str, Array]:
        wanted = self._teach(inputs)
        given = dict(zip(self.student.start.inputs, inputs, strict=True))
        found = self.student.forward(point, given)
        gradients: dict[int, Array] = {}
        for goal, tensor, want, signal in zip(self.goals, self.student.targets, wanted, self._signals, strict=True):
            target = self._truth if labels is not None and self._truth is not None else goal
            _, g = loss(target, found[tensor], want, signal, labels)
            gradients[tensor] = gradients[tensor] + g if tensor in gradients else g
        return self.student.backward({i: g / len(self.goals) for i, g in gradients.items()})

    def _teach(self, inputs: list[Array]) -> list[Array]:
        """The float model's answers."""
        return answers(self._answers, inputs)

    def _figure(self, graph: Graph) -> Figure:
        return self._judge.figure(graph, self.student.targets)


def _epochs(student: Student, samples: int) -> int:
    """Passes that BUDGET allows: forwards, and twice as much back."""
    return int(min(MOST_EPOCHS, max(8, BUDGET / (3 * max(_macs(student), 1) * samples))))


def _macs(student: Student) -> int:
    """Multiplications of an inference."""
    macs = 0
    for y in student.layers:
        out, w = (student.real.tensors[i] for i in (student.real.ops[y.op].outputs[0], y.weights))
        macs += out.size * w.size // w.shape[y.axis]
    return macs


def _piece(student: Student, batch: int) -> int:
    """How many inferences go through at once."""
    if not student.tape.batchable:
        return 1
    graph = student.real
    size = 0
    for n in student.tape.path:
        op = graph.ops[n]
        size += 4 * 4 * sum(graph.tensors[i].size for i in op.outputs)
        if op.code in ("CONV_2D", "TRANSPOSE_CONV"):
            w, at = (
                graph.tensors[op.inputs[1]].shape,
                graph.tensors[op.outputs[0] if op.code == "CONV_2D" else op.inputs[2]],
            )
            if w[1] * w[2] > 1:
                size += 4 * (at.size // max(at.shape[-1], 1)) * w[1] * w[2] * w[3]
    return max(1, min(batch, MEMORY // max(size, 1)))

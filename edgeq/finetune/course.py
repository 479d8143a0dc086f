"""What stays the same from epoch to epoch of a run, and what an epoch does.

Every fourth sample is held out, those that the start was not fitted to: the integer model is built, run on those by edgeq's
engine, and kept if it came nearer. The rest is learned from in batches of samples made from them (asked.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from math import ceil

import numpy as np

from edgeq.calibrate import evenly
from edgeq.errors import InputError, QuantizeError
from edgeq.feed import Source
from edgeq.finetune import budget, checkpoint
from edgeq.finetune.adam import Adam, falling
from edgeq.finetune.asked import Asked, some_of
from edgeq.finetune.checkpoint import Standing
from edgeq.finetune.curvature import Curved, curvature
from edgeq.finetune.goal import Figure, Judge, Target, answering, answers, checked_labels, loss, summed, targets
from edgeq.finetune.options import BATCH, Options
from edgeq.finetune.refit import fittable, refitted, scarcest
from edgeq.finetune.rows import Rows
from edgeq.finetune.slopes import Slope, averaged, slopes
from edgeq.finetune.spans import respanned
from edgeq.finetune.student import Parameters, Student
from edgeq.graph import Array, Graph
from edgeq.quantize.search import ENOUGH
from edgeq.records import replace

HOLD_OUT, JUDGES = 4, 1
"""Samples whose number leaves 1 when divided by 4 are not learned from: they judge. `edgeq.quantize` derives no weight from
these either: they judge there too, or are not kept. A start that was fitted to what judges would seem to get only worse."""

LEAST_GAIN = 0.05
"""Of the start's distance: for less, samples held out are too few to tell luck from learning."""

FACTORS = (10.0, 3.0, 1.0, 0.3, 0.1)
"""Of the rate, each tried for a share TRIAL of the epochs, falling to nothing like the whole: a start that is near already is
lost at a rate that serves one that is far. The run goes on from where the best of them came to."""

CODEBOOKS_FACTOR = 3.0
"""Of the rate, for codebooks, where none are tried."""

TRIAL = 0.05

MEAN = 100
"""Steps whose parameters are averaged, about, for the model that is judged and kept: one step's weights sit on this side or that
of the middle between two codes by chance (Izmailov et al., "Averaging Weights Leads to Wider Optima", 2018)."""

MOST_OF = 0.5
"""Of the samples held out, the share that has to be nearer than at the start: a mean can be better for the sake of a few."""

LAST = 5
"""Figures that a figure is seen among."""

TURN, TURNS = 1024, 25
"""Samples between two figures, as long as so many figures are taken."""

MOST_HELD = 4096
"""Samples that judge."""

FITTINGS, FITTED_WEIGHTS = 10, 4_000_000
"""Times that layers are fitted one after another, each time to what those before them have become: no more than that, and once
where so many weights are gone through already."""

FITTED_ON, VARIED, CURVED = 1024, 5, 128
"""Samples that layers are fitted on, of each one so many variations at most; and those that tell the loss's curvature."""

SCARCE, FITTED_VALUES = 5, 32_000_000
"""Rows to a weight of a row, for which layers are fitted on more samples (a dense layer has one row of each), as long as no more
values are computed."""

SPANNED = 64
"""Samples that activations' steps are seen by."""

FITTING_BYTES, LEAST_FITTED = 256 << 20, 16
"""Of an operation's values that are held at once, and inferences that have to go in there."""

LEAST_EPOCHS = 20
"""For fewer it is not worth trying."""

RATES = {"w": 2e-3, "c": 6e-4, "b": 5e-4, "s": 5e-4, "a": 5e-4}
"""Of weights, levels and biases in units of their own (student.py), of the logarithms of weights' and activations' steps."""


class Course:
    """A run's models, samples, targets and judge."""

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
        self._piece = budget.piece(self.student, self._batch)
        self._slopes: dict[int, Slope] = {}  # of the fittings so far
        held_rows, held_labels = self.rows, self._labels
        held = everything[apart]
        if validation is not None:
            held_rows = Rows(teacher, validation[0])
            held = np.arange(len(held_rows))
            if not len(held):
                raise QuantizeError("expected at least 1 sample to judge by, got none")
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
        self._judge = Judge(self.goals, inputs, wanted, self._of(held_labels, held), wide, asked, self._asked.unlike)
        self.learned, self.held = len(self._learn), len(held)
        self._signals = [max(float((w.astype(np.float64) ** 2).mean()), 1e-30) for w in wanted]
        self.epochs = options.epochs or budget.epochs(self.student, self.learned, self._batch)
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
        return Standing(0, point, Adam(), 0, point, figure, (figure,), rate, 0, point, point)

    @cached_property
    def trials(self) -> tuple[tuple[float, int], ...]:
        """Rates to try, each with how many epochs."""
        if self.epochs < LEAST_EPOCHS:
            return ()
        return tuple((factor * self.options.rate, max(2, round(TRIAL * self.epochs))) for factor in FACTORS)

    @cached_property
    def layers(self) -> int:
        """How many layers can be fitted."""
        return len(fittable(self.student)) if self.epochs and not self._too_wide else 0

    @cached_property
    def fittings(self) -> int:
        """How many times they are."""
        weights = sum(self.student.real.tensors[y.weights].size for y in self.student.layers)
        return max(1, min(FITTINGS, FITTED_WEIGHTS // weights)) if self.layers else 0

    def fitted(self, at: Standing, k: int, advance: Callable[[], object]) -> Standing:
        """The run with its layers fitted once more (refit.py), for the time k, before the first epoch."""
        draw = np.random.default_rng([self.options.seed, FITTINGS, k])
        inputs, size = self._fitting_on(draw), self._piece
        bent: dict[int, Curved] = {}
        self._slopes = self._slopes if k else {}
        if k:
            pieces = self._pieces(inputs)
            taught = [(p, self._teach(p)) for p in pieces]
            some = taught[: -(-CURVED // size)]
            bent = curvature(self.student, at.now, self.goals, self._signals, some, draw)
            layers = fittable(self.student)
            now = slopes(self.student, at.now, layers, self.goals, self._signals, taught)
            self._slopes = averaged(self._slopes, now)
        begun = at.now if k else respanned(self.student, self.teacher, at.now, self._plain(), size)
        point = refitted(self.student, self.teacher, begun, inputs, size, bent, self._slopes, advance)
        figure = self._figure(self.student.graph_of(point))
        better = figure < at.sound and figure < self._least(at.history[0])
        better = better and (figure.nearer > MOST_OF or self._labels is not None)
        return replace(
            at,
            now=point,
            best=len(at.history) if better else at.best,
            best_point=point if better else at.best_point,
            sound=figure if better else at.sound,
            history=(*at.history, figure),
        )

    def _pieces(self, inputs: Sequence[Array]) -> list[list[Array]]:
        """Inputs (n·shape[0], …) in the order of the graph's, cut into as many inferences as go through at once."""
        shapes = [self.student.start.tensors[i].shape for i in self.student.start.inputs]
        rows = [max(1, shape[0]) if shape else 1 for shape in shapes]
        size, count = self._piece, len(inputs[0]) // rows[0]
        return [[a[k * r : (k + size) * r] for a, r in zip(inputs, rows, strict=True)] for k in range(0, count, size)]

    @cached_property
    def _inferences(self) -> int:
        """That may go through the layers at once, all values of the largest operation being kept."""
        graph = self.student.real
        most = max(
            sum(graph.tensors[i].size for i in (*op.inputs, *op.outputs) if i >= 0 and graph.tensors[i].data is None)
            for op in graph.ops
        )
        return max(1, FITTING_BYTES // (4 * most))

    @property
    def _too_wide(self) -> bool:
        """Whether too few inferences could go through."""
        return self._inferences < LEAST_FITTED or not self.student.tape.batchable

    def _fitting_on(self, draw: np.random.Generator) -> list[Array]:
        """Samples to fit layers on: half of them as they are, if there are so many, the others varied."""
        graph = self.student.real
        values = sum(graph.tensors[i].size for n in self.student.tape.path for i in graph.ops[n].outputs)
        scarce = min(SCARCE * scarcest(self.student), FITTED_VALUES // values)
        some = np.asarray(evenly(self._learn, max(1, min(FITTED_ON, self._inferences) // 2)))
        most = min(max(min(FITTED_ON, (1 + VARIED) * len(some)), scarce), self._inferences)
        others = np.resize(some, max(1, most - len(some)))
        parts = [self.rows.take(some)]
        parts += [self._asked.varied(n, draw) for n in np.array_split(others, -(-len(others) // self._batch))]
        return [np.concatenate(p) for p in zip(*parts, strict=True)]

    def _plain(self) -> list[Array]:
        """Samples to see ranges by, as they are."""
        return self.rows.take(evenly(self._learn, max(1, min(SPANNED, self._inferences))))

    def steps_an_epoch(self) -> int:
        """Batches of an epoch."""
        return ceil(len(self._learn) / self._batch)

    def turn(self, at: Standing, end: int, advance: Callable[[int], object], spent: Callable[[], float]) -> Standing:
        """The run some epochs later, judged again, of those up to `end`."""
        now = at
        while now.epoch < min(at.epoch + self._turn, end) and (spent() < 1 or now.epoch == at.epoch):
            now = self._epoch(now, end, advance, spent)
        figure = self._figure(self.student.graph_of(now.mean))
        # One figure among many is near by luck: it counts for no more than the middle one of the last few, the start's too.
        last = sorted((*at.history, figure)[-LAST:])
        sound = max(figure, last[len(last) // 2])
        better = sound < at.sound and sound < self._least(at.history[0])
        better = better and (figure.nearer > MOST_OF or self._labels is not None)
        return replace(
            now,
            best=len(at.history) if better else at.best,
            best_point=now.mean if better else at.best_point,
            sound=sound if better else at.sound,
            history=(*at.history, figure),
        )

    def _epoch(self, at: Standing, end: int, advance: Callable[[int], object], spent: Callable[[], float]) -> Standing:
        """The run an epoch later. The order is the seed's and the epoch's, whatever came before."""
        draw = np.random.default_rng([self.options.seed, at.epoch])
        order = draw.permutation(self._learn)
        share = self.options.mix
        share = share if share is not None else 1.0 if self._labels is None else 0.5
        steps, point, adam, mean = self.steps_an_epoch(), at.now, at.adam, at.mean
        for k, numbers in enumerate(np.array_split(order, steps)):
            varied = draw.random() < share
            gradients = self._gradients(point, numbers, draw if varied else None)
            # The rate has fallen when time is up, too.
            gone = (at.epoch - at.begun + k / steps) / (end - at.begun)
            rate = at.rate * falling(max(gone, spent()))
            point, adam = adam.moved(point, gradients, {n: r * rate for n, r in RATES.items()})
            if self._labels is None:  # labels may teach what the float model does not know
                point = self.student.held(point, at.around)
            mean = _averaged(mean, point, adam.step)
            advance(1)
        return replace(at, epoch=at.epoch + 1, now=point, adam=adam, mean=mean)

    @property
    def scarce(self) -> bool:
        """Whether a codebook model has nothing to learn from but its samples, varied: neither labels, nor others made up."""
        return bool(self.student.codebooks) and self._labels is None and not self._asked.unlike

    def worth(self, figure: Figure, at: Standing) -> bool:
        """Whether a figure is worth a change from the best that a run had."""
        return figure < self._least(at.history[at.best])

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
        truth = None if labels is None else self._truth
        each = zip(self.goals, self.student.targets, wanted, self._signals, strict=True)
        gradients = summed(
            (i, loss(truth or goal, found[i], want, signal, labels)[1]) for goal, i, want, signal in each
        )
        return self.student.backward({i: g / len(self.goals) for i, g in gradients.items()})

    def _teach(self, inputs: list[Array]) -> list[Array]:
        """The float model's answers."""
        return answers(self._answers, inputs)

    def _figure(self, graph: Graph) -> Figure:
        return self._judge.figure(graph, self.student.targets, self._before)

    @cached_property
    def _before(self) -> Array:
        """How far the start is from the teacher on each of the samples held out."""
        return self._judge.apart(self.student.start, self.student.targets)


def _averaged(mean: Parameters, point: Parameters, step: int) -> Parameters:
    """The mean of the last parameters, after so many steps: of all of them at first, of about MEAN later."""
    share = max(1 / MEAN, 1 / step)
    found: dict[str, Array] = {}
    for name, now in point.items():
        away = np.asarray(now - mean[name])
        away *= share
        found[name] = away + mean[name]
    return found

"""What an integer model is held against while it is tuned: a teacher, or the float model that its codes stand for.

Without a teacher nobody knows what the model was made of. Each of the float models that round to the same codes
(edgeq.quantize.cells) says whether a change brings the integer model closer to it, and so how likely a change does harm. To
come close to their mean instead was tried: where weights were trained as codes, it is as far as 20 % noise from the truth.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from edgeq.calibrate import Inputs, evenly, processors, spread, stride, thinned
from edgeq.errors import QuantizeError
from edgeq.feed import quantmod_of
from edgeq.graph import Graph
from edgeq.pieces import Floats, Shown, in_pieces
from edgeq.quantize.compare import Judge, elements, judged
from edgeq.quantize.settle import Layer, channel_means
from edgeq.quantize.stretch import Further, stretch_by
from edgeq.records import dataclass
from edgeq.trim import give_back

if TYPE_CHECKING:
    from edgeq.trials import Plans, Trials

Array = npt.NDArray[Any]

WITNESSES: Final = 12
"""Inputs by which each model says whether a change is for the better."""

FEW_WITNESSES: Final = 6
"""Inputs of a model with many weights: to draw those and to lay them out takes longer than to ask."""

AT_ONCE: Final = 2
"""Such models that are asked at once: of each a piece is made while the other one runs."""

TRAINED: Final = 0.05
"""Noise per signal that rounding the weights would have made: a model that lost more to it would not have been let out, so its
weights were trained as the codes that they are. (Rounded models that were looked at lost up to 2 %, a trained one 15 %.)"""

SCORED: Final = 16384
"""Values of an output that judge: where pictures come out, all of them would take more memory than the model."""

FEWEST: Final = 4
"""Models that are asked before any decision."""

SURE: Final = 1.28
"""Standard errors: in nine of ten cases the truth is on the same side."""

SEEN: Final = 512
"""Values of an output that it does so by."""

SHOWN: Final = 1024
"""Values of any tensor, of those inputs of which all tensors are known."""


@dataclass(frozen=True, eq=False)
class Guide:
    """judge: by the float model's answers on inputs that are held back, and on those stretched. trainer: the same on `others`, of
    which `means` are: by operation of the integer graph, (len(others), channels) of its output. witnesses: some of all inputs;
    wanted: by target what the float model says of those, (witnesses, n) float32; said: by model that the codes leave open the
    same, of as many as were asked so far; ask: so many others. compared: of the judge's inputs, those of which all
    tensors are known: by tensor of the float model, (compared, n) as edgeq.quantize.compare_with takes them."""

    judge: Judge
    trainer: Judge
    others: Sequence[Inputs]
    means: dict[int, Array]
    witnesses: Sequence[Inputs]
    wanted: tuple[Array, ...]
    said: list[tuple[Array, ...]]
    ask: Callable[[int], Sequence[tuple[Array, ...]]]
    compared: Sequence[Inputs]
    all: Mapping[int, Array]

    def told(self, count: int) -> Sequence[tuple[Array, ...]]:
        """What `count` models say, or fewer if there are not as many."""
        if count > len(self.said):
            self.said.extend(self.ask(count - len(self.said)))
        return self.said[:count]

    @property
    def left_open(self) -> float:
        """Noise per signal of models that the codes leave open, against the one that the codes stand for."""
        signal = sum(float(np.sum(a.astype(np.float64) ** 2)) for a in self.wanted) or 1.0
        told = self.told(FEWEST)
        return float(np.mean([_distance(said, self.wanted) for said in told])) / signal if told else 0.0

    def risk(self, old: Graph, new: Graph, most: float = 0.5) -> float:
        """How likely `new` is further from the trained model than `old`; both have the judge's tensors in their places.

        Σ(x̂' − x)² − Σ(x̂ − x)² is linear in what a model says, a sum over many weights that are drawn independently:
        its mean and spread over the models give the chance by the normal distribution. Of one model that is 0 or 1.
        Where the weights were TRAINED as codes, nothing is open. Models are asked until it is clear, by SURE standard
        errors, on which side of `most` the chance lies.
        """
        trials = self.judge.others(self.judge.targets, self.witnesses, SEEN)
        was, now = (self._decoded(g, trials.answers(g)) for g in (old, new))
        del trials
        self.judge.forget()  # what is asked may be large models
        self.trainer.forget()
        give_back()
        count, open_ = FEWEST, self.left_open <= TRAINED
        while True:
            told = (open_ and self.told(count)) or (self.wanted,)
            gains = np.array([_distance(was, said) - _distance(now, said) for said in told])
            n, mean = len(gains), float(gains.mean())
            spread = float(gains.std(ddof=1)) if n > 1 else 0.0
            if spread == 0.0:
                return 0.0 if mean >= 0.0 else 1.0
            z = mean / spread
            margin = SURE * math.sqrt(1 / n + z * z / (2 * n))
            if n < count or not _below(z + margin) <= most <= _below(z - margin):
                return _below(z)
            count += count // 2

    def _decoded(self, coded: Graph, found: Sequence[Array]) -> tuple[Array, ...]:
        transforms = [quantmod_of(coded.tensors[i]) for i in self.judge.targets]
        return tuple(a if q is None else q.dequantize(a) for a, q in zip(found, transforms, strict=True))


def guide_by(
    graph: Graph,
    own: Sequence[int],
    wanted: Floats,
    models: Iterable[Floats],
    matched: Sequence[Layer],
    judges: Sequence[Inputs],
    others: Sequence[Inputs],
    compared: int = 0,
) -> Guide:
    """What a float model says, and what those say that it may stand for.

    graph: the integer model, own: the tensors by which it is judged; wanted: the float model to come close to; models: those
    that tell the risk, none where that is `wanted` itself; judges, others: inputs for the judge, and those that are not held
    back; compared: of so many of the judges all tensors are kept.

    Raises QuantizeError for models whose scores are not as many, or not of the sizes, that the integer model has.
    """
    from edgeq.trials import Trials

    there, n, stretch = _targets(graph, own, wanted.graph), len(others), stretch_by(others)
    trained: Sequence[Inputs] = Further(others, stretch)
    if wanted.whole:  # else each time anew: of pictures all of them take as much as the samples
        trained = list(trained)
    judging = Further(judges, stretch)
    plain = len(trained) + len(judges)
    some = evenly([*range(len(trained), plain)], compared) if compared else []
    told, itself, means, every = _heard(wanted, there, matched, _Joined(trained, judging), n, some)
    plans: dict[tuple[int, ...], Plans] = {}
    judge, trainer = (
        Judge(tuple(own), some, tuple(a[part] for a in told), SCORED, plans=plans)
        for some, part in ((judging, slice(len(trained), None)), (trained, slice(len(trained))))
    )
    seen = [*range(len(trained), plain), *range(n)]
    shown = evenly(seen, FEW_WITNESSES if wanted.heavy else WITNESSES)
    witnesses = [trained[k] if k < n else judges[k - len(trained)] for k in shown]
    trials: dict[tuple[int, ...], Trials] = {}
    coming, turn = iter(models), Lock()

    def says(worker: int, model: Floats) -> tuple[Array, ...]:
        targets = tuple(_targets(graph, own, model.graph))
        if not model.whole:
            return tuple(heard(model, witnesses, targets, SEEN, turn)[i] for i in targets)
        if targets not in trials:
            trials[targets] = Trials(targets, witnesses, SEEN)
        return trials[targets].answers(model.graph, checked=model is not wanted)

    def ask(count: int) -> list[tuple[Array, ...]]:
        at_once = 1 if wanted.whole else min(AT_ONCE, processors(), count)
        return list(spread(at_once, islice(coming, count), says))

    those = [judges[k - len(trained)] for k in some]
    wants = tuple(a[shown] for a in itself)
    return Guide(judge, trainer, others, means, witnesses, wants, [], ask, those, every)


class _Joined(Sequence[Inputs]):
    """Some inputs and behind them others, which are made when they are asked for."""

    def __init__(self, first: Sequence[Inputs], then: Sequence[Inputs]) -> None:
        self._first, self._then = first, then

    def __len__(self) -> int:
        return len(self._first) + len(self._then)

    def __getitem__(self, k: Any) -> Any:
        n = len(self._first)
        return self._first[k] if k < n else self._then[k - n]


def heard(
    model: Floats, inputs: Sequence[Inputs], tensors: Sequence[int], most: int, turn: Lock | None = None
) -> dict[int, Array]:
    """What a float model says: by tensor (len(inputs), n), at most so many elements, evenly spread. turn: as for in_pieces."""
    every = {i: stride(model.graph.tensors[i].shape, most) for i in tensors}

    def look(worker: int, shown: Shown, number: int, count: int) -> dict[int, Array]:
        return {i: thinned(values, every[i]).copy() for i, values in shown}

    parts = list(in_pieces(model, inputs, look, tensors, turn))
    return {i: np.concatenate([part[i] for part in parts if i in part]) for i in tensors}


def every_tensor(model: Floats, inputs: Sequence[Inputs]) -> dict[int, Array]:
    """As much of every tensor on these inputs as edgeq.quantize.compare_with wants to know."""
    most = _compared(model.graph)

    def look(worker: int, shown: Shown, number: int, count: int) -> dict[int, Array]:
        return {i: _few(values, most[i]) for i, values in shown if i in most}

    parts = list(in_pieces(model, inputs, look, [*most]))
    there = [i for i in most if any(i in part for part in parts)]
    return {i: np.concatenate([part[i] for part in parts if i in part]) for i in there}


def _few(values: Array, most: int) -> Array:
    """As edgeq.calibrate.sparse picks them, of each sample."""
    size = math.prod(values.shape[1:])
    return thinned(values, -(-size // most) if most and size else 1).copy()


def _compared(graph: Graph) -> dict[int, int]:
    """The tensors that are compared, and as how many of their elements."""
    return elements(graph, (i for i, t in enumerate(graph.tensors) if t.dtype == "float32" and t.data is None), SHOWN)


def _heard(
    wanted: Floats,
    there: Sequence[int],
    matched: Sequence[Layer],
    inputs: Sequence[Inputs],
    count: int,
    compared: Sequence[int],
) -> tuple[list[Array], list[Array], dict[int, Array], dict[int, Array]]:
    """What the float model says: by target (len(inputs), n) as much as is SCORED, and as much as is SEEN; of
    the first `count` inputs the mean of each channel, by operation of the integer graph; and of the inputs `compared` as much as
    is SHOWN of every tensor.
    """
    layers = {layer.wanted: layer.op for layer in matched} if count else {}
    tensors = wanted.graph.tensors
    steps = {i: [stride(tensors[i].shape, most) for most in (SCORED, SEEN)] for i in there}
    most = _compared(wanted.graph) if compared else {}
    asked = frozenset(compared)

    def hear(numbers: Sequence[int], watched: Sequence[int]) -> Iterator[dict[tuple[int, int], Array]]:
        """Some of the inputs, in the order of their numbers."""

        def look(worker: int, shown: Shown, start: int, some: int) -> dict[tuple[int, int], Array]:
            found: dict[tuple[int, int], Array] = {}
            those = numbers[start : start + some]
            few, rows = sum(k < count for k in those), [row for row, k in enumerate(those) if k in asked]
            for i, values in shown:
                if i in steps:
                    found |= {(i, k): thinned(values, every).copy() for k, every in enumerate(steps[i])}
                if i in layers and few:
                    found[i, 2] = channel_means(
                        values[:few].reshape(few, *values.shape[1:-1], -1, tensors[i].shape[-1])
                    )
                if rows and i in most:
                    found[i, 3] = np.concatenate([_few(values[row : row + 1], most[i]) for row in rows])
            return found

        return in_pieces(wanted, (inputs[k] for k in numbers), look, watched)

    every = range(len(inputs))
    # Of most inputs nobody asks but for the targets: they go from end to end at once.
    closely = [k for k in every if k < count or k in asked] if wanted.whole else every
    rest = [k for k in every if not (k < count or k in asked)] if wanted.whole else []
    parts = [*hear(closely, [*most] or [*there, *layers]), *hear(rest, there)]
    order = np.argsort([*closely, *rest])

    def whole(i: int, k: int) -> Array:
        return np.concatenate([part[i, k] for part in parts if (i, k) in part])

    means = {n: whole(i, 2) for i, n in layers.items()}
    shown = {i: whole(i, 3) for i in most if any((i, 3) in part for part in parts)}
    return [whole(i, 0)[order] for i in there], [whole(i, 1)[order] for i in there], means, shown


def _below(z: float) -> float:
    """The chance that what is normal, with a mean of z spreads, lies below 0."""
    return 0.5 * math.erfc(z / math.sqrt(2.0))


def _targets(graph: Graph, own: Sequence[int], model: Graph) -> list[int]:
    """The tensors by which the float model is judged, which stand for the integer model's `own`."""
    found = judged(model)
    if not found:
        raise QuantizeError("expected a model whose outputs come from floats, found none to compare by")
    if len(own) != len(found):
        raise QuantizeError(f"the teacher computes {len(found)} outputs from floats, the model {len(own)}")
    sizes = [tuple(graph.tensors[i].size for i in own), tuple(model.tensors[i].size for i in found)]
    if sizes[0] != sizes[1]:
        raise QuantizeError(f"the teacher's scores have sizes {sizes[1]}, the model's {sizes[0]}")
    return found


def _distance(found: Sequence[Array], wanted: Sequence[Array]) -> float:
    """Σ(x̂ − x)²."""
    total = 0.0
    for a, b in zip(found, wanted, strict=True):
        difference = (a.astype(np.float64) - b).reshape(-1)
        total += float(difference @ difference)
    return total

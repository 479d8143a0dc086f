"""What the student is to come near to, and how near it is.

Without labels, the float model's answers (Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015):
scores in front of a softmax by the divergence of the two distributions, Σ p·log(p/p̂), all else by noise per signal. With
labels, half of the loss is theirs: cross entropy for classes, squared error for values.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from edgeq.engine import Model
from edgeq.errors import InputError, QuantizeError
from edgeq.graph import Array, Graph
from edgeq.quantize.compare import judged
from edgeq.records import dataclass, field

LABELS_SHARE = 0.5
"""Of the loss, where there are labels."""

SCORES_SHARE = 1.0
"""The scores' noise per signal beside their divergence, in the loss and in the distance that judges: it holds on where a
softmax is saturated, and a divergence over few samples is that of the one that errs most."""


@dataclass(frozen=True)
class Target:
    """A tensor to be met. tensor: its index; beta: of the softmax behind it, 0 where there is none."""

    tensor: int
    beta: float


def targets(graph: Graph) -> tuple[Target, ...]:
    """What a model is judged by: its outputs, or the scores in front of them."""
    found = []
    for i in judged(graph):
        behind = [graph.ops[n] for n in graph.main.consumers().get(i, [])]
        soft = [op for op in behind if op.code == "SOFTMAX"]
        beta = float(soft[0].options.values.get("beta", 1.0)) if soft and soft[0].options is not None else 0.0
        found.append(Target(i, beta or (1.0 if soft else 0.0)))
    if not found:
        raise QuantizeError("expected a model whose outputs come from floats, found none to learn from")
    return tuple(found)


def summed(gradients: Iterable[tuple[int, Array]]) -> dict[int, Array]:
    """By tensor, the gradients of all targets that it is."""
    out: dict[int, Array] = {}
    for tensor, g in gradients:
        out[tensor] = out[tensor] + g if tensor in out else g
    return out


def answering(graph: Graph, tensors: Sequence[int], threads: int = 1) -> Model:
    """The model on edgeq's engine, with these tensors as its outputs."""
    unique = tuple(dict.fromkeys(tensors))
    return Model(
        Graph((graph.with_main(outputs=unique).main, *graph.subgraphs[1:]), version=graph.version), threads=threads
    )


def answers(model: Model, inputs: Sequence[Array]) -> list[Array]:
    """Real values of a model's outputs (N·shape[0], …) for real inputs in their order."""
    found: Any = model(dict(zip((p.name for p in model.inputs), inputs, strict=True)), dequantize=True)
    values = found if isinstance(found, dict) else {model.outputs[0].name: found}
    return [np.asarray(values[p.name], np.float32) for p in model.outputs]


def loss(
    target: Target, found: Array, wanted: Array, signal: float, labels: Array | None = None
) -> tuple[float, Array]:
    """The loss of a batch and its gradient. signal: the mean square of the teacher's values."""
    count = found.size
    difference = found - wanted
    noise = float((difference.astype(np.float64) ** 2).sum()) / count / signal
    slope = difference * np.float32(2.0 / count / signal)
    if not target.beta:
        if labels is None:
            return noise, slope
        off = found - labels.reshape(found.shape).astype(found.dtype)
        own = float((off.astype(np.float64) ** 2).sum()) / count / signal
        both = (1 - LABELS_SHARE) * slope + LABELS_SHARE * off * np.float32(2.0 / count / signal)
        return (1 - LABELS_SHARE) * noise + LABELS_SHARE * own, both.astype(found.dtype)
    p, log_p = distribution(wanted, target.beta)
    q, log_q = distribution(found, target.beta)
    rows = found.size // found.shape[-1]
    value = float((p * (log_p - log_q)).sum()) / rows
    gradient = (q - p) * np.float32(target.beta / rows)
    if labels is not None:
        right = np.zeros(q.shape, q.dtype)
        right.reshape(-1, q.shape[-1])[np.arange(rows), labels.reshape(-1)] = 1
        own = -float((right * log_q).sum()) / rows
        value = (1 - LABELS_SHARE) * value + LABELS_SHARE * own
        gradient = (1 - LABELS_SHARE) * gradient + LABELS_SHARE * (q - right) * np.float32(target.beta / rows)
    return value + SCORES_SHARE * noise, (gradient + np.float32(SCORES_SHARE) * slope).astype(np.float32)


def distances(target: Target, found: Array, wanted: Array, count: int) -> Array:
    """How far `count` samples' answers are from the teacher's, (count,): noise per (their mean) signal, and the divergence where
    a softmax follows."""
    a = wanted.astype(np.float64)
    signal = max(float((a * a).sum()) / count, 1e-30)
    noise: Array = ((found - a) ** 2).reshape(count, -1).sum(axis=1) / signal
    if target.beta:
        p, log_p = distribution(a, target.beta)
        _, log_q = distribution(found.astype(np.float64), target.beta)
        divergence: Array = (p * (log_p - log_q)).sum(axis=-1).reshape(count, -1).mean(axis=1)
        noise = divergence + SCORES_SHARE * noise
    return noise


def distance(target: Target, found: Array, wanted: Array) -> float:
    """The mean of `distances`."""
    return float(distances(target, found, wanted, 1)[0])


@dataclass(frozen=True, order=True)
class Figure:
    """How good a model is on the samples held out, less is better: wrong answers first where there are labels, then
    the distance to the float model. nearer: the share of the samples whose answers are nearer than the start's."""

    wrong: float
    distance: float
    nearer: float = field(default=1.0, compare=False)

    def __str__(self) -> str:
        return (f"{100 * self.wrong:.2f} % wrong, " if self.wrong else "") + f"distance {self.distance:.4g}"


@dataclass(frozen=True, eq=False)
class Judge:
    """The samples held out. inputs: (N·shape[0], …), in order; wanted: the teacher's answers; labels: (N, …) or None; wide,
    asked: inputs made from them (asked.py) and the teacher's answers to them, None where there are none; unlike: whether those
    are unlike the samples, on which the start may be near where it was fitted: then they alone tell whether most are nearer.

    The distance is then the geometric mean of both: what is won on one of them by losing as much on the other is nothing.
    """

    targets: tuple[Target, ...]
    inputs: Sequence[Array]
    wanted: tuple[Array, ...]
    labels: Array | None
    wide: Sequence[Array] | None = None
    asked: tuple[Array, ...] = ()
    unlike: bool = False

    def figure(self, graph: Graph, tensors: Sequence[int], start: Array | None = None) -> Figure:
        """That of an integer graph, measured on edgeq's engine; tensors: its own at the places of the targets; start: the start's
        `apart`."""
        unique = list(dict.fromkeys(tensors))
        model = answering(graph, tensors)
        with model:
            given = answers(model, self.inputs)
            woken = answers(model, self.wide) if self.wide is not None else None
        found = [given[unique.index(i)] for i in tensors]
        far = self._far(found, self.wanted)
        each = _each(self.targets, found, self.wanted)
        if woken is not None:
            found_wide = [woken[unique.index(i)] for i in tensors]
            far = float(np.sqrt(far * self._far(found_wide, self.asked)))
            wide = _each(self.targets, found_wide, self.asked)
            each = wide if self.unlike else np.concatenate([each, wide])
        nearer = 1.0 if start is None else float((each < start).mean())
        wrong = 0.0
        if self.labels is not None:
            if self.labels.dtype.kind in "iu":
                scores = found[0].reshape(-1, found[0].shape[-1])
                wrong = float((scores.argmax(axis=1) != self.labels.reshape(-1)).mean())
            else:
                wrong = distance(Target(0, 0.0), found[0], self.labels.reshape(found[0].shape))
        return Figure(wrong, far, nearer)

    def apart(self, graph: Graph, tensors: Sequence[int]) -> Array:
        """How far an integer graph's answers are from the teacher's, one by one, to what tells whether most are nearer."""
        unique = list(dict.fromkeys(tensors))
        pairs = [(self.inputs, self.wanted)] if self.wide is None or not self.unlike else []
        pairs += [(self.wide, self.asked)] if self.wide is not None else []
        each = []
        with answering(graph, tensors) as model:
            for inputs, wanted in pairs:
                given = answers(model, inputs)
                each.append(_each(self.targets, [given[unique.index(i)] for i in tensors], wanted))
        return np.concatenate(each)

    def _far(self, found: Sequence[Array], wanted: Sequence[Array]) -> float:
        return float(np.mean([distance(t, f, w) for t, f, w in zip(self.targets, found, wanted, strict=True)]))


def _each(targets: Sequence[Target], found: Sequence[Array], wanted: Sequence[Array]) -> Array:
    """The mean distance of each sample's answers; of all together, where outputs do not tell samples apart."""
    count = min((len(w) for w in wanted if w.ndim), default=1)
    if any(not w.ndim or len(w) % count for w in wanted):
        count = 1
    each = [distances(t, f, w, count) for t, f, w in zip(targets, found, wanted, strict=True)]
    mean: Array = np.mean(each, axis=0)
    return mean


def checked_labels(labels: Array, count: int, target: Target, shape: tuple[int, ...]) -> tuple[Array, Target]:
    """Labels as the loss takes them, and the target that they are of. Raises InputError for those that do not fit."""
    labels = np.asarray(labels)
    if len(labels) != count:
        raise InputError(f"expected one label per sample, found {len(labels)} labels and {count} samples")
    classes = shape[-1] if shape else 0
    if labels.dtype.kind in "iub" and labels.ndim == 1 and classes > 1 and int(np.prod(shape)) == classes * shape[0]:
        whole = labels.astype(np.int64)
        if whole.size and not (whole.min() >= 0 and whole.max() < classes):
            raise InputError(f"labels must be in [0, {classes - 1}], found [{whole.min()}, {whole.max()}]")
        return whole, Target(target.tensor, target.beta or 1.0)
    if labels.dtype.kind == "f" and labels.shape[1:] == shape[1:]:
        return labels.astype(np.float32), Target(target.tensor, 0.0)
    raise InputError(
        f"expected labels y that fit what the model gives, {shape}: classes (N,) or real numbers of its shape; found "
        f"{labels.dtype} {labels.shape}"
    )


def distribution(scores: Array, beta: float) -> tuple[Array, Array]:
    """A softmax of scores (…, classes), and its logarithm."""
    shifted = (scores - scores.max(axis=-1, keepdims=True)) * scores.dtype.type(beta)
    log_sum = np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return np.exp(shifted - log_sum), shifted - log_sum

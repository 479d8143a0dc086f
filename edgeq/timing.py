"""Timing runtimes beside each other: the same model, the same input, turn by turn.

A shared machine drifts by more than the differences that matter, so only times taken in the same round are compared, and
a round is short: each runtime in turn, some calls each.
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from edgeq.fallback import AnyModel

Array = npt.NDArray[Any]
Call = Callable[[], object]

ROUND = 0.02
"""Seconds that each runtime gets in a round, at least one call."""

MAX_CALLS = 1000
"""Calls of one runtime in a round."""

SEED = 0


@dataclass(frozen=True)
class Timing:
    """One runtime: seconds a call (median and quartiles over rounds), and its time over the baseline's."""

    name: str
    median: float
    low: float
    high: float
    ratio: float


def random_input(shape: tuple[int, ...], dtype: Any, rng: np.random.Generator) -> Array:
    """Uniform over an integer dtype's range, or over [0, 1) for floats."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return rng.random(shape).astype(kind)
    if kind.kind == "b":
        return rng.random(shape) < 0.5
    small = np.iinfo(kind) if kind.itemsize <= 2 else None  # wide integers are counts and indices: keep them valid
    return rng.integers(*((small.min, small.max) if small else (0, 1)), size=shape, dtype=kind, endpoint=True)


def inputs(model: AnyModel) -> dict[str, Array]:
    """Random input by name; an input that the model takes one value of holds that."""
    rng = np.random.default_rng(SEED)
    found = {port.name: random_input(port.shape, port.dtype, rng) for port in model.inputs}
    plan = getattr(model, "plan", None)
    for i, value in plan.required.items() if plan is not None else ():
        port = model.inputs[model.graph.inputs.index(i)]
        found[port.name] = value.reshape(port.shape)
    return found


def edgeq(model: AnyModel) -> Call:
    """One inference of an edgeq model on random input, through its public call."""
    found = inputs(model)
    given = found if len(found) > 1 else next(iter(found.values()))
    return lambda: model(given)


def alternate(calls: Mapping[str, Call], rounds: int, advance: Callable[[int], object]) -> dict[str, Array]:
    """Seconds a call of each runtime in each round: name → (rounds,) float64, the round's median.

    One untimed round comes first: it compiles, fills caches, and says how many calls fit into ROUND.
    """
    counts = {name: _calls_in_a_round(call) for name, call in calls.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    collecting = gc.isenabled()
    gc.disable()
    try:
        for done in range(rounds):
            # Forwards, then backwards: none always comes after the same neighbour.
            for name in list(calls)[:: 1 if done % 2 else -1]:
                times[name].append(_median(calls[name], counts[name]))
            advance(done + 1)
    finally:
        if collecting:
            gc.enable()
    return {name: np.array(values) for name, values in times.items()}


def _calls_in_a_round(call: Call) -> int:
    call()
    start = perf_counter()
    call()
    return max(1, min(MAX_CALLS, int(ROUND / max(perf_counter() - start, 1e-7))))


def _median(call: Call, count: int) -> float:
    taken = []
    for _ in range(count):
        start = perf_counter()
        call()
        taken.append(perf_counter() - start)
    return statistics.median(taken)


def summary(times: Mapping[str, Array], baseline: str) -> list[Timing]:
    """Each runtime's median, quartiles, and ratio to the baseline within rounds."""
    return [
        Timing(
            name,
            float(np.median(values)),
            float(np.quantile(values, 0.25)),
            float(np.quantile(values, 0.75)),
            float(np.median(values / times[baseline])),
        )
        for name, values in times.items()
    ]

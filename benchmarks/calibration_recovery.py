"""What calibration recovers of what a shift costs: see benchmarks/calibration.py, whose part `recovery` this is."""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
import numpy.typing as npt
from calibration_tasks import Shift, Task, picks

from edgeq.feed import feed, quantmod_of
from edgeq.graph import Graph
from edgeq.pieces import whole
from edgeq.quantize import guard, quantize, recalibrate
from edgeq.quantize.cells import drawn
from edgeq.quantize.compare import answers, judged
from edgeq.quantize.reconstruct import reconstruct
from edgeq.quantize.remainders import without
from edgeq.quantize.taught import taught

Array = npt.NDArray[Any]


def scores(graph: Graph, x: Array, coded: bool) -> Array:
    """What the softmax or the like of a float or an integer graph gets, as real numbers: (samples, values) float64."""
    targets = judged(reconstruct(graph) if coded else graph)
    transforms = [quantmod_of(graph.tensors[i]) if coded else None for i in targets]
    found = answers(graph, targets, list(feed(graph, x)))
    parts = [a if q is None else q.dequantize(a) for a, q in zip(found, transforms, strict=True)]
    return np.concatenate(parts, axis=1).astype(np.float64)


KNOWN = "remainders", "teacher", "nothing"
"""What the device knows of the float model: what rounding took off the weights, all of it, nothing."""


def recovery(found: list[Task], samples: int, known: str, draws: int) -> list[dict[str, Any]]:
    rows = []
    for task in found:
        for form, coded in forms(task, known).items():
            plain = scores(task.real, task.test, False)
            before = _noise(scores(coded, task.test, True), plain)
            for name, shift in task.shifts.items():
                row = {"task": task.name, "model": form, "shift": name, "before": before}
                rows.append(row | _recovered(task, coded, shift, before, samples, known, draws))
                print(".", end="", file=sys.stderr, flush=True)
    return rows


def forms(task: Task, known: str) -> dict[str, Graph]:
    """A task's model in integers, as `edgeq quantize` makes it and as published, with what is known of the float model."""
    found = {"edgeq's int8": quantize(task.real, task.local[:100]).graph}
    if task.published is not None:  # as `edgeq seal --teacher` seals it
        found["published int8"] = (known == KNOWN[0] and taught(task.published, task.real)) or task.published
    return {form: coded if known == KNOWN[0] else without(coded) for form, coded in found.items()}


def _recovered(
    task: Task, coded: Graph, shift: Shift, before: float, samples: int, known: str, draws: int
) -> dict[str, Any]:
    test = shift(task.test).astype(np.float32)
    wanted, found = scores(task.real, test, False), scores(coded, test, True)
    shifted = _noise(found, wanted)
    teacher = task.real if known == "teacher" else None
    start = time.perf_counter()
    made = [
        recalibrate(coded, shift(x).astype(np.float32), keep_io=False, teacher=teacher)
        for x in picks(task, samples, draws)
    ]
    seconds = (time.perf_counter() - start) / draws
    after = [scores(done.graph, test, True) for done in made]
    left = [_noise(a, wanted) for a in after]
    # The bound: everything known, the samples that judge among it, and nobody who says no.
    best = recalibrate(coded, test, keep_io=False, teacher=task.real)
    return {
        "known": known,
        "shifted": shifted,
        "open": _left_open(coded, test, wanted),
        "weights": _noise(scores(reconstruct(coded), test, False), wanted),
        "oracle": min(shifted, _noise(scores(best.graph, test, True), wanted)),
        "calibrated": left,
        "changed": [done.changed for done in made],
        "why": sorted({done.steps[-1] for done in made if not done.changed}),
        "ceiling": _right(wanted, task.labels),
        "right": _right(found, task.labels),
        "right_after": [_right(a, task.labels) for a in after],
        "seconds": seconds,
    }


def _left_open(coded: Graph, test: Array, wanted: Array) -> float:
    """What the codes leave open: how far the float models that round to them lie about their mean, per signal.

    Whoever knows the codes alone and answers whatever they please errs by that in the mean: nothing is closer to all of the
    models than their mean.
    """
    said = np.stack([scores(model.graph, test, False) for model in drawn(coded, whole(reconstruct(coded)))])
    return float(said.var(axis=0, ddof=1).sum() / (wanted**2).sum())


def _noise(found: Array, wanted: Array) -> float:
    return float(((found - wanted) ** 2).sum() / (wanted**2).sum())


def _right(found: Array, labels: Array | None) -> float | None:
    return None if labels is None else float((found.argmax(1) == labels).mean())


COLUMNS = (
    "task", "model", "shift", "noise before", "shifted", "weights' part", "codes leave open", "bound", "calibrated: median",
    "worst", "recovered: median", "bound", "half or more", "kept", "worse than shifted", "accuracy: float", "shifted",
    "calibrated", "seconds",
)  # fmt: skip

SAME = 1.001
"""Times the noise: less is none."""


def show_recovery(rows: list[dict[str, Any]]) -> bool:
    print(f"\n| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    worse, worst, all_draws, good = 0, 0.0, 0, True
    for r in rows:
        left, draws = np.array(r["calibrated"]), len(r["calibrated"])
        cost = r["shifted"] - r["before"]
        harmed = left > SAME * r["shifted"]
        worse, all_draws = worse + int(harmed.sum()), all_draws + draws
        worst = max(worst, float(left.max()) / r["shifted"] - 1)
        if cost > 0.1 * r["before"]:
            back = (r["shifted"] - left) / cost
            median, bound = float(np.median(back)), (r["shifted"] - r["oracle"]) / cost
            shares = [f"{100 * median:.0f} %", f"{100 * bound:.0f} %", f"{int((back >= 0.5).sum())} of {draws}"]
            half = 0.5 * (r["before"] + r["shifted"])
            good &= median >= 0.5 or bound < 0.5 or (r["known"] == "nothing" and r["open"] > half)
        else:
            shares = ["no cost", "", ""]
        right = [r["ceiling"], r["right"], None if r["ceiling"] is None else float(np.median(r["right_after"]))]
        cells = [r["task"], r["model"], r["shift"]]
        cells += [f"{100 * v:.3f} %" for v in (r["before"], r["shifted"], r["weights"], r["open"], r["oracle"])]
        cells += [f"{100 * v:.3f} %" for v in (float(np.median(left)), float(left.max()))]
        cells += [*shares, f"{sum(r['changed'])} of {draws}", f"{int(harmed.sum())} of {draws}"]
        cells += ["" if v is None else f"{v:.3f}" for v in right]
        print("| " + " | ".join([*cells, f"{r['seconds']:.1f}"]) + " |")
    print(f"\nnoisier than the shifted model: {worse} of {all_draws} draws, the worst by {100 * worst:+.1f} %")
    for r in rows:
        if not all(r["changed"]):
            print(f"{r['task']}, {r['model']}, {r['shift']}: {'; '.join(r['why'])}")
    return good and worse <= guard.LUCK * all_draws

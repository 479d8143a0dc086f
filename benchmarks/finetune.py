"""What fine-tuning recovers: float models damaged by a coarse recipe, retrained on unlabelled samples, judged on others.

    python benchmarks/finetune.py [TASK…] [--from RECIPE,RECIPE] [--epochs N] [--seeds N,N] [--labels] [--more] [--kept FOLDER]
                                   [--peer PYTHON] [--quick] [--json]

Tasks are those of benchmarks/accuracy.py, which has their data: calibration samples are what the recipe and the training see,
test samples and labels are seen by the metric alone. Every second test sample (the first, the third, …; of ToyCar: clip) was
looked at when constants were chosen; of the others theirs are the three figures behind "untouched". Recovered is
(tuned − damaged) / (float − damaged). Accuracy on some hundred samples is told by the few that are near ties; so each row has
how the test's answers differ from the float model's, too: the share with another first choice and the divergence Σ p·log(p/q) of
classifiers (codes of less than half a step taken for half of one), the noise per variance of the float model's answers of others.
Beside the recipes there are two damages: `naive-per-tensor` is int8 with one scale for all weights of a layer, ranges at the
extremes seen, and nothing that makes up for it; `peer-per-tensor` is what ai-edge-quantizer makes with one scale per tensor
(`--peer` names the Python of an environment that has it).
The exit status is 0 if every model that had lost a point or more has half of its loss
back, and none is worse than it was.

Two more rows tell what limits that: `--labels` learns from the calibration samples' labels as well, where there are any;
`--more` from the inputs of the half that was looked at, too, without their labels: what more samples give, on the untouched half.
Neither counts for the exit status.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
from accuracy import edgeq
from accuracy_tasks import MODELS, PRIVATE, TASKS
from peers import peer_model

from edgeq.finetune import Options, finetune
from edgeq.graph import Array, Graph
from edgeq.quantize import quantize
from edgeq.recipe import RECIPES, Recipe
from edgeq.tflite import read, write

NAIVE = Recipe(
    "naive-per-tensor", per_channel=False, ranges="minmax", equalize=False, rounding="nearest", bias_correction=False
)
PEER = "peer-per-tensor"
DAMAGES = (*RECIPES, NAIVE.name, PEER)
RECIPES_TRIED = ("codebook2", NAIVE.name)
SAMPLES, LABELS, MORE = "samples", "samples and labels", "more samples"
"""What is learned from."""

LABELLED = {"keywords": PRIVATE.parent / "kws_mfcc_calib_100.npz", "resnet8": PRIVATE / "cifar10_train_calib_256.npz"}
"""Where calibration samples have labels."""

MOST = 1000
"""Test inputs that more samples are, evenly spread."""

LOST = 0.01
"""Of a metric: less than this is noise, and no loss to recover."""


@dataclass(frozen=True)
class Result:
    """A row: the metric of the float, the damaged and the tuned model; the distances that learning saw; untouched: the three
    metrics on the half of the test that chose nothing; apart, flipped: how the damaged and the tuned model's answers to the test
    differ from the float model's."""

    task: str
    recipe: str
    learned_from: str
    metric: str
    samples: int
    float_: float
    damaged: float
    tuned: float
    distance_before: float
    distance_after: float
    epochs: int
    seconds: float
    untouched: tuple[float, float, float]
    seed: int
    apart: tuple[float, float]
    flipped: tuple[float, float] | None

    @property
    def recovered(self) -> float | None:
        """The share of the loss that came back, None where there was none to speak of."""
        lost = self.float_ - self.damaged
        return None if lost < LOST else (self.tuned - self.damaged) / lost

    @property
    def approached(self) -> float:
        """The share of the distance to the float model's answers to the test that is gone."""
        return 1 - self.apart[1] / self.apart[0]

    @property
    def good(self) -> bool:
        """Whether half came back, or nothing was made worse; rows that only tell what limits that are always good."""
        if self.learned_from != SAMPLES:
            return True
        return self.tuned >= self.damaged - LOST if self.recovered is None else self.recovered >= 0.5


def is_chance(answers: Array) -> bool:
    """Whether answers (n, k) are probabilities."""
    return answers.ndim == 2 and answers.min() >= 0 and abs(float(answers.sum(axis=1).mean()) - 1) < 0.02


def apart(found: Array, wanted: Array) -> float:
    """The mean divergence of probabilities, the noise per variance of other answers."""
    if is_chance(wanted):
        p, q = (np.maximum(a.astype(np.float64), 1 / 512) for a in (wanted, found))
        p, q = (a / a.sum(axis=1, keepdims=True) for a in (p, q))
        return float((p * np.log(p / q)).sum(axis=1).mean())
    return float(((found - wanted) ** 2).mean() / wanted.var(axis=0).mean())


def flipped(found: Array, wanted: Array) -> float:
    """The share of samples whose first choice is another."""
    return float((found.argmax(axis=1) != wanted.argmax(axis=1)).mean())


def damaged_by(kind: str, graph: Graph, samples: Array, peer: str) -> Graph:
    """The integer model that a recipe, or one of DAMAGES, makes. Raises ValueError with the peer's word where it makes none."""
    if kind != PEER:
        return quantize(graph, samples, {**RECIPES, NAIVE.name: NAIVE}[kind]).graph
    made = peer_model(peer, graph, samples, "MIN_MAX_UNIFORM_QUANT", "TENSORWISE")
    if isinstance(made, str):
        raise ValueError(made)
    return read(made)


def measure(
    name: str,
    kind: str,
    learnings: Sequence[Options],
    share: float,
    sources: Sequence[str],
    kept: Path | None,
    peer: str = "",
) -> Iterator[Result]:
    """A row for each of what is learned from, and each way to."""
    task = TASKS[name]
    model = (MODELS / task.model).read_bytes()
    graph, samples, (x, truth) = read(model), task.calibration(), task.test(share)
    run = edgeq("xnnpack")
    wanted = run(model, x)
    start = damaged_by(kind, graph, samples, peer)

    def scores(found: Array) -> tuple[float, float]:
        """On all of the test, and on its second half by turns."""
        n, half = (len(x), None) if truth is None else (len(truth), truth[1::2])
        f, w, i = (a.reshape(n, -1, *a.shape[1:])[1::2].reshape(-1, *a.shape[1:]) for a in (found, wanted, x))
        return task.metric(found, wanted, x, truth), task.metric(f, w, i, half)

    damaged = run(write(start), x)
    before, float_ = scores(damaged), scores(wanted)
    classes = is_chance(wanted)

    for source, options in ((s, o) for s in sources for o in learnings):
        begun = time.perf_counter()
        given, labels = samples, None
        if source == LABELS:
            if name not in LABELLED:
                continue
            with np.load(LABELLED[name]) as arrays:
                labels = arrays["y"].astype(np.int64)
        if source == MORE:
            n = len(x) if truth is None else len(truth)
            seen = x.reshape(n, -1, *x.shape[1:])[::2].reshape(-1, *x.shape[1:])
            some = seen[:: -(-len(seen) // MOST)].reshape(-1, *samples.shape[1:])
            given = np.concatenate([samples, some])
        saved = None if kept is None else kept / f"{name}-{kind}-{source.replace(' ', '-')}-{options.seed}"
        done = finetune(graph, given, start, labels=labels, options=options, saved=saved)
        tuned = run(write(done.graph), x)
        after = scores(tuned)
        yield Result(
            name, kind, source, task.metric_name, len(x), float_[0], before[0],
            after[0], done.history[0].distance, done.history[done.best].distance, done.epochs,
            time.perf_counter() - begun, (float_[1], before[1], after[1]), options.seed,
            (apart(damaged, wanted), apart(tuned, wanted)),
            (flipped(damaged, wanted), flipped(tuned, wanted)) if classes else None,
        )  # fmt: skip


def line(r: Result) -> str:
    """A row for people."""
    back = "no loss" if r.recovered is None else f"{100 * r.recovered:.0f} % recovered"
    other = " / ".join(f"{v:.4f}" for v in r.untouched)
    flips = "" if r.flipped is None else f"flipped {r.flipped[0]:.3f} to {r.flipped[1]:.3f}  "
    return (
        f"{r.task:18} {r.recipe:16} {r.learned_from:24} {r.metric:9} "
        f"float {r.float_:.4f}  damaged {r.damaged:.4f}  tuned {r.tuned:.4f}  {back:14}  "
        f"untouched {other}  apart {r.apart[0]:.3g} to {r.apart[1]:.3g} (−{100 * r.approached:.0f} %)  {flips}"
        f"seed {r.seed}: distance {r.distance_before:.3g} to {r.distance_after:.3g}  {r.epochs} epochs, {r.seconds:.0f} s"
        f"{'' if r.good else '  ← TOO LITTLE'}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"{', '.join(TASKS)}; all by default")
    parser.add_argument(
        "--from",
        dest="recipes",
        default=",".join(RECIPES_TRIED),
        help=f"of {', '.join(DAMAGES)}; by default %(default)s",
    )
    parser.add_argument(
        "--epochs", type=int, help="passes over the samples, by default as many as edgeq finetune takes"
    )
    parser.add_argument("--seeds", default="0", help="of order and variations, with commas between")
    parser.add_argument("--labels", action="store_true", help="also learn from labels")
    parser.add_argument("--more", action="store_true", help="also learn from inputs of half the test")
    parser.add_argument("--kept", type=Path, help="a folder for checkpoints: a run that was stopped goes on")
    parser.add_argument("--peer", metavar="PYTHON", help="the Python of an environment with ai-edge-quantizer")
    parser.add_argument("--quick", action="store_true", help="take a quarter of the test data")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args(arguments)
    kinds = options.recipes.split(",")
    if unknown := (set(options.tasks) - set(TASKS)) | (set(kinds) - set(DAMAGES)):
        parser.error(f"tasks are {', '.join(TASKS)}, recipes {', '.join(DAMAGES)}; got {', '.join(sorted(unknown))}")
    if PEER in kinds and not options.peer:
        parser.error(f"{PEER} needs --peer PYTHON")
    sources = [SAMPLES, *([LABELS] if options.labels else []), *([MORE] if options.more else [])]
    learnings = [Options(epochs=options.epochs, seed=int(seed)) for seed in options.seeds.split(",")]
    share = 0.25 if options.quick else 1.0
    results = []
    for name in options.tasks or TASKS:
        for kind in kinds:
            try:
                for row in measure(name, kind, learnings, share, sources, options.kept, options.peer or ""):
                    results.append(row)
                    if not options.json:
                        print(line(row), flush=True)
            except FileNotFoundError as error:
                print(f"{name}: left out, {error.filename} is not there", file=sys.stderr)
            except ValueError as error:
                print(f"{name}: left out, no {kind}: {error}", file=sys.stderr)
    if options.json:
        print(
            json.dumps(
                [{**asdict(r), "recovered": r.recovered, "approached": r.approached, "good": r.good} for r in results],
                indent=2,
            )
        )
    return 0 if all(r.good for r in results) else 1


if __name__ == "__main__":
    sys.exit(main())

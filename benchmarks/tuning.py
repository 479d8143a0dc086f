"""What tuning by a metric gains, and whether it keeps to its time and goes on where it stopped.

    python benchmarks/tuning.py [TASK…] [--recipe NAME] [--minutes M] [--json]

Labelled test samples of benchmarks/accuracy.py are cut into two: every second one is the validation split that the search looks
at, the others are the test split, which decides nothing. A row shows the float model, the recipe's model and the tuned one on
both, with the interval that holds 95 % of the gain's resamples. Then the search is done once more, cut short at a third of the
time that it took and taken up from its journal: the model has to be the same, bit for bit, where both came to their end. The exit
status is 0 if no row is worse on the test split than chance allows, none took more than a tenth longer than its time (or than one
quantization, the least that there is), and every search that went on gave the same model.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
from accuracy_tasks import MODELS, TASKS

from edgeq.graph import Array
from edgeq.quantize import quantize
from edgeq.recipe import RECIPES, recipe
from edgeq.tflite import read, write
from edgeq.tuning import tune
from edgeq.tuning.run import Split

METRICS = {"keywords": "accuracy", "resnet8": "accuracy", "toycar": "auc"}
"""The labelled tasks, and what each is tuned by; of ToyCar every window is a sample, with its clip's label."""

WINDOWS = 20
"""Of a ToyCar clip: every tenth or so."""


@dataclass(frozen=True)
class Row:
    """A task: its splits; seconds taken of those given, and of one quantization; tries; whether it came to its end;
    `same`: whether a search that was stopped and taken up gave the same model, None where one of the two was cut short."""

    task: str
    recipe: str
    metric: str
    validation: Split
    test: Split
    seconds: float
    given: float
    once: float
    tries: int
    finished: bool
    kept: int
    same: bool | None

    @property
    def good(self) -> bool:
        """Not worse than chance allows, in time, and resumable."""
        return (
            self.test.interval[1] >= 0 and self.seconds <= 1.1 * max(self.given, self.once) and self.same is not False
        )


def splits(name: str) -> tuple[dict[str, Array], dict[str, Array]]:
    """Validation and test."""
    x, y = TASKS[name].test(1.0)
    if len(x) != len(y):  # windows of clips, which stay together
        per = len(x) // len(y)
        at = np.linspace(0, per - 1, WINDOWS).round().astype(int)
        x, y = x.reshape(len(y), per, -1)[:, at], np.repeat(np.asarray(y, np.int64)[:, None], WINDOWS, axis=1)
        return tuple({"x": x[k::2].reshape(-1, x.shape[-1]), "y": y[k::2].reshape(-1)} for k in (0, 1))  # type: ignore[return-value]
    return tuple({"x": x[k::2], "y": np.asarray(y)[k::2]} for k in (0, 1))  # type: ignore[return-value]


def measure(name: str, kind: str, minutes: float) -> Row:
    """One row."""
    task, by = TASKS[name], METRICS[name]
    graph, samples = read((MODELS / task.model).read_bytes()), task.calibration()
    validation, test = splits(name)
    begun = time.perf_counter()
    quantize(graph, samples, recipe(kind))
    once = time.perf_counter() - begun
    begun = time.perf_counter()
    done = tune(graph, samples, validation, by, test=test, recipe=recipe(kind), minutes=minutes)
    seconds = time.perf_counter() - begun
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "journal"
        part = tune(graph, samples, validation, by, recipe=recipe(kind), minutes=seconds / 180, saved=saved)
        rest = tune(graph, samples, validation, by, recipe=recipe(kind), minutes=minutes, saved=saved)
    stopped = not part.finished and rest.finished and done.finished
    assert done.test is not None
    return Row(
        name, kind, by, done.validation, done.test, seconds, 60 * minutes, once, done.tries, done.finished, len(done.steps),
        write(rest.graph) == write(done.graph) if stopped else None,
    )  # fmt: skip


def line(r: Row) -> str:
    """A row for people."""

    def told(s: Split) -> str:
        low, high = s.interval
        return f"{s.float_:.4f}, {s.before:.4f} to {s.after:.4f} (gain {low:+.4f} … {high:+.4f}, {s.samples} samples)"

    same = {None: "not told", True: "the same model", False: "ANOTHER MODEL"}[r.same]
    return (
        f"{r.task} {r.recipe} by {r.metric}: {r.kept} changes kept of {r.tries} tries in {r.seconds:.0f} of {r.given:.0f} s"
        f"{'' if r.finished else ' (cut short)'}; stopped and taken up: {same}{'' if r.good else '  ← NOT GOOD'}\n"
        f"  validation  float {told(r.validation)}\n  test        float {told(r.test)}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"{', '.join(METRICS)}; all by default")
    parser.add_argument("--recipe", default="int8", help=f"of {', '.join(RECIPES)}")
    parser.add_argument("--minutes", type=float, default=5.0, help="for each search, by default %(default)s")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args(arguments)
    if unknown := set(options.tasks) - set(METRICS):
        parser.error(f"tasks are {', '.join(METRICS)}; got {', '.join(sorted(unknown))}")
    rows = []
    for name in options.tasks or METRICS:
        try:
            rows.append(measure(name, options.recipe, options.minutes))
        except FileNotFoundError as error:
            print(f"{name}: left out, {error.filename} is not there", file=sys.stderr)
            continue
        if not options.json:
            print(line(rows[-1]), flush=True)
    if options.json:
        print(json.dumps([{**asdict(r), "good": r.good} for r in rows], indent=2))
    return 0 if all(r.good for r in rows) else 1


if __name__ == "__main__":
    sys.exit(main())

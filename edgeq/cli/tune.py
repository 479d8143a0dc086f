"""`edgeq tune`: a quantized model tuned by the task's own metric."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeq.cli import figures, models, show
from edgeq.cli.models import Access

if TYPE_CHECKING:
    from edgeq.recipe import Recipe
    from edgeq.tuning.run import Split


@click.command()
@click.argument("model", metavar="FLOAT")
@click.option("-d", "--data", required=True, metavar="NPZ|NPY", help="Samples that calibrate, in x (or by input).")
@click.option("-v", "--validation", required=True, metavar="NPZ", help="Samples that decide, with labels in y.")
@click.option("-t", "--test", metavar="NPZ", help="Samples that decide nothing: the metric on them is reported.")
@click.option(
    "--by", default="accuracy", show_default=True, metavar="METRIC", help="accuracy, auc, mse or TASK.py:function."
)
@click.option("-o", "--output", required=True, metavar="OUT", help="Where the tuned .tflite goes.")
@click.option("--recipe", default="int8", show_default=True, help="Where the search starts.")
@click.option(
    "--minutes", type=click.FloatRange(0, min_open=True), default=10.0, show_default=True, help="Stop after this long."
)
@click.option("--journal", metavar="FILE", help="Where tries are kept meanwhile.  [default: OUT.journal]")
@models.access_options
def tune(
    model: str, data: str, validation: str, test: str | None, by: str, output: str, recipe: str, minutes: float,
    journal: str | None, access: Access,
) -> None:  # fmt: skip
    """Tune a quantized model by a metric.

    Tries range methods, single layers in int16, every range (C and d of an activation) and every layer's rounding offset, one
    change at a time, and keeps what helps on the validation samples beyond chance: in nearly all bootstrap resamples of
    them. TASK.py:function is called with (outputs, samples) and returns a number, the higher the better.

    The same command goes on where an earlier one ran out of time.
    """
    from edgeq.recipe import recipe as named

    search(model, data, validation, test, by, output, named(recipe), minutes, journal, access)


def search(
    model: str, data: str, validation: str, test: str | None, by: str, output: str, chosen: Recipe, minutes: float,
    journal: str | None, access: Access,
) -> None:  # fmt: skip
    """Tune, write the model, say what was found: for `edgeq tune` and `edgeq quantize --tune`."""
    from edgeq.files import check_place, write_atomic
    from edgeq.samples import arrays_of
    from edgeq.tflite import write
    from edgeq.tuning import tune as look

    check_place(output)
    samples, held = arrays_of(data), arrays_of(validation)
    apart = arrays_of(test) if test is not None else None
    graph = models.read_graph(model, access, "calibrate", "export")
    saved = journal or f"{output}.journal"
    with show.progress("tuning") as advance:
        done = look(
            graph, samples, held, by, test=apart, recipe=chosen, minutes=minutes, progress=advance, saved=saved
        )  # fmt: skip
    content = write(done.graph)
    write_atomic(output, content)
    if done.finished:
        Path(saved).unlink(missing_ok=True)
    columns = ["split", "samples", "float", chosen.name, "tuned", "gained, 95 % between"]
    rows = [_row("validation", done.validation)] + ([_row("test", done.test)] if done.test is not None else [])
    show.table(columns, rows, title=f"{done.metric}, the higher the better")
    show.result()
    show.facts(
        [
            ("model", output),
            ("size", figures.size(len(content))),
            ("tries", f"{done.tries} ({'all' if done.finished else 'time was up: the same command goes on'})"),
            *(
                ("" if k else "kept", step)
                for k, step in enumerate(done.steps or ("nothing: no change helps beyond chance",))
            ),
        ]
    )


def _row(name: str, split: Split) -> list[object]:
    low, high = split.interval
    return [
        name, split.samples, f"{split.float_:.6g}", f"{split.before:.6g}", f"{split.after:.6g}", f"{low:+.4g} and {high:+.4g}",
    ]  # fmt: skip

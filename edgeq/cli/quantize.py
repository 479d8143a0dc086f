"""`edgeq quantize`: an integer model from samples."""

from __future__ import annotations

from typing import Any

import click

from edgeq.cli import models, show
from edgeq.cli.made import finish
from edgeq.cli.models import Access


@click.command()
@click.argument("model", metavar="MODEL")
@click.option(
    "-d",
    "--data",
    required=True,
    metavar="DATA",
    help="Samples of what the model will see: NPZ (in x, or by input) or NPY, a folder of WAV, PNG, JPEG or NPY files, - for "
    "raw frames on standard input, FILE.py:function.",
)
@click.option("-o", "--output", required=True, metavar="OUT", help="Where the quantized .tflite goes.")
@click.option(
    "--recipe",
    default="int8",
    show_default=True,
    metavar="NAME|FILE.toml",
    help="What the quantized model is to be.",
)
@click.option(
    "--effort",
    type=click.Choice(["fast", "full"]),
    help="What is tried: little, or all there is (the recipe's default).",
)
@click.option(
    "--remainders/--no-remainders",
    default=True,
    help="Leave out what rounding took off the weights, 2 bits of each or some.",
)
@models.intake_options
@click.option("--sqnr", type=float, metavar="DB", help="Make layers finer until the outputs are that near to float.")
@click.option("--max-size", type=int, metavar="BYTES", help="Make layers finer only as far as the file stays within.")
@click.option("--tune", metavar="METRIC", help="Tune by accuracy, auc, mse or TASK.py:function, as edgeq tune does.")
@click.option("-v", "--validation", metavar="NPZ", help="With --tune: samples that decide, with labels in y.")
@click.option("-t", "--test", metavar="NPZ", help="With --tune: samples that decide nothing, for the report.")
@click.option(
    "--minutes", type=click.FloatRange(0, min_open=True), default=10.0, help="With --tune: stop after this long."
)
@models.access_options
def quantize(
    model: str, data: str, output: str, recipe: str, effort: str | None, remainders: bool, source: Any, sqnr: float | None,
    max_size: int | None, tune: str | None, validation: str | None, test: str | None, minutes: float, access: Access,
) -> None:  # fmt: skip
    """Quantize a float model with samples.

    \b
    int8             weights with a scale per channel, activations by the ranges that they take on the samples
    int16x8          activations in int16
    int8-per-tensor  one scale for all weights of a layer, for accelerators that want that
    dynamic          weights in int8, activations quantized at run time
    weights          weights stored in int8, computed with in float
    codebook4, 3, 2  int8 with 16, 8 or 4 different weights to a channel: a small sealed bundle
    mixed            int8, and int16 where that is needed for 40 dB at the outputs

    The result is a plain .tflite that any TFLite runtime loads, so a bundle must be granted for calibrate and export. In its
    metadata, which runtimes do not look at, an int8 or int16x8 model has the remainders of its weights: what calibration on a
    device (edgeq calibrate) leans on in place of the float model. --no-remainders makes it smaller by a fifth or a quarter.
    """
    from dataclasses import replace

    from edgeq.files import check_place
    from edgeq.intake import take
    from edgeq.quantize import quantize as make
    from edgeq.quantize.prepare import foreseen
    from edgeq.recipe import recipe as named
    from edgeq.trim import one_arena

    one_arena()
    chosen = named(recipe)
    if sqnr is not None or max_size is not None:
        chosen = replace(
            chosen, sqnr=chosen.sqnr if sqnr is None else sqnr, size=chosen.size if max_size is None else max_size
        )
    if effort is not None:
        chosen = replace(chosen, effort=effort)
    if not remainders:
        chosen = replace(chosen, remainders=0)
    if tune is not None:
        from edgeq.cli.tune import search

        if validation is None:
            raise click.UsageError("--tune needs samples to decide by: -v VALIDATION.npz")
        search(model, data, validation, test, tune, output, chosen, minutes, None, access)
        return
    check_place(output)
    graph = models.exported_graph(model, access)
    samples = take(data, graph, **source).samples
    for line in foreseen(graph, chosen):
        show.note(line)
    with show.progress("calibrating") as advance:
        done = make(graph, samples, chosen, advance)
    finish(done, output)

"""`edgeq quantize`: an integer model from samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from edgeq.cli import figures, models, show
from edgeq.cli.models import Access
from edgeq.errors import GrantOperationError

if TYPE_CHECKING:
    from edgeq.graph import Graph
    from edgeq.quantize import Layer, Quantized


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
    "--span", nargs=2, type=float, metavar="LOW HIGH", help="Map images' 0 to 255, or sound's −1 to 1, to that."
)
@click.option("--preprocess", metavar="FILE.py:f", help="What makes the model's input of a sample.")
@click.option("--raw", metavar="DTYPE", help="Of frames on standard input; by default the model's own.")
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
    model: str, data: str, output: str, recipe: str, effort: str | None, span: tuple[float, float] | None,
    preprocess: str | None, raw: str | None, sqnr: float | None, max_size: int | None, tune: str | None,
    validation: str | None, test: str | None, minutes: float, access: Access,
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

    The result is a plain .tflite that any TFLite runtime loads, so a bundle must be granted for calibrate and export.
    """
    from dataclasses import replace

    from edgeq.intake import take
    from edgeq.quantize import quantize as make
    from edgeq.quantize.run import foreseen
    from edgeq.recipe import recipe as named

    chosen = named(recipe)
    if sqnr is not None or max_size is not None:
        chosen = replace(
            chosen, sqnr=chosen.sqnr if sqnr is None else sqnr, size=chosen.size if max_size is None else max_size
        )
    if effort is not None:
        chosen = replace(chosen, effort=effort)
    if tune is not None:
        from edgeq.cli.tune import search

        if validation is None:
            raise click.UsageError("--tune needs samples to decide by: -v VALIDATION.npz")
        search(model, data, validation, test, tune, output, chosen, minutes, None, access)
        return
    graph = _graph(model, access)
    samples = take(data, graph, span=span or None, preprocess=preprocess, raw=raw).samples
    for line in foreseen(graph, chosen):
        show.note(line)
    with show.progress("calibrating") as advance:
        done = make(graph, samples, chosen, advance)
    finish(done, output)


def _graph(model: str, access: Access) -> Graph:
    try:
        return models.read_graph(model, access, "calibrate", "export")
    except GrantOperationError as error:
        raise GrantOperationError(
            f"{error}; the result is a plain .tflite file, so the bundle must be granted for calibrate and export"
        ) from None


def finish(done: Quantized, output: str) -> None:
    """Write the model, then say what was done."""
    from edgeq.files import write_atomic
    from edgeq.tflite import write

    write_atomic(output, write(done.graph))
    columns = ["#", "operation", "output", "runs in", "scale", "zero point", "SQNR dB", "weights SQNR dB"]
    known = len(columns) - all(layer.weights_sqnr is None for layer in done.layers)  # calibration leaves weights alone
    show.table(columns[:known], [row[:known] for row in rows(done.layers)])
    show.result()
    show.facts(
        [
            ("model", output),
            ("samples", done.samples),
            ("size", f"{figures.size(done.bytes_before)} to {figures.size(done.bytes_after)}"),
            ("output SQNR", f"{done.sqnr:.1f} dB"),
            *(("" if n else "steps", step) for n, step in enumerate(done.steps)),
        ]
    )


def rows(layers: Sequence[Layer]) -> list[list[object]]:
    """The cells of the table of operations."""
    return [
        [
            layer.index,
            layer.code,
            figures.shape(layer.shape),
            "integers" if layer.integer else "floats",
            "" if layer.scale is None else f"{layer.scale:.6g}",
            "" if layer.zero_point is None else layer.zero_point,
            _decibels(layer.sqnr),
            _decibels(layer.weights_sqnr),
        ]
        for layer in layers
    ]


def _decibels(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"

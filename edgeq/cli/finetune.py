"""`edgeq finetune`: an integer model learns to answer as its float model does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeq.cli import figures, models, show
from edgeq.cli.models import Access
from edgeq.errors import InputError

if TYPE_CHECKING:
    from edgeq.finetune import Finetuned
    from edgeq.graph import Graph
    from edgeq.samples import Array


@click.command()
@click.argument("model", metavar="FLOAT")
@click.option("-d", "--data", required=True, metavar="NPZ|NPY", help="Samples to learn from, in x (or by input).")
@click.option("-o", "--output", required=True, metavar="OUT", help="Where the .tflite goes.")
@click.option("-y", "--labels", "labelled", is_flag=True, help="Learn from the labels in y, too.")
@click.option(
    "--from",
    "start",
    default="int8",
    show_default=True,
    metavar="RECIPE|MODEL",
    help="What learns: a recipe that quantizes FLOAT, or a .tflite that is quantized already.",
)
@click.option("-v", "--validation", metavar="NPZ|NPY", help="Samples to judge by, in place of every fourth of --data.")
@click.option("--epochs", type=click.IntRange(1), help="Passes over the samples.  [default: by the model's size]")
@click.option("--minutes", type=click.FloatRange(0, min_open=True), help="Stop after this long, with the best so far.")
@click.option("--batch", type=click.IntRange(1), help="Samples a step.  [default: 32]")
@click.option(
    "--rate", type=click.FloatRange(0, min_open=True), default=1.0, show_default=True, help="Times the usual rates."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the order of the samples.")
@click.option("--checkpoint", metavar="FILE", help="Where the run is kept while it goes on.  [default: OUT.checkpoint]")
@models.access_options
def finetune(
    model: str, data: str, output: str, labelled: bool, start: str, validation: str | None, epochs: int | None,
    minutes: float | None, batch: int | None, rate: float, seed: int, checkpoint: str | None, access: Access,
) -> None:  # fmt: skip
    """Fine-tune a quantized model, with its float model as the teacher.

    Weights, biases and the steps of weights and activations are learned, read as their codes in every pass (quantization-
    aware training). No labels are needed. Samples held out, every fourth, judge each epoch on edgeq's integer engine; the
    best is written, and the start if nothing was better. A model whose weights have few levels (codebook recipes) keeps
    them few.

    Ctrl-C writes the best so far; the same command later goes on from there.
    """
    from edgeq.files import check_place, write_atomic
    from edgeq.finetune import Options
    from edgeq.finetune import finetune as learn
    from edgeq.samples import arrays_of
    from edgeq.tflite import write

    check_place(output)
    graph = models.read_graph(model, access, "calibrate", "export")
    samples = arrays_of(data)
    held = arrays_of(validation) if validation is not None else None
    options = Options(epochs, minutes, batch, seed, rate)
    begun = _start(graph, start, samples, access)
    saved = checkpoint or f"{output}.checkpoint"
    with show.progress("fine-tuning") as advance:
        done = learn(
            graph, samples, begun,
            labels=_labels(samples, data) if labelled else None,
            validation=None if held is None else (held, _labels(held, validation) if labelled else None),
            options=options, progress=advance, saved=saved,
        )  # fmt: skip
    content = write(done.graph)
    write_atomic(output, content)
    if done.finished:
        Path(saved).unlink(missing_ok=True)
    _say(done, output, len(content))
    if done.interrupted:
        raise KeyboardInterrupt


def _start(graph: Graph, start: str, samples: Mapping[str, Array], access: Access) -> Graph:
    """The quantized model that learns."""
    from edgeq.recipe import RECIPES, recipe

    if start in RECIPES or (not Path(start).exists() and Path(start).suffix not in (".tflite", ".eqb")):
        from edgeq.quantize import quantize

        chosen = recipe(start)
        with show.progress("quantizing") as advance:
            return quantize(graph, samples, chosen, advance).graph
    return models.read_graph(start, access, "calibrate", "export")


def _labels(samples: Mapping[str, Array], path: str | None) -> Array:
    if "y" not in samples:
        raise InputError(f"{path}: expected labels in 'y', found {', '.join(map(repr, samples))}")
    return samples["y"]


def _say(done: Finetuned, output: str, size: int) -> None:
    first, best = done.history[0], done.history[done.best]
    ended = "all epochs" if done.finished else "interrupted" if done.interrupted else "time was up"
    show.facts(
        [
            ("model", output),
            ("size", figures.size(size)),
            ("samples", f"{done.learned} learned from, {done.held} held out"),
            ("epochs", f"{done.epochs} ({ended})"),
            ("before", first),
            ("after", best if done.changed else f"{first}: nothing better was found, the model is as it was"),
            *([("best figure", f"{done.best} of {len(done.history) - 1}")] if done.changed else []),
            *([("codebooks", f"{done.codebooks} layers keep their number of levels")] if done.codebooks else []),
        ]
    )

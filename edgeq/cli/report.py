"""`edgeq report`: a page about what quantization did to a model."""

from __future__ import annotations

import json
from pathlib import Path

import click

from edgeq.cli import figures, models, show
from edgeq.cli.models import Access


@click.command()
@click.argument("real", metavar="FLOAT")
@click.argument("coded", metavar="INT")
@click.option(
    "-d", "--data", required=True, metavar="NPZ|NPY", help="Samples in x (or by input), labels in y if there are any."
)
@click.option("-o", "--output", required=True, metavar="OUT.html", help="Where the page goes.")
@click.option("--json", "as_json", is_flag=True, help="Write the figures beside it, too, as OUT.json.")
@models.access_options
def report(real: str, coded: str, data: str, output: str, as_json: bool, access: Access) -> None:
    """Write a page about an integer model beside its float model.

    Accuracy (with labels), agreement, noise of every layer and how it grows, ranges over histograms, what each layer
    alone costs, size, time of every operation, and the samples on which the two disagree most. One file that needs no
    network, in light or dark as the reader's system is.

    Tensors inside a bundle are looked at, so it must be granted for load and debug.
    """
    from edgeq import __version__
    from edgeq.files import check_place, write_atomic
    from edgeq.report import document, measure, page
    from edgeq.samples import arrays_of

    check_place(output)
    samples = arrays_of(data)
    floats, ints = (models.read_graph(path, access, "load", "debug") for path in (real, coded))
    with show.progress("comparing") as advance:
        found = measure(floats, ints, samples, samples.get("y"), (Path(real).name, Path(coded).name), advance)
    write_atomic(output, page(found, __version__).encode())
    beside = str(Path(output).with_suffix(".json"))
    if as_json:
        write_atomic(beside, (json.dumps(show.finite(document(found)), indent=2) + "\n").encode())
    named = [
        (name, "–" if b is None else f"{b:.4g}" + ("" if a is None else f" (float {a:.4g})"))
        for name, (a, b) in found.figures.items()
    ]
    show.facts(
        [
            ("page", output),
            *([("figures", beside)] if as_json else []),
            ("samples", found.samples),
            *named,
            ("output SQNR", f"{found.output_sqnr:.1f} dB"),
            ("size", f"{figures.size(found.bytes_float)} to {figures.size(found.bytes_int)}"),
        ]
    )

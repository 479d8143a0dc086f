"""`edgeq run`: samples in, outputs out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgeq.cli import models, show
from edgeq.cli.models import Access

if TYPE_CHECKING:
    from edgeq.samples import Array


@click.command()
@click.argument("model", metavar="MODEL")
@click.option("-i", "--input", "source", required=True, metavar="IN.npz", help="Samples: x, or one array per input.")
@click.option("-o", "--output", required=True, metavar="OUT.npz", help="Where the outputs go, by their names.")
@click.option("--dequantize", is_flag=True, help="Write real numbers instead of the model's integers.")
@models.engine_options
@models.backend_option
@models.access_options
def run(
    model: str, source: str, output: str, dequantize: bool, rounding: str, threads: int, backend: str, access: Access
) -> None:
    """Run a model on every sample of an NPZ file.

    Floats given to an integer input are quantized by its parameters; arrays of its own dtype pass unchanged.
    """
    import numpy as np

    from edgeq.samples import Samples, inputs_for, write_npz

    samples = Samples(source)
    with models.open_model(model, access, rounding, threads, backend) as engine:
        inputs = inputs_for(engine.inputs, samples)
        models.reshaped(inputs, samples)
        total = len(next(iter(inputs.values())))
        found: dict[str, list[Array]] = {port.name: [] for port in engine.outputs}
        with show.progress("running", total) as advance:
            for piece in models.predictions(engine, inputs, models.chunk(engine, inputs)):
                for port in engine.outputs:
                    values = piece[port.name]
                    found[port.name].append(
                        port.quantmod.dequantize(values) if dequantize and port.quantmod is not None else values
                    )
                advance(sum(map(len, found[engine.outputs[0].name])))
    write_npz(output, {name: np.concatenate(pieces) for name, pieces in found.items()})
    show.note(f"{total} samples through {model}: {', '.join(found)} in {output}")

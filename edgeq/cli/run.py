"""`edgeq run`: samples in, outputs out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgeq.cli import models, show
from edgeq.cli.models import Access

if TYPE_CHECKING:
    from edgeq.fallback import AnyModel
    from edgeq.samples import Array

LOOKS = 512
"""With --drift, at least that many samples are looked at where there are as many."""


@click.command()
@click.argument("model", metavar="MODEL")
@click.option(
    "-i", "--input", "source", required=True, metavar="IN.npz|IN.npy", help="Samples: x, or one array per input."
)
@click.option("-o", "--output", required=True, metavar="OUT.npz", help="Where the outputs go, by their names.")
@click.option("--dequantize", is_flag=True, help="Write real numbers instead of the model's integers.")
@click.option("--drift", is_flag=True, help="Say whether the samples look like those that it was calibrated on.")
@models.engine_options
@models.backend_option
@models.access_options
def run(
    model: str,
    source: str,
    output: str,
    dequantize: bool,
    drift: bool,
    rounding: str,
    threads: int,
    backend: str,
    access: Access,
) -> None:
    """Run a model on every sample of an NPZ or NPY file.

    Floats given to an integer input are quantized by its parameters; arrays of its own dtype pass unchanged.
    """
    import numpy as np

    from edgeq.samples import arrays_of, inputs_for, write_npz

    samples = arrays_of(source)
    every = max(1, len(samples["x"] if "x" in samples else next(iter(samples.values()))) // LOOKS) if drift else None
    with models.open_model(model, access, rounding, threads, backend, drift=drift, drift_every=every) as engine:
        inputs = inputs_for(engine.inputs, samples)
        models.reshaped(inputs, samples)
        total = len(next(iter(inputs.values())))
        found: dict[str, list[Array]] = {port.name: [] for port in engine.outputs}
        with show.progress("running", total) as advance:
            at_once = models.batch(engine) if drift else models.chunk(engine, inputs)  # each sample may be looked at
            for piece in models.predictions(engine, inputs, at_once):
                for port in engine.outputs:
                    values = piece[port.name]
                    found[port.name].append(
                        port.quantmod.dequantize(values) if dequantize and port.quantmod is not None else values
                    )
                advance(sum(map(len, found[engine.outputs[0].name])))
        if drift:
            _say(engine)
    write_npz(output, {name: np.concatenate(pieces) for name, pieces in found.items()})
    show.note(f"{total} samples through {model}: {', '.join(found)} in {output}")


def _say(engine: AnyModel) -> None:
    from edgeq.drift import WatchedModel

    if isinstance(engine, WatchedModel):
        show.drift(engine.drift())

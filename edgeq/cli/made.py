"""A quantized model is written, and what was done is said: by `edgeq quantize` and `edgeq calibrate`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgeq.cli import figures, show

if TYPE_CHECKING:
    from edgeq.graph import Graph
    from edgeq.quantize import Layer, Quantized


_KINDS = {
    "": "floats",
    "weights": "floats, weights dequantized",
    "dynamic": "hybrid",
    "convolution": "hybrid, as CONV_2D",
}
"""What an operation that runs in no integers runs in, by how its weights are stored."""


def finish(done: Quantized, output: str) -> None:
    """Write the model, then say what was done."""
    from edgeq.files import write_atomic
    from edgeq.tflite import write

    content = write(done.graph)
    write_atomic(output, content)
    columns = [
        "#",
        "operation",
        "output",
        "runs in",
        "scale",
        "zero point",
        "SQNR dB",
        "weights SQNR dB",
        "hybrid alone dB",
    ]
    known = len(columns) - all(layer.hybrid_sqnr is None for layer in done.layers)  # nobody asked
    if known < len(columns):
        known -= all(layer.weights_sqnr is None for layer in done.layers)  # calibration leaves weights alone
    show.table(columns[:known], [row[:known] for row in rows(done.layers)])
    show.result()
    show.facts(
        [
            ("model", output),
            ("samples", done.samples),
            ("size", f"{figures.size(done.bytes_before)} to {figures.size(len(content))}{_remembered(done.graph)}"),
            ("output SQNR", f"{done.sqnr:.1f} dB"),
            *(("" if n else "steps", step) for n, step in enumerate(done.steps)),
        ]
    )


def _remembered(graph: Graph) -> str:
    """How much of the file is for calibration alone."""
    from edgeq.quantize.remainders import size

    return f", {figures.size(known)} of it remainders" if (known := size(graph)) else ""


def rows(layers: Sequence[Layer]) -> list[list[object]]:
    """The cells of the table of operations."""
    return [
        [
            layer.index,
            layer.code,
            figures.shape(layer.shape),
            "integers" if layer.integer else _KINDS[layer.stored],
            "" if layer.scale is None else f"{layer.scale:.6g}",
            "" if layer.zero_point is None else layer.zero_point,
            _decibels(layer.sqnr),
            _decibels(layer.weights_sqnr),
            _decibels(layer.hybrid_sqnr),
        ]
        for layer in layers
    ]


def _decibels(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"

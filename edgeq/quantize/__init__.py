"""Quantize a float model, or tune one that is quantized: `quantize` and `recalibrate`.

Each step is a function from values to a new value: canonical (Graph → Graph), layout (what runs in integers),
parameters (Ranges → scales), rewrite (→ integer Graph), bias (Graph → Graph), compare (how good it is). A step that
does not lower the error at the outputs on calibration samples is not kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeq.quantize.report import Layer, Quantized
    from edgeq.quantize.retune import Recalibrated, recalibrate
    from edgeq.quantize.run import quantize

__all__ = ["Layer", "Quantized", "Recalibrated", "quantize", "recalibrate"]


def __getattr__(name: str) -> Any:
    """Each at its first use: a device recalibrates and has no use for the rest, and who quantizes none for what tunes."""
    if name not in __all__:
        raise AttributeError(f"module 'edgeq.quantize' has no attribute {name!r}")
    if name == "quantize":
        from importlib import import_module

        from edgeq import bytecode

        value = bytecode.begin(lambda: import_module("edgeq.quantize.run").quantize)
    elif name in ("Recalibrated", "recalibrate"):
        from edgeq.quantize import retune

        value = getattr(retune, name)
    else:
        from edgeq.quantize import report

        value = getattr(report, name)
    globals()[name] = value
    return value

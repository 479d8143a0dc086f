"""Quantize a float model, or tune one that is quantized: `quantize` and `recalibrate`.

Each step is a function from values to a new value: canonical (Graph → Graph), layout (what runs in integers),
parameters (Ranges → scales), rewrite (→ integer Graph), bias (Graph → Graph), compare (how good it is). A step that
does not lower the error at the outputs on calibration samples is not kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgeq.quantize.recalibrate import Recalibrated, recalibrate
from edgeq.quantize.report import Layer, Quantized

if TYPE_CHECKING:
    from edgeq.quantize.run import quantize

__all__ = ["Layer", "Quantized", "Recalibrated", "quantize", "recalibrate"]


def __getattr__(name: str) -> Any:
    """`quantize` at its first use: a device recalibrates and has no use for the rest."""
    if name != "quantize":
        raise AttributeError(f"module 'edgeq.quantize' has no attribute {name!r}")
    from importlib import import_module

    return import_module("edgeq.quantize.run").quantize

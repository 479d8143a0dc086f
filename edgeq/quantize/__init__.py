"""Quantize a float model, or tune one that is quantized: `quantize` and `recalibrate`.

Each step is a function from values to a new value: canonical (Graph → Graph), layout (what runs in integers),
parameters (Ranges → scales), rewrite (→ integer Graph), bias (Graph → Graph), compare (how good it is). A step that
does not lower the error at the outputs on calibration samples is not kept.
"""

from __future__ import annotations

from edgeq.quantize.recalibrate import Recalibrated, recalibrate
from edgeq.quantize.report import Layer, Quantized
from edgeq.quantize.run import quantize

__all__ = ["Layer", "Quantized", "Recalibrated", "quantize", "recalibrate"]

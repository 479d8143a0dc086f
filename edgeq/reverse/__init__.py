"""Reverse mode for float graphs, in NumPy: the values of a batch of inferences and their gradients.

One function per operation takes a `Node` and gives its outputs and a function from the outputs' gradients to the
inputs' (products, pools, pointwise, moves). `Tape` strings them together. It is for training, so sums are BLAS's and in
no runtime's order: what a model answers is measured on edgeq's engine and never here.
"""

from __future__ import annotations

from edgeq.reverse.rules import RULES
from edgeq.reverse.tape import Tape, batchable, lacking

__all__ = ["RULES", "Tape", "batchable", "lacking"]

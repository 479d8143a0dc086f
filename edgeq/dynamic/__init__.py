"""Models whose shapes depend on values: planned and run piece by piece, each piece when the values before it are there.

`evaluate` walks the operations and keeps the plans of pieces that it has made, by the shapes and values that they were made
for; `host` computes what has no shape before it runs, with NumPy; `model` is what a user calls.
"""

from __future__ import annotations

from edgeq.dynamic.evaluate import Evaluator
from edgeq.dynamic.model import DynamicModel, build, is_dynamic

__all__ = ["DynamicModel", "Evaluator", "build", "is_dynamic"]

"""What shapes a model's tensors take when its inputs are given others: `resize(graph, {input: shape}) -> Graph`.

`infer` walks the operations in order; `rules` holds a function per operation, from its inputs' shapes to its outputs';
`values` computes the small tensors that hold shapes themselves, so that what the runtimes find out while they run (a
RESHAPE to what SHAPE, STRIDED_SLICE and PACK made of the batch) is known before anything runs.
"""

from __future__ import annotations

from edgeq.shapes.infer import by_index, resize

__all__ = ["by_index", "resize"]

"""One file per family of operations: each checks an operation completely and emits its instructions."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edgeq.graph import Op
from edgeq.plan.builder import Builder
from edgeq.plan.lower import (
    conv,
    depthwise,
    elementwise,
    gather,
    join,
    move,
    order,
    pool,
    reduce,
    rescale,
    resize,
    slices,
    softmax,
    unary,
)

Lowering = Callable[[Builder, Op], None]

MODULES = (
    conv, depthwise, elementwise, gather, join, move, order, pool, reduce, rescale, resize, slices, softmax, unary,
)  # fmt: skip

LOWERINGS: Mapping[str, Lowering] = {
    name: lowering for module in MODULES for name, lowering in module.LOWERINGS.items()
}

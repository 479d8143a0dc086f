"""One file per family of operations: each checks an operation completely and emits its instructions."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edgeq.customs import registered
from edgeq.graph import Op
from edgeq.plan.builder import Builder
from edgeq.plan.lower import (
    conv,
    custom,
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
    conv, custom, depthwise, elementwise, gather, join, move, order, pool, reduce, rescale, resize, slices, softmax, unary,
)  # fmt: skip

LOWERINGS: Mapping[str, Lowering] = {
    name: lowering for module in MODULES for name, lowering in module.LOWERINGS.items()
}


def has_lowering(op: Op) -> bool:
    """Whether there is a lowering for this operation, by its own name where it is a custom one."""
    if op.code == "CUSTOM":
        return op.custom_code in custom.OWN or registered(op) is not None
    return op.code in LOWERINGS

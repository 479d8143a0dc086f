"""One file per family of operations: each checks an operation completely and emits its instructions."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edgeq.customs import registered
from edgeq.graph import Op
from edgeq.plan.builder import Builder
from edgeq.plan.lower import (
    control,
    conv,
    custom,
    depthwise,
    detection,
    elementwise,
    gather,
    join,
    matmul,
    move,
    order,
    pick,
    pool,
    recurrent,
    reduce,
    rescale,
    resize,
    rows,
    slices,
    softmax,
    unary,
    variables,
)

Lowering = Callable[[Builder, Op], None]

MODULES = (
    control, conv, custom, depthwise, detection, elementwise, gather, join, matmul, move, order, pick, pool, recurrent, reduce,
    rescale, resize, rows, slices, softmax, unary, variables,
)  # fmt: skip

LOWERINGS: Mapping[str, Lowering] = {
    name: lowering for module in MODULES for name, lowering in module.LOWERINGS.items()
}


def has_lowering(op: Op) -> bool:
    """Whether there is a lowering for this operation, by its own name where it is a custom one."""
    if op.code == "CUSTOM":
        return op.custom_code in custom.OWN or registered(op) is not None
    return op.code in LOWERINGS

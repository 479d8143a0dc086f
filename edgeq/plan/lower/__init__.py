"""One file per family of operations: each checks an operation completely and emits its instructions."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edgeq.graph import Op
from edgeq.plan.builder import Builder
from edgeq.plan.lower import conv, depthwise, elementwise, move, pool, reduce, rescale, softmax, unary

Lowering = Callable[[Builder, Op], None]

LOWERINGS: Mapping[str, Lowering] = {
    name: lowering
    for module in (conv, depthwise, elementwise, move, pool, reduce, rescale, softmax, unary)
    for name, lowering in module.LOWERINGS.items()
}

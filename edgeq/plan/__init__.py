"""A plan: a checked graph as a table of instructions, a blob of packed constants and an arena with every offset fixed.

`make_plan` is the door. Lowering proves every access: each operation derives its output's shape itself and refuses a file that
says otherwise, so that the machine, which checks nothing, cannot leave its buffers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeq.plan.build import make_plan
    from edgeq.plan.types import Instruction, Plan, Ref

__all__ = ["Instruction", "Plan", "Ref", "make_plan"]


def __getattr__(name: str) -> Any:
    if name == "make_plan":  # on first use: who has a plan already does not make one
        from edgeq.plan.build import make_plan

        return make_plan
    if name in __all__:
        from edgeq.plan import types

        return getattr(types, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

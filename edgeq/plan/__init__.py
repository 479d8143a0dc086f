"""A plan: a checked graph as a table of instructions, a blob of packed constants and an arena with every offset fixed.

`make_plan` is the door. Lowering proves every access: each operation derives its output's shape itself and refuses a file that
says otherwise, so that the machine, which checks nothing, cannot leave its buffers.
"""

from edgeq.plan import build
from edgeq.plan.bounded import bounded
from edgeq.plan.types import Instruction, Plan, Ref

make_plan = bounded(build.make_plan)

__all__ = ["Instruction", "Plan", "Ref", "make_plan"]

"""A plan: a checked graph as a table of instructions, a blob of packed constants and an arena with every offset fixed.

`make_plan` is the door. Lowering proves every access: each operation derives its output's shape itself and refuses a file that
says otherwise, so that the machine, which checks nothing, cannot leave its buffers.
"""

from edgeq.plan.build import make_plan
from edgeq.plan.types import Instruction, Plan, Ref

__all__ = ["Instruction", "Plan", "Ref", "make_plan"]

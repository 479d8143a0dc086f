"""All that edgeq lacks for a model, not only the first thing: what `edgeq lint` shows and refusals quote."""

from __future__ import annotations

from edgeq.errors import CheckError, DataDependentError, UnsupportedError
from edgeq.graph import Graph, Op
from edgeq.kernels.isa import Isa
from edgeq.plan.bounded import bounded
from edgeq.plan.build import lower
from edgeq.plan.builder import Builder, nbytes
from edgeq.plan.lower import has_lowering
from edgeq.plan.types import Rounding
from edgeq.records import dataclass

NO_OPERATION = -1


@dataclass(frozen=True)
class Finding:
    """Something that edgeq does not run: which operation (its place in the main subgraph, or NO_OPERATION), why, what helps."""

    index: int
    operation: str
    reason: str
    remedy: str

    def __str__(self) -> str:
        place = self.operation if self.index == NO_OPERATION else f"operation {self.index} ({self.operation})"
        return f"{place}: {self.reason}"


@bounded
def survey(graph: Graph, isa: Isa, rounding: str | Rounding = Rounding.XNNPACK) -> tuple[Finding, ...]:
    """Every operation, type or option of a checked graph that edgeq does not run, in order; none means that it runs.

    What a plan cannot know beforehand is none of them: edgeq.dynamic runs it. Behind such an operation the shapes that a file
    states are placeholders, and nothing is held against them.

    Raises CheckError, as planning does, where the graph's shapes contradict what its operations yield.
    """
    b = Builder(graph, Rounding(rounding), isa, keep=False, lower=lower)
    findings = []
    unfixed = False
    lost: set[int] = set()  # tensors without a value, because what computes them was reported
    for i in graph.inputs:
        if graph.tensors[i].data is None:
            try:
                b.places[i] = b.block(nbytes(graph.tensors[i]))
            except UnsupportedError as error:
                findings.append(Finding(NO_OPERATION, "input", str(error), RETYPE))
                lost.add(i)
    for index, op in enumerate(graph.ops):
        b.at_op(index)
        if not lost.isdisjoint(op.inputs) and has_lowering(op):
            lost.update(op.outputs)
            continue
        try:
            lower(b, op)
        except DataDependentError:
            unfixed = True
            lost.update(_without_place(b, op))
        except CheckError:
            if not unfixed:
                raise
            lost.update(op.outputs)
        except UnsupportedError as error:
            reason = str(error).removeprefix(f"{b.where(op)}: ").removeprefix(f"{b.where(op)} ")
            findings.append(Finding(index, op.custom_code or op.code, reason, remedy(op, reason)))
            lost.update(_without_place(b, op))
    if not findings and not unfixed:
        try:
            b.finish()
        except UnsupportedError as error:
            findings.append(Finding(NO_OPERATION, "model", str(error), OTHER_RUNTIME))
    return tuple(findings)


def _without_place(b: Builder, op: Op) -> list[int]:
    """Give the operation's outputs places, as if it had run, and return those that cannot be stored."""
    without = []
    for k, i in enumerate(op.outputs):
        if i not in b.places and i not in b.folded:
            try:
                b.write(op, k)
            except UnsupportedError:
                without.append(i)
    return without


RETYPE = "convert it with float32 or integer inputs"
BUILTINS_ONLY = "convert it with TFLite's builtin operations only (no SELECT_TF_OPS)"
BEFORE_COMPILER = "take the model as it was before the Edge TPU compiler"
CUSTOM = (
    "only the runtime that it was written for has this operation; give it a function (edgeq.register_op), or convert the "
    "model without it"
)
OTHER_RUNTIME = "ai-edge-litert or tflite-runtime, if installed, run the whole model (backend='auto')"


def remedy(op: Op, reason: str) -> str:
    """What whoever has the model can do about it."""
    if op.code == "CUSTOM":
        name = op.custom_code or ""
        if name.startswith("Flex"):
            return BUILTINS_ONLY
        return BEFORE_COMPILER if name == "edgetpu-custom-op" else CUSTOM
    return OTHER_RUNTIME

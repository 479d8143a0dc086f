"""`edgeq lint`: every operation that keeps a model from running in edgeq or elsewhere, and what would help."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgeq.cli import models, show
from edgeq.cli.models import Access

if TYPE_CHECKING:
    from edgeq.graph import Graph


@click.command()
@click.argument("model", metavar="MODEL")
@click.option(
    "--target",
    type=click.Choice(["edgeq", "tflite-runtime-2.14", "litert", "tflm", "xnnpack", "npu-per-tensor"]),
    default="edgeq",
    show_default=True,
    help="What the model is to run in.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of a table.")
@models.rounding_option
@models.access_options
def lint(model: str, target: str, as_json: bool, rounding: str, access: Access) -> None:
    """List what a model needs and a target lacks.

    For edgeq: every operation that it does not run, why, and what would help. For other targets: every operation that would
    be refused there, run slowly or inexactly, and how to change the recipe. The exit status is 0 if nothing is refused, else 1.
    """
    from edgeq.fallback import lacking

    graph = models.read_graph(model, access, "load")
    if target != "edgeq":
        _elsewhere(model, graph, target, as_json)
        return
    findings = lacking(graph, rounding)
    if as_json:
        show.as_json(
            {
                "model": model,
                "target": target,
                "operations": len(graph.ops),
                "findings": [
                    {"index": f.index, "operation": f.operation, "reason": f.reason, "remedy": f.remedy}
                    for f in findings
                ],
            }
        )
    elif findings:
        show.table(
            ["#", "operation", "why not", "what helps"],
            [["" if f.index < 0 else f.index, f.operation, f.reason, f.remedy] for f in findings],
        )
    else:
        show.result(f"{model}: {target} runs every operation")
    if findings:
        raise click.exceptions.Exit(1)


def _elsewhere(model: str, graph: Graph, target: str, as_json: bool) -> None:
    """The remarks on another target."""
    from edgeq.lint import lint as look

    remarks = look(graph, target)
    if as_json:
        show.as_json(
            {
                "model": model,
                "target": target,
                "operations": len(graph.ops),
                "findings": [
                    {"index": r.index, "operation": r.operation, "kind": r.kind, "reason": r.reason, "remedy": r.remedy}
                    for r in remarks
                ],
            }
        )
    elif remarks:
        show.table(
            ["#", "operation", "is", "why", "what helps"],
            [["" if r.index < 0 else r.index, r.operation, r.kind, r.reason, r.remedy] for r in remarks],
        )
    else:
        show.result(f"{model}: nothing to say against {target}")
    if any(r.kind == "refused" for r in remarks):
        raise click.exceptions.Exit(1)

"""`edgeq lint`: every operation that keeps a model from running in edgeq, and what would help."""

from __future__ import annotations

import click

from edgeq.cli import models, show
from edgeq.cli.models import Access


@click.command()
@click.argument("model", metavar="MODEL")
@click.option(
    "--target", type=click.Choice(["edgeq"]), default="edgeq", show_default=True, help="What the model is to run in."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of a table.")
@models.rounding_option
@models.access_options
def lint(model: str, target: str, as_json: bool, rounding: str, access: Access) -> None:
    """List what a model needs and edgeq lacks.

    Every operation of the model that edgeq does not run, why, and what would help. The exit status is 0 if there is
    none, else 1.
    """
    from edgeq.fallback import lacking

    graph = models.read_graph(model, access, "load")
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

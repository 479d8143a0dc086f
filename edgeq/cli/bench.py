"""`edgeq bench`: how long one inference takes, beside other runtimes in the same process and minutes."""

from __future__ import annotations

import click

from edgeq.cli import figures, models, show
from edgeq.cli.models import Access
from edgeq.errors import InputError

PEERS = ("litert", "tflite", "openvino", "onnxruntime")


@click.command()
@click.argument("model", metavar="MODEL")
@click.option("--against", default="", metavar="litert,tflite", help="Other runtimes to time beside edgeq.")
@click.option(
    "--rounds", type=click.IntRange(3, 10_000), default=20, show_default=True, help="How often all take turns."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of a table.")
@models.engine_options
@models.access_options
def bench(model: str, against: str, rounds: int, as_json: bool, rounding: str, threads: int, access: Access) -> None:
    """Time inference, beside other runtimes if asked.

    Random input, one batch a call. All runtimes take turns in every round, so that whatever else the machine does
    meets them alike. A runtime's time is the median over rounds of the round's median; its spread goes from the first
    to the third quartile; its ratio is the median of (its time / edgeq's time) within a round: above 1, edgeq is
    faster.

    The plain model is handed to other runtimes, so --against needs a grant that allows export when MODEL is a bundle.
    """
    from edgeq import peers as runtimes
    from edgeq import timing

    peers = [name.strip() for name in against.split(",") if name.strip()]
    for name in peers:
        if name not in PEERS:
            raise InputError(f"--against: expected {', '.join(PEERS[:-1])} or {PEERS[-1]}, found {name!r}")
    with models.open_model(model, access, rounding, threads, "native") as engine:
        calls = {"edgeq": timing.edgeq(engine)}
        if peers:
            data = bytes(models.model_bytes(model, access, "export"))
            calls.update({name: runtimes.call(name, data, threads) for name in peers})
        with show.progress("timing", rounds) as advance:
            times = timing.alternate(calls, rounds, advance)
    rows = timing.summary(times, "edgeq")
    if as_json:
        show.as_json(
            {
                "model": model,
                "threads": threads,
                "rounding": rounding,
                "rounds": rounds,
                "batch": models.batch(engine),
                "runtimes": [
                    {"name": r.name, "median_s": r.median, "q1_s": r.low, "q3_s": r.high, "ratio": r.ratio}
                    for r in rows
                ],
            }
        )
        return
    show.table(
        ["runtime", "median", "spread", "ratio"],
        [
            [
                r.name,
                figures.duration(r.median),
                f"{figures.duration(r.low)} to {figures.duration(r.high)}",
                f"{r.ratio:.2f}",
            ]
            for r in rows
        ],
        title=f"{model}, {threads} thread{'s' * (threads > 1)}, {rounds} rounds",
    )

"""`edgeq bench`: how long one inference takes, beside other runtimes in the same process and minutes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from edgeq.cli import figures, models, show
from edgeq.cli.models import Access
from edgeq.errors import InputError

if TYPE_CHECKING:
    from edgeq.fallback import AnyModel
    from edgeq.profile import Profile

PEERS = ("litert", "tflite", "openvino", "onnxruntime")


@click.command()
@click.argument("model", metavar="MODEL")
@click.option("--against", default="", metavar="litert,tflite", help="Other runtimes to time beside edgeq.")
@click.option(
    "--rounds", type=click.IntRange(3, 10_000), default=20, show_default=True, help="How often all take turns."
)
@click.option("--profile", "profiled", is_flag=True, help="Also time every instruction of the plan, on one thread.")
@click.option("--trace", metavar="FILE.json", help="Write the profile as a trace for chrome://tracing or Perfetto.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of a table.")
@models.engine_options
@models.access_options
def bench(
    model: str,
    against: str,
    rounds: int,
    profiled: bool,
    trace: str | None,
    as_json: bool,
    rounding: str,
    threads: int,
    access: Access,
) -> None:
    """Time inference, beside other runtimes if asked.

    Random input, one batch a call. All runtimes take turns in every round, so that whatever else the machine does
    meets them alike. A runtime's time is the median over rounds of the round's median; its spread goes from the first
    to the third quartile; its ratio is the median of (its time / edgeq's time) within a round: above 1, edgeq is
    faster.

    --profile first measures what full tiles of the matrix kernels reach on data in the first-level cache: the machine's
    peak, for bytes, int16 and float32. Then every instruction of the plan runs by itself, over and over on the data of one
    inference: median time, multiply-adds a second and the share of the peak that this is.

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
        found = _profile(engine) if profiled or trace else None
    if found is not None and trace:
        _write_trace(trace, found, model)
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
                **({} if found is None else {"profile": _document(found)}),
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
    if found is not None and profiled:
        show.result()
        _show_profile(found)


def _profile(engine: AnyModel) -> Profile:
    """Every instruction's time."""
    from edgeq import profile, timing
    from edgeq.engine import Model

    if not isinstance(engine, Model):
        raise InputError("--profile: this model runs in another runtime, a plan of edgeq's is expected")
    with show.progress("profiling", len(engine.plan.instructions)) as advance:
        return profile.profile(engine, list(timing.inputs(engine).values()), advance=advance)


def _show_profile(found: Profile) -> None:
    peak = found.peak
    show.facts(
        [
            (
                "peak",
                f"{peak.u8:.0f} GMAC/s u8·s8, {peak.s16:.0f} s16·s8, {peak.f32:.0f} float32 (full tiles, one thread)",
            ),
            (
                "inference",
                f"{figures.duration(found.whole * 1e-6)} in one go, {figures.duration(found.sum * 1e-6)} the sum below",
            ),
        ]
    )
    show.result()
    show.table(
        ["#", "operation", "kernel", "tile", "µs", "of the time", "GMAC/s", "of the peak"],
        [
            [
                r.op,
                r.code,
                r.kernel,
                r.tile,
                f"{r.microseconds:.2f}",
                f"{r.microseconds / found.sum:.1%}",
                f"{r.gmacs:.1f}" if r.macs else "",
                f"{r.share:.0%}" if r.macs else "",
            ]
            for r in found.rows
        ],
    )


def _document(found: Profile) -> dict[str, Any]:
    """The profile for --json."""
    return {
        "peak_gmacs": {"u8": found.peak.u8, "s16": found.peak.s16, "f32": found.peak.f32},
        "inference_us": found.whole,
        "instructions": [
            {
                "operation": r.op,
                "code": r.code,
                "kernel": r.kernel,
                "tile": r.tile,
                "us": r.microseconds,
                "macs": r.macs,
                "gmacs": r.gmacs,
                "share_of_peak": r.share,
            }
            for r in found.rows
        ],
    }


def _write_trace(path: str, found: Profile, model: str) -> None:
    from pathlib import Path

    from edgeq.files import write_atomic
    from edgeq.profile import trace

    write_atomic(Path(path), json.dumps(trace(found, Path(model).name)).encode())

"""`edgeq monitor`: a model at work, watched: latency, what is clipped, drift, and what it answers."""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from edgeq.cli import figures, models, show
from edgeq.cli.models import Access
from edgeq.errors import InputError

if TYPE_CHECKING:
    from edgeq.drift import DriftReport, WatchedModel
    from edgeq.samples import Array

WINDOW = 1000
"""Inferences that percentiles are taken over."""

REFRESH = 0.25
"""Seconds between two pictures."""


@dataclass
class Seen:
    """What the dashboard shows: latencies in seconds of the last WINDOW inferences, their number, and the last outputs."""

    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    inferences: int = 0
    started: float = field(default_factory=time.monotonic)
    outputs: Mapping[str, Array] = field(default_factory=dict)

    def percentiles(self) -> dict[str, float]:
        """p50, p90, p99 and the longest, in seconds; empty before the first inference."""
        if not self.latencies:
            return {}
        ordered = sorted(self.latencies)
        at = {f"p{p}": ordered[min(len(ordered) - 1, p * len(ordered) // 100)] for p in (50, 90, 99)}
        return {**at, "max": ordered[-1]}


@click.command()
@click.argument("model", metavar="MODEL")
@click.option(
    "-i",
    "--input",
    "data",
    required=True,
    metavar="DATA",
    help="NPZ or NPY, a folder, - for raw frames, FILE.py:function.",
)
@click.option("--repeat", type=click.IntRange(1), default=1, show_default=True, help="Go through a file so many times.")
@click.option(
    "--rate", type=click.FloatRange(0, min_open=True), help="Inferences a second; by default as fast as it goes."
)
@click.option("--seconds", type=click.FloatRange(0, min_open=True), help="Stop after that.")
@models.intake_options
@click.option("--every", type=click.IntRange(1), help="Inferences to a look; by default as many as cost 2 %.")
@click.option(
    "--prometheus", type=click.IntRange(0, 65535), metavar="PORT", help="Serve metrics (0: on any free port)."
)
@click.option("--address", default="127.0.0.1", show_default=True, help="Where --prometheus listens.")
@models.engine_options
@models.access_options
def monitor(
    model: str,
    data: str,
    repeat: int,
    rate: float | None,
    seconds: float | None,
    source: Any,
    every: int | None,
    prometheus: int | None,
    address: str,
    rounding: str,
    threads: int,
    access: Access,
) -> None:
    """Run a quantized model and watch it.

    On a terminal a live view of latency percentiles, of what goes beyond each tensor's codes, of drift and of the last
    outputs; elsewhere a summary at the end. --prometheus serves the same figures at /metrics, on this machine alone unless
    --address says otherwise. No sample is stored or sent.
    """
    from edgeq import intake
    from edgeq.drift import WatchedModel

    with models.open_model(model, access, rounding, threads, "native", drift=True, drift_every=every) as engine:
        assert isinstance(engine, WatchedModel)
        models.say_of_frames(data, engine.graph, source)
        local = intake.take(data, engine.graph, seconds=seconds, **source)
        models.say_of_reach(engine.graph, local)
        rounds = itertools.repeat(local.samples, repeat if data != "-" else 1)
        seen = Seen()
        try:
            with _served(seen, engine, prometheus, address), _drawn(seen, engine):
                _run(engine, rounds, seen, rate, seconds)
        except KeyboardInterrupt:  # how most watching ends
            _summary(seen, engine)
            raise
        _summary(seen, engine)


def _run(engine: WatchedModel, rounds: Iterator[Any], seen: Seen, rate: float | None, seconds: float | None) -> None:
    from edgeq.feed import feed

    names = [p.name for p in engine.inputs]
    due = time.monotonic()
    for samples in rounds:
        for x in feed(engine.graph, samples):
            if seconds is not None and time.monotonic() - seen.started > seconds:
                return
            if rate is not None:
                time.sleep(max(0.0, due - time.monotonic()))
                due = max(due + 1.0 / rate, time.monotonic() - 1.0)
            start = time.perf_counter()
            outputs = engine(x[0] if len(x) == 1 else dict(zip(names, x, strict=True)), dequantize=True)
            seen.latencies.append(time.perf_counter() - start)
            seen.inferences += 1
            seen.outputs = outputs if isinstance(outputs, dict) else {engine.outputs[0].name: outputs}


# --- what is shown ----------------------------------------------------------------------------------------------------


@contextmanager
def _drawn(seen: Seen, engine: WatchedModel) -> Iterator[None]:
    """The live view, while it lasts, where stdout is a terminal."""
    if not sys.stdout.isatty():
        yield
        return
    if not show.draws():
        with show.line(sys.stdout) as say, _again(lambda: say(brief(seen, engine.drift()))):
            yield
        return
    from rich.console import Console
    from rich.live import Live

    with (
        Live(console=Console(), auto_refresh=False, transient=True) as live,
        _again(lambda: live.update(view(seen, engine.drift()), refresh=True)),
    ):
        yield


@contextmanager
def _again(draw: Callable[[], None]) -> Iterator[None]:
    """Call `draw` every REFRESH seconds, in a thread of its own, while it lasts."""
    over = threading.Event()

    def go_on() -> None:
        while not over.wait(REFRESH):
            draw()

    drawing = threading.Thread(target=go_on, daemon=True)
    drawing.start()
    try:
        yield
    finally:
        over.set()
        drawing.join()


def brief(seen: Seen, report: DriftReport) -> str:
    """The dashboard in a line, for terminals where rich is not there: what is clipped most comes before the answers."""
    parts = [report.status, f"{seen.inferences} inferences"]
    parts += [f"{name} {figures.duration(s)}" for name, s in seen.percentiles().items() if name in ("p50", "p99")]
    for t in sorted(report.tensors, key=lambda t: -t.beyond)[:2]:
        parts.append(f"{show.tensor(t.name, 24)} {t.beyond:.1%} beyond")
    return "  ".join([*parts, *_tops(seen)])


def view(seen: Seen, report: DriftReport) -> Any:
    """The dashboard, for rich to draw."""
    from rich.console import Group
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    colour = {"steady": "green", "learning": "yellow", "recalibrate": "bold red"}[report.status]
    rate = seen.inferences / max(time.monotonic() - seen.started, 1e-9)
    latency = "   ".join(f"{name} {figures.duration(s)}" for name, s in seen.percentiles().items())
    head = Text.assemble(
        (f" {report.status} ", colour),
        f"  evidence {report.evidence:.3g} of {report.threshold:.3g}   looks {report.looks} (1 in {report.every})\n",
        f"{seen.inferences} inferences, {rate:.0f} a second   {latency}",
    )
    tensors = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("tensor", "beyond its codes", "", "before", "unusual"):
        tensors.add_column(name, justify="left" if name in ("tensor", "") else "right")
    for t in sorted(report.tensors, key=lambda t: -t.unusual)[:16]:
        bar = "█" * min(20, round(200 * t.beyond))
        before = "" if t.beyond_before is None else f"{t.beyond_before:.2%}"
        tensors.add_row(Text(show.tensor(t.name)), f"{t.beyond:.2%}", bar, before, f"{t.unusual:.1f}")
    return Group(Panel(head, title="edgeq monitor"), Panel(tensors), Panel(Text("\n".join(_tops(seen)))))


def _tops(seen: Seen) -> list[str]:
    """The greatest values of each output."""
    import numpy as np

    lines = []
    for name, values in seen.outputs.items():
        flat = np.asarray(values).reshape(-1)
        best = np.argsort(-flat, kind="stable")[:5]
        lines.append(f"{show.tensor(name, 32)}: " + "   ".join(f"[{i}] {flat[i]:.4g}" for i in best))
    return lines


def _summary(seen: Seen, engine: WatchedModel) -> None:
    report = engine.drift()
    show.drift(report)
    show.result()
    show.facts(
        [
            ("inferences", seen.inferences),
            *((name, figures.duration(s)) for name, s in seen.percentiles().items()),
        ]
    )


# --- metrics ----------------------------------------------------------------------------------------------------------


@contextmanager
def _served(seen: Seen, engine: WatchedModel, port: int | None, address: str) -> Iterator[None]:
    """The metrics over HTTP, while it lasts."""
    if port is None:
        yield
        return
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != "/metrics":
                self.send_error(404)
                return
            body = metrics(seen, engine.drift()).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            return

    try:
        server = ThreadingHTTPServer((address, port), Handler)
    except OSError as error:
        raise InputError(f"{address}:{port}: cannot be listened on: {error.strerror}") from None
    host, found = server.server_address[:2]
    show.note(f"metrics at http://{host}:{found}/metrics")  # type: ignore[str-bytes-safe]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


def metrics(seen: Seen, report: DriftReport) -> str:
    """Everything in Prometheus' text format, version 0.0.4."""
    lines: list[str] = []

    def add(name: str, kind: str, what: str, values: list[tuple[str, float]]) -> None:
        lines.extend([f"# HELP edgeq_{name} {what}", f"# TYPE edgeq_{name} {kind}"])
        lines.extend(f"edgeq_{name}{labels} {value:.9g}" for labels, value in values)

    quantiles = [
        (f'{{quantile="{int(name[1:]) / 100}"}}', s) for name, s in seen.percentiles().items() if name != "max"
    ]
    add("latency_seconds", "summary", "Latency of the last inferences.", quantiles)
    lines.append(f"edgeq_latency_seconds_count {seen.inferences}")
    add("drift_evidence", "gauge", "Evidence for a change; an alarm comes at the threshold.", [("", report.evidence)])
    add("drift_threshold", "gauge", "Where the alarm is raised.", [("", report.threshold)])
    add("drift_alarms_total", "counter", "Alarms so far.", [("", report.alarms)])
    add("drift_looks_total", "counter", "Inferences that were looked at.", [("", report.looks)])
    add("recalibrate", "gauge", "1 where the model should be calibrated again.", [("", report.status == "recalibrate")])
    named: Counter[str] = Counter()
    rows = []
    for t in report.tensors:  # of the same name in a file, which no two series may have
        named[t.name] += 1
        again = f" #{named[t.name]}" if named[t.name] > 1 else ""
        rows.append((f'{{tensor="{_label(t.name + again)}"}}', t))
    add("beyond_ratio", "gauge", "Share of a tensor's values beyond its codes.", [(n, t.beyond) for n, t in rows])
    add("unusual", "gauge", "How unusual a tensor has been lately.", [(n, t.unusual) for n, t in rows])
    return "\n".join(lines) + "\n"


def _label(name: str) -> str:
    return show.plain(name).replace("\\", "\\\\").replace('"', '\\"')

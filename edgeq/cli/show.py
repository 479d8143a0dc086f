"""What commands print: results on stdout, progress and remarks on stderr; drawn for people, plain for pipes."""

from __future__ import annotations

import json
import math
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol, TextIO

import click

if TYPE_CHECKING:
    from edgeq.drift import DriftReport

_HASH = re.compile(r"[0-9a-f]{16,}…?")  # names a key, a grant or a file, and is no figure though it may begin like one


_TO_THE_END = "\x1b[K"
"""Clears a terminal's line from the cursor on."""


class Advance(Protocol):
    """Tells a progress bar how far the work is."""

    def __call__(self, done: int, total: int = 0, what: str = "") -> None:
        """`done` of `total` steps are finished (0: as before), and `what` is going on (empty: as before)."""


def plain(text: object) -> str:
    """`text` as one line that does nothing to a terminal: names in model files are anybody's text."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def tensor(name: str, most: int = 40) -> str:
    """A tensor's name on part of a line: of several that a converter has joined the first, of a long one the end."""
    first = plain(name.split(";", 1)[0])
    return first if len(first) <= most else f"…{first[1 - most :]}"


def result(text: str = "") -> None:
    """A line of the result, on stdout."""
    click.echo(plain(text))


def note(text: str) -> None:
    """A remark that is not part of the result, on stderr."""
    click.echo(f"edgeq: {plain(text)}", err=True)


def as_json(value: Any) -> None:
    """The whole result as one JSON document, on stdout; NaN and infinities, which JSON has not, become null."""
    click.echo(json.dumps(finite(value), indent=2, allow_nan=False))


def finite(value: Any) -> Any:
    """A value for JSON, which has no NaN and no infinities: they become null."""
    if isinstance(value, dict):
        return {name: finite(item) for name, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def facts(pairs: Sequence[tuple[str, object]]) -> None:
    """Names and values, one pair a line, aligned."""
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        click.echo(f"{name:<{width}}  {plain(value)}".rstrip())


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], title: str | None = None) -> None:
    """A table: ruled on a terminal, aligned columns elsewhere. A column whose cells are all numbers is set right."""
    cells = [[plain(c) for c in row] for row in rows]
    right = [bool(cells) and all(_numeric(row[i]) for row in cells) for i in range(len(columns))]
    if sys.stdout.isatty() and draws():
        from rich import box
        from rich.console import Console
        from rich.table import Table

        drawn = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
        for name, is_right in zip(columns, right, strict=True):
            drawn.add_column(name, justify="right" if is_right else "left", overflow="fold")
        for row in cells:
            drawn.add_row(*row)
        Console(markup=False, emoji=False, highlight=False).print(drawn)
        return
    if title:
        click.echo(title)
    widths = [max([len(name), *(len(row[i]) for row in cells)]) for i, name in enumerate(columns)]
    for row in [list(columns), *cells]:
        click.echo(
            "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)).rstrip()
        )


def draws() -> bool:
    """Whether rich is there; a device may do without it."""
    return find_spec("rich") is not None


@contextmanager
def line(terminal: TextIO) -> Iterator[Callable[[str], None]]:
    """One line of a terminal, written anew with each text it is given but ten times a second at most, and empty in the end."""
    last = [0.0]

    def say(text: str) -> None:
        if time.monotonic() - last[0] > 0.1:
            terminal.write(f"\r{plain(text)[: shutil.get_terminal_size().columns - 1]}{_TO_THE_END}")
            terminal.flush()
            last[0] = time.monotonic()

    try:
        yield say
    finally:
        terminal.write(f"\r{_TO_THE_END}")
        terminal.flush()


def _numeric(cell: str) -> bool:
    """Whether a cell reads as a figure: it starts with a digit after its sign, or stands for a missing figure."""
    if _HASH.fullmatch(cell):
        return False
    return cell in ("", "–") or cell.lstrip("+-−<")[:1].isdigit()


def drift(report: DriftReport) -> None:
    """What a watched model has seen, tensor by tensor, and what follows."""
    rows = [
        [
            tensor(t.name),
            f"{100 * t.beyond:.3f}",
            "" if t.beyond_before is None else f"{100 * t.beyond_before:.3f}",
            f"{t.unusual:.2f}",
        ]
        for t in report.tensors
    ]
    table(["tensor", "beyond %", "before %", "unusual"], rows)
    result()
    facts(
        [
            ("drift", report.status),
            ("evidence", f"{report.evidence:.3g}, an alarm comes at {report.threshold:.3g}"),
            ("false alarms", f"by chance within n looks with a probability of at most n / {report.threshold:.3g}"),
            ("looks", f"{report.looks} of {report.inferences} inferences, now one of {report.every}"),
            *([] if report.cost is None else [("cost", _cost(report.cost, report.every))]),
        ]
    )


def _cost(cost: float, every: int) -> str:
    """Where a file is gone through, each sample may be looked at: then what looks cost is no share of anything."""
    if every == 1:
        return f"a look takes as long as {cost:.3g} inferences; by itself a watched model looks seldom enough for 2 %"
    return f"{100 * cost:.1f} % of the inferences' time"


@contextmanager
def progress(label: str, total: int = 0) -> Iterator[Advance]:
    """A progress bar on stderr when it is a terminal, nothing otherwise.

    Yields `advance(done, total=0, what="")`: `done` is the count reached so far, and a total or label that is not given
    stays as it was.
    """
    if not sys.stderr.isatty():
        yield lambda done, total=0, what="": None
        return
    if not draws():
        with line(sys.stderr) as say:
            now = [0, total, label]

            def tell(done: int, total: int = 0, what: str = "") -> None:
                now[:] = done, total or now[1], what or now[2]
                say(f"{now[2]}  {now[0]}" + (f"/{now[1]}" if now[1] else ""))

            yield tell
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        task = bar.add_task(label, total=total or None)

        def advance(done: int, total: int = 0, what: str = "") -> None:
            bar.update(task, completed=done, total=total or None, description=what or None)

        yield advance

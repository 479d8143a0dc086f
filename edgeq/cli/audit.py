"""`edgeq audit`: what a device did and refused."""

from __future__ import annotations

from collections import deque
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeq.cli import models, show
from edgeq.errors import InputError

if TYPE_CHECKING:
    from edgeq.audit import Entry


@click.group()
def audit() -> None:
    """Show and verify what a device wrote down.

    A device with a state (edgeq device) writes every opening with its operations, every refusal, and every status and
    root that it takes into an audit log in the state's directory: lines that are chained by their hashes, and signed by
    the device now and then.
    """


@audit.command("show")
@click.argument("log", metavar="[LOG]", required=False)
@models.state_option()
@click.option("-n", "--last", type=click.IntRange(1), metavar="N", help="The last N lines only.")
def show_log(log: str | None, state: str | None, last: int | None) -> None:
    """Show what is written in a log. Nothing is verified.

    LOG is a directory with the log's files: a state directory, or where they were copied to.
    """
    from edgeq import audit as audits
    from edgeq import journal

    entries = deque(audits.entries(journal.read(_folder(log, state))), maxlen=last)
    show.table(["#", "time", "event", "model", "operations", "grant", "what"], [_row(entry) for entry in entries])


@audit.command()
@click.argument("log", metavar="[LOG]", required=False)
@click.option("--key", metavar="AUDIT.pub", help="The device's audit key, from a hand that you trust.")
@models.state_option()
@models.identity_option()
def verify(log: str | None, key: str | None, state: str | None, identity: str | None) -> None:
    """Check a log: every line, the chain, every checkpoint.

    On the device, --state and --identity also show that no line is missing at the end. Elsewhere, LOG is a directory
    with copies of the log's files, and --key the audit.pub that the device made with its state; lines that were cut off
    behind the last checkpoint go unnoticed there.
    """
    from edgeq import audit as audits
    from edgeq import journal, keys
    from edgeq.device import Store

    if log is not None and key is not None:
        folder = log
        found = audits.verify(journal.read(Path(log)), keys.load_publisher_public(key))
    elif log is None and key is None and state is not None and identity is not None:
        folder = state
        found = Store(Path(state), models.open_identity(identity)).verify_audit()
    else:
        raise InputError("expected LOG and --key, or on the device --state and --identity")
    show.facts(
        [
            ("verified", folder),
            ("lines", f"{found.first.sequence} to {found.last.sequence}"),
            ("checkpoints", found.checkpoints),
            ("behind the last", f"{found.unsigned} line{'s' * (found.unsigned != 1)}"),
            (
                "the end",
                "is the one that the state holds" if log is None else "is not known: lines may be missing there",
            ),
        ]
    )


@audit.command()
@models.state_option(required=True)
@models.identity_option(required=True)
def sign(state: str, identity: str) -> None:
    """Add a checkpoint now, before a log is handed over."""
    from edgeq.device import Store

    sequence = Store(Path(state), models.open_identity(identity)).checkpoint(now=datetime.now(timezone.utc))
    show.facts([("state", state), ("signed up to line", sequence)])


def _folder(log: str | None, state: str | None) -> Path:
    if log is None and state is None:
        raise InputError("expected LOG, a directory with the log's files, or --state")
    return Path(log or state or "")


def _row(entry: Entry) -> list[object]:
    from edgeq import clock

    fields = entry.event.fields
    model_id, version, grant_id = (fields.get(name) for name in ("model_id", "version", "grant_id"))
    return [
        entry.sequence,
        clock.show(entry.time),
        entry.event.name,
        "" if model_id is None else f"{model_id} version {version}",
        ", ".join(fields.get("operations") or ()),
        "" if grant_id is None else f"{grant_id[:16]}…",
        _what(entry),
    ]


def _what(entry: Entry) -> str:
    """What an event says beside the model and its grant."""
    fields = entry.event.fields
    if entry.event.name == "status":
        return f"epoch {fields['epoch']} of {fields['authority'][:16]}…"
    if entry.event.name == "root":
        return f"version {fields['version']} of {fields['root_id'][:16]}…"
    if entry.event.name == "mask":
        return f"nonce {fields['nonce']} for {fields['recipient'][:16]}…"
    if entry.event.name == "calibrate":
        overlay = fields["overlay_sha256"]
        return f"{fields['outcome']}, overlay {'none' if overlay is None else f'{overlay[:16]}…'}"
    return str(fields.get("error") or fields.get("reason") or "")

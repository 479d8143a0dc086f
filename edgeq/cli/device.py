"""`edgeq device`: what a device remembers between two openings."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgeq.cli import models, show
from edgeq.errors import InputError

if TYPE_CHECKING:
    from edgeq.state import State

Command = TypeVar("Command", bound=Callable[..., Any])


@click.group()
def device() -> None:
    """Make, show and reset the memory of a device.

    A device state is a directory in which a device keeps the newest version of each model, the number of loads under
    each grant, and the latest time, authenticated with the device's key. Give it to any command that opens bundles
    with --state: older versions, used-up grants and a clock that was set back are then refused.
    """


def state_options(command: Command) -> Command:
    """Give a command --state and --identity, both required."""
    command = models.identity_option(required=True)(command)
    return models.state_option(required=True)(command)


@device.command()
@state_options
@click.option("--root", metavar="ROOT", help="The root that this device is to believe, and its next versions.")
def init(state: str, identity: str, root: str | None) -> None:
    """Make the state of a device, once.

    The directory must be new or empty: an existing state is never replaced. The audit key that is made in it verifies
    the device's audit log elsewhere (edgeq audit): collect it together with the device's public key.
    """
    from edgeq import device as devices
    from edgeq import limits
    from edgeq.files import read_limited

    opener = models.open_identity(identity)
    data = None if root is None else read_limited(root, limits.ROOT)
    made = devices.init(state, opener, now=datetime.now(timezone.utc), root=data)
    show.facts([*_facts(state, made), ("audit key", f"{state}/{devices.AUDIT_KEY}")])


@device.command("show")
@state_options
def show_state(state: str, identity: str) -> None:
    """Show what a device remembers, if it wrote it itself."""
    from pathlib import Path

    from edgeq.device import Store

    _show(state, Store(Path(state), models.open_identity(identity)).read())


@device.command()
@state_options
@click.option("--yes", is_flag=True, help="Do not ask.")
def reset(state: str, identity: str, yes: bool) -> None:
    """Start the state of a device anew.

    Versions, load counts, time, status and root are forgotten, so older models and used-up or revoked grants open again.
    What was there, the audit log too, is put aside in the directory, whether it was readable or not.
    """
    from edgeq import device as devices

    opener = models.open_identity(identity)
    if not yes:
        _confirm(state)
    aside = devices.reset(state, opener, now=datetime.now(timezone.utc))
    show.facts([("state", state), ("device", opener.public.key_id), ("put aside", aside)])


def _confirm(state: str) -> None:
    import sys

    if not sys.stdin.isatty():
        raise InputError(f"{state}: a reset forgets versions and load counts: expected --yes, found nobody to ask")
    click.confirm(f"forget the versions, load counts and time in {state}?", abort=True, err=True)


def _show(folder: str, state: State) -> None:
    from edgeq import clock

    show.facts(_facts(folder, state))
    if state.models:
        show.result()
        show.table(
            ["model", "version", "payload"],
            [[name, newest.version, f"{newest.payload_sha256[:16]}…"] for name, newest in sorted(state.models.items())],
        )
    if state.loads:
        show.result()
        show.table(
            ["grant", "loads", "expires"],
            [
                [name, used.count, "never" if used.expires is None else clock.show(used.expires)]
                for name, used in sorted(state.loads.items())
            ],
        )
    if state.statuses:
        show.result()
        show.table(
            ["status of", "epoch", "issued", "expires"],
            [
                [authority, seen.epoch, clock.show(seen.issued), clock.show(seen.expires)]
                for authority, seen in sorted(state.statuses.items())
            ],
        )


def _facts(folder: str, state: State) -> list[tuple[str, object]]:
    from edgeq import clock

    root = state.root
    lines = state.audit.sequence
    return [
        ("state", folder),
        ("device", state.device),
        *([] if root is None else [("root", f"{root.root_id[:16]}… version {root.version}")]),
        ("latest time", clock.show(state.time)),
        ("audit log", f"{lines} line{'s' * (lines != 1)}"),
    ]

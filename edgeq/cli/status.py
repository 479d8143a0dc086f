"""`edgeq status`: take grants, devices, keys and versions back, and tell devices so."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timezone
from importlib import import_module
from typing import TYPE_CHECKING

import click

from edgeq.cli import models, show

if TYPE_CHECKING:
    from edgeq.status import Status


@click.group()
def status() -> None:
    """Revoke grants, devices, keys and versions.

    A status is a small signed file that says what its publisher takes back. It is the same for all devices and travels
    by any way; each device applies it to its state (edgeq device), and never one that is older.
    """


@status.command()
@click.argument("file", metavar="STATUS")
@models.trust_option()
@models.identity_option(required=True)
@models.state_option(required=True)
def apply(file: str, trust: str | None, identity: str, state: str) -> None:
    """Apply a status to this device.

    From then on the device holds everything that it opens against it, until it applies a newer one. A device that
    believes a root needs no --trust.
    """
    from pathlib import Path

    from edgeq import limits
    from edgeq.device import Store
    from edgeq.files import read_limited
    from edgeq.opening import believe_here

    store = Store(Path(state), models.open_identity(identity))
    data = read_limited(file, limits.STATUS)
    tell(file, store.apply_status(data, believe_here(trust, store), now=datetime.now(timezone.utc)))


@status.command("show")
@click.argument("file", metavar="STATUS")
def show_status(file: str) -> None:
    """Show what a status says. Nothing is verified."""
    from edgeq import limits
    from edgeq import status as statuses
    from edgeq.files import read_limited

    found = statuses.unverified(read_limited(file, limits.STATUS))
    tell(file, found)
    rows = [
        ["minimum", f"{model_id} version {version}"] for model_id, version in sorted(found.minimum_versions.items())
    ]
    for what, names in (
        ("revoked device", found.revoked_devices),
        ("revoked grant", found.revoked_grants),
        ("revoked key", found.revoked_keys),
    ):
        rows += [[what, name] for name in sorted(names)]
    if rows:
        show.result()
        show.table(["", "what"], rows)


def tell(file: str, found: Status) -> None:
    """Show what a status says, in numbers."""
    from edgeq import clock

    revoked = ((found.revoked_grants, "grant"), (found.revoked_devices, "device"), (found.revoked_keys, "key"))
    show.facts(
        [
            ("status", file),
            ("authority", found.authority),
            ("epoch", found.epoch),
            ("issued", clock.show(found.issued)),
            ("expires", clock.show(found.expires)),
            ("revoked", ", ".join(f"{len(names)} {what}{'s' * (len(names) != 1)}" for names, what in revoked)),
            ("minimum versions", len(found.minimum_versions)),
        ]
    )


with suppress(ModuleNotFoundError):
    import_module("edgeq.cli.issuing")  # what a publisher does; by its name, so that a device's wheel is without

"""`edgeq root`: who may sign what, owned by several people together."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timezone
from importlib import import_module
from typing import TYPE_CHECKING

import click

from edgeq.cli import models, show

if TYPE_CHECKING:
    from edgeq.root import Delegation, Root, Signed


@click.group()
def root() -> None:
    """Say whom devices believe, and for what.

    A root is a signed file: which keys sign bundles of which models, which issue grants, which sign statuses, and
    until when. It is owned by the holders of several keys, of whom a number must sign each version; the owners of the
    version before must sign too. Devices that have one follow it from version to version (edgeq root apply).

    \b
    A new root:      init, add-key …, sign (each owner)
    Another version: rotate, add-key …, sign (old and new owners)
    """


@root.command("show")
@click.argument("file", metavar="ROOT")
@click.option("--previous", metavar="ROOT", help="The version before, to see whether its owners have signed.")
def show_root(file: str, previous: str | None) -> None:
    """Show what a root or draft says, and who has signed it."""
    from edgeq import clock
    from edgeq import root as roots

    last = None if previous is None else roots.verify(read(previous))
    found = roots.parse(read(file))
    tell(file, found, last)
    rows: list[list[object]] = [["owner", name, "", "", ""] for name in sorted(found.root.owners)]
    rows += [_delegation("publisher", name, given) for name, given in sorted(found.root.publishers.items())]
    rows += [_delegation("issuer", name, given) for name, given in sorted(found.root.issuers.items())]
    rows += [["status", name, "", "", clock.show(until)] for name, until in sorted(found.root.status.items())]
    show.result()
    show.table(["role", "key", "models", "operations", "until"], rows)


@root.command()
@click.argument("files", metavar="ROOT...", nargs=-1, required=True)
@models.identity_option(required=True)
@models.state_option(required=True)
def apply(files: tuple[str, ...], identity: str, state: str) -> None:
    """Make this device believe a root, or its next versions.

    A device without a root takes the first one that it is given: give it only one from a hand that you trust. After
    that it takes none but the version that comes next, signed by the owners of both. Several files are taken in order.
    """
    from pathlib import Path

    from edgeq.device import Store

    store = Store(Path(state), models.open_identity(identity))
    for file in files:
        found = store.apply_root(read(file), now=datetime.now(timezone.utc))
        show.facts(
            [("root", file), ("root id", found.root_id), ("version", found.version), ("believed by", store.device)]
        )


def read(path: str) -> bytes:
    """A root's file."""
    from edgeq import limits
    from edgeq.files import read_limited

    return read_limited(path, limits.ROOT)


def tell(file: str, found: Signed, last: Root | None) -> None:
    """Show a root, and whose signatures it has of those that it needs."""
    from edgeq import clock

    root = found.root
    rows: list[tuple[str, object]] = [
        ("root", file),
        ("root id", root.root_id),
        ("version", root.version),
        ("issued", clock.show(root.issued)),
        ("expires", "never" if root.expires is None else clock.show(root.expires)),
        ("publishers", len(root.publishers)),
        ("issuers", len(root.issuers)),
        ("status keys", len(root.status)),
        ("signed by", _signatures(found, root)),
    ]
    if last is not None:
        rows.append(("", f"{_signatures(found, last)} of version {last.version}"))
    show.facts(rows)


def _signatures(found: Signed, owners: Root) -> str:
    return f"{len(found.signed_by(owners))} of {len(owners.owners)} owners ({owners.threshold} must)"


def _delegation(role: str, name: str, given: Delegation) -> list[object]:
    from edgeq import clock

    operations = ", ".join(given.operations) if role == "issuer" else ""
    return [role, name, ", ".join(given.models), operations, clock.show(given.until)]


with suppress(ModuleNotFoundError):
    import_module("edgeq.cli.owners")  # what a root's owners do; by its name, so that a device's wheel is without

"""`edgeq status`: take grants, devices, keys and versions back, and tell devices so."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgeq.cli import models, show
from edgeq.cli.passphrase import with_passphrase
from edgeq.errors import InputError

if TYPE_CHECKING:
    from edgeq.keys import PublisherKey
    from edgeq.status import Status

Command = TypeVar("Command", bound=Callable[..., Any])


@click.group()
def status() -> None:
    """Revoke grants, devices, keys and versions.

    A status is a small signed file that says what its publisher takes back. It is the same for all devices and travels
    by any way; each device applies it to its state (edgeq device), and never one that is older.
    """


def _signing_options(command: Command) -> Command:
    command = click.option(
        "--expires",
        metavar="90d|DATE",
        help="From then on devices open nothing without a newer status [default: as in the last one].",
    )(command)
    return click.option("--key", required=True, metavar="K.key", help="The publisher's private key.")(command)


def _output_option(command: Command) -> Command:
    return click.option("-o", "--output", metavar="OUT.json", help="Where the new status goes [default: STATUS].")(
        command
    )


@status.command()
@_signing_options
@click.option("--from", "last", metavar="LAST.json", help="The last status, to issue it again, one epoch later.")
@click.option("-o", "--output", required=True, metavar="OUT.json", help="Where the status goes.")
def issue(key: str, expires: str | None, last: str | None, output: str) -> None:
    """Issue the first status, or the last one again.

    The first one takes nothing back. Issuing again what the last one says tells devices that it still holds, as
    grants with --max-offline-days want to know.
    """
    from edgeq import status as statuses

    publisher, now = _publisher(key), datetime.now(timezone.utc)
    if last is not None:
        made = statuses.following(_last(last, publisher), now=now, expires=_until(expires, now))
    else:
        until = _until(expires, now)
        if until is None:
            raise InputError("expected --expires: a first status has none before it to take the expiry from")
        made = statuses.first(publisher.public.key_id, now=now, expires=until)
    _write(made, publisher, output)


@status.command()
@click.argument("last", metavar="STATUS")
@_signing_options
@click.option("--grant", "grants", multiple=True, metavar="G.eqg|ID", help="A grant, by its file or id. Repeatable.")
@click.option("--device", "devices", multiple=True, metavar="D.pub|ID", help="A device, by its key. Repeatable.")
@click.option("--signer", "signers", multiple=True, metavar="K.pub|ID", help="A key that signs. Repeatable.")
@_output_option
def revoke(
    last: str,
    key: str,
    expires: str | None,
    grants: tuple[str, ...],
    devices: tuple[str, ...],
    signers: tuple[str, ...],
    output: str | None,
) -> None:
    """Revoke grants, devices or keys.

    What STATUS revokes stays revoked. A revoked device opens nothing more, a revoked grant does not either, and
    nothing counts any more that a revoked key has signed, whenever it did.
    """
    from edgeq import keys
    from edgeq import status as statuses

    if not grants + devices + signers:
        raise InputError("expected something to revoke: --grant, --device or --signer")
    publisher, now = _publisher(key), datetime.now(timezone.utc)
    made = statuses.revoking(
        statuses.following(_last(last, publisher), now=now, expires=_until(expires, now)),
        grants=frozenset(_named(text, 16, _grant_id) for text in grants),
        devices=frozenset(_named(text, 32, lambda path: keys.load_device_public(path).key_id) for text in devices),
        keys=frozenset(_named(text, 32, lambda path: keys.load_publisher_public(path).key_id) for text in signers),
    )
    _write(made, publisher, output or last)


@status.command()
@click.argument("last", metavar="STATUS")
@_signing_options
@click.option("--model-id", required=True, metavar="ID", help="The model's name.")
@click.option("--version", required=True, type=click.IntRange(1), metavar="N", help="The lowest version to open.")
@_output_option
def set_minimum(last: str, key: str, expires: str | None, model_id: str, version: int, output: str | None) -> None:
    """Withdraw the versions of a model below one."""
    from edgeq import status as statuses

    publisher, now = _publisher(key), datetime.now(timezone.utc)
    made = statuses.following(_last(last, publisher), now=now, expires=_until(expires, now))
    _write(statuses.requiring(made, model_id, version), publisher, output or last)


@status.command()
@click.argument("file", metavar="STATUS")
@models.trust_option(required=True)
@models.identity_option(required=True)
@models.state_option(required=True)
def apply(file: str, trust: str, identity: str, state: str) -> None:
    """Apply a status to this device.

    From then on the device holds everything that it opens against it, until it applies a newer one.
    """
    from pathlib import Path

    from edgeq import limits, loader
    from edgeq.device import Store
    from edgeq.files import read_limited

    store = Store(Path(state), models.open_identity(identity))
    data = read_limited(file, limits.STATUS)
    _show(file, store.apply_status(data, loader.believe(trust), now=datetime.now(timezone.utc)))


@status.command("show")
@click.argument("file", metavar="STATUS")
def show_status(file: str) -> None:
    """Show what a status says. Nothing is verified."""
    from edgeq import limits
    from edgeq import status as statuses
    from edgeq.files import read_limited

    found = statuses.unverified(read_limited(file, limits.STATUS))
    _show(file, found)
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


def _publisher(path: str) -> PublisherKey:
    from edgeq.keys import load_publisher

    return with_passphrase(path, lambda passphrase: load_publisher(path, passphrase=passphrase))


def _last(path: str, publisher: PublisherKey) -> Status:
    """The last status, which this publisher must have signed: nobody else's words are signed again."""
    from edgeq import limits
    from edgeq import status as statuses
    from edgeq.files import read_limited
    from edgeq.trust import Trust

    return statuses.verify(read_limited(path, limits.STATUS), Trust((publisher.public,)))[0]


def _until(expires: str | None, now: datetime) -> datetime | None:
    from edgeq.clock import expiry

    return None if expires is None else expiry(expires, now)


def _named(text: str, size: int, read: Callable[[str], str]) -> str:
    """The id that the user means: spelled out, or that of the file."""
    return text if re.fullmatch(f"[0-9a-f]{{{2 * size}}}", text) else read(text)


def _grant_id(path: str) -> str:
    from edgeq import grant, limits
    from edgeq.files import read_limited

    return grant.unverified(read_limited(path, limits.GRANT)).grant_id


def _write(made: Status, publisher: PublisherKey, output: str) -> None:
    from edgeq import status as statuses
    from edgeq.files import write_atomic

    write_atomic(output, statuses.sign(made, publisher))
    _show(output, made)


def _show(file: str, found: Status) -> None:
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

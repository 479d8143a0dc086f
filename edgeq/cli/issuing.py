"""`edgeq status issue`, `revoke`, `set-minimum`: what a publisher does. Not on devices."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgeq.cli.passphrase import with_passphrase
from edgeq.cli.status import status, tell
from edgeq.errors import InputError

if TYPE_CHECKING:
    from edgeq.keys import Signer
    from edgeq.status import Status
    from edgeq.trust import Trust

Command = TypeVar("Command", bound=Callable[..., Any])


def _signing_options(command: Command) -> Command:
    command = click.option(
        "--expires",
        metavar="90d|DATE",
        help="From then on devices open nothing without a newer status [default: as in the last one].",
    )(command)
    command = click.option("--trust", metavar="ROOT", help="The root that lets the key sign statuses.")(command)
    return click.option(
        "--key", required=True, metavar="K.key", help="The publisher's private key, or one that a root names."
    )(command)


def _output_option(command: Command) -> Command:
    return click.option("-o", "--output", metavar="OUT.json", help="Where the new status goes [default: STATUS].")(
        command
    )


@status.command()
@_signing_options
@click.option("--from", "last", metavar="LAST.json", help="The last status, to issue it again, one epoch later.")
@click.option("-o", "--output", required=True, metavar="OUT.json", help="Where the status goes.")
def issue(key: str, trust: str | None, expires: str | None, last: str | None, output: str) -> None:
    """Issue the first status, or the last one again.

    The first one takes nothing back. Issuing again what the last one says tells devices that it still holds, as
    grants with --max-offline-days want to know.
    """
    from edgeq import status as statuses

    now = datetime.now(timezone.utc)
    signer, believed = _signer(key, trust, now)
    if last is not None:
        made = statuses.following(_last(last, believed), now=now, expires=_until(expires, now))
    else:
        until = _until(expires, now)
        if until is None:
            raise InputError("expected --expires: a first status has none before it to take the expiry from")
        made = statuses.first(believed.authority(signer.public.key_id), now=now, expires=until)
    _write(made, signer, output)


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
    trust: str | None,
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
    now = datetime.now(timezone.utc)
    signer, believed = _signer(key, trust, now)
    made = statuses.revoking(
        statuses.following(_last(last, believed), now=now, expires=_until(expires, now)),
        grants=frozenset(_named(text, 16, _grant_id) for text in grants),
        devices=frozenset(_named(text, 32, lambda path: keys.load_device_public(path).key_id) for text in devices),
        keys=frozenset(_named(text, 32, lambda path: keys.load_publisher_public(path).key_id) for text in signers),
    )
    _write(made, signer, output or last)


@status.command()
@click.argument("last", metavar="STATUS")
@_signing_options
@click.option("--model-id", required=True, metavar="ID", help="The model's name.")
@click.option("--version", required=True, type=click.IntRange(1), metavar="N", help="The lowest version to open.")
@_output_option
def set_minimum(
    last: str, key: str, trust: str | None, expires: str | None, model_id: str, version: int, output: str | None
) -> None:
    """Withdraw the versions of a model below one."""
    from edgeq import status as statuses

    now = datetime.now(timezone.utc)
    signer, believed = _signer(key, trust, now)
    made = statuses.following(_last(last, believed), now=now, expires=_until(expires, now))
    _write(statuses.requiring(made, model_id, version), signer, output or last)


def _signer(key: str, trust: str | None, now: datetime) -> tuple[Signer, Trust]:
    """The key that signs, and the trust under which it may: in itself, or in a root that names it."""
    from edgeq.keys import load_signer
    from edgeq.opening import believe

    signer = with_passphrase(key, lambda passphrase: load_signer(key, passphrase=passphrase))
    believed = believe(signer.public if trust is None else trust)
    believed.status_key(signer.public.key_id)
    believed.check_status_key(signer.public.key_id, now)
    return signer, believed


def _last(path: str, believed: Trust) -> Status:
    """The last status, signed by whoever may: nobody else's words are signed again."""
    from edgeq import limits
    from edgeq import status as statuses
    from edgeq.files import read_limited

    return statuses.verify(read_limited(path, limits.STATUS), believed)[0]


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


def _write(made: Status, signer: Signer, output: str) -> None:
    from edgeq import status as statuses
    from edgeq.files import write_atomic

    write_atomic(output, statuses.sign(made, signer))
    tell(output, made)

"""`edgeq root init`, `rotate`, `add-key`, `sign`: what the owners of a root do. Not on devices."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import click

from edgeq.cli.passphrase import with_passphrase
from edgeq.cli.root import read, root, tell
from edgeq.errors import InputError

if TYPE_CHECKING:
    from edgeq.keys import PublisherPublic
    from edgeq.root import Root

ROLES = ("owner", "publisher", "issuer", "status")


@root.command()
@click.option("--owner", "owners", required=True, multiple=True, metavar="K.pub", help="An owner's key. Repeatable.")
@click.option("--threshold", required=True, type=click.IntRange(1), metavar="M", help="How many owners must sign.")
@click.option(
    "--expires", metavar="3650d|DATE", help="From then on nothing counts without a newer version [default: never]."
)
@click.option("-o", "--output", required=True, metavar="OUT.json", help="Where the draft goes.")
def init(owners: tuple[str, ...], threshold: int, expires: str | None, output: str) -> None:
    """Draft the first version of a root.

    It delegates nothing yet: edgeq root add-key does, then its owners sign it.
    """
    from edgeq import keys
    from edgeq import root as roots

    now = datetime.now(timezone.utc)
    public = [keys.load_publisher_public(path) for path in owners]
    named = {key.key_id: key.to_der() for key in public}
    if len(named) != len(owners):
        raise InputError("expected different owners: two of the keys are the same")
    _write(roots.first(named, threshold, now=now, expires=_until(expires, now)), output)


@root.command()
@click.argument("last", metavar="ROOT")
@click.option("--remove", multiple=True, metavar="K.pub|ID", help="A key to take out, whatever it does. Repeatable.")
@click.option(
    "--threshold", type=click.IntRange(1), metavar="M", help="How many owners must sign [default: as before]."
)
@click.option("--expires", metavar="3650d|DATE", help="Another expiry [default: as before].")
@click.option("-o", "--output", required=True, metavar="OUT.json", help="Where the draft goes.")
def rotate(last: str, remove: tuple[str, ...], threshold: int | None, expires: str | None, output: str) -> None:
    """Draft the next version of a root.

    It says what ROOT says, but for the keys that are removed; edgeq root add-key adds others. ROOT must be signed by
    its owners.
    """
    from edgeq import root as roots

    now = datetime.now(timezone.utc)
    made = roots.next_version(
        roots.verify(read(last)),
        now=now,
        remove=frozenset(_key_id(text) for text in remove),
        threshold=threshold,
        expires=_until(expires, now),
    )
    _write(made, output)


@root.command()
@click.argument("draft", metavar="DRAFT")
@click.argument("key", metavar="K.pub")
@click.option("--role", required=True, type=click.Choice(ROLES), help="What the key is for.")
@click.option("--models", "patterns", metavar="LIST", help="Model ids, prefixes like vision/*, or *, with commas.")
@click.option("--allow", metavar="LIST", help="For issuers: the operations that they may grant, with commas.")
@click.option("--until", metavar="365d|DATE", help="Until when; all but owners need it.")
def add_key(draft: str, key: str, role: str, patterns: str | None, allow: str | None, until: str | None) -> None:
    """Add a key to a draft, or change what it may do.

    A publisher signs bundles of the --models; an issuer grants the operations that it is --allow-ed, with bundles of
    the --models; a status key signs statuses; an owner signs roots. A draft that was signed does not change any more.
    """
    from edgeq import keys
    from edgeq import root as roots

    found, now = roots.parse(read(draft)), datetime.now(timezone.utc)
    if found.envelope.signatures:
        raise InputError(
            f"{draft}: it was signed, so it does not change any more (edgeq root rotate drafts the next version)"
        )
    _expect(role, {"--models": patterns, "--allow": allow, "--until": until})
    public, end = keys.load_publisher_public(key), _until(until, now)
    models_, operations = frozenset(_listed(patterns)), frozenset(_listed(allow))
    if role == "publisher" and end is not None:
        made = roots.with_publisher(found.root, public, models_, end)
    elif role == "issuer" and end is not None:
        made = roots.with_issuer(found.root, public, models_, operations, end)
    elif role == "status" and end is not None:
        made = roots.with_status_key(found.root, public, end)
    else:
        made = roots.with_owner(found.root, public)
    _write(made, draft)


@root.command()
@click.argument("draft", metavar="DRAFT")
@click.option("--key", required=True, metavar="K.key", help="An owner's private key.")
@click.option("--previous", metavar="ROOT", help="The version before, whose owners must sign too.")
def sign(draft: str, key: str, previous: str | None) -> None:
    """Add an owner's signature to a draft.

    Look at what you sign (edgeq root show). The owners of the version before are known from --previous.
    """
    from edgeq import root as roots
    from edgeq.files import write_atomic
    from edgeq.keys import load_signer

    last = None if previous is None else roots.verify(read(previous))
    signer = with_passphrase(key, lambda passphrase: load_signer(key, passphrase=passphrase))
    data = roots.sign(read(draft), signer, last)
    write_atomic(draft, data)
    tell(draft, roots.parse(data), last)


def _until(text: str | None, now: datetime) -> datetime | None:
    from edgeq.clock import expiry

    return None if text is None else expiry(text, now)


def _listed(text: str | None) -> list[str]:
    return [] if text is None else [part.strip() for part in text.split(",") if part.strip()]


def _expect(role: str, given: dict[str, str | None]) -> None:
    """The options that go with a role, all of them and no others."""
    wanted = {
        "owner": (),
        "publisher": ("--models", "--until"),
        "issuer": ("--models", "--allow", "--until"),
        "status": ("--until",),
    }[role]
    for option, value in given.items():
        if (option in wanted) != (value is not None):
            raise InputError(f"--role {role} {'needs' if option in wanted else 'has no use for'} {option}")


def _key_id(text: str) -> str:
    from edgeq import keys

    if re.fullmatch("[0-9a-f]{64}", text):
        return text
    found: PublisherPublic = keys.load_publisher_public(text)
    return found.key_id


def _write(made: Root, output: str) -> None:
    from edgeq import root as roots
    from edgeq.files import write_atomic

    data = roots.draft(made)
    write_atomic(output, data)
    tell(output, roots.parse(data), None)

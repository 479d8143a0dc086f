"""`edgeq root`: who may sign what, owned by several people together."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import click

from edgeq.cli import models, show
from edgeq.cli.passphrase import with_passphrase
from edgeq.errors import InputError

if TYPE_CHECKING:
    from edgeq.keys import PublisherPublic
    from edgeq.root import Delegation, Root, Signed

ROLES = ("owner", "publisher", "issuer", "status")


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
        roots.verify(_read(last)),
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

    found, now = roots.parse(_read(draft)), datetime.now(timezone.utc)
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

    last = None if previous is None else roots.verify(_read(previous))
    signer = with_passphrase(key, lambda passphrase: load_signer(key, passphrase=passphrase))
    data = roots.sign(_read(draft), signer, last)
    write_atomic(draft, data)
    _show(draft, roots.parse(data), last)


@root.command("show")
@click.argument("file", metavar="ROOT")
@click.option("--previous", metavar="ROOT", help="The version before, to see whether its owners have signed.")
def show_root(file: str, previous: str | None) -> None:
    """Show what a root or draft says, and who has signed it."""
    from edgeq import clock
    from edgeq import root as roots

    last = None if previous is None else roots.verify(_read(previous))
    found = roots.parse(_read(file))
    _show(file, found, last)
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
        found = store.apply_root(_read(file), now=datetime.now(timezone.utc))
        show.facts(
            [("root", file), ("root id", found.root_id), ("version", found.version), ("believed by", store.device)]
        )


def _read(path: str) -> bytes:
    from edgeq import limits
    from edgeq.files import read_limited

    return read_limited(path, limits.ROOT)


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
    _show(output, roots.parse(data), None)


def _show(file: str, found: Signed, last: Root | None) -> None:
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

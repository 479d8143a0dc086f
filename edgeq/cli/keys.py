"""`edgeq keys`: make the keys of publishers, devices, issuers and signers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from edgeq.cli import show
from edgeq.cli.passphrase import VARIABLE, new_passphrase
from edgeq.errors import InputError, OutputError

if TYPE_CHECKING:
    from edgeq.keys import PublisherKey
    from edgeq.recipients import DeviceKey


@click.group()
def keys() -> None:
    """Make the keys of publishers, devices, issuers, roots.

    A publisher signs bundles and issues grants; a device opens what was granted to it. Under a root (edgeq root),
    signers own the root and sign statuses, and issuers hand grants on. NAME.pub may go anywhere; NAME.key is readable
    by its owner alone and stays where it was made.
    """


@keys.group()
def new() -> None:
    """Make NAME.key and NAME.pub; existing files are left alone."""


def _passphrase_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--passphrase", is_flag=True, help=f"Encrypt NAME.key under a passphrase [{VARIABLE}, or typed]."
    )(command)


def _classical_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--classical", is_flag=True, help="X25519 alone, for machines whose cryptography package has no ML-KEM."
    )(command)


def _made(name: str, key_id: str, kinds: str) -> None:
    show.facts([("private", f"{name}.key"), ("public", f"{name}.pub"), ("key id", key_id), ("kind", kinds)])


def _kinds(made: PublisherKey | DeviceKey) -> str:
    from edgeq import pem
    from edgeq.recipients import DeviceKey

    opening = made if isinstance(made, DeviceKey) else made.identity
    if len(opening.blocks) == 1:
        show.note("X25519 alone: whoever records what is wrapped for it may open it with a quantum computer")
    return pem.kinds(made.blocks)


@new.command()
@click.argument("name", metavar="NAME")
@_passphrase_option
@_classical_option
@click.option(
    "--ml-dsa", is_flag=True, help="Sign bundles a second time, with ML-DSA-65; who trusts NAME.pub asks for it."
)
def publisher(name: str, passphrase: bool, classical: bool, ml_dsa: bool) -> None:
    """Make a publisher's keys: P-256 to sign, X25519 with ML-KEM-768 to grant."""
    from edgeq.keys import new_publisher

    made = new_publisher(
        name,
        passphrase=new_passphrase() if passphrase else None,
        hybrid=False if classical else None,
        second=ml_dsa,
    )
    _made(name, made.public.key_id, _kinds(made))


@new.command()
@click.argument("name", metavar="NAME")
@_passphrase_option
@_classical_option
@click.option("--in", "chip", metavar="CHIP", help="Make it in a chip, which keeps it: pkcs11:… or tpm2:… [a file]")
def device(name: str, passphrase: bool, classical: bool, chip: str | None) -> None:
    """Make a device's key: X25519 with ML-KEM-768, to open grants.

    A key in a chip is on P-256, and there is no NAME.key: the device is named by --identity pkcs11:… or tpm2:….
    """
    from edgeq.keys import new_device

    if chip is not None:
        _in_chip(name, chip, passphrase, classical)
        return
    made = new_device(name, passphrase=new_passphrase() if passphrase else None, hybrid=False if classical else None)
    _made(name, made.public.key_id, _kinds(made))


def _in_chip(name: str, chip: str, passphrase: bool, classical: bool) -> None:
    import os

    from edgeq import identities, pem
    from edgeq.files import write_atomic

    if classical or not identities.is_chip(chip):
        raise InputError("--in: expected pkcs11:… or tpm2:…, and no --classical: a chip has P-256")
    if os.path.lexists(f"{name}.pub"):
        raise OutputError(f"{name}.pub: there is a file already; it was left as it is")
    if passphrase or chip.startswith("pkcs11:"):
        made = identities.create(chip, passphrase=new_passphrase())
    else:
        made = identities.create(chip)
    write_atomic(f"{name}.pub", pem.public_bytes(made.public.blocks), replace=False)
    facts = [("identity", chip), ("public", f"{name}.pub"), ("key id", made.public.key_id)]
    show.facts([*facts, ("kind", pem.kinds(made.public.blocks))])


@new.command()
@click.argument("name", metavar="NAME")
@_passphrase_option
def signer(name: str, passphrase: bool) -> None:
    """Make a key that signs roots or statuses: P-256 alone."""
    from edgeq.keys import new_signer

    made = new_signer(name, passphrase=new_passphrase() if passphrase else None)
    _made(name, made.public.key_id, "P-256")


@new.command()
@click.argument("name", metavar="NAME")
@_passphrase_option
@_classical_option
def issuer(name: str, passphrase: bool, classical: bool) -> None:
    """Make the keys of an issuer, who grants what a publisher granted to it: as a publisher's."""
    from edgeq.keys import new_publisher

    made = new_publisher(name, passphrase=new_passphrase() if passphrase else None, hybrid=False if classical else None)
    _made(name, made.public.key_id, _kinds(made))

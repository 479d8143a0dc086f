"""`edgeq keys`: make the keys of a publisher or a device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from edgeq.cli import show
from edgeq.cli.passphrase import VARIABLE, new_passphrase


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


@new.command()
@click.argument("name", metavar="NAME")
@_passphrase_option
def publisher(name: str, passphrase: bool) -> None:
    """Make a publisher's keys: P-256 to sign, X25519 to grant."""
    from edgeq.keys import new_publisher

    made = new_publisher(name, passphrase=new_passphrase() if passphrase else None)
    show.facts([("private", f"{name}.key"), ("public", f"{name}.pub"), ("key id", made.public.key_id)])


@new.command()
@click.argument("name", metavar="NAME")
@_passphrase_option
def device(name: str, passphrase: bool) -> None:
    """Make a device's key: X25519, to open grants."""
    from edgeq.keys import new_device

    made = new_device(name, passphrase=new_passphrase() if passphrase else None)
    show.facts([("private", f"{name}.key"), ("public", f"{name}.pub"), ("key id", made.public.key_id)])


@new.command()
@click.argument("name", metavar="NAME")
@_passphrase_option
def signer(name: str, passphrase: bool) -> None:
    """Make a key that signs roots or statuses: P-256 alone."""
    from edgeq.keys import new_signer

    made = new_signer(name, passphrase=new_passphrase() if passphrase else None)
    show.facts([("private", f"{name}.key"), ("public", f"{name}.pub"), ("key id", made.public.key_id)])


@new.command()
@click.argument("name", metavar="NAME")
@_passphrase_option
def issuer(name: str, passphrase: bool) -> None:
    """Make the keys of an issuer, who grants what a publisher granted to it: as a publisher's."""
    from edgeq.keys import new_publisher

    made = new_publisher(name, passphrase=new_passphrase() if passphrase else None)
    show.facts([("private", f"{name}.key"), ("public", f"{name}.pub"), ("key id", made.public.key_id)])

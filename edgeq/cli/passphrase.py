"""Passphrases of key files: from EDGEQ_PASSPHRASE, or asked for when a key needs one and somebody is there."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TypeVar

import click

from edgeq.errors import PassphraseError

T = TypeVar("T")

VARIABLE = "EDGEQ_PASSPHRASE"


def with_passphrase(path: str, load: Callable[[bytes | None], T]) -> T:
    """`load(passphrase)` of the key file at `path`: without one, then with that of the environment or the one typed.

    Raises PassphraseError when the key needs one and it is not there or is wrong.
    """
    try:
        return load(None)
    except PassphraseError:
        found = _from_environment()
        if found is None and not sys.stdin.isatty():
            raise
    return load(found or click.prompt(f"passphrase of {path}", hide_input=True, err=True).encode())


def new_passphrase() -> bytes:
    """The passphrase of a key to be made: from the environment, or typed twice."""
    found = _from_environment()
    if found is not None:
        return found
    if not sys.stdin.isatty():
        raise PassphraseError(f"a passphrase was asked for, but there is no terminal to type it at and no {VARIABLE}")
    typed: str = click.prompt("new passphrase", hide_input=True, confirmation_prompt=True, err=True)
    return typed.encode()


def _from_environment() -> bytes | None:
    value = os.environ.get(VARIABLE)
    return value.encode() if value else None

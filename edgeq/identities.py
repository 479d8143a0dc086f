"""A device's identity by its name: the path of a .key file, `pkcs11:…` (RFC 7512) or `tpm2:…`.

Each backend gives the same three things (edgeq.recipients.Identity), and is imported when it is named: edgeq needs none of them.
"""

from __future__ import annotations

import os

from edgeq import keys
from edgeq.files import PathLike
from edgeq.recipients import Identity


def load(name: PathLike, *, passphrase: bytes | None = None) -> Identity:
    """The identity of this name; `passphrase` opens the file, or is the chip's PIN.

    Raises InputError, KeyFileError, and PassphraseError if it needs a passphrase or PIN, or another one.
    """
    text = os.fspath(name)
    if text.startswith("pkcs11:"):
        from edgeq import pkcs11

        return pkcs11.load(text, passphrase)
    if text.startswith("tpm2:"):
        from edgeq import tpm

        return tpm.load(text, passphrase)
    return keys.load_device(text, passphrase=passphrase)


def create(name: str, *, passphrase: bytes | None = None) -> Identity:
    """A fresh key in the chip that `pkcs11:…` or `tpm2:…` names, which never leaves it.

    Raises as `load` does, and OutputError if there is such a key already.
    """
    if name.startswith("pkcs11:"):
        from edgeq import pkcs11

        return pkcs11.create(name, passphrase)
    from edgeq import tpm

    return tpm.create(name, passphrase)


def is_chip(name: PathLike) -> bool:
    """Whether an identity of this name keeps its private key to itself."""
    return os.fspath(name).startswith(("pkcs11:", "tpm2:"))

"""USER@HOST[:DIR]: where a device is, and the folder that edgeq owns there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from edgeq.errors import InputError

DEFAULT_FOLDER: Final = "edgeq"
"""In the home of the user on the device."""

_ADDRESS: Final = re.compile(
    r"(?:(?P<user>[^@:/\s]+)@)?(?P<host>\[[^\]\s]+\]|[^@:/\s\[\]]+)(?::(?P<folder>[^\0-\x1f]+))?"
)


@dataclass(frozen=True)
class Address:
    """`destination` is what ssh is given; `folder` is absolute, or counts from the user's home there."""

    destination: str
    host: str
    folder: str

    def __str__(self) -> str:
        return f"{self.destination}:{self.folder}"


def parse(text: str) -> Address:
    """The address that was typed; an IPv6 host stands in brackets. Raises InputError."""
    found = _ADDRESS.fullmatch(text)
    if found is None or text.startswith("-") or found["host"].startswith("-"):
        raise InputError(f"expected USER@HOST or USER@HOST:DIR, found {text[:128]!a}")
    host = found["host"].strip("[]")
    folder = (found["folder"] or DEFAULT_FOLDER).removeprefix("~/").rstrip("/")
    if not folder or ".." in folder.split("/") or folder.startswith("~"):
        raise InputError(f"expected a folder of its own on the device, found {found['folder']!a}")
    return Address(host if found["user"] is None else f"{found['user']}@{host}", host, folder)

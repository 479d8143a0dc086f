"""What a device is to hold: files by their content, and the id that follows from all of them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from edgeq.errors import InputError
from edgeq.files import PathLike, open_regular

BUNDLE: Final = "bundle.eqb"
GRANT: Final = "grant.eqg"
TRUST: Final = "trust"

_PIECE: Final = 1 << 20
_WHEEL: Final = re.compile(r"[A-Za-z0-9_.]+-[^-]+(?:-\d[^-]*)?-[^-]+-[^-]+-(?P<platform>[^-]+)\.whl")


@dataclass(frozen=True)
class Blob:
    """A file to copy: where it lies here, its size and SHA-256."""

    path: Path
    size: int
    sha256: str

    def pieces(self, offset: int = 0) -> Iterator[bytes]:
        """Its bytes from `offset` on."""
        with open_regular(self.path) as (file, _):
            file.seek(offset)
            while piece := file.read(_PIECE):
                yield piece


@dataclass(frozen=True)
class Release:
    """What is deployed: files under the names that they get, wheels, the device's Python, and whether it keeps a state."""

    files: dict[str, Blob]
    wheels: tuple[Blob, ...] = ()
    python: str = "python3"
    state: bool = False
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def site(self) -> str:
        """The id of the unpacked wheels; empty where there are none."""
        return _digest([w.sha256 for w in self.wheels]) if self.wheels else ""

    @property
    def id(self) -> str:
        """Follows from everything in it: the same release has the same id on every device."""
        return _digest(self._content())

    def blobs(self) -> list[Blob]:
        """Every file to copy, once."""
        return list({b.sha256: b for b in (*self.wheels, *self.files.values())}.values())

    def to_json(self) -> dict[str, Any]:
        """As the agent is given it."""
        return {"id": self.id, **self._content()}

    def _content(self) -> dict[str, Any]:
        return {
            "files": {name: blob.sha256 for name, blob in self.files.items()},
            "wheels": wheels_json(self.wheels),
            "site": self.site,
            "python": self.python,
            "state": self.state,
            "about": self.about,
        }


def wheels_json(wheels: Sequence[Blob]) -> list[list[str]]:
    """Wheels as the agent is given them."""
    return [[w.path.name, w.sha256] for w in wheels]


def blob(path: PathLike) -> Blob:
    """The file at `path`, hashed. Raises InputError."""
    digest, size = hashlib.sha256(), 0
    with open_regular(path) as (file, _):
        while piece := file.read(_PIECE):
            digest.update(piece)
            size += len(piece)
    return Blob(Path(path), size, digest.hexdigest())


def wheel(path: PathLike, architecture: str) -> Blob:
    """A wheel for a device of this architecture ("x86_64", "aarch64", "armv7"). Raises InputError for another one's."""
    named = _WHEEL.fullmatch(Path(path).name)
    if named is None:
        raise InputError(f"{path}: expected a wheel, NAME-VERSION-PYTHON-ABI-PLATFORM.whl")
    ends = {"armv7": ("armv7l", "armv6l")}.get(architecture, (architecture,))
    if not any(tag == "any" or tag.endswith(ends) for tag in named["platform"].split(".")):
        raise InputError(f"{path}: for {named['platform']}, the device is {architecture}")
    return blob(path)


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]

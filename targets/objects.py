"""Objects that were built ahead: where they lie, what their manifests say, and which of them this processor may run.

An object is two files, NAME.so and NAME.json. The manifest says for which kernels (their sources' digest and the ABI) and which
processors the object was made, and holds its SHA-256: what does not agree with this edgeq is refused with a reason, never tried.
They lie in the package (a wheel's, FOLDER) or in the user's cache, below the digest of the kernels.

Needs neither NumPy nor Numba: a device has this, a shared object, and nothing to compile with.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeq.digest import sha256
from edgeq.files import only_ours
from edgeq.records import dataclass, field, fields
from edgeq.spelling import understand
from edgeq.targets.detect import Cpu
from edgeq.targets.identity import ABI, content_of, source_digest

FOLDER = Path(__file__).parent / "built"
"""Objects that came with the package."""

MAX_MANIFEST = 1 << 16
FORMAT = 1

_PIECE = 1 << 15
_KINDS: dict[str, type] = {
    "format": int, "order": int, "abi": int, "size": int, "versions": dict, "needs": list, "parts": list
}  # fmt: skip
"""Fields of a manifest that are no text."""


@dataclass(frozen=True)
class Manifest:
    """What NAME.json says; the words are those of edgeq.targets.target.Target."""

    format: int
    target: str
    architecture: str
    isa: str
    needs: tuple[str, ...]
    parts: tuple[str, ...]
    order: int
    triple: str
    cpu: str
    features: str
    abi: int
    kernels: str  # source_digest() of what was compiled
    inputs: str  # digest of everything that decides the object's bytes
    sha256: str
    size: int
    versions: dict[str, str] = field(hash=False)

    def to_json(self) -> bytes:
        """The file's content."""
        import json

        return (json.dumps(vars(self), indent=1, sort_keys=True) + "\n").encode()

    @classmethod
    def from_json(cls, content: bytes) -> Manifest:
        """Parse; ValueError says what is wrong."""
        return cls.from_value(_understood(content))

    @classmethod
    def from_value(cls, value: Any) -> Manifest:
        """The same from parsed JSON."""
        if not isinstance(value, dict):
            raise ValueError("an object is expected")
        names = [f.name for f in fields(cls)]
        for name in names:
            if not isinstance(value.get(name), _KINDS.get(name, str)):
                raise ValueError(f"{name} is missing or of the wrong kind")
        known = {name: value[name] for name in names}
        return cls(**(known | {"needs": tuple(known["needs"]), "parts": tuple(known["parts"])}))


@dataclass(frozen=True)
class Candidate:
    """An object found: its shared object's path, its manifest, and why it cannot be used ("": it can)."""

    path: Path
    manifest: Manifest | None
    refused: str = ""

    @property
    def name(self) -> str:
        """The target's name, or the file's."""
        return self.manifest.target if self.manifest else self.path.stem


def cache_folder() -> Path:
    """Where objects are kept: EDGEQ_CACHE, or the user's cache folder."""
    if named := os.environ.get("EDGEQ_CACHE"):
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "edgeq"


def built_folder(digest: str) -> Path:
    """Where this user's objects of these kernels lie."""
    return cache_folder() / "targets" / digest[:32]


def candidates(cpu: Cpu, digest: str | None = None) -> tuple[Candidate, ...]:
    """Every object for this architecture, the best first and the refused ones last."""
    digest = digest or source_digest()
    found = []
    for folder, ours in ((os.fspath(FOLDER), True), (os.fspath(built_folder(digest)), False)):
        judged = (judge(folder, name, cpu, digest, ours) for name in _manifests(folder))
        found += [candidate for candidate in judged if candidate is not None]
    return tuple(sorted(found, key=lambda c: (bool(c.refused), *_preference(c.manifest, cpu))))


def _preference(manifest: Manifest | None, cpu: Cpu) -> tuple[bool, int]:
    if manifest is None:
        return True, 0
    return cpu.part not in manifest.parts, -manifest.order


def _manifests(folder: str) -> list[str]:
    """The names of the objects in a folder that have a manifest."""
    try:
        return [n.removesuffix(".json") for n in sorted(os.listdir(folder)) if n.endswith(".json")]
    except OSError:
        return []


def judge(folder: str, name: str, cpu: Cpu, digest: str, packaged: bool) -> Candidate | None:
    """An object in a folder, with the reason if it may not be used; None for one of another architecture. `packaged`: it came
    with this code."""
    shared = Path(folder, f"{name}.so")
    try:
        value = _understood(content_of(f"{folder}/{name}.json", MAX_MANIFEST))
        if _for_another(value, cpu.architecture):
            return None  # of ten objects of a wheel, half; a start reads them all
        manifest = Manifest.from_value(value)
    except (OSError, ValueError) as error:
        return Candidate(shared, None, f"its manifest cannot be read: {error}")
    if manifest.format != FORMAT or manifest.abi != ABI:
        return Candidate(shared, manifest, f"its ABI is {manifest.abi}, {ABI} is expected")
    if manifest.kernels != digest:
        return Candidate(shared, manifest, f"its kernels are {manifest.kernels[:12]}…, {digest[:12]}… is expected")
    if lacking := cpu.lacks(manifest.needs):
        return Candidate(shared, manifest, f"this processor lacks {', '.join(lacking)}")
    if not packaged and not _private(shared):
        return Candidate(shared, manifest, "others than this user may have written it")
    return Candidate(shared, manifest)


def _understood(content: bytes) -> Any:
    return understand(content.decode())


def _for_another(value: Any, architecture: str) -> bool:
    """Whether a manifest names another architecture than this."""
    named = value.get("architecture") if isinstance(value, dict) else None
    return isinstance(named, str) and named != architecture


def _private(path: Path) -> bool:
    """Whether this user or root alone writes a file in the cache."""
    try:
        return only_ours(os.stat(path))
    except OSError:
        return False


def damage(candidate: Candidate) -> str:
    """What is wrong with a candidate's bytes, "" if they are what its manifest says."""
    assert candidate.manifest is not None
    try:
        found = _digest(candidate.path)
    except OSError as error:
        return f"it cannot be read: {error.strerror or error}"
    return "" if found == candidate.manifest.sha256 else "its content is not what its manifest says"


def _digest(path: Path) -> str:
    """SHA-256 of a file, through one small buffer: memory that is new to a process costs more than hashing what comes into it."""
    digest, buffer = sha256(), memoryview(bytearray(_PIECE))
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while size := os.readv(descriptor, [buffer]):
            digest.update(buffer[:size])
    finally:
        os.close(descriptor)
    return digest.hexdigest()


def named(found: Sequence[Candidate], name: str) -> tuple[Candidate, ...]:
    """The candidates of one target."""
    return tuple(c for c in found if c.name == name)

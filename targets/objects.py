"""Objects that were built ahead: where they lie, what their manifests say, and which of them this processor may run.

An object is two files, NAME.so and NAME.json. The manifest says for which kernels (their sources' digest and the ABI) and which
processors the object was made, and holds its SHA-256: what does not agree with this edgeq is refused with a reason, never tried.
They lie in the package (a wheel's, FOLDER) or in the user's cache, below the digest of the kernels.

Needs neither NumPy nor Numba: a device has this, a shared object, and nothing to compile with.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edgeq.files import only_ours
from edgeq.records import dataclass, field, fields
from edgeq.spelling import understand
from edgeq.targets.detect import Cpu
from edgeq.targets.identity import ABI, source_digest

FOLDER = Path(__file__).parent / "built"
"""Objects that came with the package."""

MAX_MANIFEST = 1 << 16
FORMAT = 1


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
        value: Any = understand(content.decode())
        kinds = {"format": int, "order": int, "abi": int, "size": int, "versions": dict, "needs": list, "parts": list}
        if not isinstance(value, dict):
            raise ValueError("an object is expected")
        names = [f.name for f in fields(cls)]
        for name in names:
            if not isinstance(value.get(name), kinds.get(name, str)):
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
    for folder, ours in ((FOLDER, True), (built_folder(digest), False)):
        found += [judge(path, cpu, digest, ours) for path in _manifests(folder)]
    alike = [c for c in found if c.manifest is None or c.manifest.architecture == cpu.architecture]
    return tuple(sorted(alike, key=lambda c: (bool(c.refused), *_preference(c.manifest, cpu))))


def _preference(manifest: Manifest | None, cpu: Cpu) -> tuple[bool, int]:
    if manifest is None:
        return True, 0
    return cpu.part not in manifest.parts, -manifest.order


def _manifests(folder: Path) -> Iterator[Path]:
    if not os.path.isdir(folder):
        return
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return
    yield from (folder / n for n in names if n.endswith(".json"))


def judge(path: Path, cpu: Cpu, digest: str, packaged: bool) -> Candidate:
    """The object whose manifest is at `path`, with the reason if it may not be used. `packaged`: it came with this code."""
    shared = path.with_suffix(".so")
    try:
        with open(path, "rb") as file:
            manifest = Manifest.from_json(file.read(MAX_MANIFEST))
    except (OSError, ValueError) as error:
        return Candidate(shared, None, f"its manifest cannot be read: {error}")
    if manifest.architecture != cpu.architecture:
        return Candidate(shared, manifest, f"it is for {manifest.architecture}, this is {cpu.architecture}")
    if manifest.format != FORMAT or manifest.abi != ABI:
        return Candidate(shared, manifest, f"its ABI is {manifest.abi}, {ABI} is expected")
    if manifest.kernels != digest:
        return Candidate(shared, manifest, f"its kernels are {manifest.kernels[:12]}…, {digest[:12]}… is expected")
    if lacking := cpu.lacks(manifest.needs):
        return Candidate(shared, manifest, f"this processor lacks {', '.join(lacking)}")
    if not packaged and not _private(shared):
        return Candidate(shared, manifest, "others than this user may have written it")
    return Candidate(shared, manifest)


def _private(path: Path) -> bool:
    """Whether this user or root alone writes a file in the cache."""
    try:
        return only_ours(path.stat())
    except OSError:
        return False


def damage(candidate: Candidate) -> str:
    """What is wrong with a candidate's bytes, "" if they are what its manifest says."""
    assert candidate.manifest is not None
    try:
        content = candidate.path.read_bytes()
    except OSError as error:
        return f"it cannot be read: {error.strerror or error}"
    if hashlib.sha256(content).hexdigest() != candidate.manifest.sha256:
        return "its content is not what its manifest says"
    return ""


def named(found: Sequence[Candidate], name: str) -> tuple[Candidate, ...]:
    """The candidates of one target."""
    return tuple(c for c in found if c.name == name)

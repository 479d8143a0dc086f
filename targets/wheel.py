"""Wheels with kernels built ahead: the plain one for every target, and slim ones for a device.

A slim wheel holds what a device's commands and the API reach, without docstrings (targets/strip.py), and one target's object; it
depends on neither Numba nor llvmlite. Its name carries the target as build tag (edgeq-0.1.0-1rpi5-py3-none-….whl), so that
those of one platform can lie together. The same inputs give the same bytes: entries are sorted and dated 1980.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path

from edgeq.errors import MachineError
from edgeq.targets.archive import archive
from edgeq.targets.closure import closure
from edgeq.targets.constants import in_one
from edgeq.targets.fold import folded
from edgeq.targets.identity import DIGEST_FILE, source_digest
from edgeq.targets.rename import renamed
from edgeq.targets.strip import asked_for, strip
from edgeq.targets.table import TARGETS
from edgeq.targets.target import Target
from edgeq.targets.unreached import unreached, without

PACKAGE = Path(__file__).parent.parent
BUILT = "edgeq/targets/built"

DEVICE_NEEDS = ("numpy", "cryptography", "click", "flatbuffers")
"""What a slim wheel depends on, of what edgeq does."""

_COMMANDS = (
    "app", "audit", "bench", "calibrate", "device", "doctor", "evaluate", "inspect", "keys", "mask", "monitor", "pack",
    "root", "run", "status", "targets", "transform", "unseal", "verify",
)  # fmt: skip
"""Modules of edgeq/cli that a device's wheel has."""

_LEFT = (
    "edgeq/kernels/decide.py", "edgeq/kernels/quantmod.py", "edgeq/leftovers.py", "edgeq/linked.py", "edgeq/cli/lint.py",
    "edgeq/cli/tune.py", "edgeq/quantize/run.py",
)  # fmt: skip
"""What others import only where it is wanted: the first four go with Numba, the rest is for where models are made."""

_NO_ROOM = ("edgeq/plan/renumber.py",)
"""What 32-bit ARM's wheel is left without besides: choosing ranges takes longer there."""

_API = ("__init__", "__main__", "customs", "folded", "interpreter/__init__", "loader", "masking", "quantmod")

_STAYS = (
    "archive", "build", "closure", "constants", "crosscompile", "emit", "fold", "here", "link", "outdated", "rename", "shared",
    "softmath", "strip", "unreached", "wheel",
)  # fmt: skip
"""Modules of edgeq/targets that make objects and wheels."""


def plain(objects: Path, targets: Sequence[Target]) -> tuple[str, bytes]:
    """Name and content of the wheel of the whole package, for any platform, with the objects of `targets` from a folder."""
    files = package_files()
    for target in targets:
        files |= object_files(objects, target)
    return pack(files, _metadata(), "py3-none-any")


def slim(objects: Path, target: Target) -> tuple[str, bytes]:
    """Name and content of the wheel for devices of one target."""
    files = dict(_modules(target.architecture, target.small))
    files[f"edgeq/kernels/{DIGEST_FILE}"] = source_digest().encode() + b"\n"
    files |= object_files(objects, target)
    return pack(files, _metadata(DEVICE_NEEDS), f"py3-none-{target.platform}", f"1{target.name.replace('-', '_')}")


@cache
def _modules(architecture: str, small: bool) -> Mapping[str, bytes]:
    """The files of all wheels of an architecture, in the form that a wheel has them."""
    target = next(t for t in TARGETS.values() if (t.architecture, t.small) == (architecture, small))
    return folded(in_one(_without_words(device_files(target)), "edgeq/kernels/words/"))


def device_files(target: Target) -> dict[str, bytes]:
    """What the device's commands and the API reach, and the targets of its architecture."""
    everything = package_files()
    roots = [*(f"edgeq/{m}.py" for m in _API), *(f"edgeq/cli/{m}.py" for m in _COMMANDS)]
    roots += [name for name in everything if name.startswith("edgeq/plan/lower/")]  # imported by name
    alike = [t.name for t in TARGETS.values() if t.architecture == target.architecture]
    roots += [f"edgeq/targets/{name.replace('-', '_')}.py" for name in alike]
    left = [*(f"edgeq/targets/{m}.py" for m in _STAYS), *_LEFT, *(_NO_ROOM if target.small else ())]
    taken = closure(everything, roots, left)
    return {name: content for name, content in everything.items() if name in taken}


def _without_words(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Modules without what is for who reads them; docstrings of commands stay: they are their help."""
    sources = {name: content.decode() for name, content in files.items() if name.endswith(".py")}
    callers = [path.read_text() for path in sorted((PACKAGE / "deploy").glob("*.py"))]  # who sends programs to devices
    api = [name for name in sources if name.startswith("edgeq/cli/") or name in {f"edgeq/{m}.py" for m in _API}]
    asked = asked_for(sources)
    stripped = {name: _stripped(name, source, asked[name]) for name, source in sources.items()}
    while left := unreached(stripped, callers, api):  # what only these have named goes with them
        for name, gone in left.items():
            sources[name], stripped[name] = without(sources[name], gone), without(stripped[name], gone)
    changed = {name for name, text in sources.items() if text.encode() != files[name]}
    stripped |= {name: _stripped(name, sources[name], asked[name]) for name in changed}
    short = {name: renamed(source).encode() for name, source in stripped.items()}
    return {**files, **short}


def _stripped(name: str, source: str, asked: Collection[str]) -> str:
    return strip(source, docstrings=not name.startswith("edgeq/cli/"), wanted=asked)


def package_files() -> dict[str, bytes]:
    """Every file of the package by its name in a wheel, without what was built or compiled."""
    found = {}
    for folder, folders, names in os.walk(PACKAGE, followlinks=True):
        folders[:] = [n for n in folders if n not in ("__pycache__", "built")]
        for n in names:
            path = Path(folder, n)
            if not n.startswith(".") and path.suffix not in (".pyc", ".so"):
                found[f"edgeq/{path.relative_to(PACKAGE).as_posix()}"] = path.read_bytes()
    return found


def object_files(folder: Path, target: Target) -> dict[str, bytes]:
    """A target's object and manifest."""
    try:
        return {
            f"{BUILT}/{target.name}{end}": (folder / f"{target.name}{end}").read_bytes() for end in (".json", ".so")
        }
    except OSError as error:
        raise MachineError(f"there is no object for {target.name} in {folder}: {error.strerror}") from None


def _metadata(needs: Sequence[str] | None = None) -> bytes:
    """The package's own, as installed; `needs` leaves only these requirements and no extras."""
    text = metadata.distribution("edgeq").read_text("METADATA")
    if text is None:
        raise MachineError("edgeq is not installed as a package: pip install it, or its source tree with --editable")
    head, _, body = text.partition("\n\n")
    lines, kept = head.split("\n"), []
    for line in lines:
        optional = line.startswith("Provides-Extra:") or "extra ==" in line
        required = line.removeprefix("Requires-Dist:").strip() if line.startswith("Requires-Dist:") else ""
        if needs is None or not (optional or (required and not _is_one_of(required, needs))):
            kept.append(line)
    return "\n".join([*kept, "", body if needs is None else ""]).encode()


def _is_one_of(requirement: str, names: Sequence[str]) -> bool:
    return any(requirement.startswith(n) and not requirement[len(n) : len(n) + 1].isalnum() for n in names)


def pack(files: Mapping[str, bytes], described: bytes, tag: str, build: str = "") -> tuple[str, bytes]:
    """A wheel's name and content: PEP 427."""
    version = metadata.version("edgeq")
    about = f"edgeq-{version}.dist-info"
    wheel = f"Wheel-Version: 1.0\nGenerator: edgeq {version}\nRoot-Is-Purelib: {str(tag.endswith('-any')).lower()}\n"
    wheel += (f"Build: {build}\n" if build else "") + f"Tag: {tag}\n"
    everything = dict(files) | {
        f"{about}/METADATA": described,
        f"{about}/WHEEL": wheel.encode(),
        f"{about}/entry_points.txt": b"[console_scripts]\nedgeq = edgeq.cli:main\n",
    }
    if licence := metadata.distribution("edgeq").read_text("licenses/LICENSE"):
        everything[f"{about}/licenses/LICENSE"] = licence.encode()
    # A size may be left empty ("Recording installed projects"), and pip writes its own when it installs.
    record = [f"{name},sha256={_digest(everything[name])}," for name in sorted(everything)]
    everything[f"{about}/RECORD"] = "\n".join([*record, f"{about}/RECORD,,", ""]).encode()
    parts = ["edgeq", version, *([build] if build else []), *tag.split("-", 2)]
    return "-".join(parts) + ".whl", archive(everything)


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()

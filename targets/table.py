"""Every target, by name."""

from __future__ import annotations

from importlib import import_module

from edgeq.targets.target import Target

FAMILIES = (
    "armv7", "armv8", "rpi4", "rpi5", "aarch64_i8mm",
    "x86_64_v2", "x86_64_v3", "x86_64_v3_avxvnni", "x86_64_v4", "x86_64_v4_vnni",
)  # fmt: skip
"""Modules of this package with one target each. A device's wheel has those of its architecture alone."""


def _target(family: str) -> Target | None:
    name = f"{__package__}.{family}"
    try:
        found: Target = import_module(name).TARGET
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        return None
    return found


TARGETS: dict[str, Target] = {t.name: t for t in map(_target, FAMILIES) if t is not None}


def find(name: str) -> Target | None:
    """The target of this name or alias."""
    return TARGETS.get(name) or next((t for t in TARGETS.values() if name in t.aliases), None)

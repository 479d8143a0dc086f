"""Every target, by name."""

from __future__ import annotations

from edgeq.targets import (
    aarch64_i8mm,
    armv7,
    armv8,
    rpi4,
    rpi5,
    x86_64_v2,
    x86_64_v3,
    x86_64_v3_avxvnni,
    x86_64_v4,
    x86_64_v4_vnni,
)
from edgeq.targets.target import Target

TARGETS: dict[str, Target] = {
    m.TARGET.name: m.TARGET
    for m in (
        armv7,
        armv8,
        rpi4,
        rpi5,
        aarch64_i8mm,
        x86_64_v2,
        x86_64_v3,
        x86_64_v3_avxvnni,
        x86_64_v4,
        x86_64_v4_vnni,
    )
}


def find(name: str) -> Target | None:
    """The target of this name or alias."""
    return TARGETS.get(name) or next((t for t in TARGETS.values() if name in t.aliases), None)

"""Raspberry Pi 4: Cortex-A72."""

from edgeq.targets.target import Target

TARGET = Target(
    name="rpi4",
    title="Raspberry Pi 4, 400; other Cortex-A72",
    triple="aarch64-linux-gnu",
    cpu="cortex-a72",
    features="",
    isa="neon",
    needs=("neon",),
    parts=("cortex-a72", "cortex-a57", "cortex-a73"),
    order=11,
    platform="manylinux_2_17_aarch64",
    emulate="cortex-a72",
    cipher="chacha20-poly1305",
    notes="No byte dot product: smull and sadalp. The Pi 4's processor comes without AES instructions.",
)

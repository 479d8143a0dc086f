"""Any 64-bit ARM Linux, and the Raspberry Pi 3."""

from edgeq.targets.target import Target

TARGET = Target(
    name="armv8",
    title="64-bit ARM; Raspberry Pi 3, Zero 2 W",
    aliases=("rpi3", "aarch64"),
    triple="aarch64-linux-gnu",
    cpu="cortex-a53",
    optimized_for="cortex-a72",
    features="",
    isa="neon",
    needs=("neon",),
    parts=("cortex-a53", "cortex-a35"),
    order=10,
    platform="manylinux_2_17_aarch64",
    emulate="cortex-a53",
    cipher="chacha20-poly1305",
    notes="Scheduled for the in-order Cortex-A53; runs on every ARMv8-A processor. No AES instructions on the Pi 3.",
)

"""Raspberry Pi 5: Cortex-A76."""

from edgeq.targets.target import Target

TARGET = Target(
    name="rpi5",
    title="Raspberry Pi 5, 500; other ARMv8.2 with dot product",
    triple="aarch64-linux-gnu",
    cpu="cortex-a76",
    features="",
    isa="dotprod",
    needs=("neon", "dotprod", "atomics", "rcpc", "fp16", "crc32", "rdm"),
    parts=("cortex-a76", "cortex-a55", "cortex-a75", "cortex-a77", "cortex-a78"),
    order=20,
    platform="manylinux_2_17_aarch64",
    emulate="cortex-a76",
    cipher="aes-256-gcm",
    notes="Byte dot product: sdot.",
)

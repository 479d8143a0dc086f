"""64-bit ARM with the int8 matrix extension (ARMv8.6, or an option from v8.2 on)."""

from edgeq.targets.target import Target

TARGET = Target(
    name="aarch64-i8mm",
    title="ARMv8.6 with int8 matrix products; Cortex-A510, A710, X2, Neoverse N2, V1",
    triple="aarch64-linux-gnu",
    cpu="generic",
    features="+dotprod,+i8mm",
    isa="i8mm",
    needs=("neon", "dotprod", "i8mm"),
    order=30,
    platform="manylinux_2_17_aarch64",
    emulate="max",
    cipher="aes-256-gcm",
    notes="Products of unsigned by signed bytes: usdot; usmmla, two rows by two channels.",
)

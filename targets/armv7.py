"""32-bit ARM with NEON: a 32-bit Raspberry Pi OS on a Pi 2 or later."""

from edgeq.targets.target import Target

TARGET = Target(
    name="armv7",
    title="32-bit ARM with NEON, hard float; Raspberry Pi 2 to 4 under a 32-bit system",
    triple="armv7-linux-gnueabihf",
    cpu="cortex-a15",  # the instructions of a Cortex-A7; in this one's order they spill fewer registers
    small=True,  # else a tenth larger: beside 32-bit code for 64-bit numbers, a wheel has 500 KB
    features="+neon,+vfp4,+thumb-mode",
    isa="neon32",
    needs=("neon", "vfpv4", "idiva"),
    order=10,
    platform="linux_armv7l",
    emulate="cortex-a7",
    cipher="chacha20-poly1305",
    notes="Numba has no wheels for it: an object built ahead is the only way to run there.",
)

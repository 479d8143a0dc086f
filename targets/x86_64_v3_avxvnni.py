"""x86-64 with AVX2 and AVX-VNNI; Alder Lake, N100, Zen 5."""

from edgeq.targets.target import V3, Target

TARGET = Target(
    name="x86-64-v3-avxvnni",
    title="x86-64 with AVX2 and AVX-VNNI; Alder Lake, N100, Zen 5",
    triple="x86_64-linux-gnu",
    cpu="x86-64-v3",
    features="+avxvnni",
    isa="avxvnni",
    needs=(*V3, "avxvnni"),
    order=30,
    platform="manylinux_2_17_x86_64",
    emulate="",
    cipher="aes-256-gcm",
    notes="Byte dot product on 256 bits: vpdpbusd. qemu does not emulate AVX-VNNI: tested where the processor has it.",
)

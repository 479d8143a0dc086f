"""x86-64 with AVX-512 and VNNI; Cascade Lake, Ice Lake, Zen 4 and later."""

from edgeq.targets.target import V4, Target

TARGET = Target(
    name="x86-64-v4-vnni",
    title="x86-64 with AVX-512 and VNNI; Cascade Lake, Ice Lake, Zen 4 and later",
    triple="x86_64-linux-gnu",
    cpu="x86-64-v4",
    features="+avx512vnni",
    isa="avx512vnni",
    needs=(*V4, "avx512vnni"),
    order=50,
    platform="manylinux_2_17_x86_64",
    emulate="",
    cipher="aes-256-gcm",
    notes="vpdpbusd on 512 bits. qemu does not emulate AVX-512: tested where the processor has it.",
)

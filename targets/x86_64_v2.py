"""x86-64 with SSE4.2; from 2009 on, Atoms from 2013 on."""

from edgeq.targets.target import V2, Target

TARGET = Target(
    name="x86-64-v2",
    title="x86-64 with SSE4.2; from 2009 on, Atoms from 2013 on",
    triple="x86_64-linux-gnu",
    cpu="x86-64-v2",
    features="",
    isa="sse42",
    needs=V2,
    order=10,
    platform="manylinux_2_17_x86_64",
    emulate="Nehalem",
    cipher="aes-256-gcm",
    notes="The plainest x86 that edgeq is built for.",
)

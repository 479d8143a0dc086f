"""Random numbers: RANDOM_UNIFORM and RANDOM_STANDARD_NORMAL, the sequence that TFLite draws from the same seeds.

Philox 4×32 with 10 rounds (Salmon et al., Parallel random numbers: as easy as 1, 2, 3, 2011), as tensorflow/core/lib/random
uses it and tensorflow/lite/kernels/random_ops.cc calls it. A plan goes on where its last run stopped.
"""

from __future__ import annotations

import math
import secrets
import threading
from collections.abc import Callable

import numpy as np

from edgeq.errors import CheckError
from edgeq.graph import Array, Op
from edgeq.plan.builder import Builder
from edgeq.plan.lower.custom import call
from edgeq.plan.lower.slices import numbers
from edgeq.plan.multiplier import f32

MULTIPLIERS, WEYL = (0xD2511F53, 0xCD9E8D57), (0x9E3779B9, 0xBB67AE85)
LOW = np.uint64(0xFFFFFFFF)
PIECE = 1 << 14
"""Groups drawn together: what lies between fits a cache."""

WORK = 6000
"""What a group costs, in multiply-adds as the plan counts them: some 300 ns."""


def philox(seed: int, seed2: int, first: int, count: int) -> Array:
    """(count, 4) uint32: the groups of four from number `first` on."""
    half = np.uint64(32)
    n = np.arange(first, first + count, dtype=np.uint64)
    a, b = n & LOW, n >> half
    c, d = (np.full(count, part, np.uint64) for part in (seed2 & 0xFFFFFFFF, seed2 >> 32 & 0xFFFFFFFF))
    keys = [seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF]
    for _ in range(10):
        p, q = a * np.uint64(MULTIPLIERS[0]), c * np.uint64(MULTIPLIERS[1])
        a, b, c, d = (q >> half) ^ b ^ np.uint64(keys[0]), q & LOW, (p >> half) ^ d ^ np.uint64(keys[1]), p & LOW
        keys = [(k + w) & 0xFFFFFFFF for k, w in zip(keys, WEYL, strict=True)]
    found: Array = np.stack([a, b, c, d], axis=1).astype(np.uint32)
    return found


def uniform(bits: Array) -> Array:
    """23 bits as float32 in [0, 1)."""
    found: Array = ((bits & np.uint32(0x7FFFFF)) | np.uint32(127 << 23)).view(f32) - f32(1)
    return found


def normal(bits: Array) -> Array:
    """Pairs by Box and Muller."""
    real = uniform(bits)
    radius = np.sqrt(f32(-2) * np.log(np.maximum(real[:, 0::2], f32(1e-7))))
    angle = f32(2 * math.pi) * real[:, 1::2]
    return np.stack([np.sin(angle) * radius, np.cos(angle) * radius], axis=-1)


def drawn(distribution: Callable[[Array], Array]) -> Callable[[Builder, Op], None]:
    """A tensor of the shape in input 0; seeds of 0 and 0 stand for any."""

    def lower(b: Builder, op: Op) -> None:
        shape, y, o = tuple(numbers(b, op, 0)), b.output(op), op.options
        assert o is not None
        if y.dtype != "float32":
            raise b.unsupported(op, f"yields {y.dtype}")
        if min(shape, default=0) < 0:
            raise CheckError(f"{b.where(op)} of shape {list(shape)}, no negative length is expected")
        # TfLiteRandomParams keep seeds as int, which grows to 64 bits with its sign.
        seed, seed2 = (int(np.int64(v).astype(np.int32)) & (1 << 64) - 1 for v in (o.seed, o.seed2))
        if not seed and not seed2:
            seed, seed2 = secrets.randbits(64), secrets.randbits(64)
        groups = -(-math.prod(shape) // 4)
        turn, at = threading.Lock(), [0]

        def kernel(out: Array) -> None:
            with turn:
                first = at[0]
                at[0] += groups
            flat = out.reshape(-1)
            for start in range(0, groups, PIECE):
                count = min(PIECE, groups - start)
                part = distribution(philox(seed, seed2, first + start, count)).reshape(-1)
                flat[4 * start : 4 * (start + count)] = part[: flat.size - 4 * start]

        call(b, op, kernel, [shape], inputs=0, macs=groups * WORK)

    return lower


LOWERINGS = {"RANDOM_UNIFORM": drawn(uniform), "RANDOM_STANDARD_NORMAL": drawn(normal)}

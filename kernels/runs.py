"""Vectors of elements of any kind, as int32 or float32 lanes: what reductions walk along.

Where the least is asked for, `turn` changes the bits of what is loaded so that it becomes the greatest: −1 for integers, the sign
bit for floats, 0 otherwise. The same bits turn it back.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .memory import i16, i32, u8
from .simd import (
    L,
    as_f32,
    as_i32,
    down1,
    down2,
    down4,
    down8,
    load_f32,
    load_i16_as_i32,
    load_i32,
    load_u8_as_i32,
    splat_i32,
    splat_quad,
    store,
    store_f32_some,
    store_i16,
    store_i16_some,
    store_u8,
    store_u8_some,
    where_greater,
)
from .words.kinds import F32, S8, S16, S32, U8

AT_ONCE = (U8, S8, S16, S32, F32)
"""Kinds that a lane holds, bytes as they lie in the arena: int8 with its top bit flipped, which keeps their order."""


@njit(error_model="numpy", inline="always")
def bytes_of(kind):
    """How long an element of a kind that a lane holds is."""
    return np.int64(1) if kind in (U8, S8) else np.int64(2) if kind == S16 else np.int64(4)


@njit(error_model="numpy", inline="always")
def turning(kind, least):
    """`turn` for a kind; see above."""
    return np.int32(0) if not least else np.int32(-2147483648) if kind == F32 else np.int32(-1)


@njit(error_model="numpy", inline="always")
def integers(address, kind):
    """L elements as int32."""
    if kind == S16:
        return load_i16_as_i32(address)
    if kind == S32:
        return load_i32(address)
    return load_u8_as_i32(address)


@njit(error_model="numpy", inline="always")
def floats(address, kind):
    """L float32."""
    return load_f32(address)


@njit(error_model="numpy", inline="always")
def greater(a, b):
    """a where it is greater than b, else b."""
    return where_greater(a, b, a, b)


@njit(error_model="numpy", inline="always")
def folded(v, join, operation):
    """All lanes joined in lane 0."""
    if L > 8:
        v = join(operation, v, down8(v))
    if L > 4:
        v = join(operation, v, down4(v))
    v = join(operation, v, down2(v))
    return join(operation, v, down1(v))


@njit(error_model="numpy", inline="always")
def put(y, v, kind, count, room):
    """Lanes to elements: `count`, or all of them where there is room."""
    if kind == S16 and room >= L:
        store_i16(y, as_i32(v))
    elif kind == S16:
        store_i16_some(y, as_i32(v), count)
    elif kind in (S32, F32):
        if room >= L:
            store(y, v)
        else:
            store_f32_some(y, as_f32(v), count)
    elif room >= L:
        store_u8(y, as_i32(v))
    else:
        store_u8_some(y, as_i32(v), count)


@njit(error_model="numpy", inline="always")
def spread(address, kind, scratch):
    """A vector of nothing but the element at an address, which is put in scratch."""
    if kind in (U8, S8):
        store(scratch, splat_quad(np.int64(u8(address)[0])))
    elif kind == S16:
        both = np.int64(i16(address)[0]) & 0xFFFF
        store(scratch, splat_i32(np.int32(both | both << 16)))
    else:
        store(scratch, splat_i32(i32(address)[0]))
    return scratch

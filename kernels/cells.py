"""One element of any kind, by address: for kernels whose time does not matter and whose types would be many."""

from __future__ import annotations

import numpy as np
from numba import njit

from .memory import f32, f64, i16, i32, i64, u8, u16, u32
from .words.kinds import F32, F64, S8, S16, S32, S64, U8, U16


@njit(error_model="numpy")
def integer(address, kind, i):
    """Element i as int64."""
    if kind == U8:
        return np.int64(u8(address)[i])
    if kind == S8:
        return np.int64(u8(address)[i]) - np.int64(128)
    if kind == S16:
        return np.int64(i16(address)[i])
    if kind == S32:
        return np.int64(i32(address)[i])
    if kind == S64:
        return i64(address)[i]
    if kind == U16:
        return np.int64(u16(address)[i])
    return np.int64(u32(address)[i])


@njit(error_model="numpy")
def put_integer(address, kind, i, value):
    """Element i becomes the low bits of value."""
    if kind == U8:
        u8(address)[i] = np.uint8(value)
    elif kind == S8:
        u8(address)[i] = np.uint8(value + np.int64(128))
    elif kind in (S16, U16):
        i16(address)[i] = np.int16(value)
    elif kind == S64:
        i64(address)[i] = value
    else:
        i32(address)[i] = np.int32(value)


@njit(error_model="numpy")
def real(address, kind, i):
    """Element i as float64."""
    if kind == F32:
        return np.float64(f32(address)[i])
    if kind == F64:
        return f64(address)[i]
    return np.float64(integer(address, kind, i))


@njit(error_model="numpy")
def put_real(address, kind, i, value):
    """Element i becomes value."""
    if kind == F32:
        f32(address)[i] = np.float32(value)
    else:
        f64(address)[i] = value


@njit(error_model="numpy")
def add(y, x, kind, size):
    """The elements of `size` bytes at x are added to those at y."""
    if kind == F32:
        for i in range(size // 4):
            f32(y)[i] += f32(x)[i]
    else:
        count = size // (1 if kind in (U8, S8) else 2 if kind == S16 else 8 if kind == S64 else 4)
        for i in range(count):
            put_integer(y, kind, i, integer(y, kind, i) + integer(x, kind, i))

"""One array in, one out, element by element: tables, change of scale or type, float functions. Units are elements."""

from __future__ import annotations

import numpy as np
from numba import njit

from . import curves
from .cells import integer, put_integer, put_real, real
from .memory import copy, f32, fill, float_of_bits, i16, i32, u8
from .simd import (
    L,
    add_f32,
    add_i32,
    load_f32,
    max_f32,
    min_f32,
    mul_f32,
    round_away_i32,
    splat_f32,
    splat_i32,
    store,
    store_u8,
    zero_f32,
)
from .words.kinds import F32, F64
from .words.unary import (
    ABS,
    ALPHA,
    CEIL,
    CLAMP,
    COS,
    ELU,
    EXP,
    FLOOR,
    FROM,
    FUNCTION,
    GELU,
    HARD_SWISH,
    HI,
    LEAKY,
    LO,
    LOG,
    LOGISTIC,
    MODE,
    NEG,
    NOT,
    RANGE,
    ROUND,
    RSQRT,
    SIGN,
    SIN,
    SQRT,
    SQUARE,
    SYMMETRIC,
    TABLE,
    TANH,
    TO,
    N,
    X,
    Y,
)

_logistic = curves.over(curves.logistic)
_tanh = curves.over(curves.tanh)
_hard_swish = curves.over(curves.hard_swish)
_sqrt = curves.over(curves.root_f32)
_rsqrt = curves.over(curves.inverse_root)
_abs = curves.over(curves.magnitude)
_neg = curves.over(curves.negated)
_square = curves.over(curves.square)
_exp = curves.over(curves.exp)
_floor = curves.over(curves.floor)
_ceil = curves.over(curves.ceil)
_round = curves.over(curves.nearest)
_sign = curves.over(curves.sign)
_log = curves.over(curves.log)
_elu = curves.over(curves.elu)
_gelu = curves.over(curves.gelu)
_gelu_tanh = curves.over(curves.gelu_tanh)


@njit(error_model="numpy")
def unary_f32(g, scratch, lo, hi):
    """float32 functions; CLAMP is RELU and its kind."""
    x, n, function = g[X] + 4 * lo, hi - lo, g[FUNCTION]
    y = g[Y] + 4 * lo if n >= L else scratch
    if function == CLAMP:
        curves.clamped(x, y, n, float_of_bits(g[LO]), float_of_bits(g[HI]))
    elif function == LEAKY:
        curves.leaky(x, y, n, float_of_bits(g[ALPHA]))
    elif function in (SIN, COS):
        curves.sines(x, y, n, np.int64(function == COS))
    elif function == LOGISTIC:
        _logistic(x, y, n)
    elif function == TANH:
        _tanh(x, y, n)
    elif function == HARD_SWISH:
        _hard_swish(x, y, n)
    elif function == SQRT:
        _sqrt(x, y, n)
    elif function == RSQRT:
        _rsqrt(x, y, n)
    elif function == ABS:
        _abs(x, y, n)
    elif function == NEG:
        _neg(x, y, n)
    elif function == SQUARE:
        _square(x, y, n)
    elif function == EXP:
        _exp(x, y, n)
    elif function == FLOOR:
        _floor(x, y, n)
    elif function == CEIL:
        _ceil(x, y, n)
    elif function == ROUND:
        _round(x, y, n)
    elif function == SIGN:
        _sign(x, y, n)
    elif function == LOG:
        _log(x, y, n)
    elif function == ELU:
        _elu(x, y, n)
    elif function == GELU:
        _gelu(x, y, n)
    else:
        _gelu_tanh(x, y, n)
    if n < L:
        copy(g[Y] + 4 * lo, scratch, 4 * n)


@njit(error_model="numpy")
def table_s16(g, scratch, lo, hi):
    """y = TABLE[x + 32768], 65 536 entries: every 16-bit function of one 16-bit value."""
    x, y, table = i16(g[X]), i16(g[Y]), i16(g[TABLE] + 65536)
    for i in range(lo, hi):
        y[i] = table[np.int64(x[i])]


@njit(error_model="numpy")
def cast(g, scratch, lo, hi):
    """Elements of kind FROM as kind TO, as C casts them on x86-64; to bool (MODE) it asks whether they are not 0."""
    source, target = g[FROM], g[TO]
    floats = source in (F32, F64)
    for i in range(lo, hi):
        if g[MODE]:
            v = real(g[X], source, i) != 0.0 if floats else integer(g[X], source, i) != 0
            u8(g[Y])[i] = np.uint8(v)
        elif target in (F32, F64):
            put_real(g[Y], target, i, real(g[X], source, i))
        elif floats:
            put_integer(g[Y], target, i, truncated(real(g[X], source, i), g[LO], g[HI]))
        else:
            put_integer(g[Y], target, i, integer(g[X], source, i))


@njit(error_model="numpy")
def truncated(x, lo, hi):
    """x towards zero, within [lo, hi]; NaN is 0."""
    if x != x:
        return np.int64(0)
    return hi if x >= np.float64(hi) else lo if x <= np.float64(lo) else np.int64(x)


@njit(error_model="numpy")
def unary_int(g, scratch, lo, hi):
    """Functions of integers and booleans of kind FROM; what overflows wraps."""
    for i in range(lo, hi):
        x = integer(g[X], g[FROM], i)
        if g[FUNCTION] == ABS:
            v = abs(x)
        elif g[FUNCTION] == NEG:
            v = -x
        elif g[FUNCTION] == SQUARE:
            v = x * x
        elif g[FUNCTION] == NOT:
            v = np.int64(x == 0)
        else:
            v = np.int64(x > 0) - np.int64(x < 0)
        put_integer(g[Y], g[FROM], i, v)


@njit(error_model="numpy")
def least_and_greatest(x, n, scratch):
    """The least and the greatest of 0 and n floats at address x; what is not a number is passed over."""
    a, b, c, d = zero_f32(), zero_f32(), zero_f32(), zero_f32()
    whole = n // (2 * L) * (2 * L)
    for i in range(0, whole, 2 * L):
        v, w = load_f32(x + 4 * i), load_f32(x + 4 * i + 4 * L)
        a, b, c, d = min_f32(a, v), max_f32(b, v), min_f32(c, w), max_f32(d, w)
    store(scratch, min_f32(a, c))
    store(scratch + 4 * L, max_f32(b, d))
    low, high = np.float32(0), np.float32(0)
    for i in range(L):
        low, high = min(low, f32(scratch)[i]), max(high, f32(scratch)[L + i])
    for i in range(whole, n):
        low, high = min(low, f32(x)[i]), max(high, f32(x)[i])
    return low, high


@njit(error_model="numpy")
def quantize_row(source, target, n, low, high, mode):
    """n float32 between low and high, which differ, to u8; their scale and their zero point (of u8).

    SYMMETRIC: tensor_utils::SymmetricQuantizeFloats (±127 about 128), else AsymmetricQuantizeFloats, both + 128.
    """
    x, y = f32(source), u8(target)
    if mode == SYMMETRIC:
        span = max(-low, high)
        inverse, zero, bottom = np.float32(np.float32(127) / span), np.float32(0), np.float32(-127)
        scale = np.float32(span / np.float32(127))
    else:
        wide = (np.float64(high) - np.float64(low)) / 255.0
        from_low, from_high = -128.0 - low / wide, 127.0 - high / wide
        point = from_low if 128.0 + abs(low / wide) < 127.0 + abs(high / wide) else from_high
        zero = (
            np.float32(-128) if point <= -128.0 else np.float32(127) if point >= 127.0 else np.float32(np.rint(point))
        )
        scale = np.float32(wide)
        inverse, bottom = np.float32(np.float32(1) / scale), np.float32(-128)
    by, shift, least, most = splat_f32(inverse), splat_f32(zero), splat_f32(bottom), splat_f32(np.float32(127))
    whole = n // L * L
    for i in range(0, whole, L):
        v = add_f32(shift, mul_f32(load_f32(source + 4 * i), by))
        store_u8(target + i, add_i32(round_away_i32(v, least, most), splat_i32(np.int32(128))))
    for i in range(whole, n):
        v = np.float32(zero + np.float32(x[i] * inverse))
        q = np.float32(np.trunc(np.float32(v + np.copysign(np.float32(0.5), v))))
        y[i] = np.uint8(np.int64(min(max(q, bottom), np.float32(127))) + 128)
    return scale, np.int64(zero) + 128


@njit(error_model="numpy")
def dynamic_u8(g, scratch, lo, hi):
    """Rows of N float32 to u8, each with a scale and zero point found now, written to RANGE: TFLite's hybrid kernels."""
    n = g[N]
    for row in range(lo, hi):
        x, y, found = g[X] + 4 * row * n, g[Y] + row * n, g[RANGE] + 8 * row
        low, high = least_and_greatest(x, n, scratch)
        scale, zero = np.float32(1), np.int64(128)
        if low == high:
            fill(y, np.int64(128), n)
        else:
            scale, zero = quantize_row(x, y, n, low, high, g[MODE])
        f32(found)[0] = scale
        i32(found)[1] = np.int32(zero)

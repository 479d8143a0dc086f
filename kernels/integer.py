"""Plain integers and booleans, two arrays in, one out: arithmetic that wraps, bits, comparisons (of float32 too).

Shapes are described as in elementwise.py. Elements are read by their kind and computed with in int64, or compared in float64.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .cells import integer, put_integer, real
from .elementwise import offsets
from .fault import fault
from .memory import u8
from .runs import AT_ONCE, bytes_of, floats, greater, integers, put, spread
from .simd import (
    ISA,
    L,
    add_i32,
    and_quad,
    load_quad,
    max_quad,
    min_quad,
    mul_i32,
    once,
    or_quad,
    splat_i32,
    store,
    store_quad_some,
    store_u8,
    store_u8_some,
    sub_i32,
    where_equal,
    where_greater,
    zero_i32,
)
from .words.elementwise import (
    A_STEP,
    AND,
    B_STEP,
    DIFFERENCE,
    EQUAL,
    FLAT,
    FLOOR_DIV,
    FLOOR_MOD,
    INNER,
    KIND,
    LESS,
    MA,
    MAXIMUM,
    MINIMUM,
    NOT_EQUAL,
    OPERATION,
    OR,
    POWER,
    PRODUCT,
    QUOTIENT,
    SHIFT_RIGHT,
    SQUARED_DIFFERENCE,
    SUM,
    XOR,
    A,
    B,
    Y,
)
from .words.frame import DIVISION
from .words.kinds import F32, S8, S16, S32, U8

SMALL = ISA.small


@njit(error_model="numpy")
def floor_divide(a, b):
    """a / b rounded down, b not 0; −2^63 / −1 wraps."""
    if b == -1:
        return -a
    return a // b


@njit(error_model="numpy")
def divide(a, b, operation):
    """QUOTIENT towards zero, FLOOR_DIV downwards, or FLOOR_MOD, with b's sign; b not 0."""
    q = floor_divide(a, b)
    r = a - q * b
    if operation == QUOTIENT:
        return q + 1 if r != 0 and (a < 0) != (b < 0) else q
    return q if operation == FLOOR_DIV else r


@njit(error_model="numpy")
def power(a, b):
    """a^b modulo 2^64; a negative exponent gives what 1 / a^−b truncates to."""
    if b < 0:
        return np.int64(1) if a == 1 else np.int64(0) if a != -1 else np.int64(1) if b % 2 == 0 else np.int64(-1)
    total = np.int64(1)
    while b > 0:
        if b & 1:
            total *= a
        a *= a
        b >>= 1
    return total


@njit(error_model="numpy")
def compute(operation, a, b):
    """a ∘ b for everything that does not divide."""
    if operation == SUM:
        return a + b
    if operation == DIFFERENCE:
        return a - b
    if operation == PRODUCT:
        return a * b
    if operation == MAXIMUM:
        return max(a, b)
    if operation == MINIMUM:
        return min(a, b)
    if operation == SQUARED_DIFFERENCE:
        return (a - b) * (a - b)
    if operation == POWER:
        return power(a, b)
    if operation == AND:
        return a & b
    if operation == OR:
        return a | b
    if operation == XOR:
        return a ^ b
    return a >> b


@njit(error_model="numpy")
def _bytes_row(a, a_step, b, b_step, y, n, operation):
    """n bytes at addresses a, b, y, a vector at a time; a_step, b_step: bytes from one vector to the next, 0 to stay."""
    while n > 0:
        once()
        p, q = load_quad(a), load_quad(b)
        if operation == MAXIMUM:
            v = max_quad(p, q)
        elif operation == MINIMUM:
            v = min_quad(p, q)
        elif operation == AND:
            v = and_quad(p, q)
        else:
            v = or_quad(p, q)
        if n >= 4 * L:
            store(y, v)
        else:
            store_quad_some(y, v, n)
        a, b, y, n = a + a_step, b + b_step, y + 4 * L, n - 4 * L


@njit(error_model="numpy")
def _lanes_row(a, a_step, b, b_step, y, n, operation, kind):
    """The same of int16 or int32, up to SQUARED_DIFFERENCE."""
    size = bytes_of(kind)
    while n > 0:
        once()
        p, q = integers(a, kind), integers(b, kind)
        if operation == MAXIMUM:
            v = greater(p, q)
        elif operation == MINIMUM:
            v = where_greater(p, q, q, p)
        elif operation == SUM:
            v = add_i32(p, q)
        elif operation == PRODUCT:
            v = mul_i32(p, q)
        else:
            v = sub_i32(p, q)
            v = mul_i32(v, v) if operation == SQUARED_DIFFERENCE else v
        put(y, v, kind, n, n)
        a, b, y, n = a + a_step, b + b_step, y + size * L, n - L


@njit(error_model="numpy")
def _vector_row(g, scratch, oa, ob, oy, n):
    """A row of what vectors can do; False where they cannot."""
    operation, kind = g[OPERATION], g[KIND]
    size = bytes_of(kind)
    a, b, a_step, b_step = g[A] + oa * size, g[B] + ob * size, size * L * g[A_STEP], size * L * g[B_STEP]
    small = kind in (U8, S8)
    if operation in (MAXIMUM, MINIMUM):
        able = small or kind in (S16, S32)
    elif operation in (AND, OR):
        able = kind == U8
    else:
        able = kind == S32 and operation in (SUM, DIFFERENCE, PRODUCT, SQUARED_DIFFERENCE)
    if not able:
        return False
    if not a_step:
        a = spread(a, kind, scratch)
    if not b_step:
        b = spread(b, kind, scratch + 4 * L)
    if small:
        _bytes_row(a, 4 * a_step, b, 4 * b_step, g[Y] + oy, n, operation)
    else:
        _lanes_row(a, a_step, b, b_step, g[Y] + oy * size, n, operation, kind)
    return True


@njit(error_model="numpy")
def _integer_row(g, scratch, oa, ob, oy, n):
    if not SMALL and _vector_row(g, scratch, oa, ob, oy, n):
        return
    operation, kind = g[OPERATION], g[KIND]
    divides = operation in (QUOTIENT, FLOOR_DIV, FLOOR_MOD)
    for i in range(n):
        a, b = integer(g[A], kind, oa + i * g[A_STEP]), integer(g[B], kind, ob + i * g[B_STEP])
        if operation == SHIFT_RIGHT:
            b = min(max(b, np.int64(0)), g[MA])
        if not divides:
            v = compute(operation, a, b)
        elif b == 0:
            fault(g, scratch, DIVISION)
            v = np.int64(0)
        else:
            v = divide(a, b, operation)
        put_integer(g[Y], kind, oy + i, v)


@njit(error_model="numpy")
def binary_int(g, scratch, lo, hi):
    """Integers of one kind to the same kind; MA is the most that SHIFT_RIGHT moves."""
    if g[FLAT]:
        _integer_row(g, scratch, lo * g[A_STEP], lo * g[B_STEP], lo, hi - lo)
        return
    for unit in range(lo, hi):
        oa, ob, oy = offsets(g, unit)
        _integer_row(g, scratch, oa, ob, oy, g[INNER])


@njit(error_model="numpy")
def relation(operation, a, b):
    """Whether a stands so to b."""
    if operation == EQUAL:
        return a == b
    if operation == NOT_EQUAL:
        return a != b
    if operation == LESS:
        return a < b
    return a <= b


@njit(error_model="numpy", inline="always")
def _stands(operation, a, b):
    """1 where a stands so to b, else 0."""
    one, none = splat_i32(np.int32(1)), zero_i32()
    if operation == EQUAL:
        return where_equal(a, b, one, none)
    if operation == NOT_EQUAL:
        return where_equal(a, b, none, one)
    less = where_greater(b, a, one, none)
    return less if operation == LESS else where_equal(a, b, one, less)


@njit(error_model="numpy")
def _compare_row(g, scratch, oa, ob, oy, n):
    y, kind, operation = u8(g[Y]), g[KIND], g[OPERATION]
    if kind in AT_ONCE and not SMALL:
        size, to = bytes_of(kind), g[Y] + oy
        a, b, a_step, b_step = g[A] + oa * size, g[B] + ob * size, size * L * g[A_STEP], size * L * g[B_STEP]
        if not a_step:
            a = spread(a, kind, scratch)
        if not b_step:
            b = spread(b, kind, scratch + 4 * L)
        while n > 0:
            once()
            if kind == F32:
                v = _stands(operation, floats(a, kind), floats(b, kind))
            else:
                v = _stands(operation, integers(a, kind), integers(b, kind))
            if n >= L:
                store_u8(to, v)
            else:
                store_u8_some(to, v, n)
            a, b, to, n = a + a_step, b + b_step, to + L, n - L
        return
    for i in range(n):
        ia, ib = oa + i * g[A_STEP], ob + i * g[B_STEP]
        if kind == F32:
            y[oy + i] = np.uint8(relation(g[OPERATION], real(g[A], kind, ia), real(g[B], kind, ib)))
        else:
            y[oy + i] = np.uint8(relation(g[OPERATION], integer(g[A], kind, ia), integer(g[B], kind, ib)))


@njit(error_model="numpy")
def compare(g, scratch, lo, hi):
    """Integers or float32 to bool."""
    if g[FLAT]:
        _compare_row(g, scratch, lo * g[A_STEP], lo * g[B_STEP], lo, hi - lo)
        return
    for unit in range(lo, hi):
        oa, ob, oy = offsets(g, unit)
        _compare_row(g, scratch, oa, ob, oy, g[INNER])

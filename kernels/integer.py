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
from .words.kinds import F32


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
def _integer_row(g, scratch, oa, ob, oy, n):
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


@njit(error_model="numpy")
def _compare_row(g, oa, ob, oy, n):
    y, kind = u8(g[Y]), g[KIND]
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
        _compare_row(g, lo * g[A_STEP], lo * g[B_STEP], lo, hi - lo)
        return
    for unit in range(lo, hi):
        oa, ob, oy = offsets(g, unit)
        _compare_row(g, oa, ob, oy, g[INNER])

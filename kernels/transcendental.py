"""exp, logistic and tanh in float32 without a maths library: the machine must link against nothing.

exp: x = n·ln2 + r with |r| ≤ ln2/2, a degree-6 polynomial for e^r (Cephes expf's coefficients, error below 2 ulp), 2^n by
building the exponent. tests hold it against NumPy.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .memory import float_of_bits


@njit(error_model="numpy", inline="always")
def exp_f32(x):
    """e^x; 0 below −87.3, saturating at e^88."""
    x = min(max(x, np.float32(-87.33)), np.float32(88.0))
    n = np.rint(np.float32(x * np.float32(1.44269504088896341)))
    r = np.float32(np.float32(x - n * np.float32(0.693359375)) - n * np.float32(-2.12194440e-4))
    p = np.float32(1.9875691500e-4)
    p = np.float32(p * r + np.float32(1.3981999507e-3))
    p = np.float32(p * r + np.float32(8.3334519073e-3))
    p = np.float32(p * r + np.float32(4.1665795894e-2))
    p = np.float32(p * r + np.float32(1.6666665459e-1))
    p = np.float32(p * r + np.float32(5.0000001201e-1))
    y = np.float32(np.float32(p * np.float32(r * r)) + np.float32(r + np.float32(1)))
    return np.float32(y * float_of_bits((np.int64(n) + 127) << 23))


@njit(error_model="numpy", inline="always")
def logistic_f32(x):
    """1 / (1 + e^−x), computed on the side where nothing cancels."""
    e = exp_f32(-abs(x))
    q = np.float32(np.float32(1) / np.float32(np.float32(1) + e))
    return q if x >= 0 else np.float32(e * q)


@njit(error_model="numpy", inline="always")
def tanh_f32(x):
    """(1 − e^−2|x|) / (1 + e^−2|x|) with x's sign; a short series near 0, where the difference cancels."""
    a = abs(x)
    if a < np.float32(0.1):
        s = np.float32(x * x)
        return np.float32(x * (np.float32(1) + s * (np.float32(-0.333333333) + s * np.float32(0.133333333))))
    e = exp_f32(np.float32(np.float32(-2) * a))
    t = np.float32(np.float32(np.float32(1) - e) / np.float32(np.float32(1) + e))
    return t if x >= 0 else -t

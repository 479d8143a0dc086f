"""Numba on an ARM processor: where no object fits, kernels are compiled on the device itself."""

from __future__ import annotations

import json

from tests.arm.emulate import ROOT, guest

SMOKE = """
import json
import numpy as np
from edgeq import machine
from edgeq.kernels import isa

on = machine.host()
isa.select(on.isa)
from numba import njit
from edgeq.kernels import fixedpoint

@njit(error_model="numpy")
def scaled(x, multiplier, shift):
    out = np.empty_like(x)
    for i in range(x.size):
        out[i] = fixedpoint.multiply_double(x[i], multiplier, shift)
    return out

x = np.array([-2**31, -12345678, -3, -1, 0, 1, 2, 99999999, 2**31 - 1], np.int64)
print(json.dumps([on.cpu, on.isa.name, scaled(x, np.int64(1518500250), np.int64(-3)).tolist()]))
"""


def test_a_kernel_compiles_on_the_device() -> None:
    """Numba's ARM wheel finds the processor, and a kernel that it compiles there rounds as gemmlowp does."""
    done = guest("aarch64", "cortex-a72", extra=("jit-arm64",)).run("-c", SMOKE, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr
    cpu, isa, found = json.loads(done.stdout)
    assert (cpu, isa) == ("cortex-a72", "neon")
    x = [-(2**31), -12345678, -3, -1, 0, 1, 2, 99999999, 2**31 - 1]
    high = [(2 * v * 1518500250 + 2**31) >> 32 for v in x]
    assert found == [(abs(v) + 4) // 8 * (1 if v >= 0 else -1) for v in high]

"""Functions that 32-bit ARM code calls where the processor has no instruction, as LLVM text: objects link against no library.

The kernels count in int64; on a 32-bit processor LLVM calls the run-time ABI's helpers for conversions between int64 and floats,
and Numba its own for 64-bit division. ARMv7 has no instruction that rounds a float to a whole number either.
"""

from __future__ import annotations

"""What a kernel tells of its values where computed ones break a rule: an index outside, a division by zero.

The first fault of a thread stays in its scratch: the reason and the operation. `run` hands it out when all is done.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .memory import i64
from .words.instruction import FAULT, ORIGIN


@njit(error_model="numpy")
def fault(g, scratch, reason):
    """Note `reason` against this instruction's operation."""
    if i64(scratch + FAULT)[0] == 0:
        i64(scratch + FAULT)[0] = np.int64(reason) + (g[ORIGIN] << 8)

"""Whether all threads work on the next inference: an account of what they save, in nanoseconds (words/frame.py).

A second core is not always one: another process may have it, a hypervisor may take it away or move it to where cache lines travel
long, and it may be half of the first. Nothing tells but the time that inferences take. What inferences of all threads take less
than one of thread 0 alone is paid in, what they take more is paid out; when the account is overdrawn, thread 0 works alone for as
long as makes good what was lost. So over any longer time a model is never slower than on one thread by more than a hundredth.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .memory import NAP, clock, i64
from .share import IN_PIECES
from .words.frame import (
    BALANCE,
    BATCH,
    CLOCK,
    ESTIMATE,
    LONE,
    LONGEST_ALONE,
    LOOK_AGAIN,
    MOST_STALLS,
    OVERDRAFT,
    PRICE,
    RESTS,
    SAVED,
    SINCE,
    STALLS,
    STATES,
    SUSPENDED,
)

TIMED = 8
"""Of calls that thread 0 does alone the last so many are timed: a clock costs a short one something."""


@njit(error_model="numpy")
def now(frame, at):
    """Nanoseconds of a clock that only goes forward; 0 where there is none. 16 bytes at `at` are written."""
    if not IN_PIECES or frame[CLOCK] == 0:
        return np.int64(0)
    clock(frame[CLOCK], at)
    return i64(at)[0] * 1_000_000_000 + i64(at)[1]


@njit(error_model="numpy")
def time_alone(a, each):
    """An inference of thread 0 alone took `each` ns: remember it, if the one before had left the data in this core's caches."""
    if a[SINCE] == 0:
        if a[LONE] == 0:
            a[LONE] = each
        elif each < a[LONE]:  # nearer to what most take than to what some take that were interrupted
            a[LONE] -= (a[LONE] - each) >> 2
        else:
            a[LONE] += min(each - a[LONE], a[LONE]) >> 4
    a[SINCE] = np.int64(0)


@njit(error_model="numpy")
def settle(frame, threads, elapsed):
    """Behind a call of `threads` threads that took so many nanoseconds: enter it, and say who does the next ones."""
    a, batch = i64(frame[STATES]), frame[BATCH]
    if not IN_PIECES:  # nor is there a clock: after a call that slept some are done alone, more each time in a row
        if threads > 1:
            a[STALLS] = min(4 * a[STALLS] + 1, np.int64(MOST_STALLS)) if a[RESTS] > 1 else a[STALLS] >> 1
            a[SUSPENDED] = a[STALLS] << 4 if a[RESTS] > 1 else np.int64(0)
        a[RESTS] = np.int64(0)
        return
    if frame[CLOCK] == 0:  # rests are all that tells
        elapsed = frame[ESTIMATE] * batch
        if threads > 1:
            elapsed = elapsed // 2 + a[RESTS] * (4000 * NAP)
    a[RESTS] = np.int64(0)
    if threads == 1:
        time_alone(a, max(elapsed // max(batch, 1), np.int64(1)))
        return
    lone = a[LONE] * batch
    a[SINCE] += 1
    if a[SINCE] >= LOOK_AGAIN or lone == 0:
        a[SUSPENDED] = np.int64(2)
    if lone:
        if elapsed > 2 * lone:  # who wanted the core may want it for some more time slices
            a[STALLS] = min(4 * a[STALLS] + 1, np.int64(MOST_STALLS))
            a[SUSPENDED] = a[STALLS] * elapsed // lone
        else:
            a[STALLS] >>= 1
        a[BALANCE] = min(a[BALANCE] + lone - elapsed, max(np.int64(SAVED), 4 * lone))
        if a[BALANCE] < -OVERDRAFT - 4 * lone:
            a[SUSPENDED] = min(-a[BALANCE] * PRICE, np.int64(LONGEST_ALONE)) // lone + 2
            a[BALANCE] = np.int64(0)

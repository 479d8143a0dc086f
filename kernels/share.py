"""Which units of an instruction a thread does, and when: its own part in pieces, then what other threads have left of theirs.

Parts are alike, and the same for the same number of units, so that a thread finds in its own cache what it wrote one instruction
before. Pieces are taken with a counter for each part. Who is done with the own part goes on in the next thread's if that still
has pieces after as long as one that is not slowed may be late. So a thread that is slowed, by another process, a hypervisor or
a sibling on its core, is waited for no longer than one piece takes it; and one that is not is left alone, since a piece that
changes hands is read from another core's cache. A piece is half of what is left of a part and the last two are alike: each
costs a call of the kernel.

Counters are two sets, used in turn from meeting to meeting. Each thread sets its own counter of the other set to 0 before it
arrives at a meeting (machine.meet): nobody has used that set since the last meeting, and nobody will before the next. So of the
instructions between two meetings one at most may be in pieces.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .memory import fetch_add, load_acquire, pause
from .simd import ISA
from .words.frame import BARRIER, LINE, STATES, TAKEN
from .words.instruction import GRAIN_AT, LOOKS_AT, SHARE, UNITS

IN_PIECES = ISA.name != "neon32"
"""Whether parts are in pieces at all: 64-bit counters take 32-bit ARM much code, which slim wheels have no room for."""


@njit(error_model="numpy")
def cut(size, piece, pieces, grain):
    """Where a piece of a part of `size` units begins."""
    return (size - (size >> piece)) // grain * grain if piece < pieces else size


@njit(error_model="numpy")
def some_left(frame, counter, pieces, looks, come):
    """Whether a thread still has pieces after so many looks; not once `come` threads have arrived at the next meeting."""
    while load_acquire(frame[BARRIER]) < come and load_acquire(counter) < pieces:
        if looks == 0:
            return True
        looks -= 1
        pause()
    return False


@njit(error_model="numpy")
def next_units(frame, g, threads, thread, passed, of):
    """Units lo … hi − 1 to do now, and the thread whose part to ask next, −1 for none. of: whose to ask now, first oneself."""
    pieces, grain, units = g[SHARE] & 0xFF, g[SHARE] >> GRAIN_AT & 0xFFFFFF, g[UNITS]
    if pieces == 0:
        return np.int64(0), units if thread == 0 else np.int64(0), np.int64(-1)
    while of >= 0:
        lo, hi = units * of // threads, units * (of + 1) // threads
        if pieces == 1 or not IN_PIECES:
            return lo, hi, np.int64(-1)
        counter, piece, after = frame[STATES] + of * LINE + (TAKEN + (passed & 1)) * 8, pieces, of
        come = passed * threads + threads - 1
        if of == thread or some_left(frame, counter, pieces, g[SHARE] >> LOOKS_AT, come):
            piece = fetch_add(counter, np.int64(1))
        if piece + 1 >= pieces:  # that was the last, or there was none
            after = of + 1 if of + 1 < threads else np.int64(0)
            after = after if after != thread else np.int64(-1)
        if piece < pieces:
            return lo + cut(hi - lo, piece, pieces, grain), lo + cut(hi - lo, piece + 1, pieces, grain), after
        of = after
    return np.int64(0), np.int64(0), np.int64(-1)

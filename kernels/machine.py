"""The machine: one function that walks a table of instructions. It is all that is ever compiled.

`run(frame, thread)` executes the plan that `frame` (int64 words, words/frame.py) describes, once for each of BATCH samples.
Every thread of an inference enters it with its own number. After each instruction, which they share out (share.py), they meet at
a barrier, except between instructions too small to share, which thread 0 does alone. Whether they save any time is
watched (account.py); where they do not, inferences are thread 0's alone. Inputs are copied in and outputs out here too, so that
an inference is one foreign call.

An instruction may be a branch (words/instruction.py), which every thread takes alike.
Threads but the first look out for the next inference for a while before they return (BARRIER in words/frame.py).

Returns 0; LEFT where a thread that stood by is gone; NOT_A_NUMBER where an input to quantize holds NaN; −1 − i when instruction
i names no kernel (which a plan never does).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from . import (
    callout,
    columns,
    conv,
    depthwise,
    depthwise_rows,
    detection,
    elementwise,
    fixed,
    gather,
    integer,
    matmul,
    move,
    order,
    pick,
    pool,
    recurrent,
    reduce,
    resize,
    rows,
    scales,
    softmax,
    unary,
)
from .account import TIMED, now, settle
from .memory import NAP, SPINS, STANDBY, call, copy, f32, f64_of_bits, fetch_add, i16, i64, load_acquire, pause, u8
from .share import next_units
from .words import KERNELS
from .words.frame import (
    ADDRESS,
    ATTEND,
    BARRIER,
    BASE,
    BATCH,
    BIAS,
    BYTES,
    CALLED,
    COMING,
    COPY,
    COUNT,
    CURRENT,
    ENDLESS,
    FLIP,
    GONE,
    INSTRUCTIONS,
    KIND,
    LEFT,
    LINE,
    N_INPUTS,
    N_OUTPUTS,
    NOT_A_NUMBER,
    PLACE,
    QUANTIZE_U8,
    RECORD_WORDS,
    RECORDS,
    REST,
    RESTS,
    SCALE,
    SCRATCH,
    SHARED_BYTES,
    STANDING,
    STATES,
    SUSPENDED,
    TAKEN,
    THREADS,
    TOP,
)
from .words.instruction import CONDITION, FAULT, LIMIT, MEET, OP, ORIGIN, SCRATCH_BYTES, TARGET, UNITS, WORDS

_MODULES = (
    callout, columns, conv, depthwise, depthwise_rows, detection, elementwise, fixed, gather, integer, matmul, move, order, pick,
    pool, recurrent, reduce, resize, rows, scales, softmax, unary,
)  # fmt: skip


def _find(name):
    """The kernel of this name, in the module that defines it."""
    return next(getattr(m, name) for m in _MODULES if getattr(getattr(m, name, None), "__module__", None) == m.__name__)


FUNCTIONS = tuple(_find(name) for name in KERNELS)
"""Every kernel, at its opcode."""


def _dispatch_source() -> str:
    lines = ["def execute(op, g, scratch, lo, hi):"]
    for i in range(len(FUNCTIONS)):
        lines += [f"    {'el' if i else ''}if op == {i}:", f"        k{i}(g, scratch, lo, hi)"]
    return "\n".join([*lines, "    else:", "        return False", "    return True"])


_namespace = {f"k{i}": kernel for i, kernel in enumerate(FUNCTIONS)}
exec(_dispatch_source(), _namespace)
execute = njit(_namespace["execute"], error_model="numpy", inline="always")


@njit(error_model="numpy")
def meet(frame, threads, thread, passed):
    """Wait until every thread has come here `passed` + 1 times in this context's life; returns that number."""
    passed += 1
    if threads > 1:
        i64(frame[STATES] + thread * LINE)[TAKEN + (passed & 1)] = np.int64(0)  # of the pieces behind this meeting
        fetch_add(frame[BARRIER], np.int64(1))
        spins = np.int64(0)
        while load_acquire(frame[BARRIER]) < passed * threads:
            spins += 1
            if spins < SPINS:
                pause()
            else:  # somebody else has a core that this inference counts on
                call(frame[REST], np.int64(NAP))
        if thread == 0 and spins > SPINS:
            i64(frame[STATES])[RESTS] += spins - SPINS
    return passed


@njit(error_model="numpy")
def attended(frame):
    """Whether all other threads stand by, or need not since thread 0 waits for them."""
    here = frame[ATTEND] != 0
    if not here:
        here = True
        for t in range(1, frame[THREADS]):
            here = here and load_acquire(frame[STATES] + t * LINE) == STANDING
    return here


@njit(error_model="numpy")
def summon(frame_address, frame):
    """Thread 0 calls the other threads; False if one is not in the machine, and must be sent in first."""
    barrier, here, spins = i64(frame[BARRIER]), True, 0
    barrier[BASE], barrier[CURRENT] = barrier[0] // frame[THREADS], frame_address
    for t in range(1, frame[THREADS]):
        state = frame[STATES] + t * LINE
        while load_acquire(state) == COMING:
            spins += 1
            if spins < SPINS:
                pause()
            else:
                call(frame[REST], np.int64(NAP))
        if load_acquire(state) == STANDING and fetch_add(state, np.int64(CALLED - STANDING)) != STANDING:
            i64(state)[0] = np.int64(GONE)
        here = here and load_acquire(state) == CALLED
    return here


@njit(error_model="numpy")
def stand_by(state):
    """Whether another inference calls while this thread looks out for it; waking a sleeping thread takes tens of µs."""
    for _ in range(STANDBY):
        if load_acquire(state) != STANDING:
            return True
        pause()
    if fetch_add(state, np.int64(GONE - STANDING)) == STANDING:
        return False
    i64(state)[0] = np.int64(CALLED)  # called at the last moment
    return True


@njit(error_model="numpy")
def quantize(target, source, size, kind, r):
    """float32 to codes floor(C·x + d), saturating, in float64 as edgeq.quantmod defines it; how many are NaN."""
    x, c, d, top = f32(source), f64_of_bits(r[SCALE]), f64_of_bits(r[BIAS]), np.float64(r[TOP])
    bad = np.int64(0)
    if kind == QUANTIZE_U8:
        for i in range(size):
            t = np.float64(x[i]) * c + d
            bad += t != t
            u8(target)[i] = np.uint8(np.int32(min(max(np.floor(t), 0.0), top)) if t == t else np.int32(0))
    else:
        for i in range(size // 2):
            t = np.float64(x[i]) * c + d
            bad += t != t
            q = np.int32(min(max(np.floor(t), 0.0), top)) if t == t else np.int32(0)
            i16(target)[i] = np.int16(q - np.int32(32768))
    return bad


@njit(error_model="numpy", inline="always")
def share(size, thread, threads):
    """The bytes of an input or output that a thread transfers: all that is small is thread 0's."""
    if threads == 1 or size < SHARED_BYTES:
        return np.int64(0), size if thread == 0 else np.int64(0)
    step = (size // threads + 63) & ~63
    return min(step * thread, size), size if thread == threads - 1 else min(step * (thread + 1), size)


@njit(error_model="numpy")
def transfer_in(r, sample, lo, hi):
    """Bytes lo … hi of one sample of one input, from the caller to the arena; how many values have no code."""
    size, kind = r[BYTES], r[KIND]
    if kind == COPY:
        copy(r[PLACE] + lo, r[ADDRESS] + sample * size + lo, hi - lo)
    elif kind == FLIP:
        flip(r[PLACE] + lo, r[ADDRESS] + sample * size + lo, hi - lo)
    elif kind == QUANTIZE_U8:
        return quantize(r[PLACE] + lo, r[ADDRESS] + (sample * size + lo) * 4, hi - lo, kind, r)
    else:
        return quantize(r[PLACE] + lo, r[ADDRESS] + (sample * size + lo) * 2, hi - lo, kind, r)
    return np.int64(0)


@njit(error_model="numpy")
def transfer_out(r, sample, lo, hi):
    """Bytes lo … hi of one sample of one output, from the arena to the caller."""
    to = r[ADDRESS] + sample * r[BYTES] + lo
    if r[KIND] == FLIP:
        flip(to, r[PLACE] + lo, hi - lo)
    else:
        copy(to, r[PLACE] + lo, hi - lo)


@njit(error_model="numpy")
def flip(target, source, size):
    """Copy bytes with the top bit of each changed."""
    x, y = u8(source), u8(target)
    for i in range(size):
        y[i] = np.uint8(x[i] ^ np.uint8(128))


@njit(error_model="numpy", inline="always")
def branch(g, i, turns):
    """Where instruction i leads, and how often the run has gone back."""
    if g[CONDITION] != 0 and u8(g[CONDITION])[0] != 0:
        return i + 1, turns
    return g[TARGET], turns + 1 if g[TARGET] <= i else turns


@njit(error_model="numpy")
def infer(frame_address, frame, threads, thread, scratch):
    """A thread's part of every sample."""
    passed, status = np.int64(0), np.int64(0)
    if threads > 1:
        passed = i64(frame[BARRIER])[BASE]
    fault = i64(scratch + FAULT)
    fault[0] = np.int64(0)
    last = frame[BATCH] - 1
    for sample in range(frame[BATCH]):
        record = frame_address + RECORDS * 8
        for _ in range(frame[N_INPUTS]):
            r = i64(record)
            lo, hi = share(r[BYTES], thread, threads)
            if lo < hi and transfer_in(r, sample, lo, hi):
                fault[0] = np.int64(NOT_A_NUMBER)
            record += RECORD_WORDS * 8
        passed = meet(frame, threads, thread, passed)
        i, turns = np.int64(0), np.int64(0)
        while i < frame[COUNT]:
            g = i64(frame[INSTRUCTIONS] + i * (WORDS * 8))
            if g[OP] < 0:
                i, turns = branch(g, i, turns)
                if turns > g[LIMIT]:
                    status, i = np.int64(ENDLESS) + (g[ORIGIN] << 8), frame[COUNT]
                passed = meet(frame, threads, thread, passed)
                continue
            lo, hi, of = np.int64(0), g[UNITS], np.int64(-1)
            if threads > 1:
                lo, hi, of = next_units(frame, g, threads, thread, passed, thread)
            while True:
                if lo < hi and not execute(g[OP], g, scratch, lo, hi):
                    status = -1 - i
                if of < 0:
                    break
                lo, hi, of = next_units(frame, g, threads, thread, passed, of)
            i += 1
            if g[MEET]:
                passed = meet(frame, threads, thread, passed)
        for _ in range(frame[N_OUTPUTS]):
            r = i64(record)
            lo, hi = share(r[BYTES], thread, threads)
            if lo < hi:
                transfer_out(r, sample, lo, hi)
            record += RECORD_WORDS * 8
        if thread > 0 and sample == last:  # before the last meeting: behind it the next inference may call at once
            i64(frame[STATES] + thread * LINE)[0] = np.int64(STANDING)
        passed = meet(frame, threads, thread, passed)
    if thread == 0:
        for t in range(threads):
            told = i64(scratch + t * SCRATCH_BYTES + FAULT)[0]
            status = told if status == 0 else status
    return status


@njit(error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
def run(frame_address, thread):
    """Execute a plan; see above. A thread but the first looks out for inferences until none has come for a while."""
    frame = i64(frame_address)
    barrier, scratch, threads = i64(frame[BARRIER]), frame[SCRATCH] + thread * SCRATCH_BYTES, frame[THREADS]
    if thread > 0:
        state = frame[STATES] + thread * LINE
        i64(state)[0] = np.int64(STANDING)
        while stand_by(state):
            frame_address = barrier[CURRENT]
            frame = i64(frame_address)
            infer(frame_address, frame, frame[THREADS], thread, scratch)
        return np.int64(0)
    account, start = i64(frame[STATES]), np.int64(0)
    timed = threads > 1 and account[SUSPENDED] < TIMED
    if timed:
        start = now(frame, scratch)
    if threads > 1:
        if account[SUSPENDED]:
            account[SUSPENDED] -= 1
            threads = np.int64(1)
        elif not attended(frame):
            threads = np.int64(1)
        elif not summon(frame_address, frame):
            return np.int64(LEFT)
    status = infer(frame_address, frame, threads, thread, scratch)
    if timed:
        settle(frame, threads, now(frame, scratch) - start)
    return status

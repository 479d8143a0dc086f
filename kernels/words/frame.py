"""Words of the frame that `run` is given: where the plan lies and how it is to be run.

YIELD is the address of a C function `int f(void)` that lets another thread have the core, as sched_yield does; 0: there is none.
Behind the head come N_INPUTS + N_OUTPUTS records of RECORD_WORDS: the caller's address, the arena's address, bytes of a sample
in the arena, what happens on the way, and for QUANTIZE_… the float64 bits of C and d and the top code of floor(C·x + d).
"""

INSTRUCTIONS, COUNT, BATCH, THREADS, BARRIER, SCRATCH = 0, 1, 2, 3, 4, 5
N_INPUTS, N_OUTPUTS, YIELD, RECORDS = 6, 7, 8, 9
RECORD_WORDS = 8
ADDRESS, PLACE, BYTES, KIND, SCALE, BIAS, TOP = 0, 1, 2, 3, 4, 5, 6

COPY, FLIP = 0, 1  # KIND: as it is; the top bit of every byte changed (int8 ↔ the arena's unsigned form)
QUANTIZE_U8, QUANTIZE_S16 = 2, 3  # KIND: float32 of the caller's to codes, saturating

NOT_A_NUMBER, INDEX, DIVISION, CUSTOM, ENDLESS = 1, 2, 3, 4, 5
"""What `run` returns where values break a rule: a NaN that has no code, a computed index outside, an integer division by
zero, a function of the application's that failed, a loop that does not end; all but the first with the operation's number in
the bits from 8 upwards."""

LEFT = -(1 << 40)
"""What `run` returns to thread 0 where a thread that stood by has left: it is to be sent in again, and thread 0 too."""

BASE, LINE = 1, 64
STANDING, CALLED, GONE = 0, 1, 2
"""BARRIER is the address of a counter of arrivals, which only grows; word BASE holds how many meetings there have been before
an inference. LINE bytes further for each thread but the first lies its state: it looks out for the next inference, is in one
or on its way into one, or is not in the machine."""

ABI = 6
"""Changes whenever the frame or an instruction's words change meaning."""

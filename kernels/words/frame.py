"""Words of the frame that `run` is given: where the plan lies and how it is to be run.

REST is the address of a C function `int f(unsigned)` that sleeps for so many microseconds, as usleep does; 0: there is none.
Where ATTEND is 0 the other threads take part only if they stand by, and more than PATIENCE rests in an inference mean that
somebody else wants the cores: then some inferences, at most MOST_ALONE, are thread 0's alone. Else thread 0 waits for them.
Behind the head come N_INPUTS + N_OUTPUTS records of RECORD_WORDS: the caller's address, the arena's address, bytes of a sample
in the arena, what happens on the way, and for QUANTIZE_… the float64 bits of C and d and the top code of floor(C·x + d).
"""

INSTRUCTIONS, COUNT, BATCH, THREADS, BARRIER, SCRATCH = 0, 1, 2, 3, 4, 5
N_INPUTS, N_OUTPUTS, REST, ATTEND, PATIENCE, MOST_ALONE, RECORDS = 6, 7, 8, 9, 10, 11, 12
RECORD_WORDS = 8
ADDRESS, PLACE, BYTES, KIND, SCALE, BIAS, TOP = 0, 1, 2, 3, 4, 5, 6

SHARED_BYTES = 16384
"""Inputs and outputs from this size on are transferred by all threads."""

COPY, FLIP = 0, 1  # KIND: as it is; the top bit of every byte changed (int8 ↔ the arena's unsigned form)
QUANTIZE_U8, QUANTIZE_S16 = 2, 3  # KIND: float32 of the caller's to codes, saturating

NOT_A_NUMBER, INDEX, DIVISION, CUSTOM, ENDLESS = 1, 2, 3, 4, 5
"""What `run` returns where values break a rule: a NaN that has no code, a computed index outside, an integer division by
zero, a function of the application's that failed, a loop that does not end; all but the first with the operation's number in
the bits from 8 upwards."""

LEFT = -(1 << 40)
"""What `run` returns to thread 0 where a thread that stood by has left: it is to be sent in again, and thread 0 too."""

BASE, CURRENT, SUSPENDED, PENALTY, RESTS, LINE = 1, 2, 3, 4, 5, 64
STANDING, CALLED, GONE, COMING = 0, 1, 2, 3
"""BARRIER is the address of a counter of arrivals, which only grows; word BASE holds how many meetings there have been before
an inference, CURRENT its frame, SUSPENDED how many inferences to come thread 0 does alone, since the last one stalled,
PENALTY how many that was, and RESTS how often thread 0 has rested in this one. LINE bytes further for each thread but the
first lies its state: it looks out for the next inference, is in one, is not in the machine, or is on its way there."""

ABI = 10
"""Changes whenever the frame or an instruction's words change meaning."""

"""Words of the frame that `run` is given: where the plan lies and how it is to be run.

REST is the address of a C function `int f(unsigned)` that sleeps for so many microseconds, as usleep does, CLOCK that of
clock_gettime(clock, struct timespec *) with 64-bit words; 0: there is none. Where ATTEND is 0 the other threads take part only if
they stand by; else thread 0 waits for them. ESTIMATE is what the plan takes one thread for an inference, in nanoseconds.
Behind the head come N_INPUTS + N_OUTPUTS records of RECORD_WORDS: the caller's address, the arena's address, bytes of a sample
in the arena, what happens on the way, and for QUANTIZE_… the float64 bits of C and d and the top code of floor(C·x + d).
"""

INSTRUCTIONS, COUNT, BATCH, THREADS, BARRIER, SCRATCH = 0, 1, 2, 3, 4, 5
N_INPUTS, N_OUTPUTS, REST, ATTEND, CLOCK, ESTIMATE, STATES, RECORDS = 6, 7, 8, 9, 10, 11, 12, 13
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

BASE, CURRENT, LINE = 1, 2, 64
"""BARRIER is the address of a counter of arrivals, which only grows; word BASE behind it holds how many meetings there have been
before an inference, word CURRENT its frame."""

STANDING, CALLED, GONE, COMING = 0, 1, 2, 3
STATE, TAKEN = 0, 1
"""STATES is the address of LINE bytes for each thread. Word STATE of a thread but the first says where it is: it looks out for
the next inference, is in one, is not in the machine, or is on its way there. Words TAKEN and TAKEN + 1 say how many pieces have
been taken from the thread's part of a shared instruction, after an even and after an odd number of meetings."""

STALLS, SUSPENDED, LONE, BALANCE, RESTS, SINCE = 0, 3, 4, 5, 6, 7
OVERDRAFT, PRICE, SAVED, LOOK_AGAIN, LONGEST_ALONE, MOST_STALLS = 200_000, 128, 16_000_000, 512, 2_000_000_000, 21
"""Thread 0's line is also the account of what several threads save. LONE: nanoseconds of an inference of one thread, 0 if none
has been timed; BALANCE: how many nanoseconds less than that inferences of all threads have taken, at most SAVED or four times
LONE. Where they have taken more, by OVERDRAFT and four times LONE, SUSPENDED calls are thread 0's alone, for PRICE times what was
lost, but no longer than LONGEST_ALONE ns: so calls that try what threads save cost less than a hundredth. SINCE: calls since the
last of thread 0 alone; after LOOK_AGAIN two are done alone, and the second is timed. RESTS: how often thread 0 has slept in this
one. STALLS: 0, 1, 5, 21 where so many of the last calls of all threads in a row took more than twice LONE; thread 0 is alone for
so many times as long as the last one took."""

ABI = 12
"""Changes whenever the frame or an instruction's words change meaning."""

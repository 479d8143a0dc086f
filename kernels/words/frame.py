"""Words of the frame that `run` is given: where the plan lies and how it is to be run.

Behind the head come N_INPUTS + N_OUTPUTS records of RECORD_WORDS: the caller's address, the arena's address, bytes of a sample,
and whether the top bit of every byte changes on the way (int8 ↔ the arena's unsigned form).
"""

INSTRUCTIONS, COUNT, BATCH, THREADS, BARRIER, SCRATCH, N_INPUTS, N_OUTPUTS, RECORDS = 0, 1, 2, 3, 4, 5, 6, 7, 8
RECORD_WORDS = 4

ABI = 1
"""Changes whenever the frame or an instruction's words change meaning."""

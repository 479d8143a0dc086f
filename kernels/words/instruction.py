"""What every instruction has in common.

An instruction is WORDS int64. Word OP names the kernel, word UNITS says how many independent units of work there are; threads
share [0, UNITS) out (kernels/share.py). The words behind are the kernel's own. Where a word is an address, the plan stores an
offset and the engine adds the base when it binds an arena. Word ORIGIN is the number of the operation that the instruction comes
from. Scratch is a thread's own SCRATCH_BYTES; at FAULT in it lies what a kernel has to tell (kernels/fault.py).
"""

WORDS = 40
OP = 0
UNITS = 1
ORIGIN = 37
SHARE = 38  # pieces that each thread's part is cut into; 0: too little work to share, thread 0 does it all. From bit GRAIN_AT
GRAIN_AT = (
    8  # SHARE's bits from here on: units that pieces are multiples of, those of a register tile, a row, a cache line
)
LOOKS_AT = 32  # SHARE's bits from here on: looks at the barrier before a thread takes another's pieces
MEET = 39  # 1: threads wait for each other behind it; 0 between instructions of thread 0 alone
FAULT = 16384
SCRATCH_BYTES = FAULT + 64

# An instruction that is no kernel: the machine goes to instruction TARGET unless the byte at CONDITION (0: there is none) is
# not 0. Going back happens at most LIMIT times in a run. Threads wait for each other before it and behind it.
BRANCH = -1
TARGET, CONDITION, LIMIT = 2, 3, 4

# Rounding families (docs/exactness.md).
DOUBLE = 0  # "tflite": gemmlowp's two roundings
FLOAT = 1  # "xnnpack": float32 product, ties to even
SINGLE = 2  # one rounding of the 64-bit product, half up
HALF_UP = 3  # two roundings, the second half up
FLOAT64 = 4  # float64 product or quotient, ties away from zero
REDUCED = 5  # int64 times a multiplier of 16 bits, one rounding, half up
POWER_OF_TWO = 6  # shifts

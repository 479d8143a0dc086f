"""Words of an instruction: the convolutions and matrix products. See kernels/conv.py for the meaning."""

X, Y, W, BIAS, MULTIPLIER, LEFT, RIGHT, SEGMENTS = 2, 3, 4, 5, 6, 7, 8, 9
PLAIN = RIGHT  # conv_u8 in strips: 1 behind a ReLU, if sums stay below 2^23 (kernels/staggered.py)
N_SEGMENTS, STEPS = 10, 11
OUT_W, OUT_HW = 12, 13  # output pixels in a row, in an image
ROW, COLUMN, IMAGE = 14, 15, 16  # bytes of input from one output row, pixel, image to the next
N, Y_PITCH = 17, 18  # output channels; bytes from one output pixel to the next
NV, BLOCK = 19, 20  # vectors of a tile; bytes of packed weights per tile
FAMILY, ZERO_POINT, LO, HI = 21, 22, 23, 24  # LO and HI are the clamps, in the arena's own (unsigned) numbers
SUM_WEIGHT = 25  # what each row's sum of activations is multiplied by
CHUNK = 26  # s16: segments whose products surely fit int32
TAIL = 26  # conv_u8 in strips: vectors of the last block of channels where they are not NV; 0 where they are
RANGE, SUMS = 27, 28  # hybrid: what dynamic_u8 found; sums of each channel's weights
LINEAR = 29  # 1 where output pixels lie COLUMN bytes apart throughout
PAIRS = 30  # 1: half a vector of channels, written twice, so that two pixels share a vector; SHARED_PAIRS
STRIP = (
    31  # pixels of a strip (kernels/strip.py), whole lines unless LINEAR; 0: tiles take any pixels, each by its address
)
SHARED = 32  # 1: pixels are loaded once for three outputs: a strip, or on 64-bit ARM a tile of kernels/steps.py
ONES = 33  # weights that add up a row's activations, where the layer's own have a zero point; 0 elsewhere
BY_BLOCK, PIXELS = 34, 35  # conv_u8: where BY_BLOCK is 1, units are blocks of channels, each for all of PIXELS pixels
Y_GAP = 36  # strips and conv_f32: bytes between the end of a row of output and the next; they then keep to rows

BY_HALF_BLOCK = 2
"""BY_BLOCK where units are halves of blocks, about half of the pixels each, so that an odd number of blocks can be shared too."""

SHARED_PAIRS = 2
"""PAIRS in strips of up to half a vector of channels more than NV − 1 vectors: two pixels share the last."""

SHARED_PAIRS_ROWS = {1: 16, 2: 8}
"""Those NV − 1 vectors → pixels of a tile."""

# conv_u8 on 64-bit ARM (kernels/steps.py), in place of words of other kernels: where each pass of 16 bytes begins in a row, and
# how codes become bytes. SHORT: none leaves an int16, and nothing is to add or to clamp; MOVED: the zero point is to add.
WAY, PASSES, N_PASSES = CHUNK, RANGE, SUMS
SHORT, MOVED = 1, 2

MAX_SUMMED = 1024
"""Pixels of a strip whose sums of activations fit the scratch."""

TILE_ROWS = {True: {4: 6, 2: 12, 1: 12}, False: {4: 2, 2: 4, 1: 6}}
"""Whether there are 32 registers → NV → rows of a tile: accumulators, weights and a broadcast stay in registers. With 16 of
them, LLVM loads weights ahead: three rows of four vectors reach 140 GMAC/s where two reach 195 (AVX-VNNI, 64 channels)."""

STRIP_ROWS = {True: {4: 6, 2: 8, 1: 16}, False: {4: 2, 2: 4, 1: 8}}
"""As TILE_ROWS, pixels of a strip's tile; those of one vector are also those of PAIRS and SHARED. Powers of two where weights
are few: images are as wide."""

LEAD = {2: 3, 1: 2}
"""NV → steps that one half of a staggered tile is ahead of the other, and at least those of a run (kernels/staggered.py)."""

STEP_ROWS = {"smull": {4: 2, 2: 4, 1: 4}, "sdot": {4: 5, 2: 8, 1: 12}, "usdot": {4: 4, 2: 8, 1: 8}}
"""Isa.dot → NV → rows of a tile of kernels/steps.py: sums, each row's activations and a few weights stay in 32 registers."""

ACROSS = {"smull": 2, "sdot": 4, "usdot": 4}
"""As STEP_ROWS, pixels of a tile where SHARED is 1: images are often as wide as some of them."""

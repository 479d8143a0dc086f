"""Words of an instruction: kernels/matmul.py says what they mean."""

X, W, Y, BIAS = 2, 3, 4, 5
M, N, K = 6, 7, 8
X_STEP, W_STEP = 9, 10  # elements from one batch's matrix to the next, 0 for one that all share
PITCH, ZERO_X, ZERO_W = 11, 12, 13
FAMILY, MULTIPLIER, SHIFT, ZERO_Y, LO, HI = 14, 15, 16, 17, 18, 19
RANGE, SCALES, SUMS = 20, 21, 22  # HYBRID: what dynamic_u8 found of each row; (N,) scales; (N,) sums of each column
WIDE = 23  # matmul_u8: int16 out
HYBRID = 7  # FAMILY: float32 out of integers

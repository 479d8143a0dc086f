"""Words of an instruction: kernels/rows.py says what they mean."""

X, Y, N, OPERATION = 2, 3, 4, 5
L2_NORMALIZE, LOG_SOFTMAX, LOCAL_RESPONSE = 0, 1, 2
RADIUS, ALPHA, BETA, BIAS = 6, 7, 8, 9
BEHIND, FOLDED = 14, 15  # neighbours behind that count; bits of 7 that come with the inverse root's shift
ZERO_X = 10
TABLE, SCALE, ZERO_Y = 11, 12, 13

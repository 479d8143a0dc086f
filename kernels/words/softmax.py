"""Words of an instruction: kernels/softmax.py says what they mean."""

X, Y, N = 2, 3, 4
TABLE, TABLE2 = 5, 6
MULTIPLIER, SHIFT, MODE, BETA = 7, 8, 9, 10
FIXED, FLOAT_TABLE = 0, 1

"""Words of an instruction: kernels/elementwise.py says what they mean."""

A, B, Y = 2, 3, 4
FLAT, INNER, A_STEP, B_STEP = 5, 6, 7, 8
D1, D2 = 9, 10
A0, A1, A2, B0, B1, B2 = 11, 12, 13, 14, 15, 16
MODE, LO, HI = 17, 18, 19
ZERO_A, ZERO_B, ZERO_Y = 20, 21, 22
MA, SA, MB, SB, MY, SY, LEFT = 23, 24, 25, 26, 27, 28, 29
SUM, PRODUCT, DIFFERENCE, MAXIMUM, MINIMUM, QUOTIENT = 0, 1, 2, 3, 4, 5  # OPERATION of binary_s16 and binary_f32
OPERATION = 30

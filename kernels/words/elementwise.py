"""Words of an instruction: kernels/elementwise.py says what they mean."""

A, B, Y = 2, 3, 4
FLAT, INNER, A_STEP, B_STEP = 5, 6, 7, 8
D1, D2 = 9, 10
A0, A1, A2, B0, B1, B2 = 11, 12, 13, 14, 15, 16
MODE, LO, HI = 17, 18, 19
ZERO_A, ZERO_B, ZERO_Y = 20, 21, 22
MA, SA, MB, SB, MY, SY, LEFT = 23, 24, 25, 26, 27, 28, 29
OPERATION = 30
SUM, PRODUCT, DIFFERENCE, MAXIMUM, MINIMUM, QUOTIENT = (
    0,
    1,
    2,
    3,
    4,
    5,
)  # OPERATION of all; binary_s16 has the first three
FLOOR_DIV, FLOOR_MOD, POWER, SQUARED_DIFFERENCE, ATAN2, PRELU = 6, 7, 8, 9, 10, 11  # ... of binary_f32, binary_int
AND, OR, XOR, SHIFT_RIGHT = 12, 13, 14, 15  # ... of binary_int
EQUAL, NOT_EQUAL, LESS, LESS_EQUAL = 16, 17, 18, 19  # ... of compare
KIND, KIND_Y = 31, 32  # words/kinds.py: of both inputs, and of the output
TABLE = 33
Y_ROW = 34  # add_u8: bytes from one row of the output to the next, where rows lie apart; 0 elsewhere

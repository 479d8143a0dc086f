"""Words of an instruction: kernels/unary.py says what they mean."""

X, Y = 2, 3
TABLE = 4
FROM, TO = 5, 6  # element kinds: 0 u8, 1 s16, 2 s32
ZERO_X, ZERO_Y, LO, HI, MODE = 7, 8, 9, 10, 11
M_UP, S_UP, M_DOWN, S_DOWN = 12, 13, 14, 15  # multiplier and shift for values above and below the zero point
SCALE = 16
FUNCTION, ALPHA = 17, 18
CLAMP, LOGISTIC, TANH, LEAKY, HARD_SWISH, SQRT, RSQRT, ABS, NEG, SQUARE = range(10)  # FUNCTION of unary_f32
EXP, FLOOR, CEIL, ROUND, SIGN, LOG, SIN, COS, ELU, GELU, GELU_TANH = range(10, 21)
NOT = 21  # ... of unary_int, which also has ABS, NEG, SQUARE, SIGN
N, RANGE = 19, 20

SYMMETRIC, ASYMMETRIC = 0, 1  # MODE of dynamic_u8

"""Words of an instruction: kernels/depthwise.py says what they mean."""

X, Y, W, BIAS, MULTIPLIER, LEFT, RIGHT, TAPS = 2, 3, 4, 5, 6, 7, 8, 9
N_TAPS = 10
OUT_W, OUT_HW, ROW, COLUMN, IMAGE = 12, 13, 14, 15, 16
N, Y_PITCH, PADDED_N = 17, 18, 19
FAMILY, ZERO_POINT, LO, HI = 21, 22, 23, 24
RUN, PERIOD = 25, 26  # depthwise_runs: bytes of a run; blocks after which the weights repeat
LINES, ROLL = (
    27,
    28,
)  # depthwise_rows: output rows of an image; channels where a pixel's bytes serve its neighbours, else 0
LINE = 29  # depthwise_strided: bytes from one row of input to the next tap's
DIRECT = 30  # 64-bit ARM: weights [block][tap][4·lanes], which no interleaved taps meet

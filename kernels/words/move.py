"""Words of an instruction: kernels/move.py says what they mean."""

X, Y, RUN = 2, 3, 4
D1, D2, D3, D4 = 5, 6, 7, 8  # the outermost extent is what UNITS leaves
X0, X1, X2, X3, X4 = 9, 10, 11, 12, 13
Y0, Y1, Y2, Y3, Y4 = 14, 15, 16, 17, 18
VALUE = 5
LINE, LEFT, RIGHT, HEIGHT, TOP, PADDED_HEIGHT = (
    21,
    22,
    23,
    24,
    25,
    26,
)  # pad_image; X is 0 where the image is there already
FLIP = 27  # pad_image, 64-bit ARM without i8mm: 1 to flip each byte's top bit, which kernels/steps.py then need not do
STRIDE, PIXELS = 27, 28  # pad_phases: phases, and pixels of each in a row; pad_columns: rows from line to line
PITCH = 28  # pad_columns: bytes from line to line
LEAST_COLUMNS, MOST_COLUMNS = (
    7,
    5400,
)  # pad_columns: pixels of a row, those that a vector holds and those that scratch does
X_AT, Y_AT = 19, 20  # addresses of int64 offsets into X and Y, found while running; 0 where there is none
A, B, C, SIZE = 2, 4, 5, 6  # select: where C is true A, else B; bytes of an element

"""Words of an instruction: kernels/move.py says what they mean."""

X, Y, RUN = 2, 3, 4
D1, D2, D3, D4 = 5, 6, 7, 8  # the outermost extent is what UNITS leaves
X0, X1, X2, X3, X4 = 9, 10, 11, 12, 13
Y0, Y1, Y2, Y3, Y4 = 14, 15, 16, 17, 18
VALUE = 5
LINE, LEFT, RIGHT, HEIGHT, TOP, PADDED_HEIGHT = 19, 20, 21, 22, 23, 24  # pad_image

"""Words of an instruction: kernels/pool.py says what they mean."""

X, Y = 2, 3
IN_H, IN_W, C = 4, 5, 6
OUT_H, OUT_W = 7, 8
KH, KW, SH, SW, TOP, LEFT = 9, 10, 11, 12, 13, 14
CENTRE, LO, HI = 15, 16, 17

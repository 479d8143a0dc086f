"""Words of an instruction: kernels/resize.py says what they mean."""

X, Y = 2, 3
IN_H, IN_W, C, OUT_H, OUT_W = 4, 5, 6, 7, 8
ROWS, COLUMNS = 9, 10  # (out, 3) int32: lower neighbour, upper neighbour, fraction (float32 bits for the float modes)
MODE, CENTRE = 11, 12
Q11, Q10, REAL = 0, 1, 2

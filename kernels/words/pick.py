"""Words of an instruction: kernels/pick.py says what they mean."""

X, Y, INDICES = 2, 3, 4
KIND, SIZE, N, INNER, WIDE = 5, 6, 7, 8, 9
ON, OFF, DEPTH = 10, 11, 12  # place_ones
OPERATION, ROWS = 13, 14  # segment
OUTER, STEP, LENGTHS = 15, 16, 17  # reverse_rows
BOUNDS = 18  # bucket

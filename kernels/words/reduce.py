"""Words of an instruction: kernels/reduce.py says what they mean."""

X, Y = 2, 3
REDUCED, INNER = 4, 5
MODE, MULTIPLIER, SHIFT, ZERO_X, ZERO_Y, LO, HI = 6, 7, 8, 9, 10, 11, 12
CENTRE, BIAS = 13, 14
OPERATION, KIND = 15, 16  # reduce_any
DIVISOR = 17  # mean_f32
ADD, MULTIPLY, GREATEST, LEAST = 0, 1, 2, 3

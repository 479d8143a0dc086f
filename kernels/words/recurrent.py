"""Words of an instruction: kernels/recurrent.py says what they mean."""

X, Y, R = 2, 3, 4  # what the inputs add up to, (…, GATES · N); outputs; recurrent weights (OUT, GATES · N)
T, N, OUT = 5, 6, 7  # steps, cells, outputs
X_T, X_B, Y_T, Y_B = 8, 9, 10, 11  # elements of X and Y from one step, and from one batch item, to the next
STATE, CELL, TEMPORARY = 12, 13, 14  # (batch, OUT), (batch, N), room for (batch, ROOM) elements
BACKWARD, ACTIVATION, COUPLED = 15, 16, 17  # COUPLED: no input gate, it is 1 − the forget gate
CLIP, CLIP_PROJECTION = 18, 19
PEEPHOLE, NORM, BIAS = 20, 21, 22  # 0 for none; (3, N): input, forget, output; (4, N); (4, N), added behind NORM
PROJECTION, PROJECTION_BIAS = 23, 24  # (N, OUT)
R_SCALES, P_SCALES, R_SUMS, P_SUMS, MODE = 25, 26, 27, 28, 29  # hybrid: weights are bytes
TABLES = 30  # lstm_s8: HEAD int64, each a number, or where in the same constant an array begins
ZERO_H, ZERO_Y = 31, 32
SIGMOID, TANH, CELL_TANH = 33, 34, 35  # lstm_s8: curves of all 65 536 int16 numbers

MEMORY, RANK, WEIGHTS, KIND = 5, 13, 7, 8  # svdf; N is its units, STATE its memory (batch, N · RANK, MEMORY)
M1, S1, LO, HI = 9, 10, 11, 15

# What lies at TABLES: (4, N) int32 that the recurrent products begin with; 4 multipliers and
# shifts; peepholes (3, N) int16 and theirs; normalization (4, N) int16 and int32, its own, and the least variances.
R_BIAS, R_MULTIPLIER, R_SHIFT = 3, 4, 5
PEEP, P_MULTIPLIER, P_SHIFT = 6, 7, 8
NORMS, NORM_BIAS, NORM_MULTIPLIER, NORM_SHIFT, GUARD = 9, 10, 11, 12, 13
CELL_SHIFT, CELL_CLIP = 14, 15
H_MULTIPLIER, H_SHIFT, H_ZERO = 16, 17, 18
J_MULTIPLIER, J_SHIFT, J_CLIP, J_BIAS = 19, 20, 21, 22  # of the projection
HEAD = 24

"""Words of an instruction: kernels/detection.py says what they mean."""

BOXES, SCORES, ANCHORS = 2, 3, 4
N, CODES, CLASSES, OFFSET = 5, 6, 7, 8  # boxes, numbers of a box's code, scores of a box, those before the first class
Y_BOXES, Y_CLASSES, Y_SCORES, Y_COUNT = 9, 10, 11, 12
MOST, EACH, PER_CLASS, REGULAR = 13, 14, 15, 16
LEAST_SCORE, LEAST_OVERLAP = 17, 18
SCALE_Y, SCALE_X, SCALE_H, SCALE_W = 19, 20, 21, 22
DECODED, VALUES, ORDER, ALIVE, PICKED = (
    23,
    24,
    25,
    26,
    27,
)  # room: (N, 4), (N,) float32; (N,) int32; (N,) bytes; (MOST,) int32
MERGED, MERGED_SCORES = 28, 29  # (N + MOST,) int32 and float32
SIGMA, SOFT = 30, 31  # suppress

"""Words of an instruction: the convolutions and matrix products. See kernels/conv.py for the meaning."""

X, Y, W, BIAS, MULTIPLIER, LEFT, RIGHT, SEGMENTS = 2, 3, 4, 5, 6, 7, 8, 9
N_SEGMENTS, STEPS = 10, 11
OUT_W, OUT_HW = 12, 13  # output pixels in a row, in an image
ROW, COLUMN, IMAGE = 14, 15, 16  # bytes of input from one output row, pixel, image to the next
N, Y_PITCH = 17, 18  # output channels; bytes from one output pixel to the next
NV, BLOCK = 19, 20  # vectors of a tile; bytes of packed weights per tile
FAMILY, ZERO_POINT, LO, HI = 21, 22, 23, 24  # LO and HI are the clamps, in the arena's own (unsigned) numbers
SUM_WEIGHT = 25  # u8sum: what each row's sum of activations is multiplied by
CHUNK = 26  # s16: segments whose products surely fit int32
RANGE, SUMS = 27, 28  # hybrid: what dynamic_u8 found; sums of each channel's weights
LINEAR = 29  # 1 where output pixels lie COLUMN bytes apart throughout
PAIRS = 30  # 1: half a vector of channels, written twice, so that two pixels share a vector

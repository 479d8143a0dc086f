"""Words of an instruction: kernels/gather.py says what they mean."""

X, Y, INDICES = 2, 3, 4
DEPTH, WIDE = 5, 6  # indices of a tuple; whether they are int64
COUNT, OUTER = 7, 8  # tuples of a batch; copies of X that one batch's tuples go to
STRIDE = 9  # bytes of X from one copy to the next
LIMITS, STRIDES = 10, 11  # (DEPTH,) int64 each: what an index stays below, bytes that it steps over
RUN = 12
ADD = 13  # scatter: kind of the elements that are added up, or −1 to replace

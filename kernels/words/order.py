"""Words of an instruction: kernels/order.py says what they mean."""

X, Y, INDICES = 2, 3, 4
N, INNER, KIND = 5, 6, 7
LEAST, WIDE = 8, 9  # arg_best: whether the least is wanted; whether indices are int64
K, RUN = 10, 11  # top_k: how many; bytes of an element
EXCLUSIVE, REVERSE = 8, 9  # running_sum

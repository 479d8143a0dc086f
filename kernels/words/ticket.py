"""Words of a ticket: what `kernels/entry.py` compares an array with before it runs a model on it, and where CPython keeps things.

A ticket is an int64 array. Behind DIMS come RANK lengths. Each of KINDS kinds of input is a pair of words: the descriptor (the
dtype's object) that an array must have, and the frame to run it in.
"""

TYPE, RANK, KINDS, NONE, PAIRS, DIMS = 0, 1, 2, 3, 4, 8
MAX_KINDS = 2

# Words of CPython's objects and of NumPy's arrays (PyArrayObject_fields), 64-bit; edgeq/direct.py compares them with real ones.
REFERENCES, OBJECT_TYPE, ARRAY_DATA, ARRAY_RANK, ARRAY_DIMS, ARRAY_DESCR, ARRAY_FLAGS = 0, 1, 2, 3, 4, 7, 8
IN_ORDER = 0x101  # NPY_ARRAY_C_CONTIGUOUS and NPY_ARRAY_ALIGNED

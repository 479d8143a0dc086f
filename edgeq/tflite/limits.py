"""Every limit on a model file and on the graph in it: the reader, the checker and the writer take theirs from here.

They are far above what real models need, and low enough that a hostile file costs memory and time in proportion to
its size.
"""

from __future__ import annotations

MAX_FILE_BYTES = 2**31 - 1
"""Flatbuffer offsets are 32 bits and TFLite verifies with signed sizes: larger models keep buffers outside, which no
runtime of 2.14 reads."""

MAX_TABLES = 1_000_000
"""Tables in one file; the C++ verifier's own default."""

MAX_SLOTS = 256
"""Fields that one table may claim; the schema's longest has 14."""

MAX_SHAPES = 4096
"""Different sets of fields that tables of one kind may have, all kinds together: a real model has some dozens."""

ALIASING_FACTOR = 2
ALIASING_SLACK = 16 * 1024
"""Bytes decoded into values ≤ factor · file size + slack. Every byte of an honest file is decoded once, so only files
that point at one place from many reach this; the slack is for tiny files that share strings. Constants are views and
cost nothing."""

MAX_RANK = 16
"""Dimensions of a tensor (NumPy stops at 32, TFLite's kernels at 8 or fewer)."""

MAX_TENSOR_BYTES = 2**31 - 1
"""One tensor, in bytes: offsets into it fit int32."""

MAX_GRAPH_BYTES = 2**32
"""All tensors of one subgraph together, in bytes, had each its own memory."""

MAX_STEP = 2**16
"""A stride, dilation, filter length, block size or number of pieces: products of two of them fit int64 with room."""

_LONGEST = 60


def shown(name: str) -> str:
    """`name` quoted, with control characters escaped, cut at 60 characters: it is untrusted text, and a message is one line."""
    return repr(name if len(name) <= _LONGEST else name[: _LONGEST - 3] + "...")

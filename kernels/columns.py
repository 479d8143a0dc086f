"""RGB images for windows of three rows: a pixel's column of three rows in 9 bytes, so that a window is one run of bytes.

Nine bytes of a row of a window fill two and a quarter steps of four, and three rows take nine steps; 27 in one run take seven.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from .memory import fill
from .move import fill_run
from .simd import L, store
from .vec import I32, VQUAD, llvm
from .words.move import HEIGHT, LEFT, LINE, PADDED_HEIGHT, PITCH, RIGHT, STRIDE, TOP, VALUE, X, Y

PIXELS = 4 * L // 9
"""Columns that a vector holds."""

SHUFFLES = L == 16
"""Elsewhere it takes longer than it saves, and plans have none."""


@intrinsic
def three_rows(typingctx, first, second, third):
    """3·PIXELS bytes from each of three addresses as PIXELS columns of 9 bytes; what is left of a quad may be anything."""

    def codegen(context, builder, signature, args):
        half = llvm("i8", 2 * L)

        def load(address: Any) -> Any:
            r = builder.load(builder.inttoptr(address, half.as_pointer()))
            r.align = 1
            return r

        def shuffle(a: Any, b: Any, order: list[int]) -> Any:
            return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, len(order)), order))

        two = shuffle(load(args[0]), load(args[1]), list(range(4 * L)))
        wide = load(args[2])
        wide = shuffle(wide, wide, list(range(4 * L)))
        start = (0, 2 * L, 4 * L)  # of each row in what is shuffled
        order = [start[t % 9 // 3] + t // 9 * 3 + t % 3 for t in range(9 * PIXELS)]
        return shuffle(two, wide, [*order, *[0] * (4 * L - len(order))])

    return VQUAD(types.int64, types.int64, types.int64), codegen


@njit(error_model="numpy")
def pad_columns(g, scratch, lo, hi):
    """Lines of columns with borders: LEFT columns of VALUE, one for each pixel of LINE bytes of RGB, RIGHT columns of VALUE.

    Units are lines, PADDED_HEIGHT to an image, PITCH bytes apart; a line's three rows begin STRIDE rows behind the line's before,
    those of the first one TOP rows above the image, which has HEIGHT. There are PIXELS pixels to a row at least.
    """
    if not SHUFFLES:
        return
    line, value = g[LINE], g[VALUE]
    fill(scratch, value, line)  # a row of border
    for unit in range(lo, hi):
        image = unit // g[PADDED_HEIGHT]
        row = (unit - image * g[PADDED_HEIGHT]) * g[STRIDE] - g[TOP]
        x, y = g[X] + (image * g[HEIGHT] + row) * line, g[Y] + unit * g[PITCH]
        a = x if 0 <= row < g[HEIGHT] else scratch
        b = x + line if 0 <= row + 1 < g[HEIGHT] else scratch
        c = x + 2 * line if 0 <= row + 2 < g[HEIGHT] else scratch
        fill_run(y, value, 9 * g[LEFT])
        y += 9 * g[LEFT]
        for at in range(0, line - 3 * PIXELS, 3 * PIXELS):
            store(y + 3 * at, three_rows(a + at, b + at, c + at))
        at = line - 3 * PIXELS
        store(y + 3 * at, three_rows(a + at, b + at, c + at))
        fill_run(y + 3 * line, value, 9 * g[RIGHT])

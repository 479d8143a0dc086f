"""Where a product's rows of activations lie, and which of them go in strips (kernels/strip.py): so many vectors of channels, so
many lines of pixels at a time.
"""

from __future__ import annotations

from edgeq.graph import Op
from edgeq.kernels.words import conv as cw
from edgeq.kernels.words import move as mw
from edgeq.plan.builder import Builder
from edgeq.plan.lower.packing import PER_STEP, vectors
from edgeq.plan.types import Ref, Words
from edgeq.plan.window import Axis
from edgeq.records import dataclass, replace

STRIP_BYTES = 1 << 14
"""Of activations that a strip reads again for each block of channels: they and a block's weights share the first-level cache."""

FEW_STEPS = 8
"""Steps of four products up to which requantization takes so long that tiles which do both at once are worth some pixels more."""

FRAMED_WASTE = 1.11
"""Pixels that tiles of a row compute over those that it has, up to which a row at a time is worth borders made real for free."""

FEW_PIXELS = 64
"""Pixels up to which threads may share out blocks of channels (`by_block`), which then are alike."""

FEWEST_PIXELS = 8
"""Pixels below which blocks are shared out whole: they are tiles of single rows."""

HEAVY_TILE = 1 << 15
"""Bytes of weights from which a tile of a layer takes longer than a single pixel and what it costs to do that apart."""

SHORT_ROW = 40
"""Steps below which a tile's own cost outweighs some rows computed twice."""


@dataclass(frozen=True)
class Rows:
    """Where a product's rows of activations lie: the first byte, segments, and the strides from pixel to pixel."""

    x: Ref
    segments: tuple[int, ...]  # byte offsets of the runs that make a row
    length: int  # elements in a run
    out_w: int
    out_hw: int
    pixels: int
    row: int
    column: int
    image: int

    @property
    def linear(self) -> int:
        """1 where output pixels lie `column` bytes apart throughout."""
        lines = self.out_hw // self.out_w
        return int((lines == 1 or self.row == self.out_w * self.column) and self.linear_images)

    @property
    def linear_images(self) -> bool:
        """Whether images follow one another as pixels do."""
        return self.pixels == self.out_hw or self.image == self.out_hw * self.column


def window_rows(x: Ref, n: int, c: int, group_c: int, rows: Axis, columns: Axis, size: int) -> Rows:
    """Rows of k×k windows over an image whose borders are real: a run per kernel row where a row of taps lies together."""
    line = columns.padded * c * size
    if columns.dilation == 1 and group_c == c:
        segments = tuple(i * rows.dilation * line for i in range(rows.window))
        length = columns.window * c
    else:
        segments = tuple(
            i * rows.dilation * line + j * columns.dilation * c * size
            for i in range(rows.window)
            for j in range(columns.window)
        )
        length = group_c
    return Rows(
        x, segments, length, columns.out, rows.out * columns.out, n * rows.out * columns.out,
        rows.stride * line, columns.stride * c * size, rows.padded * line,
    )  # fmt: skip


def in_strips(b: Builder, op: Op, rows: Rows, steps: int, channels: int, made: Words) -> tuple[int, Words]:
    """Vectors of a tile for so many channels, and the words of a strip; with TAIL where a last block is narrower."""
    count = -(-channels // b.lanes)
    if b.isa.registers >= 32 and not b.isa.by_steps and cw.PAIRS not in made and rows.pixels > FEW_PIXELS:
        whole = channels == b.output(op).shape[-1]
        full = channels // b.lanes
        if whole and full in cw.SHARED_PAIRS_ROWS and 0 < 2 * (channels - full * b.lanes) <= b.lanes == 16:
            tile, unframed = cw.SHARED_PAIRS_ROWS[full], op.outputs[0] not in b.frames
            found = strip_words(b, rows, steps, full + 1, made, tile)
            if found.get(cw.STRIP) and (fits_lines(rows, (tile, 1)) or (rows.linear and unframed)):
                return full + 1, found | {cw.PAIRS: cw.SHARED_PAIRS}
        more = FRAMED_WASTE if steps * len(rows.segments) <= FEW_STEPS else 1.0
        narrow = b.isa.staggers and (
            (rows.linear and op.outputs[0] not in b.frames) or taken(b, rows, 2) <= more * taken(b, rows, 4)
        )
        nv, tail = with_tail(count, 2 if narrow else 4)
        if tail and all(strip_words(b, rows, steps, n, made).get(cw.STRIP) for n in (nv, tail)):
            parts = tile_parts(b, nv, count, tail)
            framed = op.outputs[0] in b.frames and fits_lines(rows, (strip_rows(b, vectors(count)), count))
            if fits_lines(rows, *parts) or (rows.linear and not framed):
                return nv, strip_words(b, rows, steps, nv, made) | {cw.TAIL: tail, cw.SHARED: 0}
        if narrow and not tail:
            found = strip_words(b, rows, steps, nv, made)
            if found.get(cw.STRIP):
                return nv, found
    nv = vectors(count)
    return nv, strip_words(b, rows, steps, nv, made)


def strip_words(b: Builder, rows: Rows, steps: int, nv: int, made: Words, tile: int = 0) -> Words:
    """STRIP and SHARED, where pixels go in strips: they lie one step apart, and a tile's pixels fit a row of them well."""
    if b.isa.by_steps:  # tiles load less
        return across_words(b, rows, nv, made)
    tile = tile or strip_rows(b, nv)
    if rows.linear:
        length = STRIP_BYTES // (len(rows.segments) * steps * 4) // tile * tile
        return {cw.STRIP: min(max(length, 2 * tile), cw.MAX_SUMMED - tile)} if rows.pixels >= tile else {}
    waste = -(-rows.out_w // tile) * tile / rows.out_w
    if cw.ONES in made and rows.out_w > cw.MAX_SUMMED:
        return {}
    if waste > (1.35 if steps * len(rows.segments) < SHORT_ROW else 1.15):
        return {}
    shares = b.isa.registers >= 32 or b.isa.dot == "vpdpbusd"
    alone = 3 * -(-rows.column // PER_STEP["u8"])  # steps of a run if its pixels are taken one by one
    three = rows.length == 3 * rows.column and alone == steps
    shared = nv == 1 and cw.PAIRS not in made and shares and three
    return {cw.STRIP: rows.out_w * lines_of(rows), cw.SHARED: int(shared)}


def across_words(b: Builder, rows: Rows, nv: int, made: Words) -> Words:
    """SHARED on 64-bit ARM (kernels/steps.py, `across`): windows of three whole pixels, lines of whole tiles.

    Where products are signed, what has just made the borders flips the image, too.
    """
    adjacent = rows.length == 3 * rows.column and rows.column % 16 == 0 and not rows.linear
    whole = rows.out_w % cw.ACROSS[b.isa.dot] == 0
    if nv != 4 or cw.ONES in made or not adjacent or not whole:
        return {}
    if b.isa.offset:
        padded = b.instructions[-1] if b.instructions else None
        if (
            padded is None
            or padded.kernel != "pad_image"
            or padded.words.get(mw.Y) != rows.x
            or mw.X not in padded.words
        ):
            return {}
        value = padded.words[mw.VALUE]
        assert isinstance(value, int)
        b.instructions[-1] = replace(padded, words={**padded.words, mw.VALUE: value ^ 128, mw.FLIP: 1})
    return {cw.SHARED: 1}


def line_words(b: Builder, op: Op, rows: Rows, nv: int, strips: Words) -> Words:
    """What a strip needs to write a frame, a row at a time; nothing where tiles fit rows badly."""
    frame = b.frames[op.outputs[0]]
    gap: Words = {cw.Y_GAP: frame.pitch - frame.w * frame.c}
    if not strips.get(cw.STRIP):
        return {}
    if not rows.linear:
        return gap
    parts = tile_parts(b, nv, -(-b.output(op).shape[-1] // b.lanes), int(strips.get(cw.TAIL, 0)))  # type: ignore[arg-type]
    if strips.get(cw.PAIRS) == cw.SHARED_PAIRS:
        parts = ((cw.SHARED_PAIRS_ROWS[nv - 1], 1),)
    return gap | {cw.LINEAR: 0, cw.STRIP: rows.out_w * lines_of(rows)} if fits_lines(rows, *parts) else {}


def float_line_words(b: Builder, op: Op, rows: Rows, nv: int) -> Words:
    """As line_words, for conv_f32, whose tiles keep to lines then."""
    frame, tile = b.frames[op.outputs[0]], (cw.TILE_ROWS[b.isa.registers >= 32] | b.isa.own_rows)[nv]
    return {cw.Y_GAP: frame.pitch - frame.w * frame.c} if fits_lines(rows, (tile, 1)) else {}


def with_tail(count: int, most: int = 4) -> tuple[int, int]:
    """`count` vectors of channels as blocks of up to `most`, the last of so many (0: as the others), without any padding."""
    for nv, tail in ((4, 0), (4, 2), (4, 1), (2, 0), (2, 1)):
        if most >= nv <= count and count % nv == tail:
            return nv, tail
    return 1, 0


def tile_parts(b: Builder, nv: int, count: int, tail: int) -> tuple[tuple[int, int], ...]:
    """Pixels of a strip's tiles, and how many of `count` vectors of channels are in tiles of that kind."""
    last = ((strip_rows(b, tail), tail),) if tail else ()
    return ((strip_rows(b, nv), count - tail), *last)


def taken(b: Builder, rows: Rows, nv: int) -> int:
    """Pixels that tiles of nv vectors compute for a line."""
    tile = strip_rows(b, nv)
    return -(-rows.out_w // tile) * tile


def strip_rows(b: Builder, nv: int) -> int:
    """Pixels of a strip's tile of nv vectors."""
    return cw.STRIP_ROWS[b.isa.registers >= 32][nv]


def fits_lines(rows: Rows, *parts: tuple[int, int]) -> bool:
    """Whether tiles fit a line of pixels well enough to take lines one by one: pixels of a tile, and for how many vectors."""
    whole = rows.out_w * sum(vectors for _, vectors in parts)
    taken = sum(-(-rows.out_w // tile) * tile * vectors for tile, vectors in parts)
    within = max(tile for tile, _ in parts) <= rows.out_w <= cw.MAX_SUMMED
    return within and taken <= FRAMED_WASTE * whole


def lines_of(rows: Rows) -> int:
    """Lines of output that a strip takes at a time: their input stays in the first-level cache for every block of channels."""
    height = rows.out_hw // rows.out_w
    return max(1, min(height, STRIP_BYTES // max(rows.row, 1)))


def leaves_one(b: Builder, rows: Rows, nv: int, made: Words, size: int) -> bool:
    """Whether whole tiles leave one pixel over that is better done alone, block by block, than by one tile more: of 7 × 7 pixels
    there are 48, which two threads halve without a rest, so that each reads the rows that it wrote; size: bytes of weights."""
    if not made.get(cw.STRIP) or cw.TAIL in made or cw.PAIRS in made:
        return False
    tile = strip_rows(b, nv)
    few = tile < rows.pixels <= FEW_PIXELS and rows.pixels % tile == 1
    return bool(few and tile >= 6 and rows.linear and size >= HEAVY_TILE)


def by_block(pixels: int, blocks: int, size: int) -> bool:
    """Whether threads share out the channels: few pixels, so that each would read all of `size` bytes of weights for little."""
    return blocks > 1 and (pixels < FEWEST_PIXELS or (pixels <= FEW_PIXELS and blocks >= 3 and size > 1 << 16))

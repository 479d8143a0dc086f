"""Operations that move values and change none."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgeq.shapes.node import Node, Shape
from edgeq.shapes.rules.follow import broadcast_together


def reshape(n: Node) -> Sequence[Shape]:
    """The shape is a vector of int32 in input 1, else an option; one −1 stands for what is left (reshape.cc)."""
    size = math.prod(n.shape(0))
    vector = n.has(1) and len(n.shape(1)) == 1
    given = n.integers(1) if vector else [int(d) for d in n.option("new_shape", ())]
    if given == [0] and not vector:
        given = []  # how old converters wrote a scalar
    if min(given, default=0) < -1 or given.count(-1) > 1:
        raise n.wrong(f"shape {given}, no negative dimension but one −1 is expected")
    rest = math.prod(d for d in given if d != -1)
    if -1 in given and rest:
        given[given.index(-1)] = size // rest
    if -1 in given or math.prod(given) != size:
        raise n.wrong(f"{size} elements, shape {list(n.shape(0))}, do not become {given}")
    return [tuple(given)]


def squeeze(n: Node) -> Sequence[Shape]:
    """Options list the axes that go, none for all of length 1."""
    x = n.shape(0)
    listed = n.option("squeeze_dims", ())
    axes = {n.axis(a, len(x)) for a in listed} if listed else {i for i, d in enumerate(x) if d == 1}
    if any(x[a] != 1 for a in axes):
        raise n.wrong(f"axes {sorted(axes)} of shape {list(x)} are not all of length 1")
    return [tuple(d for i, d in enumerate(x) if i not in axes)]


def expand_dims(n: Node) -> Sequence[Shape]:
    """Input 1 is where the new axis goes."""
    x = n.shape(0)
    axis = n.axis(n.integer(1), len(x) + 1)
    return [(*x[:axis], 1, *x[axis:])]


def transpose(n: Node) -> Sequence[Shape]:
    """Input 1 is the permutation."""
    x, order = n.shape(0), n.integers(1)
    axes = [n.axis(a, len(x)) for a in order]
    if sorted(axes) != list(range(len(x))):
        raise n.wrong(f"a permutation {order} of {len(x)} dimensions")
    return [tuple(x[a] for a in axes)]


def matrix_diag(n: Node) -> Sequence[Shape]:
    """Vectors become the diagonals of square matrices."""
    x = n.shape(0)
    if not x:
        raise n.wrong("a vector is expected")
    return [(*x, x[-1])]


def pad(n: Node) -> Sequence[Shape]:
    """Input 1 holds the counts (rank, 2) before and after."""
    x, counts = n.shape(0), n.integers(1)
    if len(counts) != 2 * len(x) or min(counts, default=0) < 0:
        raise n.wrong(f"paddings {counts} for shape {list(x)}")
    return [tuple(d + counts[2 * i] + counts[2 * i + 1] for i, d in enumerate(x))]


def concatenation(n: Node) -> Sequence[Shape]:
    """Along the axis of the options."""
    shapes = [n.shape(k) for k in range(len(n.shapes))]
    first = shapes[0]
    axis = n.axis(n.option("axis"), len(first))
    rest = {(*s[:axis], *s[axis + 1 :]) for s in shapes}
    if len(rest) > 1 or any(len(s) != len(first) for s in shapes):
        raise n.wrong(f"shapes {', '.join(str(list(s)) for s in shapes)} do not go together along axis {axis}")
    return [(*first[:axis], sum(s[axis] for s in shapes), *first[axis + 1 :])]


def pack(n: Node) -> Sequence[Shape]:
    """A new axis."""
    shapes = [n.shape(k) for k in range(len(n.shapes))]
    if len(set(shapes)) > 1:
        raise n.wrong(f"shapes {', '.join(str(list(s)) for s in shapes)}, all the same are expected")
    axis = n.axis(n.option("axis"), len(shapes[0]) + 1)
    return [(*shapes[0][:axis], len(shapes), *shapes[0][axis:])]


def unpack(n: Node) -> Sequence[Shape]:
    """An axis apart."""
    x = n.shape(0)
    axis = n.axis(n.option("axis"), len(x))
    if not x or x[axis] != len(n.stated):
        raise n.wrong(f"shape {list(x)} along axis {axis} into {len(n.stated)}")
    return [x[:axis] + x[axis + 1 :]] * len(n.stated)


def split(n: Node) -> Sequence[Shape]:
    """Input 0 is the axis, input 1 what is split into equal parts."""
    x = n.shape(1)
    axis, parts = n.axis(n.integer(0), len(x)), len(n.stated)
    if x[axis] % parts:
        raise n.wrong(f"shape {list(x)} along axis {axis} into {parts} equal parts")
    return [(*x[:axis], x[axis] // parts, *x[axis + 1 :])] * parts


def split_v(n: Node) -> Sequence[Shape]:
    """Input 1 lists the parts' lengths, one −1 for the rest; input 2 is the axis."""
    x, sizes = n.shape(0), n.integers(1)
    axis = n.axis(n.integer(2), len(x))
    if sizes.count(-1) == 1:
        sizes[sizes.index(-1)] = x[axis] - sum(d for d in sizes if d != -1)
    if len(sizes) != len(n.stated) or min(sizes) < 0 or sum(sizes) != x[axis]:
        raise n.wrong(f"shape {list(x)} along axis {axis} into {sizes}")
    return [(*x[:axis], size, *x[axis + 1 :]) for size in sizes]


def slice_(n: Node) -> Sequence[Shape]:
    """Inputs 1 and 2: begin and size, −1 for all that is left."""
    x, begin, size = n.shape(0), n.integers(1), n.integers(2)
    if not len(begin) == len(size) == len(x):
        raise n.wrong(f"begin {begin} and size {size} for shape {list(x)}")
    out = tuple(d - b if s == -1 else s for d, b, s in zip(x, begin, size, strict=True))
    if any(b < 0 or s < 0 or b + s > d for d, b, s in zip(x, begin, out, strict=True)):
        raise n.wrong(f"begin {begin} and size {size} lie outside shape {list(x)}")
    return [out]


def strided_slice(n: Node) -> Sequence[Shape]:
    """Inputs 1 to 3: begin, end, strides; bit i of a mask is their entry i (strided_slice.cc, BuildStridedSliceParams)."""
    return [tuple(1 if r is None else len(r) for r in ranges_of(n) if not isinstance(r, int))]


def ranges_of(n: Node) -> list[range | int | None]:
    """What STRIDED_SLICE takes: a range for an axis that stays, an index for one that goes, None for a new one."""
    x = n.shape(0)
    begin, end, stride = (n.integers(k) for k in (1, 2, 3))
    if not len(begin) == len(end) == len(stride):
        raise n.wrong(f"begin {begin}, end {end} and strides {stride} differ in length")
    new, ellipsis = n.option("new_axis_mask"), n.option("ellipsis_mask")
    entries = [i for i in range(len(begin)) if not new >> i & 1 or ellipsis >> i & 1]
    spread = len(x) - sum(not ellipsis >> i & 1 for i in entries)
    if spread < 0 or bin(ellipsis & ((1 << len(begin)) - 1)).count("1") > 1 or 0 in stride:
        raise n.wrong(f"begin {begin}, end {end} and strides {stride} for shape {list(x)}")
    out: list[range | int | None] = []
    dims = iter(x)
    for i in range(len(begin)):
        if ellipsis >> i & 1:
            out += [range(next(dims)) for _ in range(spread)]
            spread = 0
        elif new >> i & 1:
            out.append(None)
        elif n.option("shrink_axis_mask") >> i & 1:
            size = next(dims)
            if not -size <= begin[i] < size:
                raise n.wrong(f"index {begin[i]} of a dimension of {size}")
            out.append(begin[i] % size)
        else:
            first = None if n.option("begin_mask") >> i & 1 else begin[i]
            last = None if n.option("end_mask") >> i & 1 else end[i]
            if last is not None and n.option("offset", False):
                last += begin[i]
            out.append(range(*slice(first, last, stride[i]).indices(next(dims))))
    return out + [range(d) for d in dims]


def gather(n: Node) -> Sequence[Shape]:
    """Indices replace an axis; the first `batch_dims` dimensions are shared."""
    x, indices = n.shape(0), n.shape(1)
    axis, batch = n.axis(n.option("axis"), len(x)), n.option("batch_dims")
    batch = batch + len(indices) if batch < 0 else batch
    if not 0 <= batch <= min(axis, len(indices)) or x[:batch] != indices[:batch]:
        raise n.wrong(f"shape {list(x)} by indices of shape {list(indices)} with {batch} batch dimensions")
    return [(*x[:axis], *indices[batch:], *x[axis + 1 :])]


def gather_nd(n: Node) -> Sequence[Shape]:
    """The last dimension of the indices names leading axes."""
    x, indices = n.shape(0), n.shape(1)
    if not indices or indices[-1] > len(x):
        raise n.wrong(f"shape {list(x)} by indices of shape {list(indices)}")
    return [(*indices[:-1], *x[indices[-1] :])]


def embedding_lookup(n: Node) -> Sequence[Shape]:
    """Rows of input 1 by the ids of input 0."""
    return [(*n.rank(0, 1), *n.shape(1)[1:])]


def tile(n: Node) -> Sequence[Shape]:
    """Input 1 holds the repeats."""
    x, repeats = n.shape(0), n.integers(1)
    if len(repeats) != len(x) or min(repeats, default=0) < 0:
        raise n.wrong(f"repeats {repeats} of shape {list(x)}")
    return [tuple(d * r for d, r in zip(x, repeats, strict=True))]


def broadcast_to(n: Node) -> Sequence[Shape]:
    """Input 1 is the shape."""
    out = tuple(n.integers(1))
    if broadcast_together(n, [n.shape(0), out]) != out:
        raise n.wrong(f"shape {list(n.shape(0))} does not broadcast to {list(out)}")
    return [out]


def broadcast_args(n: Node) -> Sequence[Shape]:
    """Two shapes; the output is the shape that they broadcast to."""
    return [(max(*n.rank(0, 1), *n.rank(1, 1)),)]


def space_to_depth(n: Node) -> Sequence[Shape]:
    """Blocks of pixels become channels."""
    (batch, h, w, c), b = n.rank(0, 4), n.option("block_size", 1)
    if b < 1 or h % b or w % b:
        raise n.wrong(f"shape {[batch, h, w, c]} in blocks of {b}")
    return [(batch, h // b, w // b, c * b * b)]


def depth_to_space(n: Node) -> Sequence[Shape]:
    """Channels become blocks of pixels."""
    (batch, h, w, c), b = n.rank(0, 4), n.option("block_size", 1)
    if b < 1 or c % (b * b):
        raise n.wrong(f"{c} channels into blocks of {b} by {b}")
    return [(batch, h * b, w * b, c // (b * b))]


def space_to_batch_nd(n: Node) -> Sequence[Shape]:
    """Inputs 1 and 2: block (m,) and paddings (m, 2)."""
    x, block, pads = n.shape(0), n.integers(1), n.integers(2)
    if len(x) < 1 + len(block) or len(pads) != 2 * len(block) or min(block, default=1) < 1:
        raise n.wrong(f"block {block} and paddings {pads} for shape {list(x)}")
    padded = [d + pads[2 * i] + pads[2 * i + 1] for i, d in enumerate(x[1 : 1 + len(block)])]
    if any(d % b for d, b in zip(padded, block, strict=True)):
        raise n.wrong(f"{padded} does not divide into blocks of {block}")
    spatial = [d // b for d, b in zip(padded, block, strict=True)]
    return [(x[0] * math.prod(block), *spatial, *x[1 + len(block) :])]


def batch_to_space_nd(n: Node) -> Sequence[Shape]:
    """Inputs 1 and 2: block (m,) and crops (m, 2)."""
    x, block, crops = n.shape(0), n.integers(1), n.integers(2)
    if len(x) < 1 + len(block) or len(crops) != 2 * len(block) or min(block, default=1) < 1 or x[0] % math.prod(block):
        raise n.wrong(f"block {block} and crops {crops} for shape {list(x)}")
    spatial = [d * b - crops[2 * i] - crops[2 * i + 1] for i, (d, b) in enumerate(zip(x[1:], block, strict=False))]
    if min(spatial, default=0) < 0:
        raise n.wrong(f"crops {crops} are more than there is in shape {list(x)}")
    return [(x[0] // math.prod(block), *spatial, *x[1 + len(block) :])]


def resize_image(n: Node) -> Sequence[Shape]:
    """Input 1 is (height, width)."""
    (batch, _, _, c), size = n.rank(0, 4), n.integers(1)
    if len(size) != 2 or min(size) < 1:
        raise n.wrong(f"size {size}, a height and a width of at least 1 are expected")
    return [(batch, *size, c)]

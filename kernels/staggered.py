"""Strips whose tiles overlap: while one half of a tile's pixels is multiplied alone, the other half is requantized.

    strip(…)        as kernels/strip.py's, for windows of runs of at least LEAD steps

A plain strip multiplies, then requantizes: what is to be requantized then fills the processor's queues, and its multipliers
wait. Here the first half of a tile's pixels is LEAD steps ahead of the second: those steps come between the instructions that
requantize the second half of the tile before, and the second half's last steps between those that requantize the first half. The
steps in between do both halves. Before the first tile the second half's sums are the biases, and what is made of them goes where
the first tile's own results will.

Where PLAIN says so (a ReLU is behind, sums stay below 2^23), biases have the bits of 2^23, as a float, added. A sum's bits are
those of 2^23 + sum then, a negative one's of less than 2^23, and fma(that, scale, −2^23·scale) is the sum times its scale, once
rounded, as conversion and product would make it: 2^23 times any scale is exact. What is negative becomes 0.
"""

from __future__ import annotations

from collections.abc import Sequence

from .simd import ISA, L
from .strip import HEAD, make, strip_1, strip_2
from .words.conv import LEAD, STRIP_ROWS


def merged(first: Sequence[str], second: Sequence[list[str]]) -> list[str]:
    """The lines of `first` with the groups of lines of `second` spread among them."""
    out, taken = [], 0
    for i, line in enumerate(first):
        out.append(line)
        while taken < len(second) and (taken + 1) * len(first) <= (i + 1) * len(second):
            out += second[taken]
            taken += 1
    return out + [line for group in second[taken:] for line in group]


def _begin(name: str, half: int, nv: int, shift: int) -> list[str]:
    """Sums of one half, from the biases."""
    sums = [f"{name}{i}_{j}" for i in range(half) for j in range(nv)]
    out = [f"{s} = bias{s[-1]}" for s in sums] + ["if sums:"]
    return out + [
        f"    {name}{i}_{j} = add_i32({name}{i}_{j}, splat_i32(i32(sums)[m + {shift + i}]))"
        for i in range(half)
        for j in range(nv)
    ]


def _step(name: str, half: int, nv: int, weights: str, at: int = 0, hold: str = "") -> list[str]:
    """One step of one half; its addresses are `name`_0, `name`_4, … of every fourth pixel, `at` bytes before the step."""
    out = [f"{name}w{j} = load_quad({weights} + {j * L * 4})" for j in range(nv)]
    for i in range(half):
        pixel = f"{name}_{i // 4 * 4}" + ("", " + step", " + 2 * step", " + 3 * step")[i % 4]
        out += [f"{name}x = broadcast_quad({pixel} + {at})"]
        out += [
            f"{name}{i}_{j} = {hold}dot_u8s8({name}{i}_{j}, {name}x, {name}w{j}){')' * bool(hold)}" for j in range(nv)
        ]
    return out


def _lead(name: str, half: int, nv: int, lead: int, weights: str) -> list[str]:
    """LEAD steps of one half alone."""
    return [
        line for k in range(lead) for line in _step(name, half, nv, f"{weights} + {k * nv * L * 4}", 4 * k, "pinned(")
    ]


def _point(name: str, half: int, start: str) -> list[str]:
    """Addresses of every fourth pixel of one half."""
    out = [f"{name}_0 = {start}"]
    return out + [f"{name}_{i} = opaque({name}_{i - 4} + 4 * step)" for i in range(4, half, 4)]


def _stores(name: str, half: int, nv: int, to: str, plain: bool) -> list[list[str]]:
    """One half requantized and stored at `to`, in groups of lines that belong together."""
    groups = []
    for i in range(0, half, 4 // nv):
        four = [f"{name}{i + k // nv}_{k % nv}" for k in range(4)]
        if plain:
            groups += [[f"f{n} = pinned(fused(as_f32({n}), scale{n[-1]}, less{n[-1]}))"] for n in four]
        else:
            groups += [[f"f{n} = pinned(to_f32({n}))"] for n in four]
            groups += [[f"f{n} = pinned(mul_f32(f{n}, scale{n[-1]}))"] for n in four]
        groups += [[f"{n} = pinned(rounded(f{n}))"] for n in four]
        how = "pack_plain({})" if plain else "cap(pack_codes({}, zero, floor), top)"
        groups.append(["q = " + how.format(", ".join(four))])
        if nv == 2:
            groups.append([f"store_two_rows({to}, {to} + pitch, q, left)", f"{to} += 2 * pitch"])
        else:
            rows = [f"    store_row_{r}({to} + {r} * pitch, q, left)" for r in range(4)]
            whole = [f"if pitch == {L} and left >= {L}:", f"    store({to}, q)", "else:", *rows, f"{to} += 4 * pitch"]
            groups.append(["q = in_rows(q)", *whole])
    return groups


def source(nv: int, plain: bool) -> str:
    """The Python text of a staggered strip of nv vectors; plain: for layers where PLAIN is 1."""
    half, mr, lead, run = STRIP_ROWS[True][nv] // 2, STRIP_ROWS[True][nv], LEAD[nv], nv * L * 4
    sums = [f"b{i}_{j}" for i in range(half) for j in range(nv)]
    head = ["floor, top, m = np.int32(lo) + zero, np.int32(hi) + zero, np.int64(0)"]
    head += [f"bias{j}, scale{j} = load_i32(bias + {j * L * 4}), load_f32(scale + {j * L * 4})" for j in range(nv)]
    if plain:
        head += [f"bias{j} = add_i32(bias{j}, splat_i32(np.int32(0x4B000000)))" for j in range(nv)]
        head += [f"less{j} = mul_f32(scale{j}, splat_f32(np.float32(-8388608.0)))" for j in range(nv)]
    head += [f"{name} = bias{name[-1]}" for name in sums]
    head += [f"behind, more = y + {half} * pitch, count * 4 if sums else np.int64(0)"]
    tile = [f"m = min(m, count - {mr})", "first, to, s = x + m * step, y + m * pitch, np.int64(0)"]
    tile += [*_begin("a", half, nv, 0), *_point("a", half, "first + segments[0]")]
    tile += merged(_lead("a", half, nv, lead, "weights"), _stores("b", half, nv, "behind", plain))
    tile += [
        *_begin("b", half, nv, half),
        f"second = first + {half} * step",
        *_point("b", half, "second + segments[0]"),
    ]
    tile += [
        *(f"{a} += {4 * lead}" for a in _every(half, "a")),
        "w, n, turn = weights, steps - " + str(lead) + ", False",
        "while True:",
    ]
    both = ["while n > 0:"]
    step = [*_step("a", half, nv, f"w + {lead * run}"), *_step("b", half, nv, "w"), f"w += {run}", "n -= 1"]
    step += [f"{a} = opaque({a} + 4)" for a in [*_every(half, "a"), *_every(half, "b")]]
    both += [f"    {line}" for line in step]
    both += ["if turn:", *(f"    {line}" for line in _point("b", half, "second + segments[s]"))]
    both += [f"    n = steps - {lead}", "else:", "    s += 1", "    if s >= n_segments:", "        break"]
    both += [*(f"    {line}" for line in _point("a", half, "first + segments[s]")), f"    n = np.int64({lead})"]
    tile += [*(f"    {line}" for line in [*both, "turn = not turn"])]
    tile += merged(_lead("b", half, nv, lead, "w"), _stores("a", half, nv, "to", plain))
    tile += [
        "behind = to",
        f"m += {mr}",
        "over = np.int64(m >= count)  # no branch: every line's end would be a surprise",
    ]
    tile += ["m, lines, x, y = m & (over - 1), lines - over, x + (line & -over), y + (y_line & -over)"]
    tile += ["sums += more & -over"]
    body = [*head, "while lines > 0:", *(f"    {line}" for line in tile)]
    body += [line for group in _stores("b", half, nv, "behind", plain) for line in group]
    return "\n".join([HEAD, *(f"    {line}" for line in body)])


def _every(half: int, name: str) -> list[str]:
    """The names of all addresses of one half."""
    return [f"{name}_{i}" for i in range(0, half, 4)]


two, one = (make(source(nv, False)) for nv in (2, 1)) if ISA.staggers else (strip_2, strip_1)
plain_two = make(source(2, True)) if ISA.staggers else two
"""For two vectors where PLAIN is 1; one of a single vector gains less than it adds to the first compilation."""

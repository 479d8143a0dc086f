"""Seeded damage to .tflite files: bytes at random, the schema's own fields set to what a hostile file would, and other graphs.

The same (file, seed) gives the same mutant. Most mutations know where they strike, because a random byte of a model is nearly
always a weight, and changing a weight is no attack.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from mutation_graph import mutated
from tflite_sites import Site, patched, sites

from edgeq.tflite import read, write

Rng = np.random.Generator

_WORDS = (0, 1, 2, 4, 7, 2**15, 2**16 - 1, 2**30, 2**31 - 1, 2**31, 2**32 - 4, 2**32 - 1)
_INTS = (0, 1, -1, 2, 3, 5, 7, 8, 17, 127, 128, 255, 256, 2**15, 2**16, 2**24, 2**30, 2**31 - 1, -(2**31))
_FLOATS = (
    0.0,
    -0.0,
    -1.0,
    1e-45,
    1e-38,
    1e-30,
    1e-7,
    1.0,
    256.0,
    1e7,
    1e30,
    3.4e38,
    float("inf"),
    float("-inf"),
    float("nan"),
)
_BITS = {"b": 8, "B": 8, "h": 16, "H": 16, "i": 32, "I": 32, "q": 64, "Q": 64, "?": 8}


def mutant(data: bytes, seed: int) -> tuple[bytes, str]:
    """One mutant of a well-formed file, and in words what was done to it (1 to 3 mutations).

    Half of the seeds damage the file's bytes and half what it says (mutation_graph), which leaves a well-formed file.
    """
    if seed % 2:
        try:
            graph, what = mutated(read(data), seed)
            return write(graph), what
        except Exception:
            pass  # no file can say this
    return _damaged(data, seed)


def _damaged(data: bytes, seed: int) -> tuple[bytes, str]:
    """A mutant by bytes."""
    rng = np.random.default_rng([0x7F11, seed])
    known = _known(data)
    done = []
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        # Sites are those of the sound file: after a first mutation a later one may strike beside its mark, which is as good.
        mutate = _MUTATIONS[rng.choice(len(_MUTATIONS), p=_WEIGHTS)]
        data, what = mutate(data, known, rng)
        done.append(what)
    return data, "; ".join(done)


@lru_cache(maxsize=4)
def _known(data: bytes) -> dict[str, list[Site]]:
    """The file's sites by what mutations aim at; a constant's bytes count as structure while there are few of them."""
    out: dict[str, list[Site]] = {
        k: [] for k in ("word", "dim", "scale", "zero", "index", "scalar", "code", "table", "buffer", "small")
    }
    for s in sites(data):
        if s.kind in ("offset", "length", "vtable", "vtable offset"):
            out["word"].append(s)
        if s.kind == "offset" and s.path.endswith("]") and not s.path.startswith("Model.buffers"):
            out["table"].append(s)
        if s.kind == "offset" and s.path.startswith("Model.buffers["):
            out["buffer" if not s.path.endswith(".data") else "word"].append(s)
        if s.kind == "code":
            out["code"].append(s)
        if s.kind == "data" and 0 < s.size <= 64:
            out["small"].append(s)
        if s.kind == "scalar":
            out["scalar"].append(s)
            name = s.path.rpartition(".")[2].partition("[")[0]
            kinds = {"shape": "dim", "shape_signature": "dim", "scale": "scale", "zero_point": "zero"}
            kinds |= dict.fromkeys(
                ("inputs", "outputs", "opcode_index", "buffer", "tensor_index", "subgraph_index"), "index"
            )
            if name in kinds:
                out[kinds[name]].append(s)
    return out


def _pick(found: list[Site], rng: Rng) -> Site | None:
    return found[int(rng.integers(len(found)))] if found else None


def _set(data: bytes, s: Site, value: int | float) -> tuple[bytes, str]:
    """Overwrite a site with a number cut to its width; a site that lies past the end (after a truncation) is left alone."""
    if s.pos + s.size > len(data):
        return data, f"{s.path} is gone"
    if s.letter == "f":
        raw = np.array(value, np.float32).tobytes()
    else:
        raw = (int(value) % 2 ** (8 * s.size)).to_bytes(s.size, "little")
    return patched(data, s, raw), f"{s.path} {s.kind} = {value}"


def _number(s: Site, data: bytes, rng: Rng) -> int | float:
    """A telling value for a scalar: an extreme, or a neighbour of what is there."""
    if s.letter == "f":
        return (
            float(rng.choice(_FLOATS))
            if rng.random() < 0.8
            else float(rng.standard_normal() * 10.0 ** rng.integers(-20, 20))
        )
    if rng.random() < 0.5 and s.pos + s.size <= len(data):
        old = struct.unpack_from("<" + s.letter, data, s.pos)[0]
        return int(old) + int(rng.integers(-3, 4)) if rng.random() < 0.7 else int(old) * int(rng.integers(2, 9))
    bits = _BITS[s.letter]
    return int(rng.choice(_INTS)) if rng.random() < 0.8 else int(rng.integers(0, 2 ** min(bits, 62)))


def _aimed(kind: str) -> Callable[[bytes, dict[str, list[Site]], Rng], tuple[bytes, str]]:
    def mutate(data: bytes, known: dict[str, list[Site]], rng: Rng) -> tuple[bytes, str]:
        s = _pick(known[kind], rng)
        return _set(data, s, _number(s, data, rng)) if s is not None else _bytes(data, known, rng)

    return mutate


def _word(data: bytes, known: dict[str, list[Site]], rng: Rng) -> tuple[bytes, str]:
    """An offset, length or vtable entry that lies."""
    s = _pick(known["word"], rng)
    assert s is not None
    value = int(rng.choice(_WORDS)) if rng.random() < 0.6 else int(rng.integers(0, max(1, 2 * len(data))))
    return _set(data, s, value)


def _redirect(data: bytes, known: dict[str, list[Site]], rng: Rng) -> tuple[bytes, str]:
    """An offset that leads to where another one leads: something of the wrong kind, or shared."""
    a, b = _pick(known["word"], rng), _pick(known["word"], rng)
    assert a is not None
    assert b is not None
    if a.kind != "offset" or b.kind != "offset" or b.pos + 4 > len(data):
        return _word(data, known, rng)
    return _set(data, a, b.pos + struct.unpack_from("<I", data, b.pos)[0] - a.pos)


def _swap(kind: str) -> Callable[[bytes, dict[str, list[Site]], Rng], tuple[bytes, str]]:
    """Two offsets of one kind trade targets: buffers, or tensors and operations."""

    def mutate(data: bytes, known: dict[str, list[Site]], rng: Rng) -> tuple[bytes, str]:
        a, b = _pick(known[kind], rng), _pick(known[kind], rng)
        if a is None or b is None or max(a.pos, b.pos) + 4 > len(data):
            return _bytes(data, known, rng)
        to_a, to_b = (s.pos + struct.unpack_from("<I", data, s.pos)[0] for s in (a, b))
        data, _ = _set(data, a, to_b - a.pos)
        data, _ = _set(data, b, to_a - b.pos)
        return data, f"{a.path} and {b.path} trade places"

    return mutate


def _code(data: bytes, known: dict[str, list[Site]], rng: Rng) -> tuple[bytes, str]:
    """Options that claim to be of another type."""
    s = _pick(known["code"], rng)
    return _set(data, s, int(rng.integers(0, 140))) if s is not None else _bytes(data, known, rng)


def _small(data: bytes, known: dict[str, list[Site]], rng: Rng) -> tuple[bytes, str]:
    """A number inside a small constant: shapes, axes, paddings, sizes, biases."""
    s = _pick(known["small"], rng)
    if s is None or s.pos + s.size > len(data):
        return _bytes(data, known, rng)
    size = 4 if s.size % 4 == 0 else 1
    at = s.pos + size * int(rng.integers(s.size // size))
    return _set(
        data, Site(f"{s.path}+{at - s.pos}", "scalar", at, size, "i" if size == 4 else "B"), int(rng.choice(_INTS))
    )


def _bytes(data: bytes, known: dict[str, list[Site]], rng: Rng) -> tuple[bytes, str]:
    """Bits flipped or bytes replaced anywhere, the first few kilobytes more often than the rest."""
    if not data:
        return data, "nothing left"
    raw = bytearray(data)
    end = len(raw) if rng.random() < 0.5 else min(len(raw), 4096)
    at = [int(p) for p in rng.integers(0, end, int(rng.integers(1, 9)))]
    for p in at:
        raw[p] = (
            raw[p] ^ (1 << int(rng.integers(8))) if rng.random() < 0.5 else int(rng.choice([0, 1, 0x7F, 0x80, 0xFF]))
        )
    return bytes(raw), f"bytes at {at}"


def _cut(data: bytes, known: dict[str, list[Site]], rng: Rng) -> tuple[bytes, str]:
    """A file that ends early, or goes on."""
    if rng.random() < 0.2:
        return data + rng.bytes(int(rng.integers(1, 100))), "bytes appended"
    count = int(rng.integers(0, len(data) + 1))
    if rng.random() < 0.3:
        count = max(0, len(data) - int(rng.integers(1, 64)))
    return data[:count], f"cut to {count} bytes"


def _splice(data: bytes, known: dict[str, list[Site]], rng: Rng) -> tuple[bytes, str]:
    """A piece of the file copied over another, removed, or doubled."""
    if len(data) < 64:
        return data, "too short to splice"
    a, b = (int(x) for x in rng.integers(0, len(data) - 32, 2))
    n = int(rng.integers(1, 33))
    how = int(rng.integers(3))
    if how == 0:
        return data[:a] + data[b : b + n] + data[a + n :], f"{n} bytes from {b} over {a}"
    if how == 1:
        return data[:a] + data[a + n :], f"{n} bytes removed at {a}"
    return data[:a] + data[a : a + n] + data[a:], f"{n} bytes doubled at {a}"


_TABLE = (
    (_word, 3), (_redirect, 1), (_aimed("dim"), 3), (_aimed("scale"), 2), (_aimed("zero"), 1.5), (_aimed("index"), 2),
    (_aimed("scalar"), 3), (_code, 0.7), (_swap("buffer"), 1.5), (_swap("table"), 1), (_small, 2), (_bytes, 2), (_cut, 1),
    (_splice, 1),
)  # fmt: skip
_MUTATIONS = tuple(m for m, _ in _TABLE)
_WEIGHTS = np.array([w for _, w in _TABLE]) / sum(w for _, w in _TABLE)

"""From an object file that was compiled here to a shared object, without a linker: what the system loads by itself.

LLVM's library, which loads object files, takes 52 MiB and a twentieth of a second of each process. What it does there is little:
the kernels are one object with two public functions that leaves memcpy, memmove and memset undefined. Three segments (what is
read; code; what is written when loaded), the tables that glibc and musl look for (System V ABI, chapter 5: DT_HASH, DT_SYMTAB,
DT_STRTAB, DT_RELA) and, for calls out of the object, a jump each through an address that is filled in before anything runs.

x86-64 and the relocations that LLVM uses there in code without a large model; anything else is None, and LLVM loads it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence

from edgeq.records import dataclass

PAGE = 4096
EM_X86_64, ET_REL, ET_DYN = 62, 1, 3
SHT_PROGBITS, SHT_SYMTAB, SHT_RELA, SHT_NOBITS, SHT_UNWIND = 1, 2, 4, 8, 0x70000001
SHF_WRITE, SHF_ALLOC, SHF_EXEC, SHF_TLS = 1, 2, 4, 0x400
UNDEFINED, ABSOLUTE, COMMON = 0, 0xFFF1, 0xFFF2
R_64, R_PC32, R_PLT32, R_GLOB_DAT, R_RELATIVE = 1, 2, 4, 6, 8
HEADER, PROGRAM, DYNAMIC, SYMBOL, RELA = 64, 56, 16, 24, 24
READ, CODE, DATA = 4, 5, 6
"""Segments, by what may be done with them: PF_R, PF_R | PF_X, PF_R | PF_W."""

JUMP = 8
"""Bytes of a jump out of the object: jmp *address(%rip), padded."""


@dataclass(frozen=True)
class Section:
    """A section of an object file as its header gives it."""

    kind: int
    flags: int
    offset: int
    size: int
    link: int
    info: int
    align: int

    @property
    def segment(self) -> int:
        """Where it goes."""
        return CODE if self.flags & SHF_EXEC else DATA if self.flags & SHF_WRITE else READ


@dataclass(frozen=True)
class Symbol:
    """A name, where it is defined, and whether others see it."""

    name: str
    public: bool
    section: int
    value: int


def shared(body: bytes) -> bytes | None:
    """The shared object of one relocatable object; None for one that is not as described above."""
    try:
        return _linked(body)
    except (struct.error, IndexError, ValueError, UnicodeDecodeError):
        return None


def _linked(body: bytes) -> bytes | None:
    if body[:7] != b"\x7fELF\x02\x01\x01" or struct.unpack_from("<HH", body, 16) != (ET_REL, EM_X86_64):
        return None
    sections = _sections(body)
    symbols = _symbols(body, sections)
    loaded = [k for k, s in enumerate(sections) if s.flags & SHF_ALLOC and s.size]
    if any(
        sections[k].kind not in (SHT_PROGBITS, SHT_NOBITS, SHT_UNWIND) or sections[k].flags & SHF_TLS for k in loaded
    ):
        return None
    wanted = [s.name for s in symbols if s.section == UNDEFINED and s.name]
    public = [s for s in symbols if s.public and s.section != UNDEFINED]
    if any(s.section in (ABSOLUTE, COMMON) for s in public):
        return None

    # What the loader reads stands first, its relocations filled in at the end; how many there are is known now.
    strings, names = _strings([*wanted, *(s.name for s in public)])
    absolute = sum(kind == R_64 for k in loaded for _, _, kind, _ in _relocations(body, sections, k))
    count = 1 + len(wanted) + len(public)
    programs = 5
    sizes = [HEADER + programs * PROGRAM, 4 * (2 + 1 + count), SYMBOL * count, len(strings)]
    at_hash, at_symbols, at_strings, at_rela = _behind(0, sizes)
    end = at_rela + RELA * (absolute + len(wanted))
    at: dict[int, int] = {}  # section → its address, which is its place in the file, too
    bounds: dict[int, tuple[int, int]] = {}
    jumps = slots = dynamic = 0
    for segment in (READ, CODE, DATA):
        start = 0 if segment == READ else _up(end, PAGE)
        end = max(end, start)
        for k in loaded:
            if sections[k].segment == segment:
                at[k] = _up(end, max(sections[k].align, 1))
                end = at[k] + sections[k].size
        if segment == CODE:
            jumps = _up(end, 16)
            end = jumps + JUMP * len(wanted)
        if segment == DATA:
            slots = _up(end, 16)
            dynamic = slots + 8 * len(wanted)
            end = dynamic + DYNAMIC * len(_dynamic(0, 0, 0, 0, 0, 0))
        bounds[segment] = start, end

    out = bytearray(end)
    for k in loaded:
        if sections[k].kind != SHT_NOBITS:
            out[at[k] : at[k] + sections[k].size] = body[sections[k].offset : sections[k].offset + sections[k].size]
    for k in range(len(wanted)):
        place = jumps + JUMP * k
        struct.pack_into("<HiH", out, place, 0x25FF, slots + 8 * k - (place + 6), 0x9066)  # jmp *slot(%rip); nop
    calls = {name: jumps + JUMP * k for k, name in enumerate(wanted)}
    moved = _relocate(out, body, sections, symbols, at, calls)
    if moved is None:
        return None
    for k, (place, value) in enumerate(moved):
        struct.pack_into("<QQq", out, at_rela + RELA * k, place, R_RELATIVE, value)
    for k in range(len(wanted)):
        struct.pack_into("<QQq", out, at_rela + RELA * (absolute + k), slots + 8 * k, (k + 1) << 32 | R_GLOB_DAT, 0)
    for k, s in enumerate([Symbol("", False, 0, 0), *(Symbol(name, True, 0, 0) for name in wanted), *public]):
        value, section = (at[s.section] + s.value, ABSOLUTE - 1) if s.section else (0, 0)
        info = 0x12 if s.section else 0x10 if s.name else 0  # global function; global, of no kind
        struct.pack_into("<IBBHQQ", out, at_symbols + SYMBOL * k, names.get(s.name, 0), info, 0, section, value, 0)
    # One bucket: the chain of all symbols, the last first.
    struct.pack_into(f"<{3 + count}I", out, at_hash, 1, count, count - 1, 0, *range(count - 1))
    out[at_strings : at_strings + len(strings)] = strings
    entries = _dynamic(at_hash, at_symbols, at_strings, len(strings), at_rela, RELA * (absolute + len(wanted)))
    for k, (tag, value) in enumerate(entries):
        struct.pack_into("<QQ", out, dynamic + DYNAMIC * k, tag, value)
    _head(out, bounds, (dynamic, DYNAMIC * len(entries)), programs)
    return bytes(out)


def _sections(body: bytes) -> list[Section]:
    start, size, count = (struct.unpack_from("<Q", body, 40)[0], *struct.unpack_from("<HH", body, 58))
    found = []
    for k in range(count):
        _, kind, flags, _, offset, length, link, info, align, _ = struct.unpack_from(
            "<IIQQQQIIQQ", body, start + k * size
        )
        found.append(Section(kind, flags, offset, length, link, info, align))
    return found


def _symbols(body: bytes, sections: Sequence[Section]) -> list[Symbol]:
    table = next(s for s in sections if s.kind == SHT_SYMTAB)
    strings, found = sections[table.link].offset, []
    for place in range(table.offset, table.offset + table.size, SYMBOL):
        name, info, _, section, value, _ = struct.unpack_from("<IBBHQQ", body, place)
        text = body[strings + name : body.index(b"\0", strings + name)].decode("ascii") if name else ""
        found.append(Symbol(text, info >> 4 != 0, section, value))
    return found


def _relocations(body: bytes, sections: Sequence[Section], k: int) -> Iterator[tuple[int, int, int, int]]:
    """Of section k: place in it, symbol, kind, addend."""
    for s in sections:
        if s.kind == SHT_RELA and s.info == k:
            for entry in range(s.offset, s.offset + s.size, RELA):
                place, info, addend = struct.unpack_from("<QQq", body, entry)
                yield place, info >> 32, info & 0xFFFFFFFF, addend


def _relocate(
    out: bytearray,
    body: bytes,
    sections: Sequence[Section],
    symbols: Sequence[Symbol],
    at: Mapping[int, int],
    calls: Mapping[str, int],
) -> list[tuple[int, int]] | None:
    """Fill in what is known before loading; (place, address) of the rest, None where that cannot be said."""
    moved = []
    for k, start in at.items():
        for place, symbol, kind, addend in _relocations(body, sections, k):
            s = symbols[symbol]
            if kind not in (R_64, R_PC32, R_PLT32) or (s.section == UNDEFINED and kind != R_PLT32):
                return None
            if s.section != UNDEFINED and s.section not in at:
                return None
            target = (calls[s.name] if s.section == UNDEFINED else at[s.section] + s.value) + addend
            if kind != R_64:
                struct.pack_into("<i", out, start + place, target - (start + place))
            elif sections[k].flags & SHF_WRITE:
                moved.append((start + place, target))
            else:
                return None
    return moved


def _strings(names: Sequence[str]) -> tuple[bytes, dict[str, int]]:
    table, at = bytearray(b"\0"), {}
    for name in names:
        at[name] = len(table)
        table += name.encode("ascii") + b"\0"
    return bytes(table), at


def _dynamic(hash_: int, symbols: int, strings: int, length: int, rela: int, size: int) -> list[tuple[int, int]]:
    """Tags and values, the last 0: DT_HASH, DT_STRTAB, DT_SYMTAB, DT_STRSZ, DT_SYMENT, DT_RELA, DT_RELASZ, DT_RELAENT, DT_FLAGS
    (DF_BIND_NOW)."""
    return [
        (4, hash_), (5, strings), (6, symbols), (10, length), (11, SYMBOL), (7, rela), (8, size), (9, RELA), (30, 8), (0, 0)
    ]  # fmt: skip


def _head(out: bytearray, bounds: Mapping[int, tuple[int, int]], dynamic: tuple[int, int], programs: int) -> None:
    """The file's header and that of each segment: PT_LOAD for three, PT_DYNAMIC, PT_GNU_STACK (which must not run)."""
    struct.pack_into(
        "<16sHHIQQQIHHHHHH", out, 0, b"\x7fELF\x02\x01\x01", ET_DYN, EM_X86_64, 1, 0, HEADER, 0, 0, HEADER, PROGRAM,
        programs, 0, 0, 0,
    )  # fmt: skip
    rows = [(1, flags, start, end - start, PAGE) for flags, (start, end) in sorted(bounds.items())]
    rows += [(2, DATA, *dynamic, 8), (0x6474E551, DATA, 0, 0, 16)]
    for k, (kind, flags, start, size, align) in enumerate(rows):
        struct.pack_into("<IIQQQQQQ", out, HEADER + PROGRAM * k, kind, flags, start, start, start, size, size, align)


def _behind(start: int, sizes: Sequence[int]) -> list[int]:
    """Where what stands behind each of these begins, in steps of 8 bytes."""
    out = []
    for size in sizes:
        start = _up(start + size, 8)
        out.append(start)
    return out


def _up(value: int, step: int) -> int:
    return -(-value // step) * step

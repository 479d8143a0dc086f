"""Kernels compiled here as a shared object: what the system's loader makes of it is what LLVM makes of the object."""

from __future__ import annotations

import ctypes
import platform
import struct
import sys
from pathlib import Path

import pytest

from edgeq import linked, machine
from edgeq.targets.detect import detect
from edgeq.targets.shared import shared

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="shared objects are made on x86-64 Linux"
)

SOURCE = """
@table = internal constant [3 x ptr] [ptr @one, ptr @two, ptr @three]
@factors = internal constant [4 x i64] [i64 11, i64 13, i64 17, i64 19]
declare ptr @memcpy(ptr, ptr, i64)
declare ptr @memset(ptr, i32, i64)
define internal i64 @one(i64 %x) { %y = add i64 %x, 1
  ret i64 %y }
define internal i64 @two(i64 %x) { %y = mul i64 %x, 2
  ret i64 %y }
define internal i64 @three(i64 %x) { %y = mul i64 %x, 3
  ret i64 %y }
define i64 @through(i64 %n, i64 %x) {
  %place = getelementptr [3 x ptr], [3 x ptr]* @table, i64 0, i64 %n
  %f = load ptr, ptr %place
  %y = call i64 %f(i64 %x)
  %at = getelementptr [4 x i64], [4 x i64]* @factors, i64 0, i64 %n
  %k = load i64, i64* %at
  %z = mul i64 %y, %k
  ret i64 %z }
define i64 @moved(ptr %to, ptr %from, i64 %n) {
  %a = call ptr @memcpy(ptr %to, ptr %from, i64 %n)
  %end = getelementptr i8, ptr %to, i64 %n
  %b = call ptr @memset(ptr %end, i32 7, i64 %n)
  ret i64 %n }
"""
"""Addresses in data, constants reached from code, and calls out of the object."""


ANOTHERS = "@v = external global i64\ndefine i64 @f() { %x = load i64, ptr @v\n ret i64 %x }"


def compiled(source: str = SOURCE, triple: str = "x86_64-unknown-linux-gnu") -> bytes:
    import llvmlite.binding as llvm

    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    target = llvm.Target.from_triple(triple).create_target_machine(reloc="pic", codemodel="default")
    return bytes(target.emit_object(llvm.parse_assembly(source)))


def test_it_does_what_the_object_says(tmp_path: Path) -> None:
    """Addresses in tables, constants and functions of the C library are found where they are."""
    body = shared(compiled())
    assert body is not None
    (tmp_path / "made.so").write_bytes(body + b"what stands behind it is not looked at")
    library = ctypes.CDLL(str(tmp_path / "made.so"))
    library.through.argtypes, library.through.restype = [ctypes.c_int64, ctypes.c_int64], ctypes.c_int64
    assert [library.through(n, 100) for n in range(3)] == [101 * 11, 200 * 13, 300 * 17]
    to = ctypes.create_string_buffer(8)
    assert library.moved(to, b"abcd", ctypes.c_int64(4)) == 4
    assert to.raw == b"abcd\7\7\7\7"


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("nothing", lambda: b""),
        ("text", lambda: b"#!/bin/sh\n" * 20),
        ("another processor's", lambda: compiled(triple="aarch64-unknown-linux-gnu")),
        ("cut short", lambda: compiled()[:300]),
        ("a shared object already", lambda: shared(compiled())),
        ("another's variable", lambda: compiled(ANOTHERS)),
        ("a variable for each thread", lambda: compiled("@v = thread_local global i64 3\ndefine ptr @f() { ret ptr @v }")),
    ],
)  # fmt: skip
def test_what_is_not_such_an_object_is_left_to_llvm(name: str, body) -> None:
    """None for a file of another kind, another processor, or with what the kernels do not have."""
    assert shared(body()) is None


def test_a_kind_of_relocation_that_is_not_known(tmp_path: Path) -> None:
    """An object with one is left to LLVM, never guessed at."""
    body = bytearray(compiled())
    start, size, count = struct.unpack_from("<Q", body, 40)[0], *struct.unpack_from("<HH", body, 58)
    headers = [struct.unpack_from("<IIQQQQIIQQ", body, start + k * size) for k in range(count)]
    entry = next(h[4] for h in headers if h[1] == 4)
    body[entry + 8] = 99
    assert shared(bytes(body)) is None


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This processor's shared object in a cache folder of its own."""
    machine.get()
    body = machine._read_cached(machine.cache_file(machine.host())) or machine.build(machine.host(), lambda *_: None)
    monkeypatch.setenv("EDGEQ_CACHE", str(tmp_path))
    path = linked.place(machine.host().isa, detect())
    assert path is not None
    linked.keep(path, body, "some processor", Path("/x/machine.o"))
    return path


def flip_a_bit(path: Path) -> None:
    blob = bytearray(path.read_bytes())
    blob[len(blob) // 2] ^= 1
    path.write_bytes(blob)


def another_name(path: Path) -> None:
    blob = path.read_bytes()
    path.write_bytes(blob.replace(b"some processor", b"same processor"))


@pytest.mark.parametrize(
    ("name", "change", "found"),
    [
        ("as it was made", lambda path: None, "some processor"),
        ("a bit flipped", flip_a_bit, None),
        ("another name", another_name, None),
        ("cut short", lambda path: path.write_bytes(path.read_bytes()[:-1]), None),
        ("empty", lambda path: path.write_bytes(b""), None),
        ("gone", lambda path: path.unlink(), None),
        ("writable by others", lambda path: path.chmod(0o722), None),
    ],
)
def test_only_a_whole_file_of_ours_is_loaded(name: str, change, found: str | None, kept: Path) -> None:
    """Of a file that is damaged or that others may write, nothing is run."""
    change(kept)
    assert linked.whole(kept) == (None if found is None else (found, kept.with_name("machine.o")))


def test_it_is_made_where_there_is_only_the_object(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first start makes it of the object, later ones load it and compile nothing."""
    kept.unlink()
    cache = kept.parent
    monkeypatch.undo()
    body = machine._read_cached(machine.cache_file(machine.host())) or machine.build(machine.host(), lambda *_: None)
    monkeypatch.setenv("EDGEQ_CACHE", str(cache))
    machine._store(machine.cache_file(machine.host()), body)
    first = machine._load_or_build(lambda *_: None)
    assert kept.exists()
    second = machine._load_or_build(lambda *_: None)
    assert (first.source, second.source) == ("cache", "cache")
    assert isinstance(second.keep[0], ctypes.CDLL)
    assert (second.isa, second.kernels) == (first.isa, first.kernels)


@pytest.mark.parametrize(
    "change", [{"source_digest": lambda: "0" * 64}, {"_version": lambda package: f"{package}-0.dist-info"}, {"ABI": -1},
               {"_described": lambda: "another processor"}]
)  # fmt: skip
def test_another_version_or_processor_has_another_file(change, monkeypatch: pytest.MonkeyPatch) -> None:
    """What went into the kernels is in the file's name."""
    on, cpu = machine.host().isa, detect()
    here = linked.place(on, cpu)
    for name, value in change.items():
        monkeypatch.setattr(linked, name, value)
    assert linked.place(on, cpu) != here


def test_none_in_a_folder_that_others_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may write the folder may put another file in the place of the one that was checked: LLVM loads the object there."""
    monkeypatch.setenv("EDGEQ_CACHE", str(tmp_path / "cache"))
    found = []
    for change in (lambda: None, (tmp_path / "cache").mkdir, lambda: (tmp_path / "cache").chmod(0o777)):
        change()
        found.append(linked.place(machine.host().isa, detect()) is not None)
    assert found == [True, True, False]


def test_a_compiler_whose_version_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then there is no such file, and LLVM loads the object."""
    monkeypatch.setattr(linked, "_version", lambda package: None)
    assert linked.place(machine.host().isa, detect()) is None

"""Sample files: what is read, how, and what is refused."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zipfile
from dataclasses import dataclass

import numpy as np
import pytest

from edgeq import samples
from edgeq.errors import InputError, OutputError
from edgeq.samples import Samples, inputs_for, read_npy, write_npy, write_npz


def npy(array, **header) -> bytes:
    """The bytes of a .npy file, with fields of its header replaced."""
    buffer = io.BytesIO()
    array = np.asarray(array)
    if header:
        fields = np.lib.format.header_data_from_array_1_0(array) | header
        np.lib.format.write_array_header_1_0(buffer, fields)
        buffer.write(array.tobytes())
    else:
        np.lib.format.write_array(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def archive(members, method=zipfile.ZIP_STORED) -> bytes:
    """A ZIP archive of (name, bytes) pairs."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as out:
        for name, data in members:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # zipfile warns of the duplicate name that a case is about
                out.writestr(name, data)
    return buffer.getvalue()


@pytest.fixture
def file(tmp_path):
    """Write bytes to a file and return its path."""

    def write(data: bytes):
        path = tmp_path / "samples.npz"
        path.write_bytes(data)
        return path

    return write


ARRAYS = {
    "x": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "y": np.array([1, 2], np.uint8),
    "fortran": np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)),
    "empty": np.zeros((0, 4), np.int8),
    "scalar": np.float64(3.5),
    "flags": np.array([True, False]),
    "big endian": np.arange(3, dtype=">i4"),
    "a/b:0": np.array([7], np.int64),
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed], ids=["stored", "compressed"])
def test_reads_what_numpy_writes(tmp_path, save) -> None:
    """Every array of np.savez comes back equal, native, read-only, under its name."""
    path = tmp_path / "a.npz"
    save(path, **ARRAYS)
    found = Samples(path)
    assert sorted(found) == sorted(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == np.asarray(array).dtype.newbyteorder("=")
        assert not found[name].flags.writeable


def test_stored_members_are_mapped(tmp_path) -> None:
    """An uncompressed member larger than the limit of what is read is no problem: it is mapped."""
    path = tmp_path / "a.npz"
    write_npz(path, {"x": np.arange(1000.0)})
    x = Samples(path)["x"]
    base = x
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap)


def test_write_then_read(tmp_path) -> None:
    """write_npz and numpy agree, whatever the names, and the same arrays give the same bytes."""
    first, second = tmp_path / "a.npz", tmp_path / "b.npz"
    arrays = {"file": np.arange(3), "a/b:0": np.ones((2, 2), np.int8)}
    write_npz(first, arrays)
    write_npz(second, arrays)
    assert first.read_bytes() == second.read_bytes()
    with np.load(first, allow_pickle=False) as found:
        assert {k: v.tolist() for k, v in found.items()} == {k: v.tolist() for k, v in arrays.items()}


def test_a_failed_write_leaves_nothing(tmp_path) -> None:
    """Writing into a missing folder is an OutputError."""
    with pytest.raises(OutputError):
        write_npz(tmp_path / "no" / "a.npz", {"x": np.zeros(1)})
    assert list(tmp_path.iterdir()) == []


GOOD = npy(np.arange(4.0))

REFUSED = [
    ("no zip", b"this is not a zip archive", "expected an NPZ file"),
    ("empty file", b"", "expected an NPZ file"),
    ("a lone npy", GOOD, "expected an NPZ file"),
    ("no arrays", archive([("readme.txt", b"hi")]), "found none among 1 members"),
    ("two members of one name", archive([("x.npy", GOOD), ("x.npy", GOOD)]), "two members are called 'x.npy'"),
    (
        "pickled objects",
        archive([("x.npy", npy(np.array([{}], object)))]),
        r"expected plain numbers, found dtype '\|O'",
    ),
    ("text", archive([("x.npy", npy(np.array(["a"])))]), r"expected plain numbers, found dtype '<U1'"),
    ("complex", archive([("x.npy", npy(np.array([1j])))]), r"expected plain numbers, found dtype '<c16'"),
    ("records", archive([("x.npy", npy(np.zeros(1, [("a", "i4")])))]), "expected plain numbers"),
    ("no magic", archive([("x.npy", b"\0" * 200)]), "magic"),
    ("empty member", archive([("x.npy", b"")]), "member 'x.npy'"),
    ("header longer than the member", archive([("x.npy", b"\x93NUMPY\x01\x00\xff\xff{}")]), "member 'x.npy'"),
    ("unknown version", archive([("x.npy", b"\x93NUMPY\x07\x00" + GOOD[8:])]), "7"),
    ("header is code", archive([("x.npy", GOOD[:10] + b"__import__('os')".ljust(len(GOOD) - 10))]), "member 'x.npy'"),
    ("header nested deep", archive([("x.npy", GOOD[:8] + b"\x10\x27" + b"(" * 10000)]), "member 'x.npy'"),
    ("header of minus signs", archive([("x.npy", GOOD[:8] + b"\x10\x27" + b"-" * 9999 + b"1")]), "member 'x.npy'"),
    (
        "shape larger than the data",
        archive([("x.npy", npy(np.zeros(4), shape=(5,)))]),
        "takes 40 bytes, the member has 32",
    ),
    (
        "shape smaller than the data",
        archive([("x.npy", npy(np.zeros(4), shape=(3,)))]),
        "takes 24 bytes, the member has 32",
    ),
    ("shape beyond any memory", archive([("x.npy", npy(np.zeros(4), shape=(2**62, 8)))]), "the member has 32"),
    ("shape overflowing to the size", archive([("x.npy", npy(np.zeros(4), shape=(2**64 + 4,)))]), "the member has 32"),
    ("negative lengths", archive([("x.npy", npy(np.zeros(4), shape=(-2, -2)))]), "whole numbers"),
    ("shape of no numbers", archive([("x.npy", npy(np.zeros(4), shape=("4",)))]), "member 'x.npy'"),
    ("bzip2", archive([("x.npy", GOOD)], zipfile.ZIP_BZIP2), "expected a stored or deflated member"),
    ("cut", archive([("x.npy", npy(np.zeros(100)))])[60:], "NPZ|member"),
]


@pytest.mark.parametrize(("data", "said"), [pytest.param(d, s, id=name) for name, d, s in REFUSED])
def test_refuses(file, data, said) -> None:
    """One fault a file, each refused with an InputError that says what was found."""
    with pytest.raises(InputError, match=said):
        Samples(file(data))["x"]


def _patched(data: bytes, at: bytes, offset: int, value: bytes) -> bytes:
    place = data.rindex(at) + offset
    return data[:place] + value + data[place + len(value) :]


DIRECTORY = (
    b"PK\x01\x02"  # the entry of the central directory; +8 flags, +20 compressed size, +24 size, +42 local header
)

LIES = [
    ("encrypted", _patched(archive([("x.npy", GOOD)]), DIRECTORY, 8, b"\x01\x00"), "encrypted"),
    (
        "size beyond the file",
        _patched(archive([("x.npy", GOOD)]), DIRECTORY, 20, struct.pack("<2I", 10**6, 10**6)),
        "ends",
    ),
    (
        "header elsewhere",
        _patched(archive([("x.npy", GOOD)]), DIRECTORY, 42, struct.pack("<I", 5)),
        "header is not where",
    ),
    (
        "inflates past its size",
        _patched(
            archive([("x.npy", npy(np.zeros(10**5)))], zipfile.ZIP_DEFLATED), DIRECTORY, 24, struct.pack("<I", 200)
        ),
        "member 'x.npy'",
    ),
    (
        "inflates to less",
        _patched(archive([("x.npy", npy(np.zeros(8)))], zipfile.ZIP_DEFLATED), DIRECTORY, 24, struct.pack("<I", 9000)),
        "member 'x.npy'",
    ),
    (
        "announces gigabytes",
        _patched(
            archive([("x.npy", npy(np.zeros(8)))], zipfile.ZIP_DEFLATED), DIRECTORY, 24, struct.pack("<I", 2**32 - 2)
        ),
        "the limit is",
    ),
]


@pytest.mark.parametrize(("data", "said"), [pytest.param(d, s, id=name) for name, d, s in LIES])
def test_directory_lies_are_refused(file, data, said) -> None:
    """What the archive's directory says of a member is held against the file, before memory is taken."""
    with pytest.raises(InputError, match=said):
        Samples(file(data))["x"]


@pytest.mark.parametrize("read", [Samples, read_npy])
def test_only_regular_files_are_read(tmp_path, read) -> None:
    """A folder or a named pipe is refused at once, without waiting for a writer."""
    os.mkfifo(tmp_path / "pipe")
    for name, said in (("pipe", "found a named pipe"), ("", "found a directory"), ("none", "there is no such file")):
        with pytest.raises(InputError, match=said):
            read(tmp_path / name)


def test_flipped_bytes_of_compressed_members_are_refused(tmp_path) -> None:
    """A compressed member's checksum is compared."""
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=np.random.default_rng(0).integers(0, 100, 1000))
    data = bytearray(path.read_bytes())
    data[300] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"member 'x\.npy'"):
        Samples(path)["x"]


def test_mutations_never_crash(tmp_path) -> None:
    """2,000 seeded mutations of two files: arrays or an InputError, nothing else."""
    rng = np.random.default_rng(7)
    path = tmp_path / "a.npz"
    refused = 0
    for save in (np.savez, np.savez_compressed):
        save(path, x=np.arange(50, dtype=np.int16), y=np.zeros((2, 2)))
        whole = path.read_bytes()
        for _ in range(1000):
            data = bytearray(whole)
            for place in rng.integers(0, len(data), rng.integers(1, 4)):
                data[place] = rng.integers(0, 256)
            path.write_bytes(data[: rng.integers(1, len(data) + 1)] if rng.random() < 0.2 else data)
            try:
                found = Samples(path)
                for name in found:
                    found[name].sum()
            except InputError:
                refused += 1
    assert refused > 500


@dataclass(frozen=True)
class Port:
    """The part of a model's input that samples are matched with."""

    name: str
    shape: tuple[int, ...]


def test_one_input_takes_x() -> None:
    """A single input takes x, or its own name when there is no x."""
    x, port = np.zeros((5, 2, 3)), Port("image", (1, 2, 3))
    assert inputs_for([port], {"x": x, "y": x})["image"] is x
    assert inputs_for([port], {"image": x})["image"] is x


def test_several_inputs_take_their_names() -> None:
    """Several inputs each take the array of their name."""
    a, b = np.zeros((5, 2)), np.zeros((5, 3))
    found = inputs_for([Port("a", (1, 2)), Port("b", (1, 3))], {"a": a, "b": b, "x": a})
    assert found["a"] is a
    assert found["b"] is b


def test_other_shapes_of_as_many_elements_are_read_in_order() -> None:
    """A sample (49, 10) is a sample (490,), row by row."""
    x = np.arange(12).reshape(2, 3, 2)
    assert inputs_for([Port("a", (1, 6))], {"x": x})["a"].tolist() == x.reshape(2, 6).tolist()


def test_a_sample_may_be_a_whole_batch() -> None:
    """For an input (4, 3), samples (N, 4, 3) are N batches."""
    x = np.arange(24).reshape(2, 4, 3)
    assert inputs_for([Port("a", (4, 3))], {"x": x})["a"].tolist() == x.reshape(8, 3).tolist()


@pytest.mark.parametrize(
    ("ports", "arrays", "said"),
    [
        pytest.param([Port("a", (1, 2))], {"y": (3,)}, "expected samples under 'x' or 'a', found 'y'", id="no x"),
        pytest.param([Port("a", (1, 2)), Port("b", (1,))], {"x": (1, 2), "a": (1, 2)}, "under 'b', found", id="no b"),
        pytest.param([Port("a", (1, 2))], {"x": (4, 3)}, r"of shape \(N, 2\), found \(4, 3\)", id="another size"),
        pytest.param([Port("a", (1, 2))], {"x": ()}, "found a scalar", id="scalar"),
        pytest.param([Port("a", (1, 2))], {"x": (0, 2)}, "at least one sample", id="no samples"),
        pytest.param(
            [Port("a", (1, 2)), Port("b", (1, 2))],
            {"a": (3, 2), "b": (4, 2)},
            "found 3 for 'a', 4 for 'b'",
            id="counts",
        ),
    ],
)
def test_samples_that_do_not_fit_are_refused(ports, arrays, said) -> None:
    """The message names the array, what was found and what was expected."""
    with pytest.raises(InputError, match=said):
        inputs_for(ports, {name: np.zeros(shape) for name, shape in arrays.items()})


def test_npy_files(tmp_path) -> None:
    """A .npy file comes back as it was; what is none is refused."""
    path = tmp_path / "a.npy"
    write_npy(path, ARRAYS["x"])
    np.testing.assert_array_equal(read_npy(path), ARRAYS["x"])
    np.testing.assert_array_equal(np.load(path), ARRAYS["x"])
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(InputError, match="expected a NPY file"):
        read_npy(path)
    path.write_bytes(npy(np.array([{}], object)))
    with pytest.raises(InputError, match="plain numbers"):
        read_npy(path)
    with pytest.raises(InputError, match="there is no such file"):
        read_npy(tmp_path / "b.npy")


def test_a_compressed_file_over_the_limit_is_refused_unread(tmp_path, monkeypatch) -> None:
    """The limit counts all compressed members of a file together."""
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=np.zeros(100), y=np.zeros(100))
    monkeypatch.setattr(samples, "MAX_INFLATED", 1500)
    found = Samples(path)
    assert len(found["x"]) == 100
    with pytest.raises(InputError, match="the limit is 1500"):
        found["y"]

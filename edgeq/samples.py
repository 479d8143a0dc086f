"""Sample files: NPZ in, NPZ out, and how their arrays meet a model's inputs and outputs.

An NPZ file is a ZIP archive of .npy members. Rules for reading one:
- samples stand in `x` (N, …) and labels in `y`; a model with several inputs finds each under its own name;
- a member that is stored uncompressed (np.savez) is mapped, not read: a file larger than memory can be gone through; a
  compressed one (np.savez_compressed) is read whole, up to MAX_INFLATED bytes a file;
- nothing is unpickled, and a member is looked at only when it is asked for;
- a file is refused, before anything is allocated, for members of the same name, an unknown compression or encryption, a
  header that does not account for its member's size, or a dtype other than plain numbers.

Format: PKWARE APPNOTE.TXT 6.3.10 (ZIP) and numpy.lib.format (NPY 1.0 and 2.0).
"""

from __future__ import annotations

import ast
import math
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BufferedReader, BytesIO
from typing import IO, TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from edgeq.errors import InputError
from edgeq.files import PathLike, open_regular, write_atomic

if TYPE_CHECKING:
    import zipfile  # where an archive is at hand: with its compressions it takes longer to import than all of the rest

Array = npt.NDArray[Any]

MAX_MEMBERS = 4096
"""Members of one file."""

MAX_INFLATED = 1 << 30
"""Bytes that the compressed members of one file may take in memory."""

MAX_HEADER = 4096
"""Bytes of a .npy header; those of plain arrays have 118."""

MAX_RANK = 32
"""Dimensions of an array, as in NumPy 1."""

LOCAL_HEADER = struct.Struct("<4s5H3I2H")
"""A member's own header: signature, five half words, three words, then the lengths of its name and extra field."""


class Port(Protocol):
    """What is needed of a model's input or output."""

    @property
    def name(self) -> str:
        """The name that the user gives or gets it by."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape; the leading dimension is the batch."""


class Samples(Mapping[str, Array]):
    """The arrays of an NPZ file by name, each opened when it is first asked for (read-only arrays).

    Raises InputError when the file, or the member asked for, is not what the rules above allow.
    """

    def __init__(self, path: PathLike) -> None:
        import zipfile

        self.path = path
        self._arrays: dict[str, Array] = {}
        self._inflated = 0
        try:
            with _reading(path) as file, zipfile.ZipFile(file) as archive:
                self._members = _by_name(path, archive.infolist())
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
        except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as error:
            raise InputError(f"{path}: expected an NPZ file: {error}") from None

    def __getitem__(self, name: str) -> Array:
        if name not in self._members:
            raise KeyError(name)
        if name not in self._arrays:
            self._arrays[name] = self._open(name)
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, name: object) -> bool:  # Mapping's own would open the member
        return name in self._members

    def _open(self, name: str) -> Array:
        import zipfile
        import zlib

        member = self._members[name]
        where = f"{self.path}: member {member.filename!r}"
        if member.flag_bits & 1:
            raise InputError(f"{where} is encrypted")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise InputError(f"{where}: expected a stored or deflated member, found method {member.compress_type}")
        try:
            array = (self._map if member.compress_type == zipfile.ZIP_STORED else self._inflate)(member, where)
        except OSError as error:
            raise InputError(f"{where}: cannot be read: {error.strerror or error}") from None
        except (zipfile.BadZipFile, zlib.error, EOFError, struct.error, ValueError, NotImplementedError) as error:
            raise InputError(f"{where}: {error}") from None
        if not array.dtype.isnative:
            array = array.astype(array.dtype.newbyteorder("="))
        array.flags.writeable = False
        return array

    def _map(self, member: zipfile.ZipInfo, where: str) -> Array:
        """The member's array as a view of the file, which must hold all of it."""
        with _reading(self.path) as file:
            file.seek(member.header_offset)
            fields = LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size))
            if fields[0] != b"PK\x03\x04":
                raise InputError(f"{where}: its header is not where the archive's directory says")
            start = member.header_offset + LOCAL_HEADER.size + fields[-2] + fields[-1]
            end = file.seek(0, 2)
            if start + member.file_size > end or member.compress_size != member.file_size:
                raise InputError(f"{where}: {member.file_size} bytes are announced, the file ends before")
            file.seek(start)
            shape, fortran, dtype = _header(file, where)
            offset = file.tell()
            _account(where, shape, dtype, start + member.file_size - offset)
            return _mapped(file, shape, fortran, dtype, offset)

    def _inflate(self, member: zipfile.ZipInfo, where: str) -> Array:
        """The member's array in memory; what is announced is checked against the limit, what comes against that."""
        import zipfile

        self._inflated += member.file_size
        if self._inflated > MAX_INFLATED:
            raise InputError(
                f"{where}: compressed members of {self._inflated} bytes, the limit is {MAX_INFLATED}: save it with "
                "np.savez (uncompressed), which needs no memory"
            )
        with _reading(self.path) as whole, zipfile.ZipFile(whole) as archive, archive.open(member) as file:
            shape, fortran, dtype = _header(file, where)
            _account(where, shape, dtype, member.file_size - file.tell())
            data = bytearray(math.prod(shape) * dtype.itemsize)
            filled = 0
            while filled < len(data):
                piece = file.read(min(1 << 20, len(data) - filled))
                if not piece:
                    raise InputError(f"{where}: ends after {filled} of {len(data)} bytes")
                data[filled : filled + len(piece)] = piece
                filled += len(piece)
            if file.read(1):  # reads to the end, where the archive's checksum is compared
                raise InputError(f"{where}: goes on after its {len(data)} bytes")
        flat = np.frombuffer(data, dtype)
        return flat.reshape(shape, order="F" if fortran else "C")


@contextmanager
def _reading(path: PathLike) -> Iterator[IO[bytes]]:
    """The regular file at `path`, buffered."""
    with open_regular(path) as (raw, _):
        yield BufferedReader(raw)


def _by_name(path: PathLike, members: Sequence[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    """Members by array name (the name without .npy); those that are no arrays are left out."""
    if len(members) > MAX_MEMBERS:
        raise InputError(f"{path}: {len(members)} members, the limit is {MAX_MEMBERS}")
    found: dict[str, zipfile.ZipInfo] = {}
    for member in members:
        if not member.filename.endswith(".npy"):
            continue
        name = member.filename[: -len(".npy")]
        if name in found:
            raise InputError(f"{path}: two members are called {member.filename!r}")
        found[name] = member
    if not found:
        raise InputError(f"{path}: expected an NPZ file with arrays, found none among {len(members)} members")
    return found


def _header(file: IO[bytes], where: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, Fortran order and dtype of a .npy file, the file standing at its first element afterwards.

    Not numpy.lib.format's reader: given hostile text it raises whatever Python's tokenizer and parser happen to raise.
    """
    start = file.read(8)
    if start[:6] != b"\x93NUMPY":
        raise InputError(f"{where}: expected a NPY file, found no NPY magic")
    if start[6:] not in (b"\1\0", b"\2\0"):
        raise InputError(f"{where}: expected NPY version 1.0 or 2.0, found {'.'.join(map(str, start[6:]))}")
    (length,) = struct.unpack(*(("<H", file.read(2)) if start[6] == 1 else ("<I", file.read(4))))
    if length > MAX_HEADER:
        raise InputError(f"{where}: a header of {length} bytes, the limit is {MAX_HEADER}")
    try:
        fields = ast.literal_eval(file.read(length).decode("latin1"))
        descr, fortran, shape = (fields[key] for key in ("descr", "fortran_order", "shape"))
    except (ValueError, TypeError, KeyError, SyntaxError, MemoryError, RecursionError):
        raise InputError(f"{where}: expected a header with descr, fortran_order and shape") from None
    if (
        not isinstance(fortran, bool)
        or not isinstance(shape, tuple)
        or not all(type(d) is int and d >= 0 for d in shape)
    ):
        raise InputError(
            f"{where}: expected a shape of whole numbers ≥ 0 and an order, found {shape!r:.60}, {fortran!r:.60}"
        )
    if len(shape) > MAX_RANK:
        raise InputError(f"{where}: an array of {len(shape)} dimensions, the limit is {MAX_RANK}")
    if not (isinstance(descr, str) and re.fullmatch(r"[<>|=]?[biuf][1248]", descr)):
        raise InputError(f"{where}: expected plain numbers, found dtype {descr!r:.60}")
    try:
        return shape, fortran, np.dtype(descr)
    except TypeError:  # b8, f1
        raise InputError(f"{where}: expected plain numbers, found dtype {descr!r}") from None


def _mapped(file: IO[bytes], shape: tuple[int, ...], fortran: bool, dtype: np.dtype[Any], offset: int) -> Array:
    """An array that lies in the file, read-only."""
    if not math.prod(shape):
        return np.zeros(shape, dtype)  # a mapping cannot be empty
    # As a plain ndarray: np.memmap's own methods would make every slice of it slower to handle.
    return np.asarray(np.memmap(file, dtype, "r", offset, shape, "F" if fortran else "C"))


def _account(where: str, shape: tuple[int, ...], dtype: np.dtype[Any], left: int) -> None:
    """Hold the header against the bytes that are there."""
    expected = math.prod(shape) * dtype.itemsize
    if expected != left:
        raise InputError(f"{where}: shape {shape} of {dtype} takes {expected} bytes, the member has {left}")


def read_npy(path: PathLike) -> Array:
    """The array of one .npy file, mapped (read-only), under the same rules as an NPZ member."""
    try:
        with _reading(path) as file:
            shape, fortran, dtype = _header(file, str(path))
            offset = file.tell()
            _account(str(path), shape, dtype, file.seek(0, 2) - offset)
            array = _mapped(file, shape, fortran, dtype, offset)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, EOFError, struct.error) as error:
        raise InputError(f"{path}: expected a NPY file: {error}") from None
    return array if dtype.isnative else array.astype(dtype.newbyteorder("="))


def arrays_of(path: PathLike) -> Mapping[str, Array]:
    """The arrays of a sample file: of an NPZ file by name, of a .npy file `x`. Raises InputError as Samples and read_npy do."""
    return {"x": read_npy(path)} if str(path).lower().endswith(".npy") else Samples(path)


def write_npz(path: PathLike, arrays: Mapping[str, Array], *, compressed: bool = False) -> None:
    """Write arrays by name as an NPZ file, whole or not at all.

    Uncompressed, the same arrays always give the same bytes. Raises OutputError when the system refuses.
    """
    import zipfile

    buffer = BytesIO()
    # Not np.savez(**arrays): an output may be called "file", which is the name of its first parameter.
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            member = zipfile.ZipInfo(name + ".npy")  # dated 1980-01-01, whenever it is written
            member.compress_type = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
            with archive.open(member, "w", force_zip64=True) as file:
                np.save(file, array, allow_pickle=False)
    write_atomic(path, buffer.getbuffer())


def write_npy(path: PathLike, array: Array) -> None:
    """Write one array as a .npy file, whole or not at all. Raises OutputError when the system refuses."""
    buffer = BytesIO()
    np.save(buffer, array, allow_pickle=False)
    write_atomic(path, buffer.getbuffer())


def inputs_for(ports: Sequence[Port], samples: Mapping[str, Array]) -> dict[str, Array]:
    """The samples of each input of a model: (N, …) arrays by input name, N the same for all.

    A model with one input takes `x`, or the input's own name where there is no `x`; one with several takes each by its
    name. A sample of another shape with as many elements is read in row-major order as the input's shape; one with as
    many as the input's whole batch is read as that batch.

    Raises InputError when an input's samples are missing, of another size, or of another count than the rest.
    """
    arrays = {}
    for port in ports:
        name = "x" if len(ports) == 1 and "x" in samples else port.name
        if name not in samples:
            wanted = f"'x' or {port.name!r}" if len(ports) == 1 else repr(port.name)
            raise InputError(f"expected samples under {wanted}, found {', '.join(map(repr, samples)) or 'none'}")
        arrays[port.name] = _as_samples(name, samples[name], port)
    counts = {name: len(array) for name, array in arrays.items()}
    if len(set(counts.values())) > 1:
        raise InputError("expected as many samples for each input, found " + _listed(counts))
    if not any(counts.values()):
        raise InputError("expected at least one sample, found none")
    return arrays


def _as_samples(name: str, array: Array, port: Port) -> Array:
    """`array` (N, …) as (N, *sample shape of the port)."""
    wanted = port.shape[1:]
    if array.ndim == 0:
        raise InputError(f"{name!r}: expected samples of shape (N, {_dims(wanted)}), found a scalar")
    if array.shape[1:] == wanted:
        return array
    if port.shape and math.prod(array.shape[1:]) == math.prod(port.shape):
        return array.reshape(-1, *wanted)  # each sample fills the whole batch
    if math.prod(array.shape[1:]) != math.prod(wanted):
        raise InputError(f"{name!r}: expected samples of shape (N, {_dims(wanted)}), found {array.shape}")
    return array.reshape(len(array), *wanted)


def _dims(shape: Sequence[int]) -> str:
    return ", ".join(map(str, shape)) or "…"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n} for {name!r}" for name, n in counts.items())

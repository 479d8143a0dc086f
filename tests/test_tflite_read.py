"""What reading gives: values, views, and refusal of what is not a model."""

from __future__ import annotations

import mmap
import struct
import subprocess
import sys

import numpy as np
import pytest
from tflite_compare import difference
from tflite_models import SMALL_MODELS, exotic, float_mlp, int8_cnn
from tflite_sites import patched, site

from edgeq.check import check
from edgeq.errors import CheckError, FormatError, UnsupportedError
from edgeq.tflite import limits, read, write
from edgeq.tflite.decode import Decoder


def test_values():
    """A file's facts arrive under the schema's names, with its defaults filled in."""
    g = read(write(int8_cnn()))
    assert [op.code for op in g.ops] == ["CONV_2D", "AVERAGE_POOL_2D", "RESHAPE", "FULLY_CONNECTED", "SOFTMAX"]
    conv = g.ops[0]
    assert conv.version == 3
    assert (conv.options.stride_w, conv.options.dilation_w_factor, conv.options.padding) == (1, 1, 0)
    weights = g.tensors[1]
    assert (weights.name, weights.shape, weights.dtype) == ("conv/w", (4, 3, 3, 2), "int8")
    np.testing.assert_array_equal(weights.quantization.scale, np.array([0.01, 0.02, 0.015, 0.005], np.float32))
    assert weights.quantization.zero_point.dtype == np.int64
    assert g.tensors[0].data is None
    assert (g.input_names(), g.output_names()) == (["image"], ["scores"])
    assert g.metadata[0].data.startswith(b"1.14.0")


@pytest.mark.parametrize(
    "wrap",
    [
        bytes,
        bytearray,
        memoryview,
        lambda d: np.frombuffer(d, np.uint8),
        lambda d: np.frombuffer(d, np.uint8).reshape(2, -1),
        lambda d: memoryview(d).cast("I"),
    ],
    ids=["bytes", "bytearray", "memoryview", "array", "2-D array", "memoryview of words"],
)
def test_takes_bytes_in_any_form(wrap):
    """Whatever holds the bytes in one piece reads the same."""
    data = write(float_mlp())
    assert difference(read(data), read(wrap(data))) is None


def test_takes_a_mapped_file(tmp_path):
    """A memory-mapped file is read in place."""
    path = tmp_path / "m.tflite"
    path.write_bytes(write(float_mlp()))
    with path.open("rb") as f:
        mapped = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
        assert difference(read(path.read_bytes()), read(mapped)) is None


@pytest.mark.parametrize(
    "what", ["text", 7, None, np.zeros((4, 4), np.uint8)[:, ::2]], ids=["str", "int", "None", "strided"]
)
def test_refuses_what_is_not_bytes(what):
    """Something else than one piece of bytes is a FormatError that names its type."""
    with pytest.raises(FormatError, match=f"one contiguous piece, got {type(what).__name__}"):
        read(what)


def test_constants_are_views():
    """A constant shares the file's memory and cannot be written."""
    data = np.frombuffer(write(int8_cnn()), np.uint8)
    for t in read(data).tensors:
        if t.data is not None:
            assert np.shares_memory(t.data, data), t.name
            assert not t.data.flags.writeable


@pytest.mark.parametrize("shift", range(1, 8))
def test_unaligned_file_is_copied(shift):
    """Constants of a file that lies at an odd address are aligned copies where their type needs it, and equal."""
    data = write(float_mlp())
    moved = np.frombuffer(b"\0" * shift + data, np.uint8)[shift:]
    g = read(moved)
    assert difference(read(data), g) is None
    for t in g.tensors:
        if t.data is not None:
            assert t.data.flags.aligned
            assert not t.data.flags.writeable


def test_types_that_numpy_lacks_are_raw_bytes():
    """int4, string and sparse constants come as their bytes; 0-element ones as empty arrays of their shape."""
    g = read(write(exotic()))
    by_name = {t.name: t for t in g.tensors}
    np.testing.assert_array_equal(by_name["nibbles"].data, [0x21, 0x43, 0x05])
    assert by_name["words"].data.tobytes().endswith(b"abc")
    assert by_name["sparse"].data.shape == (8,)
    assert by_name["nothing"].data.shape == (0, 4)
    assert by_name["switch"].data.dtype == np.bool_
    assert by_name["state"].data is None


def test_scales_that_are_missing_do_not_quantize():
    """A tensor whose file gives a range but no scale is not quantized, and the range is kept for writing."""
    x = read(write(exotic())).tensors[0]
    assert x.quantization is None
    np.testing.assert_array_equal(x.extra.values["quantization"].max, [1.0])


@pytest.mark.parametrize(
    ("narrow", "wide", "code"), [(9, 0, "FULLY_CONNECTED"), (0, 9, "FULLY_CONNECTED"), (127, 130, "BROADCAST_TO")]
)
def test_operator_code_is_the_larger_of_both(narrow, wide, code):
    """Files from before the wide code, and from after it, name their operations."""
    data = write(float_mlp())
    where = "Model.operator_codes[0]"
    data = patched(data, site(data, f"{where}.deprecated_builtin_code"), narrow)
    data = patched(data, site(data, f"{where}.builtin_code"), wide)
    assert read(data).ops[0].code == code


def test_buffer_0_holds_nothing():
    """Bytes in buffer 0 are nobody's: a runtime takes index 0 for "no data"."""
    data = write(float_mlp())
    first, second = site(data, "Model.buffers[0]", "offset"), site(data, "Model.buffers[1]", "offset")
    target = second.pos + int.from_bytes(data[second.pos : second.pos + 4], "little")
    g = read(patched(data, first, target - first.pos))
    assert difference(read(data), g) is None


def test_newer_parts_are_noticed():
    """A field beyond our schema does not stop reading; the graph remembers it, and is not written back without it."""
    data = write(exotic())
    slot = site(data, "Model.subgraphs[1].vtable[1]")
    length = int.from_bytes(data[slot.pos : slot.pos + 2], "little")
    vtable = site(data, "Model.subgraphs[1]", "vtable offset")
    # A vtable of 9 slots in place of the subgraph's own, behind the file's end; its last slot is one more than ours knows.
    old = data[slot.pos - 2 : slot.pos - 2 + int.from_bytes(data[slot.pos - 2 : slot.pos], "little")]
    new = (4 + 2 * 9).to_bytes(2, "little") + old[2:]
    new = new.ljust(4 + 2 * 8, b"\0") + (4).to_bytes(2, "little")
    start = len(data)
    assert length >= 8
    g = read(patched(data, vtable, vtable.pos - start) + new)
    assert g.extra.values["unknown"] == ("SubGraph slot 8",)
    assert len(g.subgraphs[1].tensors) == 1
    with pytest.raises(UnsupportedError, match="SubGraph slot 8"):
        write(g)


@pytest.mark.parametrize("name", SMALL_MODELS)
def test_every_truncation_is_refused(name):
    """A file cut anywhere is an error of edgeq, never anything else and never a model that checks out."""
    data = write(SMALL_MODELS[name]())
    for count in range(len(data) - 16):
        with pytest.raises((FormatError, CheckError)):
            check(read(data[:count]))


def test_too_many_tables(monkeypatch):
    """The number of tables in a file has a limit."""
    monkeypatch.setattr(limits, "MAX_TABLES", 20)
    with pytest.raises(FormatError, match="more than 20 tables"):
        read(write(float_mlp()))


def test_too_many_different_vtables(monkeypatch):
    """What a hostile file lets the reader remember has an end."""
    monkeypatch.setattr(limits, "MAX_SHAPES", 4)
    with pytest.raises(FormatError, match="more than 4 different vtables"):
        read(write(int8_cnn()))


def test_fields_that_overlap():
    """A vtable may put two fields in one place: each is read as what it is."""
    vtable = struct.pack("<5H", 10, 20, 0, 8, 12)  # a Buffer's offset and size, four bytes shared
    table = struct.pack("<i4x3I", 12, 1, 2, 3)
    data = struct.pack("<I4s", 20, b"TFL3") + vtable + bytes(2) + table
    assert Decoder(memoryview(data)).root("Buffer") == {"data": None, "offset": 1 + (2 << 32), "size": 2 + (3 << 32)}


def test_rank_has_a_limit():
    """A constant of more dimensions than NumPy could hold is refused before NumPy sees it."""
    data = write(float_mlp())
    shape = site(data, "Model.subgraphs[0].tensors[1].shape", "offset")
    start = (len(data) + 3) // 4 * 4
    shape_of_70 = (70).to_bytes(4, "little") + (1).to_bytes(4, "little") * 70
    with pytest.raises(CheckError, match="70 dimensions, expected at most 16"):
        read(patched(data, shape, start - shape.pos).ljust(start, b"\0") + shape_of_70)


def test_long_names_do_not_flood_messages():
    """A name from the file appears in a message quoted, in one line, and cut."""
    data = write(float_mlp())
    text = site(data, "Model.subgraphs[0].tensors[1].name", "text")
    data = patched(data, text, b"\x1b[2J\n\r!")
    bad = patched(data, site(data, "Model.subgraphs[0].tensors[1].buffer"), 77)
    with pytest.raises(CheckError) as caught:
        read(bad)
    assert r"'\x1b[2J\n\r!'" in str(caught.value)


def test_import_is_light():
    """Importing the reader and the checker loads neither Numba nor the flatbuffers package."""
    code = "import sys, edgeq.check, edgeq.tflite; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "edgeq" in loaded
    assert not {"numba", "llvmlite", "flatbuffers", "tflite"} & set(loaded)


@pytest.mark.parametrize("length", [0, 2, 5, 65535])
def test_stated_table_length_is_not_believed(length):
    """A file whose vtable misstates its table's length, as many writers do, reads as it should."""
    data = write(float_mlp())
    assert difference(read(data), read(patched(data, site(data, "Model.vtable[1]"), length))) is None

"""Hostile .tflite files, one fault each: how each is made, and what refuses it.

`python tests/tflite_vectors.py` writes them to tests/vectors/tflite with an index.json for readers in other languages;
test_tflite_vectors.py holds the committed files against this table, and `edgeq` against the files.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from tflite_models import float_mlp, int8_cnn, uint8_residual
from tflite_sites import patched, site

from edgeq import errors
from edgeq.graph import Table
from edgeq.tflite import read, write
from edgeq.tflite.schema import table

FOLDER = Path(__file__).resolve().parent / "vectors" / "tflite"


@dataclass(frozen=True)
class Vector:
    """One hostile file: `error` and a part of its message say who must refuse it and why."""

    name: str
    error: type[errors.EdgeqError]
    message: str
    make: Callable[[], bytes]


@cache
def mlp() -> bytes:
    """The sound file that most vectors break: float, 3 operations."""
    return write(float_mlp())


@cache
def cnn() -> bytes:
    """The sound file for vectors about quantization and signatures: int8, 5 operations."""
    return write(int8_cnn())


@cache
def residual() -> bytes:
    """The sound file for vectors about axes: uint8, 2 operations."""
    return write(uint8_residual())


def _set(path: str, value: int | float | bytes, kind: str = "", base: Callable[[], bytes] = mlp) -> Callable[[], bytes]:
    return lambda: patched(base(), site(base(), path, kind), value)


def _cnn(path: str, value: int | float | bytes, kind: str = "") -> Callable[[], bytes]:
    return _set(path, value, kind, cnn)


def _cut(count: int) -> Callable[[], bytes]:
    return lambda: mlp()[:count]


def _unterminated() -> bytes:
    text = site(mlp(), "Model.description", "text")
    return mlp()[: text.pos + text.size] + b"!" + mlp()[text.pos + text.size + 1 :]


def _aliased() -> bytes:
    """A file of 25 kB whose 6,000 subgraphs are all one table."""
    base = mlp()
    count = 6_000
    subgraphs = site(base, "Model.subgraphs", "offset")
    start = (len(base) + 3) // 4 * 4
    end = start + 4 + 4 * count
    entries = b"".join(struct.pack("<I", end + 4 - (start + 4 + 4 * i)) for i in range(count))
    empty_table = struct.pack("<HHi", 4, 4, 4)  # a vtable without fields, then the table, 4 behind it
    broken = patched(base, subgraphs, start - subgraphs.pos).ljust(start, b"\0")
    return broken + struct.pack("<I", count) + entries + empty_table


def _outside(offset: int, size: int) -> Callable[[], bytes]:
    """A file whose first constant lies behind the flatbuffer, by a Buffer table with an offset and a size."""

    def make() -> bytes:
        base = mlp()
        entry = site(base, "Model.buffers[1]", "offset")
        start = (len(base) + 7) // 8 * 8
        vtable = struct.pack("<5H", 10, 24, 0, 8, 16)  # no data; offset at 8, size at 16
        table = struct.pack("<i4xQQ", 16, offset, size)
        appended = vtable.ljust(16, b"\0") + table
        return patched(base, entry, start + 16 - entry.pos).ljust(start, b"\0") + appended

    return make


def _changed(**fields: object) -> Callable[[], bytes]:
    """The float file with fields of its first constant changed."""

    def make() -> bytes:
        graph = read(mlp())
        weights = replace(graph.tensors[1], **fields)
        if weights.sparsity is not None and weights.data is not None:
            weights = replace(weights, data=weights.data.reshape(-1).view(np.uint8))
        return write(graph.with_main(tensors=(graph.tensors[0], weights, *graph.tensors[2:])))

    return make


F, C, U = errors.FormatError, errors.CheckError, errors.UnsupportedError
_T = "Model.subgraphs[0].tensors"
_OP = "Model.subgraphs[0].operators"
_CONV = f"{_OP}[0].builtin_options"
_POOL = f"{_OP}[1].builtin_options"

VECTORS = (
    Vector("empty", F, "file of 0 bytes", lambda: b""),
    Vector("seven-bytes", F, "file of 7 bytes", _cut(7)),
    Vector("eight-bytes", F, "outside the file", _cut(8)),
    Vector("half", F, "", lambda: mlp()[: len(mlp()) // 2]),
    Vector("last-byte-missing", F, "", lambda: mlp()[:-1]),
    Vector("other-identifier", F, "identifier is b'TFL2'", _set("identifier", b"TFL2")),
    Vector("schema-version-4", F, "version is 4, expected 3", _set("Model.version", 4)),
    Vector("root-offset-zero", F, "Model", _set("root", 0)),
    Vector("root-offset-past-end", F, "outside the file", _set("root", 2**31 - 1)),
    Vector("root-offset-all-ones", F, "outside the file", _set("root", 2**32 - 1)),
    Vector("vtable-before-file", F, "vtable: 4 bytes at -", _set("Model", 2**31 - 1, "vtable offset")),
    Vector("vtable-past-end", F, "vtable: 4 bytes at", _set("Model", -(2**31), "vtable offset")),
    Vector("vtable-length-zero", F, "vtable of 0 bytes", _set("Model.vtable[0]", 0)),
    Vector("vtable-length-odd", F, "vtable of 7 bytes", _set("Model.vtable[0]", 7)),
    Vector("vtable-length-huge", F, "vtable of 65534 bytes", _set("Model.vtable[0]", 65534)),
    Vector("field-over-table-head", F, "at byte 2 of its table", _set("Model.vtable[2]", 2)),
    Vector("field-past-table", F, "outside the file", _set("Model.vtable[4]", 65535)),
    Vector("vector-length-2^31-1", F, "2147483647 elements", _set("Model.subgraphs", 2**31 - 1, "length")),
    Vector("vector-length-all-ones", F, "4294967295 elements", _set("Model.operator_codes", 2**32 - 1, "length")),
    Vector(
        "vector-length-times-size",
        F,
        "536870913 elements of 8",
        _cnn(f"{_T}[0].quantization.zero_point", 2**29 + 1, "length"),
    ),
    Vector("vector-one-too-long", F, "", _set("Model.operator_codes", 3, "length")),
    Vector("shape-longer-than-file", F, "1073741824 elements of 4", _set(f"{_T}[0].shape", 2**30, "length")),
    Vector("buffer-longer-than-file", F, "elements of 1 bytes", _set("Model.buffers[1].data", 2**31 - 1, "length")),
    Vector("offset-past-end", F, "outside the file", _set("Model.subgraphs", 2**31 - 1, "offset")),
    Vector("offset-all-ones", F, "outside the file", _set(f"{_T}[1].name", 2**32 - 1, "offset")),
    Vector("offset-zero", F, "", _set("Model.subgraphs[0]", 0, "offset")),
    Vector("string-past-end", F, "a string of 4294967295 bytes", _set("Model.description", 2**32 - 1, "length")),
    Vector("string-unterminated", F, "without the zero", _unterminated),
    Vector("string-not-utf-8", F, "not UTF-8 at its byte 1", _set("Model.description", b"e\xff", "text")),
    Vector("union-member-without-table", F, "member 9 without a table", _set(f"{_OP}[2].vtable[6]", 0)),
    Vector("everything-aliased", F, "referred to more often", _aliased),
    Vector("outside-buffer-past-end", F, "buffer 1: bytes 4000 to 4160", _outside(4000, 160)),
    Vector("outside-buffer-offset-2^64-1", F, "buffer 1: bytes", _outside(2**64 - 1, 160)),
    Vector("tensor-type-99", F, "tensor type 99", _cnn(f"{_T}[0].type", 99)),
    Vector("tensor-type-negative", F, "tensor type -1", _cnn(f"{_T}[0].type", -1)),
    Vector("outside-buffer-wrong-size", C, "buffer 1 has 8 bytes", _outside(64, 8)),
    Vector("buffer-not-there", C, "buffer 99, but the file has 4", _set(f"{_T}[1].buffer", 99)),
    Vector("operator-code-not-there", C, "operator code 9, but", _set(f"{_OP}[2].opcode_index", 9)),
    Vector("constant-shorter-than-shape", C, "160 bytes, but shape [5, 9]", _set(f"{_T}[1].shape[1]", 9)),
    Vector("constant-shape-overflows", C, "needs", _set(f"{_T}[1].shape[1]", 2**31 - 1)),
    Vector("constant-negative-shape", C, "no negative dimension", _set(f"{_T}[1].shape[1]", -8)),
    Vector("constant-other-type", C, "buffer 1 has 72 bytes, but", _cnn(f"{_T}[1].type", 2)),
    Vector("operator-code-unknown", C, "BUILTIN_999", _set("Model.operator_codes[0].builtin_code", 999)),
    Vector("input-tensor-not-there", C, "inputs: tensor 7, expected 0 to 6", _set("Model.subgraphs[0].inputs[0]", 7)),
    Vector("input-tensor-negative", C, "inputs: tensor -1", _set("Model.subgraphs[0].inputs[0]", -1)),
    Vector(
        "output-tensor-not-there", C, "outputs: tensor 2147483647", _set("Model.subgraphs[0].outputs[0]", 2**31 - 1)
    ),
    Vector("op-input-not-there", C, "input 1 is tensor 7", _set(f"{_OP}[0].inputs[1]", 7)),
    Vector("op-input-omitted", C, "input 1 is tensor -1", _set(f"{_OP}[0].inputs[1]", -1)),
    Vector("op-output-not-there", C, "outputs: tensor 77", _set(f"{_OP}[0].outputs[0]", 77)),
    Vector("op-reads-later-tensor", C, "reads tensor 6 ('y')", _set(f"{_OP}[0].inputs[0]", 6)),
    Vector("op-writes-constant", C, "which is a constant", _set(f"{_OP}[0].outputs[0]", 1)),
    Vector("op-writes-input", C, "which is an input", _set(f"{_OP}[0].outputs[0]", 0)),
    Vector("op-writes-twice", C, "which op 0 has written", _set(f"{_OP}[1].outputs[0]", 3)),
    Vector("computed-shape-huge", C, "expected at most", _set(f"{_T}[3].shape[1]", 2**31 - 1)),
    Vector("computed-shape-negative", C, "no negative dimension", _set(f"{_T}[3].shape[1]", -1)),
    Vector("shape-signature-differs", C, "shape signature [-1, 9]", _set(f"{_T}[0].shape_signature[1]", 9)),
    Vector("data-in-another-file", U, "lies in another file", _changed(extra=Table("Tensor", {"external_buffer": 3}))),
    Vector("sparse-constant", U, "a sparse tensor", _changed(sparsity=table("SparsityParameters"))),
    Vector("scale-zero", C, "scale 0.0, expected", _cnn(f"{_T}[0].quantization.scale[0]", 0.0)),
    Vector("scale-negative", C, "scale -0.5, expected", _cnn(f"{_T}[1].quantization.scale[2]", -0.5)),
    Vector("scale-infinite", C, "scale inf, expected", _cnn(f"{_T}[1].quantization.scale[2]", float("inf"))),
    Vector("scale-nan", C, "scale nan, expected", _cnn(f"{_T}[3].quantization.scale[0]", float("nan"))),
    Vector("scale-subnormal", C, "scale 9.9999", _cnn(f"{_T}[3].quantization.scale[0]", 1e-40)),
    Vector(
        "zero-point-not-int8",
        C,
        "zero point 128, expected -128 to 127",
        _cnn(f"{_T}[0].quantization.zero_point[0]", 128),
    ),
    Vector(
        "zero-point-2^63-1", C, "zero point 9223372036854775807", _cnn(f"{_T}[0].quantization.zero_point[0]", 2**63 - 1)
    ),
    Vector(
        "axis-not-there", C, "along axis 4 of 4", _set(f"{_T}[1].quantization.quantized_dimension", 4, "", residual)
    ),
    Vector("options-of-another-op", C, "options AddOptions, expected", _cnn(f"{_POOL}", 11, "code")),
    Vector("options-unknown", C, "BuiltinOptions_250", _cnn(f"{_OP}[2].builtin_options", 250, "code")),
    Vector("stride-zero", C, "stride_w is 0", _cnn(f"{_CONV}.stride_w", 0)),
    Vector("stride-negative", C, "stride_h is -1", _cnn(f"{_CONV}.stride_h", -1)),
    Vector("stride-huge", C, "stride_w is 2147483647", _cnn(f"{_CONV}.stride_w", 2**31 - 1)),
    Vector("filter-zero", C, "filter_width is 0", _cnn(f"{_POOL}.filter_width", 0)),
    Vector("activation-unknown", C, "fused_activation_function is 6", _cnn(f"{_CONV}.fused_activation_function", 6)),
    Vector("beta-nan", C, "beta is nan", _set(f"{_OP}[2].builtin_options.beta", float("nan"))),
    Vector("signature-tensor-not-there", C, "is tensor 9", _cnn("Model.signature_defs[0].outputs[0].tensor_index", 9)),
    Vector("metadata-buffer-not-there", C, "metadata 0: buffer 60", _cnn("Model.metadata[0].buffer", 60)),
)


def main() -> None:
    """Write every vector and the index."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for old in FOLDER.iterdir():
        old.unlink()
    for v in VECTORS:
        (FOLDER / f"{v.name}.tflite").write_bytes(v.make())
    index = {v.name: {"error": v.error.__name__, "message": v.message} for v in VECTORS}
    (FOLDER / "index.json").write_text(json.dumps(index, indent=1) + "\n")


if __name__ == "__main__":
    main()

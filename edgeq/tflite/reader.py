"""A .tflite file → `Graph`.

`decode` has checked that the bytes are a well-formed flatbuffer; here its tables become the types of `edgeq.graph`,
which needs every index that is followed (buffers, operator codes) and every constant's length to be right. All else
is `edgeq.check`'s. What edgeq has no field for travels in `extra` tables, so that a file that is written back says
what it said.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from typing import Any

import numpy as np

from edgeq.errors import CheckError, FormatError
from edgeq.graph import (
    NUMPY_DTYPES,
    Array,
    Graph,
    Metadata,
    Op,
    Quantization,
    Signature,
    SubGraph,
    Table,
    Tensor,
)
from edgeq.records import replace
from edgeq.tflite import limits
from edgeq.tflite.buffers import EMPTY
from edgeq.tflite.decode import Decoder, view
from edgeq.tflite.limits import shown
from edgeq.tflite.schema import DTYPES, OPERATORS, PACKED_BITS, SCHEMA_VERSION
from edgeq.tflite.versions import noted


def read(data: bytes | bytearray | memoryview | mmap.mmap | Array) -> Graph:
    """Read a whole .tflite file.

    Constants are read-only views into `data` where it is aligned for their type, else copies: `data` must not change
    while the graph lives. Tensors of types that NumPy lacks (int4, string, bfloat16 ...) and sparse tensors hold
    their raw bytes as a 1-D uint8 array.

    Raises:
        FormatError: the bytes are not a well-formed .tflite flatbuffer.
        CheckError: a tensor, operation or metadata entry names a buffer or operator code that is not there, or the
            buffer of a constant is not as long as its shape and type say.
    """
    source = _bytes_of(data)
    decoder = Decoder(source)
    model = decoder.root("Model").values
    if model["version"] != SCHEMA_VERSION:
        raise FormatError(f"schema version is {model['version']}, expected {SCHEMA_VERSION}")
    buffers = _Buffers(decoder, model["buffers"] or ())
    codes = [_operator_code(t) for t in model["operator_codes"] or ()]
    subgraphs = tuple(_subgraph(t, i, buffers, codes, decoder) for i, t in enumerate(model["subgraphs"] or ()))
    metadata = tuple(_metadata(t, i, buffers, decoder) for i, t in enumerate(model["metadata"] or ()))
    extra = {k: model[k] for k in ("metadata_buffer", "external_buffer_groups", "external_buffers") if model[k]}
    if unused := buffers.unused():
        extra["buffers"] = unused
    if decoder.unknown:
        extra["unknown"] = tuple(sorted(decoder.unknown))
    return Graph(
        subgraphs=subgraphs,
        description=model["description"],
        signatures=tuple(_signature(t) for t in model["signature_defs"] or ()),
        metadata=metadata,
        version=model["version"],
        extra=Table("Model", extra) if extra else None,
    )


def _bytes_of(data: bytes | bytearray | memoryview | mmap.mmap | Array) -> memoryview:
    """The file's bytes as a flat read-only view."""
    anything: Any = data
    try:
        source = memoryview(anything).cast("B").toreadonly()
    except (TypeError, ValueError) as e:
        raise FormatError(f"expected a model's bytes in one contiguous piece, got {type(data).__name__}: {e}") from None
    if source.nbytes > limits.MAX_FILE_BYTES:
        raise FormatError(f"file of {source.nbytes} bytes, expected at most {limits.MAX_FILE_BYTES}")
    return source


class _Buffers:
    """The file's buffers, as uint8 arrays aligned for any element type; remembers which of them something refers to."""

    def __init__(self, decoder: Decoder, tables: tuple[Table, ...]) -> None:
        self._decoder = decoder
        self._raw = [self._locate(t, i) for i, t in enumerate(tables)]
        self._aligned: dict[int, Array] = {}
        self._used: set[int] = set()

    def raw(self, index: int, where: str) -> Array:
        """The bytes of one buffer, 1-D uint8; empty where it has none, and for buffer 0 whatever lies in it."""
        if index >= len(self._raw):
            raise CheckError(f"{where}: buffer {index}, but the file has {len(self._raw)}")
        self._used.add(index)
        return self._raw[index] if index else EMPTY

    def aligned(self, index: int, itemsize: int, where: str) -> Array:
        """The same, copied once if elements of `itemsize` bytes would straddle addresses."""
        raw = self.raw(index, where)
        if raw.__array_interface__["data"][0] % itemsize == 0:
            return raw
        if index not in self._aligned:
            self._decoder.charge(len(raw), where)
            copy = raw.copy()
            copy.setflags(write=False)
            self._aligned[index] = copy
        return self._aligned[index]

    def unused(self) -> tuple[tuple[int, Array], ...]:
        """Index and bytes of every buffer that holds something and that nothing has asked for."""
        return tuple((i, raw) for i, raw in enumerate(self._raw) if i and len(raw) and i not in self._used)

    def _locate(self, table: Table, index: int) -> Array:
        inside: Array | None = table.values["data"]
        if table.values["offset"] > 1:  # 0 and 1 say that the data is in the flatbuffer
            return _outside(self._decoder, table.values["offset"], table.values["size"], f"buffer {index}")
        return inside if inside is not None else EMPTY


def _outside(decoder: Decoder, offset: int, size: int, where: str) -> Array:
    """Bytes that lie in the file behind the flatbuffer."""
    if offset + size > decoder.size:
        raise FormatError(f"{where}: bytes {offset} to {offset + size} of a file of {decoder.size}")
    return view(decoder.data, offset, size)


def _operator_code(table: Table) -> tuple[str, int, str | None]:
    """(name, version, custom name). Files from before the wide code have the narrow one only, newer ones its cap."""
    v = table.values
    code = max(v["builtin_code"], v["deprecated_builtin_code"])
    name = OPERATORS[code] if 0 <= code < len(OPERATORS) else f"BUILTIN_{code}"
    return name, v["version"], v["custom_code"]


def _subgraph(
    table: Table, index: int, buffers: _Buffers, codes: list[tuple[str, int, str | None]], decoder: Decoder
) -> SubGraph:
    v = table.values
    where = f"subgraph {index}"
    ops = tuple(_op(t, f"{where} op {i}", codes, decoder) for i, t in enumerate(v["operators"] or ()))
    inputs = v["inputs"] or ()
    written = set(inputs).union(*(op.outputs for op in ops))
    tensors = tuple(_tensor(t, f"{where} tensor {i}", buffers, i in written) for i, t in enumerate(v["tensors"] or ()))
    extra = _kept(table, debug_metadata_index=-1)
    graph = SubGraph(tensors, ops, inputs, v["outputs"] or (), v["name"], extra)
    return replace(graph, ops=tuple(noted(op, graph) for op in ops))


def _tensor(table: Table, where: str, buffers: _Buffers, computed: bool) -> Tensor:
    v = table.values
    code = v["type"]
    if not 0 <= code < len(DTYPES):
        raise FormatError(f"{where}: tensor type {code}, expected 0 to {len(DTYPES) - 1}")
    dtype = DTYPES[code]
    shape = v["shape"] or ()
    quantization, loose = _quantization(v["quantization"])
    extra = {k: v[k] for k in ("external_buffer",) if v[k]}
    if loose is not None:
        extra["quantization"] = loose
    where = f"{where} ({shown(v['name'])})" if v["name"] else where
    sparse = v["sparsity"] is not None
    return Tensor(
        name=v["name"] or "",
        shape=shape,
        dtype=dtype,
        data=_constant(buffers, v["buffer"], dtype, shape, sparse, computed or v["is_variable"], where),
        quantization=quantization,
        shape_signature=v["shape_signature"],
        is_variable=v["is_variable"],
        has_rank=v["has_rank"],
        buffer=v["buffer"],
        sparsity=v["sparsity"],
        variant_tensors=v["variant_tensors"],
        extra=Table("Tensor", extra) if extra else None,
    )


def _constant(
    buffers: _Buffers, index: int, dtype: str, shape: tuple[int, ...], sparse: bool, computed: bool, where: str
) -> Array | None:
    """A tensor's constant data, or None.

    An empty buffer means that the tensor is computed, unless it has no elements and nothing computes it.
    """
    numpy_dtype = NUMPY_DTYPES.get(dtype)
    raw = buffers.raw(index, where)
    if not len(raw) and (computed or 0 not in shape):
        return None
    if len(shape) > limits.MAX_RANK:
        raise CheckError(f"{where}: {len(shape)} dimensions, expected at most {limits.MAX_RANK}")
    if any(d < 0 for d in shape):
        raise CheckError(f"{where}: a constant of shape {list(shape)}, expected no negative dimension")
    if sparse or (numpy_dtype is None and dtype not in PACKED_BITS):
        return raw
    count = 1
    for d in shape:
        count *= d
    bits = PACKED_BITS[dtype] if numpy_dtype is None else 8 * numpy_dtype.itemsize
    expected = (count * bits + 7) // 8
    if len(raw) != expected:
        raise CheckError(
            f"{where}: buffer {index} has {len(raw)} bytes, but shape {list(shape)} of {dtype} needs {expected}"
        )
    if numpy_dtype is None:
        return raw
    out = buffers.aligned(index, numpy_dtype.itemsize, where).view(numpy_dtype.newbyteorder("<")).reshape(shape)
    out.setflags(write=False)
    return out


def _quantization(table: Table | None) -> tuple[Quantization | None, Table | None]:
    """(quantization, None); without scales, which runtimes take for not quantized, (None, the table if it says more)."""
    if table is None:
        return None, None
    v = table.values
    scale, zero_point = v["scale"], v["zero_point"]
    if (scale is None or not len(scale)) and v["details"] is None:
        said = v["quantized_dimension"] or any(v[k] is not None and len(v[k]) for k in ("min", "max", "zero_point"))
        return None, table if said else None
    return Quantization(
        scale=scale if scale is not None else np.empty(0, np.float32),
        zero_point=zero_point if zero_point is not None else np.empty(0, np.int64),
        axis=v["quantized_dimension"],
        minimum=v["min"],
        maximum=v["max"],
        details=v["details"],
    ), None


def _op(table: Table, where: str, codes: list[tuple[str, int, str | None]], decoder: Decoder) -> Op:
    v = table.values
    index = v["opcode_index"]
    if index >= len(codes):
        raise CheckError(f"{where}: operator code {index}, but the file has {len(codes)}")
    code, version, custom_code = codes[index]
    options, second = v["builtin_options"], v["builtin_options_2"]
    extra = _kept(table, custom_options_format=0, debug_metadata_index=-1)
    if options is None:
        options = second
    elif second is not None:
        extra = Table("Operator", {**(extra.values if extra else {}), "builtin_options_2": second})
    return Op(
        code=code,
        inputs=v["inputs"] or (),
        outputs=v["outputs"] or (),
        options=options,
        version=version,
        custom_code=custom_code,
        custom_options=_custom_options(v, where, decoder),
        intermediates=v["intermediates"] or (),
        mutating_variable_inputs=v["mutating_variable_inputs"] or (),
        extra=extra,
    )


def _custom_options(v: Mapping[str, Any], where: str, decoder: Decoder) -> bytes | None:
    if v["large_custom_options_offset"] > 1:
        raw = _outside(decoder, v["large_custom_options_offset"], v["large_custom_options_size"], where)
        decoder.charge(len(raw), where)
        return raw.tobytes()
    options: bytes | None = v["custom_options"]
    return options


def _metadata(table: Table, index: int, buffers: _Buffers, decoder: Decoder) -> Metadata:
    v = table.values
    where = f"metadata {index}"
    raw = buffers.raw(v["buffer"], where)
    decoder.charge(len(raw), where)
    return Metadata(v["name"], raw.tobytes(), v["buffer"])


def _signature(table: Table) -> Signature:
    v = table.values
    sides = [
        tuple((m.values["name"] or "", m.values["tensor_index"]) for m in v[k] or ()) for k in ("inputs", "outputs")
    ]
    return Signature(v["signature_key"], v["subgraph_index"], sides[0], sides[1])


def _kept(table: Table, **defaults: int) -> Table | None:
    """The named fields that differ from these defaults, as an `extra` table."""
    kept = {k: table.values[k] for k, default in defaults.items() if table.values[k] != default}
    return Table(table.type, kept) if kept else None

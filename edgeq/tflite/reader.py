"""A .tflite file → `Graph`.

`decode` has checked that the bytes are a well-formed flatbuffer; here its tables become the types of `edgeq.graph`,
which needs every index that is followed (buffers, operator codes) and every constant's length to be right. All else
is `edgeq.check`'s. What edgeq has no field for travels in `extra` tables, so that a file that is written back says
what it said.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable, Mapping, Sequence
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

Values = Mapping[str, Any]
"""Field names of one of the file's tables → what it says."""

Where = Callable[[], str]
"""How a message names a place: put together where one is needed."""

_STORED = {name: dtype.newbyteorder("<") for name, dtype in NUMPY_DTYPES.items()}


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
    model = decoder.root("Model")
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

    def __init__(self, decoder: Decoder, tables: Sequence[Values]) -> None:
        self._decoder = decoder
        self._raw = [self._locate(t, i) for i, t in enumerate(tables)]
        self._aligned: dict[int, Array] = {}
        self._used: set[int] = set()

    def raw(self, index: int, where: Where) -> Array:
        """The bytes of one buffer, 1-D uint8; empty where it has none, and for buffer 0 whatever lies in it."""
        if index >= len(self._raw):
            raise CheckError(f"{where()}: buffer {index}, but the file has {len(self._raw)}")
        self._used.add(index)
        return self._raw[index] if index else EMPTY

    def elements(self, index: int, dtype: np.dtype[Any], where: Where) -> Array:
        """What `raw` has given as elements of this type, whole ones of which it holds; copied once if they would straddle
        addresses."""
        raw = self._raw[index] if index else EMPTY
        if index not in self._aligned:
            found = raw.view(dtype)
            if found.flags.aligned:
                return found
            self._decoder.charge(len(raw), where())
            copy = raw.copy()
            copy.setflags(write=False)
            self._aligned[index] = copy
        return self._aligned[index].view(dtype)

    def unused(self) -> tuple[tuple[int, Array], ...]:
        """Index and bytes of every buffer that holds something and that nothing has asked for."""
        return tuple((i, raw) for i, raw in enumerate(self._raw) if i and len(raw) and i not in self._used)

    def _locate(self, v: Values, index: int) -> Array:
        inside: Array | None = v["data"]
        if v["offset"] > 1:  # 0 and 1 say that the data is in the flatbuffer
            return _outside(self._decoder, v["offset"], v["size"], f"buffer {index}")
        return inside if inside is not None else EMPTY


def _outside(decoder: Decoder, offset: int, size: int, where: str) -> Array:
    """Bytes that lie in the file behind the flatbuffer."""
    if offset + size > decoder.size:
        raise FormatError(f"{where}: bytes {offset} to {offset + size} of a file of {decoder.size}")
    return view(decoder.data, offset, size)


def _operator_code(v: Values) -> tuple[str, int, str | None]:
    """(name, version, custom name). Files from before the wide code have the narrow one only, newer ones its cap."""
    code = max(v["builtin_code"], v["deprecated_builtin_code"])
    name = OPERATORS[code] if 0 <= code < len(OPERATORS) else f"BUILTIN_{code}"
    return name, v["version"], v["custom_code"]


def _subgraph(
    v: Values, index: int, buffers: _Buffers, codes: list[tuple[str, int, str | None]], decoder: Decoder
) -> SubGraph:
    where = f"subgraph {index}"
    ops = tuple(_op(t, f"{where} op {i}", codes, decoder) for i, t in enumerate(v["operators"] or ()))
    inputs = v["inputs"] or ()
    written = set(inputs).union(*(op.outputs for op in ops))
    tensors = tuple(_tensor(t, where, i, buffers, i in written) for i, t in enumerate(v["tensors"] or ()))
    extra = _kept("SubGraph", v, debug_metadata_index=-1)
    graph = SubGraph(tensors, ops, inputs, v["outputs"] or (), v["name"], extra)
    return replace(graph, ops=tuple(noted(op, graph) for op in ops))


def _tensor(v: Values, subgraph: str, i: int, buffers: _Buffers, computed: bool) -> Tensor:
    name: str = v["name"] or ""

    def where() -> str:
        return f"{subgraph} tensor {i} ({shown(name)})" if name else f"{subgraph} tensor {i}"

    code = v["type"]
    if not 0 <= code < len(DTYPES):
        raise FormatError(f"{subgraph} tensor {i}: tensor type {code}, expected 0 to {len(DTYPES) - 1}")
    dtype = DTYPES[code]
    shape = v["shape"] or ()
    quantization, loose = (None, None) if v["quantization"] is None else _quantization(v["quantization"])
    extra = {}
    if v["external_buffer"]:
        extra["external_buffer"] = v["external_buffer"]
    if loose is not None:
        extra["quantization"] = loose
    sparse = v["sparsity"] is not None
    return Tensor(
        name=name,
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
    buffers: _Buffers, index: int, dtype: str, shape: tuple[int, ...], sparse: bool, computed: bool, where: Where
) -> Array | None:
    """A tensor's constant data, or None.

    An empty buffer means that the tensor is computed, unless it has no elements and nothing computes it.
    """
    raw = buffers.raw(index, where)
    if not len(raw) and (computed or 0 not in shape):
        return None
    if len(shape) > limits.MAX_RANK:
        raise CheckError(f"{where()}: {len(shape)} dimensions, expected at most {limits.MAX_RANK}")
    if min(shape, default=0) < 0:
        raise CheckError(f"{where()}: a constant of shape {list(shape)}, expected no negative dimension")
    stored = _STORED.get(dtype)
    if sparse or (stored is None and dtype not in PACKED_BITS):
        return raw
    bits = PACKED_BITS[dtype] if stored is None else 8 * stored.itemsize
    expected = (math.prod(shape) * bits + 7) // 8
    if len(raw) != expected:
        raise CheckError(
            f"{where()}: buffer {index} has {len(raw)} bytes, but shape {list(shape)} of {dtype} needs {expected}"
        )
    return raw if stored is None else buffers.elements(index, stored, where).reshape(shape)


def _quantization(v: Values) -> tuple[Quantization | None, Table | None]:
    """(quantization, None); without scales, which runtimes take for not quantized, (None, the table if it says more)."""
    scale, zero_point = v["scale"], v["zero_point"]
    if (scale is None or not len(scale)) and v["details"] is None:
        said = v["quantized_dimension"] or any(v[k] is not None and len(v[k]) for k in ("min", "max", "zero_point"))
        return None, Table("QuantizationParameters", v) if said else None
    return Quantization(
        scale=scale if scale is not None else np.empty(0, np.float32),
        zero_point=zero_point if zero_point is not None else np.empty(0, np.int64),
        axis=v["quantized_dimension"],
        minimum=v["min"],
        maximum=v["max"],
        details=v["details"],
    ), None


def _op(v: Values, where: str, codes: list[tuple[str, int, str | None]], decoder: Decoder) -> Op:
    index = v["opcode_index"]
    if index >= len(codes):
        raise CheckError(f"{where}: operator code {index}, but the file has {len(codes)}")
    code, version, custom_code = codes[index]
    options, second = v["builtin_options"], v["builtin_options_2"]
    extra = _kept("Operator", v, custom_options_format=0, debug_metadata_index=-1)
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


def _custom_options(v: Values, where: str, decoder: Decoder) -> bytes | None:
    if v["large_custom_options_offset"] > 1:
        raw = _outside(decoder, v["large_custom_options_offset"], v["large_custom_options_size"], where)
        decoder.charge(len(raw), where)
        return raw.tobytes()
    options: bytes | None = v["custom_options"]
    return options


def _metadata(v: Values, index: int, buffers: _Buffers, decoder: Decoder) -> Metadata:
    where = f"metadata {index}"
    raw = buffers.raw(v["buffer"], lambda: where)
    decoder.charge(len(raw), where)
    return Metadata(v["name"], raw.tobytes(), v["buffer"])


def _signature(v: Values) -> Signature:
    sides = [tuple((m["name"] or "", m["tensor_index"]) for m in v[k] or ()) for k in ("inputs", "outputs")]
    return Signature(v["signature_key"], v["subgraph_index"], sides[0], sides[1])


def _kept(table: str, v: Values, **defaults: int) -> Table | None:
    """The named fields of a table of this kind that differ from these defaults, as an `extra` table."""
    kept = {k: v[k] for k, default in defaults.items() if v[k] != default}
    return Table(table, kept) if kept else None

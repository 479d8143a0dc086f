"""`Graph` → a .tflite file that TFLite and LiteRT load: the inverse of `reader`.

Rules: every constant lies in the flatbuffer, 16-byte aligned, and buffer 0 is empty; tensors that share a `buffer`
and its bytes share it in the file; an operation keeps the version that it came with unless it now needs a higher one
(`versions`); the same graph gives the same bytes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeq.errors import CheckError, UnsupportedError
from edgeq.graph import NUMPY_DTYPES, Array, Graph, Op, Quantization, Signature, SubGraph, Table, Tensor
from edgeq.tflite import limits
from edgeq.tflite.buffers import EMPTY, assign, too_large
from edgeq.tflite.schema import DTYPE_CODES, OPERATOR_CODES, UNION_MEMBERS
from edgeq.tflite.versions import UNDERSTATED, written_version

_LAST_NARROW_CODE = 127  # what the narrow code of an operation says when it is too narrow for the real one


def write(graph: Graph) -> bytes:
    """The graph as a .tflite file.

    Raises:
        CheckError: a value does not fit the schema, or a constant's array is not of its tensor's dtype and shape.
        UnsupportedError: the file would be 2 GiB or more, or the graph came from a file with parts that edgeq's
        schema does
            not know, which writing would lose.
    """
    from edgeq.tflite.encode import encode  # flatbuffers is for those who write, a device only reads

    extra = dict(graph.extra.values) if graph.extra else {}
    if unknown := extra.pop("unknown", ()):
        raise UnsupportedError(
            f"writing would lose parts of the model that edgeq does not know: {', '.join(unknown[:5])}"
        )
    loose = extra.pop("buffers", ())
    tensors = [(f"subgraph {s} tensor {i}", t) for s, g in enumerate(graph.subgraphs) for i, t in enumerate(g.tensors)]
    requests = [
        *loose,
        *((m.buffer, np.frombuffer(m.data, np.uint8) if m.data else EMPTY) for m in graph.metadata),
        *((t.buffer, _raw(t, where)) for where, t in tensors),
    ]
    given, buffers = assign(requests)
    nbytes = sum(len(b) for b in buffers)
    if nbytes > limits.MAX_FILE_BYTES:
        raise too_large(nbytes)
    places = iter(given[len(loose) :])
    metadata = tuple(Table("Metadata", {"name": m.name, "buffer": next(places)}) for m in graph.metadata)
    codes: dict[tuple[str, str | None, int], int] = {}
    subgraphs = tuple(
        _subgraph(g, [next(places) for _ in g.tensors], codes, f"subgraph {i}") for i, g in enumerate(graph.subgraphs)
    )
    values = {
        **extra,
        "version": graph.version,
        "operator_codes": tuple(_operator_code(*code) for code in codes),
        "subgraphs": subgraphs,
        "description": graph.description,
        "buffers": tuple(Table("Buffer", {"data": b if len(b) else None}) for b in buffers),
        "metadata": metadata or None,
        "signature_defs": tuple(_signature(s) for s in graph.signatures) or None,
    }
    structure = 4096 + 512 * (len(tensors) + sum(len(g.ops) for g in graph.subgraphs) + len(buffers))
    return encode(Table("Model", values), size_hint=nbytes + structure)


def _raw(t: Tensor, where: str) -> Array:
    """A constant's bytes, empty for a tensor without data.

    Raises:
        CheckError: the array is not what the tensor says it is.
        UnsupportedError: the array alone is too large for a file.
    """
    if t.data is None:
        return EMPTY
    if t.data.nbytes > limits.MAX_FILE_BYTES:
        raise too_large(t.data.nbytes)
    dtype = NUMPY_DTYPES.get(t.dtype)
    expected = (np.dtype(np.uint8), None) if dtype is None or t.sparsity is not None else (dtype, t.shape)
    found = (t.data.dtype, t.data.shape)
    if found[0] != expected[0] or (expected[1] is not None and found[1] != expected[1]):
        raise CheckError(
            f"{where} ({t.name}): data is {found[0]} of shape {list(found[1])}, "
            f"expected {expected[0]} of shape {list(expected[1]) if expected[1] is not None else '[bytes]'}"
        )
    little = np.ascontiguousarray(t.data, t.data.dtype.newbyteorder("<"))
    return little.reshape(-1).view(np.uint8)


def _subgraph(g: SubGraph, buffers: list[int], codes: dict[tuple[str, str | None, int], int], where: str) -> Table:
    operators = []
    for i, op in enumerate(g.ops):
        if op.code not in OPERATOR_CODES:
            raise UnsupportedError(f"{where} op {i}: {op.code} is not an operation of the schema")
        code = (op.code, op.custom_code, written_version(op, g))
        operators.append(_operator(op, codes.setdefault(code, len(codes))))
    values = {
        **(g.extra.values if g.extra else {}),
        "tensors": tuple(_tensor(t, b, where) for t, b in zip(g.tensors, buffers, strict=True)),
        "inputs": g.inputs,
        "outputs": g.outputs,
        "operators": tuple(operators),
        "name": g.name,
    }
    return Table("SubGraph", values)


def _operator_code(name: str, custom_code: str | None, version: int) -> Table:
    """Both codes: readers from before the wide one look at the narrow one."""
    code = OPERATOR_CODES[name]
    values = {
        "deprecated_builtin_code": min(code, _LAST_NARROW_CODE),
        "custom_code": custom_code,
        "version": version,
        "builtin_code": code,
    }
    return Table("OperatorCode", values)


def _tensor(t: Tensor, buffer: int, where: str) -> Table:
    if t.dtype not in DTYPE_CODES:
        raise CheckError(f"{where} tensor {t.name}: dtype {t.dtype!r} is not one of {', '.join(DTYPE_CODES)}")
    values = {
        **(t.extra.values if t.extra else {}),
        "shape": t.shape,
        "type": DTYPE_CODES[t.dtype],
        "buffer": buffer,
        "name": t.name or None,
        "is_variable": t.is_variable,
        "sparsity": t.sparsity,
        "shape_signature": t.shape_signature,
        "has_rank": t.has_rank,
        "variant_tensors": t.variant_tensors,
    }
    if t.quantization is not None:
        values["quantization"] = _quantization(t.quantization)
    return Table("Tensor", values)


def _quantization(q: Quantization) -> Table:
    values = {
        "min": q.minimum,
        "max": q.maximum,
        "scale": q.scale,
        "zero_point": q.zero_point,
        "details": q.details,
        "quantized_dimension": q.axis,
    }
    return Table("QuantizationParameters", values)


def _operator(op: Op, opcode_index: int) -> Table:
    extra = dict(op.extra.values) if op.extra else {}
    extra.pop(UNDERSTATED, None)
    values: dict[str, Any] = {
        **extra,
        "opcode_index": opcode_index,
        "inputs": op.inputs,
        "outputs": op.outputs,
        "custom_options": op.custom_options,
        "mutating_variable_inputs": op.mutating_variable_inputs or None,
        "intermediates": op.intermediates or None,
    }
    if op.options is not None:
        second = op.options.type in UNION_MEMBERS["BuiltinOptions2"]
        values["builtin_options_2" if second else "builtin_options"] = op.options
    return Table("Operator", values)


def _signature(s: Signature) -> Table:
    sides = {
        side: tuple(Table("TensorMap", {"name": n, "tensor_index": i}) for n, i in getattr(s, side))
        for side in ("inputs", "outputs")
    }
    return Table("SignatureDef", {**sides, "signature_key": s.key, "subgraph_index": s.subgraph})

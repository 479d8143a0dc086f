"""Models with MATRIX_DIAG, which the fixture `without_matrix_diag` takes away from edgeq and the other runtimes have."""

from __future__ import annotations

from edgeq.graph import Graph, Op, SubGraph, Tensor
from edgeq.tflite.schema import table
from tests.engine_models import q


def diagonal() -> Graph:
    """float32 (1, 3) → MATRIX_DIAG → (1, 3, 3)."""
    tensors = (Tensor("x", (1, 3), "float32"), Tensor("y", (1, 3, 3), "float32"))
    return Graph((SubGraph(tensors, (Op("MATRIX_DIAG", (0,), (1,), table("MatrixDiagOptions")),), (0,), (1,)),))


def two_outputs() -> Graph:
    """int8 (1, 3) → DEQUANTIZE → MATRIX_DIAG, and the integers' RELU beside it."""
    tensors = (
        Tensor("x", (1, 3), "int8", quantization=q(0.5, -3)),
        Tensor("real", (1, 3), "float32"),
        Tensor("diagonal", (1, 3, 3), "float32"),
        Tensor("relu", (1, 3), "int8", quantization=q(0.5, -3)),
    )
    ops = (
        Op("DEQUANTIZE", (0,), (1,), None, version=2),
        Op("MATRIX_DIAG", (1,), (2,), table("MatrixDiagOptions")),
        Op("RELU", (0,), (3,), None, version=2),
    )
    return Graph((SubGraph(tensors, ops, (0,), (2, 3)),))


def custom(name: str) -> Graph:
    """One custom operation that nobody has."""
    tensors = (Tensor("x", (1, 3), "float32"), Tensor("y", (1, 3), "float32"))
    return Graph((SubGraph(tensors, (Op("CUSTOM", (0,), (1,), custom_code=name),), (0,), (1,)),))

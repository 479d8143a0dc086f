"""Read and write .tflite files: `read(bytes) -> Graph`, `write(Graph) -> bytes`.

`schema` holds the facts of the format; `decode` and `encode` are generic over them; `reader` and `writer` turn the
schema's tables into `edgeq.graph` types and back. No generated code, and nothing heavier than NumPy is imported to
read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgeq.tflite.reader import read

if TYPE_CHECKING:
    from edgeq.tflite.writer import write

__all__ = ["read", "write"]


def __getattr__(name: str) -> Any:
    if name == "write":  # on first use: a device reads
        from edgeq.tflite.writer import write

        return write
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

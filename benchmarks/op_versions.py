"""Which versions of each operation the installed runtimes know: the table of edgeq/lint/facts.py.

    python benchmarks/op_versions.py [tflite_runtime] [ai_edge_litert]

A model of one operation at versions 1 to 17 is given to the interpreter; what it does not know, it says ("Didn't find op for
builtin opcode"). Prints operation and the highest version for each runtime, 0 for none.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from edgeq.graph import Graph, Op, SubGraph, Tensor
from edgeq.tflite import write
from edgeq.tflite.ops import OP_FACTS

VERSIONS = range(1, 18)
UNKNOWN = ("Didn't find op", "out of range")


def known(interpreter: Any, code: str, version: int) -> bool:
    tensors = (Tensor("x", (1,), "float32"), Tensor("y", (1,), "float32"))
    graph = Graph((SubGraph(tensors, (Op(code, (0,), (1,), None, version),), (0,), (1,), "main"),))
    try:
        interpreter(model_content=bytes(write(graph)))
    except ValueError as error:
        return not any(word in str(error) for word in UNKNOWN)
    return True


def main() -> None:
    packages = sys.argv[1:] or ["tflite_runtime", "ai_edge_litert"]
    runtimes = [import_module(f"{p}.interpreter").Interpreter for p in packages]
    for code in OP_FACTS:
        print(code, *(max((v for v in VERSIONS if known(r, code, v)), default=0) for r in runtimes))


if __name__ == "__main__":
    main()

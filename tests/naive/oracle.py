"""The runtimes that edgeq equals, behind one call: tflite-runtime's reference kernels and LiteRT's default interpreter.

Both are optional: `missing` says why one cannot be used here. Each runs on one thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

MODULES = {"tflite": "tflite_runtime", "xnnpack": "ai_edge_litert"}
RESOLVERS = {"tflite": "BUILTIN_REF", "xnnpack": "AUTO"}
NAMES = {"tflite": "tflite-runtime BUILTIN_REF", "xnnpack": "LiteRT default"}


def missing(rounding: str) -> str | None:
    """Why the family's runtime cannot be asked, None if it can."""
    module = MODULES[rounding]
    if find_spec(module) is None:
        return f"{module} is not installed"
    if rounding == "tflite" and int(np.__version__.split(".")[0]) >= 2:
        return f"tflite_runtime needs numpy < 2, found {np.__version__}"
    return None


class Oracle:
    """One model in one runtime; `tensors` also keeps every intermediate, where the runtime computes it itself."""

    def __init__(self, content: bytes, rounding: str, *, resolver: str | None = None, tensors: bool = False) -> None:
        runtime = import_module(f"{MODULES[rounding]}.interpreter")
        self._interpreter = runtime.Interpreter(
            model_content=content,
            experimental_op_resolver_type=runtime.OpResolverType[resolver or RESOLVERS[rounding]],
            experimental_preserve_all_tensors=tensors,
            num_threads=1,
        )
        self._interpreter.allocate_tensors()
        self._inputs = [d["index"] for d in self._interpreter.get_input_details()]
        self._outputs = [d["index"] for d in self._interpreter.get_output_details()]

    def __call__(self, inputs: Sequence[Array]) -> list[Array]:
        """Outputs in the model's order, for inputs in the model's order and dtypes; lengths that it leaves open may be others."""
        found = self._interpreter.get_input_details()
        if any(tuple(d["shape"]) != x.shape for d, x in zip(found, inputs, strict=True)):
            for d, x in zip(found, inputs, strict=True):
                self._interpreter.resize_tensor_input(d["index"], x.shape)
            self._interpreter.allocate_tensors()
        for index, x in zip(self._inputs, inputs, strict=True):
            self._interpreter.set_tensor(index, x)
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(i) for i in self._outputs]

    def reset(self) -> None:
        """Forget what earlier calls have left in the model's variables."""
        self._interpreter.reset_all_variables()

    def tensor(self, index: int) -> Array:
        """One tensor of the last call; only what was computed outside a delegate is right, and only with `tensors`."""
        return self._interpreter.get_tensor(index)

    def delegated(self) -> bool:
        """Whether a delegate took part of the model."""
        return any(d["op_name"] == "DELEGATE" for d in self._interpreter._get_ops_details())

"""Running a model by the names of its signatures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeq.graph import Array, Signature
from edgeq.interpreter.errors import ArgumentError, raised_as
from edgeq.interpreter.native import Native


class SignatureRunner:
    """A signature of a model: called with its inputs by name, it returns its outputs by name.

    Interpreter.get_signature_runner makes it. Inputs take the shapes of what is given.
    """

    def __init__(self, native: Native, signature: Signature) -> None:
        self._inputs, self._outputs = dict(signature.inputs), dict(signature.outputs)
        with raised_as(ValueError):
            self._runner = native.runner(signature.subgraph)

    def __call__(self, **inputs: Any) -> dict[str, Array]:
        """Run. Raises ValueError for names, types and numbers of inputs that do not fit, RuntimeError for shapes."""
        if len(inputs) != len(self._inputs):
            raise ArgumentError(
                "Invalid number of inputs provided for running a SignatureDef, "
                f"expected {len(self._inputs)} vs provided {len(inputs)}"
            )
        for name, value in inputs.items():
            if name not in self._inputs:
                raise ArgumentError(f"Invalid Input name ({name}) for SignatureDef")
            self._runner.resize(self._inputs[name], value.shape, strict=False)
        with raised_as(RuntimeError):
            self._runner.allocate()
        for name, value in inputs.items():
            self._runner.set(self._inputs[name], value)
        self._runner.invoke()
        return {name: self._runner.get(i) for name, i in self._outputs.items()}

    def get_input_details(self) -> dict[str, dict[str, Any]]:
        """Name → details of the input, as those of Interpreter.get_input_details."""
        return self._details(self._inputs)

    def get_output_details(self) -> dict[str, dict[str, Any]]:
        """Name → details of the output."""
        return self._details(self._outputs)

    def _details(self, indices: Mapping[str, int]) -> dict[str, dict[str, Any]]:
        return {name: self._runner.describe(i) for name, i in indices.items()}

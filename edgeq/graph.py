"""A model as values: what a `.tflite` file says, and nothing about how it is stored or run.

Everything here is immutable. A `Graph` is the whole file; most files hold one `SubGraph`, reached by the shorthand properties.
Names and meanings are those of the TFLite schema. A tensor's `data` is None for a tensor that is computed (or fed), and an
array of the tensor's own dtype and shape for a constant (read-only, possibly a view into the file's bytes).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeq.records import dataclass, field, replace

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]
else:
    Array = np.ndarray


class Padding(int):
    """How a window meets the border: one of these numbers."""

    SAME = 0
    VALID = 1


class Activation(int):
    """ActivationFunctionType of the schema: what is fused behind an operation, one of these numbers."""

    NONE = 0
    RELU = 1
    RELU_N1_TO_1 = 2
    RELU6 = 3
    TANH = 4
    SIGN_BIT = 5


@dataclass(frozen=True)
class Table:
    """A flatbuffer table that edgeq carries as it is: options of an operation, sparsity, an unknown part.

    `values` maps schema field names to Python values; scalar fields that the file leaves out hold the schema's default,
    absent vectors, strings and tables are None.
    """

    type: str
    values: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        values = dict(self.values)
        known = {**values, "type": self.type, "values": MappingProxyType(values)}
        self.__dict__.update(known)  # fields are found without asking __getattr__, which is slow

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["values"][name]
        except KeyError:
            raise AttributeError(f"{self.__dict__.get('type')} has no field {name!r}") from None


@dataclass(frozen=True, eq=False)
class Quantization:
    """TFLite's affine quantization: real = scale · (q − zero_point), per tensor or along one axis.

    scale: (k,) float32, k = 1 or the tensor's length along `axis`; zero_point: (k,) int64. `minimum`/`maximum` are the
    schema's informative ranges, None where absent.
    """

    scale: Array
    zero_point: Array
    axis: int = 0
    minimum: Array | None = None
    maximum: Array | None = None
    details: Table | None = None

    @property
    def per_axis(self) -> bool:
        """Whether there is more than one scale."""
        return len(self.scale) > 1


@dataclass(frozen=True, eq=False)
class Tensor:
    """One tensor: `dtype` is the schema's type in lower case ("int8", "float32", "int4", "string", "resource" ...)."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    data: Array | None = None
    quantization: Quantization | None = None
    shape_signature: tuple[int, ...] | None = None
    is_variable: bool = False
    has_rank: bool = False
    buffer: int = 0
    sparsity: Table | None = None
    variant_tensors: tuple[Table, ...] | None = None
    extra: Table | None = None  # fields that edgeq carries without looking at them

    @property
    def size(self) -> int:
        """Number of elements."""
        n = 1
        for d in self.shape:
            n *= d
        return n


@dataclass(frozen=True, eq=False)
class Op:
    """One operation: `code` is the builtin's name ("CONV_2D") or "CUSTOM"; −1 in `inputs` marks an omitted optional input."""

    code: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Table | None = None
    version: int = 1
    custom_code: str | None = None
    custom_options: bytes | None = None
    intermediates: tuple[int, ...] = ()
    mutating_variable_inputs: tuple[bool, ...] = ()
    extra: Table | None = None  # fields of the operator that edgeq carries without looking at them


@dataclass(frozen=True, eq=False)
class SubGraph:
    """Tensors, operations in execution order, and the indices of inputs and outputs."""

    tensors: tuple[Tensor, ...]
    ops: tuple[Op, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    name: str | None = None
    extra: Table | None = None

    def producers(self) -> dict[int, int]:
        """Tensor index → index of the operation that writes it."""
        return {t: i for i, op in enumerate(self.ops) for t in op.outputs}

    def consumers(self) -> dict[int, list[int]]:
        """Tensor index → indices of the operations that read it, in order."""
        out: dict[int, list[int]] = {}
        for i, op in enumerate(self.ops):
            for t in op.inputs:
                if t >= 0:
                    out.setdefault(t, []).append(i)
        return out


@dataclass(frozen=True)
class Signature:
    """A SignatureDef: names for the inputs and outputs of one subgraph, each a (name, tensor index) pair."""

    key: str | None
    subgraph: int
    inputs: tuple[tuple[str, int], ...]
    outputs: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Metadata:
    """A named buffer of the file that no tensor uses; `buffer` is its index, 0 for "wherever there is room"."""

    name: str | None
    data: bytes
    buffer: int = 0


@dataclass(frozen=True, eq=False)
class Graph:
    """A whole model file."""

    subgraphs: tuple[SubGraph, ...]
    description: str | None = None
    signatures: tuple[Signature, ...] = ()
    metadata: tuple[Metadata, ...] = ()
    version: int = 3
    extra: Table | None = None

    @property
    def main(self) -> SubGraph:
        """The subgraph that inference runs."""
        return self.subgraphs[0]

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The main subgraph's tensors."""
        return self.main.tensors

    @property
    def ops(self) -> tuple[Op, ...]:
        """The main subgraph's operations."""
        return self.main.ops

    @property
    def inputs(self) -> tuple[int, ...]:
        """Indices of the main subgraph's inputs."""
        return self.main.inputs

    @property
    def outputs(self) -> tuple[int, ...]:
        """Indices of the main subgraph's outputs."""
        return self.main.outputs

    def with_main(self, **changes: Any) -> Graph:
        """A copy whose main subgraph has these fields changed."""
        return replace(self, subgraphs=(replace(self.main, **changes), *self.subgraphs[1:]))

    def input_names(self) -> list[str]:
        """What a user calls the inputs: the signature's names where there is one, else the tensors' own names."""
        return self._names("inputs", self.inputs)

    def output_names(self) -> list[str]:
        """What a user calls the outputs: the signature's names where there is one, else the tensors' own names."""
        return self._names("outputs", self.outputs)

    def _names(self, side: str, indices: tuple[int, ...]) -> list[str]:
        named: dict[int, str] = {}
        for s in self.signatures:
            if s.subgraph == 0:
                named = {i: n for n, i in getattr(s, side)}
                break
        names = [named.get(i) or self.tensors[i].name or f"{side[:-1]}_{k}" for k, i in enumerate(indices)]
        return [n if names.count(n) == 1 else f"{n}_{k}" for k, n in enumerate(names)]


def constants(graph: SubGraph) -> Iterator[tuple[int, Tensor]]:
    """Every constant tensor with its index."""
    return ((i, t) for i, t in enumerate(graph.tensors) if t.data is not None)


NUMPY_DTYPES: Mapping[str, np.dtype[Any]] = MappingProxyType(
    {n: np.dtype(n) for n in ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32",
                              "uint64", "bool", "complex64", "complex128")}
)  # fmt: skip
"""The tensor types that NumPy can hold one element at a time; the others (string, int4, resource ...) have no entry."""

"""Models that another runtime runs because edgeq lacks an operation: tflite-runtime or ai-edge-litert, whichever is there.

The whole model goes over, after edgeq has read and checked it: these runtimes trust their files. Its plain bytes leave
edgeq with it, so the caller must be allowed to export them.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from importlib import import_module, metadata
from importlib.util import find_spec
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from edgeq.engine import Model, Port, converted, delivered, gathered, port
from edgeq.errors import InputError, MachineError, UnsupportedError
from edgeq.graph import Array, Graph
from edgeq.machine import get
from edgeq.plan.survey import NO_OPERATION, OTHER_RUNTIME, Finding, survey
from edgeq.plan.types import Rounding
from edgeq.records import dataclass, replace

if TYPE_CHECKING:
    from edgeq.dynamic import DynamicModel

MODULES = {"ai-edge-litert": "ai_edge_litert", "tflite-runtime": "tflite_runtime"}
"""Distribution → the package that holds its interpreter."""

ORDER = {Rounding.XNNPACK: ("ai-edge-litert", "tflite-runtime"), Rounding.TFLITE: ("tflite-runtime", "ai-edge-litert")}
"""Whose integers are asked for → who is asked first."""

RESOLVERS = {Rounding.XNNPACK: "AUTO", Rounding.TFLITE: "BUILTIN_REF"}

SHOWN = 5
"""Findings that a message lists."""


class FallbackWarning(UserWarning):
    """Another runtime runs the model."""


@dataclass(frozen=True)
class Runtime:
    """An installed runtime that has TFLite's interpreter."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"

    def interpreter(self, content: bytes, rounding: Rounding, threads: int, **options: Any) -> Any:
        """Its interpreter over a model; raises ValueError where it refuses the model, as it does itself."""
        module = import_module(f"{MODULES[self.name]}.interpreter")
        resolver = module.OpResolverType[RESOLVERS[rounding]]
        return module.Interpreter(
            model_content=content, num_threads=threads, experimental_op_resolver_type=resolver, **options
        )


def find(rounding: str | Rounding) -> Runtime | None:
    """The runtime to fall back to, None where none is installed (or only one that cannot work with this NumPy)."""
    for name in ORDER[Rounding(rounding)]:
        if find_spec(MODULES[name]) is None:
            continue
        if name == "tflite-runtime" and int(np.__version__.split(".")[0]) >= 2:
            continue  # tflite-runtime 2.14 fails at run time with NumPy 2
        return Runtime(name, metadata.version(name))
    return None


def lacking(graph: Graph, rounding: str | Rounding) -> tuple[Finding, ...]:
    """What edgeq does not run of a checked graph, on this machine."""
    return survey(graph, get().isa, rounding)


def because(error: UnsupportedError) -> Finding:
    """A refusal that is no single operation's, such as a shape that nobody can know beforehand."""
    return Finding(NO_OPERATION, "model", str(error), OTHER_RUNTIME)


def listed(findings: Sequence[Finding]) -> str:
    """The findings in one line: the first few in words, the number of all."""
    more = f" and {len(findings) - SHOWN} more (edgeq lint lists all)" if len(findings) > SHOWN else ""
    return "; ".join(map(str, findings[:SHOWN])) + more


def choose(findings: Sequence[Finding], rounding: str | Rounding, backend: str, may_leave: bool) -> Runtime:
    """The runtime that may run a model with these findings.

    backend: "auto" or "native"; may_leave: whether its plain bytes may be handed to another runtime.

    Raises UnsupportedError, with what is lacking and what would help, if there is none.
    """
    what = f"edgeq does not run this model: {listed(findings)}"
    if backend == "native":
        remedies = "; ".join(dict.fromkeys(f.remedy for f in findings))
        raise UnsupportedError(f"{what}. What helps: {remedies}")
    if not may_leave:
        raise UnsupportedError(
            f"{what}. Another runtime would need its plain bytes, and the grant does not allow export"
        )
    runtime = find(rounding)
    if runtime is None:
        raise UnsupportedError(
            f"{what}. Neither ai-edge-litert nor tflite-runtime is installed to run it instead: "
            "pip install 'edgeq[litert]'"
        )
    return runtime


def why(findings: Sequence[Finding], runtime: Runtime) -> str:
    """Who runs a model, and why, in one line."""
    return f"{runtime} runs this model, as edgeq does not: {listed(findings)}"


def refused(findings: Sequence[Finding], runtime: Runtime, error: Exception) -> UnsupportedError:
    """The error for a model that the other runtime does not run either."""
    refusal = f"{runtime} refuses it too: {first_line(error)}"
    return UnsupportedError(f"edgeq does not run this model: {listed(findings)}; {refusal}")


class FallbackModel:
    """A model that another runtime runs; called like edgeq.engine.Model.

    `findings` says why, `runtime` who. Calls from several threads go one after another.
    """

    def __init__(
        self,
        graph: Graph,
        content: bytes,
        findings: Sequence[Finding],
        runtime: Runtime,
        *,
        rounding: str = "xnnpack",
        threads: int = 1,
        shapes: Mapping[int, Sequence[int]] | None = None,
    ) -> None:
        self.graph, self.findings, self.runtime = graph, tuple(findings), runtime
        try:
            self._interpreter = runtime.interpreter(content, Rounding(rounding), threads)
            for i, shape in (shapes or {}).items():
                self._interpreter.resize_tensor_input(i, shape)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise refused(findings, runtime, error) from None
        self.inputs = self._ports(graph.input_names(), self._interpreter.get_input_details())
        self.outputs = self._ports(graph.output_names(), self._interpreter.get_output_details())
        self._turn = threading.Lock()

    def __call__(self, x: Array | Mapping[str, Array], *, dequantize: bool = False) -> Any:
        """As edgeq.engine.Model's."""
        given, samples, batched = gathered(x, self.inputs)
        arrays = [_quantized(converted(a, p), p) for a, p in zip(given, self.inputs, strict=True)]
        with self._turn:
            interpreter = self._interpreter
            if interpreter is None:
                raise InputError("the model is closed")
            runs = [self._sample(interpreter, arrays, k) for k in range(samples)]
        if batched:
            columns = [[run[k] for run in runs] for k in range(len(self.outputs))]
            results = [_joined(c, p) for c, p in zip(columns, self.outputs, strict=True)]
        else:
            results = runs[0]  # in the shape that the runtime found, which the file need not know
        return delivered(results, self.outputs, dequantize)

    def _sample(self, interpreter: Any, arrays: Sequence[Array], k: int) -> list[Array]:
        """The outputs for sample k of every array."""
        for i, a, p in zip(self.graph.inputs, arrays, self.inputs, strict=True):
            n = p.shape[0] if p.shape else 1
            interpreter.set_tensor(i, a[k * n : (k + 1) * n].reshape(p.shape) if p.shape else a.reshape(()))
        try:
            interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            raise MachineError(f"{self.runtime} stopped: {first_line(error)}") from None
        return [interpreter.get_tensor(i) for i in self.graph.outputs]

    def _ports(self, names: Sequence[str], details: Sequence[Mapping[str, Any]]) -> tuple[Port, ...]:
        """Inputs or outputs in the shapes that the runtime has made them."""
        tensors = [replace(self.graph.tensors[d["index"]], shape=tuple(map(int, d["shape"]))) for d in details]
        return tuple(port(n, t) for n, t in zip(names, tensors, strict=True))

    def reset(self) -> None:
        """Forget what earlier calls have left in the model's variables."""
        with self._turn:
            if self._interpreter is not None:
                self._interpreter.reset_all_variables()

    def close(self) -> None:
        """Release the runtime; the model cannot be called afterwards."""
        with self._turn:
            self._interpreter = None

    def __enter__(self) -> FallbackModel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


AnyModel: TypeAlias = "Model | DynamicModel | FallbackModel"
"""What `edgeq.load` returns."""


def first_line(error: Exception) -> str:
    """What a runtime says, in one line: some of its messages have several."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _joined(parts: Sequence[Array], p: Port) -> Array:
    """The outputs of several samples behind one another; there may be none."""
    if not parts:
        return np.empty((0, *p.shape[1:]), p.dtype)
    return np.concatenate(parts) if parts[0].ndim else np.stack(parts)


def _quantized(a: Array, p: Port) -> Array:
    """Floats for an integer input as its integers, which edgeq's machine would make of them on the way."""
    if a.dtype == p.dtype or p.quantmod is None:
        return a
    return p.quantmod.quantize(a)

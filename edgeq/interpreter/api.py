"""`Interpreter`: the class that apps import in place of tflite_runtime's."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from edgeq import fallback
from edgeq.check import sound
from edgeq.errors import UnsignedError, UnsupportedError
from edgeq.fallback import FallbackWarning
from edgeq.files import PathLike
from edgeq.graph import Array
from edgeq.interpreter.delegates import OpResolverType, ignore_delegates, resolver_named, rounding_of
from edgeq.interpreter.errors import ArgumentError, raised_as
from edgeq.interpreter.native import Native, Options, Runner, entries
from edgeq.interpreter.signatures import SignatureRunner
from edgeq.loader import check_backend
from edgeq.machine import get
from edgeq.opening import GrantLike, IdentityLike, Opened, StateLike, TrustLike, open_bytes
from edgeq.subgraphs import promoted
from edgeq.tflite import read

IGNORED = frozenset(
    {
        "experimental_disable_delegate_clustering",
        "experimental_default_delegate_latest_features",
        "experimental_compress_quantization_zero_points",
        "experimental_disable_delegate_node_fusion",
        "experimental_force_delegate_node_profiling",
    }
)
"""Arguments of TFLite's and LiteRT's interpreters about delegates and memory, which change nothing here."""


class Interpreter:
    """A .tflite model or bundle behind the interface of tflite_runtime.interpreter.Interpreter.

    Arguments, methods, the dicts of details, and what is raised when are those of that class (and of ai_edge_litert's);
    every error is one of edgeq.errors too. Beyond them:

    grant, identity, trust, state, passphrase: open a bundle at `model_path`, as in edgeq.load.
    rounding: "xnnpack" (LiteRT's default integers, and the default) or "tflite" (the reference kernels'); where it is not
        given, OpResolverType.BUILTIN_REF means "tflite".
    backend: "auto" lets an installed ai-edge-litert or tflite-runtime run a model with an operation that edgeq lacks, with
        a FallbackWarning, if a bundle's grant allows `export`; "native" refuses it with ValueError.

    experimental_delegates are ignored with a warning. experimental_preserve_all_tensors keeps intermediate values, which
    of a bundle under a grant needs `debug`. Memory that holds nothing yet is an error, never arbitrary values; constants
    cannot be overwritten.
    """

    def __init__(
        self,
        model_path: PathLike | None = None,
        model_content: bytes | None = None,
        experimental_delegates: Sequence[Any] | None = None,
        num_threads: int | None = None,
        experimental_op_resolver_type: Any = OpResolverType.AUTO,
        experimental_preserve_all_tensors: bool = False,
        *,
        grant: GrantLike | None = None,
        identity: IdentityLike | None = None,
        trust: TrustLike | None = None,
        state: StateLike | None = None,
        passphrase: bytes | None = None,
        rounding: str | None = None,
        backend: str = "auto",
        **experimental: Any,
    ) -> None:
        if unknown := experimental.keys() - IGNORED:
            raise TypeError(f"Interpreter.__init__() got an unexpected keyword argument {min(unknown)!r}")
        resolver = resolver_named(experimental_op_resolver_type)
        threads = _threads(num_threads)
        keep = bool(experimental_preserve_all_tensors)
        self._backend = backend
        self._path = model_path
        with raised_as(ValueError):
            check_backend(backend)
            if model_path and not model_content:
                opened = open_bytes(
                    model_path,
                    grant=grant,
                    identity=identity,
                    trust=trust,
                    state=state,
                    passphrase=passphrase,
                    operation=("debug", "load") if keep else "load",
                )
            else:
                opened = _plain(model_path, model_content, any(a is not None for a in (grant, trust, state)))
            graph = sound(read(opened.data))
            ignore_delegates(experimental_delegates)
            self._opened, self._graph = opened, graph
            self._options = Options(rounding_of(resolver, rounding), threads, keep, "debug" in opened.allowed)
            self._other: Any = None
            self._native: Native | None = None
            self._main: Runner | None = None
            try:
                self._native = Native(graph, get(), self._options)
                self._main = self._native.runner()
            except UnsupportedError as error:
                self._fall_back(error)
        self._keys = [s.key or "" for s in graph.signatures]

    # --- running ----------------------------------------------------------------------------------------------------------

    def allocate_tensors(self) -> None:
        """Make memory for the tensors in their shapes of now; needed before anything is set or run.

        Raises RuntimeError for shapes that the model cannot take, or while arrays of `tensor` are held.
        """
        if self._main is not None:
            with raised_as(RuntimeError):
                try:
                    self._main.allocate()
                except UnsupportedError as error:  # only the new shapes showed what is lacking
                    resized = self._main.resized
                    self._fall_back(error)
                    for i, shape in resized.items():
                        self._other.resize_tensor_input(i, shape)
        if self._native is None:
            self._other.allocate_tensors()

    def invoke(self) -> None:
        """Run the model on the inputs that are set.

        Raises RuntimeError before `allocate_tensors`, and while arrays of `tensor` are held.
        """
        if self._main is None:
            self._other.invoke()
        else:
            self._main.invoke()

    def reset_all_variables(self) -> None:
        """Set variable tensors (an LSTM's state) to what they were before the first run; resource variables stay."""
        if self._main is None:
            self._other.reset_all_variables()
        else:
            self._main.reset()

    # --- tensors ----------------------------------------------------------------------------------------------------------

    def set_tensor(self, tensor_index: int, value: Any) -> None:
        """Copy an array of the tensor's own type and shape into an input. Raises ValueError for any other."""
        if self._main is None:
            self._other.set_tensor(tensor_index, value)
        else:
            self._main.set(tensor_index, value)

    def get_tensor(self, tensor_index: int, subgraph_index: int = 0) -> Array:
        """A copy of a tensor's value: an input, an output, a constant, or with experimental_preserve_all_tensors any.

        Raises ValueError for a tensor that has no value (yet).
        """
        if self._native is None:
            found: Array = self._other.get_tensor(tensor_index, subgraph_index)
            return found
        runner = self._native.runner(subgraph_index) if subgraph_index else self._main
        assert runner is not None
        given: Array = runner.get(tensor_index)
        return given

    def tensor(self, tensor_index: int) -> Callable[[], Array]:
        """A function that gives an array over the memory of an input or output, to read and write without copies.

        Keep the function, not its arrays: while one is held, nothing is run, allocated or resized.
        """
        return lambda: self._view(tensor_index)

    def _view(self, i: int) -> Array:
        if self._main is None:
            found: Array = self._other.tensor(i)()
            return found
        return self._main.view(i)

    def resize_tensor_input(self, input_index: int, tensor_size: Sequence[int], strict: bool = False) -> None:
        """Give an input another shape; `allocate_tensors` makes it so. `strict` allows it only where the shape signature is −1.

        Raises ValueError for what is no list of sizes, RuntimeError for a tensor or size that cannot be resized.
        """
        if self._main is None:
            self._other.resize_tensor_input(input_index, tensor_size, strict)
        else:
            self._main.resize(input_index, tensor_size, strict)

    # --- details ----------------------------------------------------------------------------------------------------------

    def get_input_details(self) -> list[dict[str, Any]]:
        """Details of every input: name, index, shape, shape_signature, dtype, quantization, and their parameters."""
        return [self._get_tensor_details(i, 0) for i in self._graph.inputs]

    def get_output_details(self) -> list[dict[str, Any]]:
        """Details of every output, as those of the inputs."""
        return [self._get_tensor_details(i, 0) for i in self._graph.outputs]

    def get_tensor_details(self, subgraph_index: int = 0) -> list[dict[str, Any]]:
        """Details of every tensor of the file; temporary tensors that a runtime adds are not among them."""
        if not 0 <= subgraph_index < self.num_subgraphs():
            raise ArgumentError(
                f"subgraph_index is out of range: {subgraph_index} for the model, which has {self.num_subgraphs()} subgraphs."
            )
        count = len(self._graph.subgraphs[subgraph_index].tensors)
        return [self._get_tensor_details(i, subgraph_index) for i in range(count)]

    def num_subgraphs(self) -> int:
        """How many subgraphs the model has."""
        return len(self._graph.subgraphs)

    def _get_tensor_details(self, tensor_index: int, subgraph_index: int = 0) -> dict[str, Any]:
        """Details of one tensor: apps call this, though it was never public."""
        if self._native is None:
            found: dict[str, Any] = self._other._get_tensor_details(tensor_index, subgraph_index)
            return found
        return self._native.runner(subgraph_index).describe(tensor_index)

    def _get_ops_details(self) -> list[dict[str, Any]]:
        """Index, name, tensors and types of every operation: apps call this, though it was never public."""
        details = self._get_tensor_details
        return [
            {
                "index": k,
                "op_name": op.custom_code or op.code,
                "inputs": np.array(op.inputs, np.int32),
                "outputs": np.array(op.outputs, np.int32),
                "operand_types": [details(i)["dtype"] for i in op.inputs if i >= 0],
                "result_types": [details(i)["dtype"] for i in op.outputs],
            }
            for k, op in enumerate(self._graph.ops)
        ]

    # --- signatures -------------------------------------------------------------------------------------------------------

    def get_signature_list(self) -> dict[str, dict[str, list[str]]]:
        """Signature key → the names of its inputs and outputs, sorted as the runtimes give them."""
        return {
            key: {side: sorted(names) for side, names in sides.items()}
            for key, sides in self._get_full_signature_list().items()
        }

    def _get_full_signature_list(self) -> dict[str, dict[str, dict[str, int]]]:
        """Signature key → names and tensor indices of its inputs and outputs."""
        return {s.key or "": {"inputs": dict(s.inputs), "outputs": dict(s.outputs)} for s in self._graph.signatures}

    def get_signature_runner(self, signature_key: str | None = None) -> Any:
        """A function of a signature's inputs by name; the key may be left out if there is one signature.

        Raises ValueError for a key that the model has not.
        """
        if signature_key is None:
            if len(self._keys) != 1:
                raise ArgumentError(
                    f"SignatureDef signature_key is None and model has {len(self._keys)} Signatures. "
                    "None is only allowed when the model has 1 SignatureDef"
                )
            signature_key = self._keys[0]
        if self._native is None:
            return self._other.get_signature_runner(signature_key)
        if signature_key not in self._keys:
            raise ArgumentError(f'Invalid signature_key provided: "{signature_key}".')
        return SignatureRunner(self._native, self._graph.signatures[self._keys.index(signature_key)])

    # --- another runtime --------------------------------------------------------------------------------------------------

    def _fall_back(self, error: UnsupportedError) -> None:
        """Hand the model to another runtime, if one may and can run it."""
        options = self._options
        lists = [fallback.lacking(promoted(self._graph, s), options.rounding) for s in entries(self._graph)]
        findings = [f for found in lists for f in found] or [fallback.because(error)]
        runtime = fallback.choose(findings, options.rounding, self._backend, "export" in self._opened.allowed)
        self._opened.export()
        try:
            self._other = runtime.interpreter(
                bytes(self._opened.data),
                options.rounding,
                options.threads,
                experimental_preserve_all_tensors=options.keep,
            )
        except (ValueError, RuntimeError) as refusal:
            raise fallback.refused(findings, runtime, refusal) from None
        self._native = self._main = None
        warnings.warn(f"{self._path or 'the model'}: {fallback.why(findings, runtime)}", FallbackWarning, stacklevel=3)


class InterpreterWithCustomOps(Interpreter):
    """TFLite's interpreter with C++ operations, which it takes as `custom_op_registerers`: edgeq has none to take them.

    Without any it is an Interpreter. Operations in Python or Numba are registered by edgeq.register_op.
    """

    def __init__(self, custom_op_registerers: Sequence[Any] | None = None, **options: Any) -> None:
        if custom_op_registerers:
            raise ArgumentError(
                "custom_op_registerers are TFLite's C++ operations, which edgeq cannot run: edgeq.register_op takes functions"
            )
        super().__init__(**options)


def _threads(given: Any) -> int:
    """The number of threads; TFLite takes int from 1 on and None for its default, which is one thread here."""
    if given is None:
        return 1
    if not isinstance(given, int):
        raise ArgumentError("type of num_threads should be int")
    if given < 1:
        raise ArgumentError("num_threads should >= 1")
    return int(given)


def _plain(path: PathLike | None, content: Any, guarded: bool) -> Opened:
    """The model that is given as bytes."""
    if path and content:
        raise ArgumentError("Can't both provide `model_path` and `model_content`")
    if not path and not content:
        raise ArgumentError("`model_path` or `model_content` must be specified.")
    if not isinstance(content, bytes | bytearray | memoryview):
        raise TypeError(f"model_content is {type(content).__name__}, bytes are expected")
    if guarded:
        raise UnsignedError(
            "model_content is a plain model, but trust, a grant or a state was given: bundles come by path"
        )
    return Opened(bytes(content))

"""Other runtimes, as calls to be timed: one inference each, input copied in and output copied out as edgeq's call does.

None is a dependency: each is imported when it is asked for. Each is called in the way that was measured to be its fastest from
Python: LiteRT's interpreter (its CompiledModel took 3 µs more a call), and OpenVINO's request with input and output tensors
that it owns (handing arrays over took 15 to 50 µs more).
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.errors import InputError
from edgeq.timing import SEED, random_input

Array = npt.NDArray[Any]
Call = Callable[[], list[Array]]

DISTRIBUTIONS = {
    "litert": "ai-edge-litert",
    "tflite": "tflite-runtime",
    "openvino": "openvino",
    "onnxruntime": "onnxruntime",
}
"""What each runtime is called here → what it is installed as."""

ONNX_OPSET = "17"


def version(name: str) -> str:
    """The installed version of a runtime, or "" where there is none."""
    try:
        return metadata.version(DISTRIBUTIONS[name])
    except metadata.PackageNotFoundError:
        return ""


def call(name: str, data: bytes, threads: int = 1, *, onnx: Path | None = None) -> Call:
    """One inference on random input; the call returns the outputs, copied.

    name: a key of DISTRIBUTIONS. data: the .tflite file. onnx: the folder where models converted for onnxruntime are kept, by
    default none is. Raises InputError when the runtime is not installed or cannot run the model.
    """
    try:
        if name == "openvino":
            return _openvino(data, threads)
        if name == "onnxruntime":
            return _onnxruntime(data, threads, onnx)
        return _interpreter(name, data, threads)
    except ImportError as error:
        raise InputError(f"{name} cannot be imported ({error}): pip install {DISTRIBUTIONS[name]}") from None
    except (RuntimeError, ValueError) as error:
        lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        raise InputError(f"{name} cannot run this model: {lines[0]}") from None


def _interpreter(name: str, data: bytes, threads: int) -> Call:
    """LiteRT with its default delegate, or tflite-runtime: both have the same interpreter."""
    if name == "litert":
        from ai_edge_litert.interpreter import Interpreter
    else:
        from tflite_runtime.interpreter import Interpreter
    interpreter = Interpreter(model_content=data, num_threads=threads)
    interpreter.allocate_tensors()
    rng = np.random.default_rng(SEED)
    inputs = [
        (detail["index"], random_input(tuple(map(int, detail["shape"])), detail["dtype"], rng))
        for detail in interpreter.get_input_details()
    ]
    outputs = [detail["index"] for detail in interpreter.get_output_details()]

    def run() -> list[Array]:
        for index, value in inputs:
            interpreter.set_tensor(index, value)
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in outputs]

    return run


def _openvino(data: bytes, threads: int) -> Call:
    """OpenVINO on the CPU through its TFLite frontend, set up for the latency of one request."""
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        path.write_bytes(data)
        model = openvino.Core().read_model(path)
        if model.is_dynamic():
            model.reshape({port: _fixed(port.partial_shape) for port in model.inputs})
        options = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
        compiled = openvino.Core().compile_model(model, "CPU", options)
    request = compiled.create_infer_request()
    rng = np.random.default_rng(SEED)
    ours = [random_input(tuple(port.shape), port.element_type.to_dtype(), rng) for port in compiled.inputs]
    theirs = [request.get_input_tensor(i).data for i in range(len(ours))]

    def run() -> list[Array]:
        for target, value in zip(theirs, ours, strict=True):
            target[...] = value
        request.infer()
        return [request.get_output_tensor(i).data.copy() for i in range(len(compiled.outputs))]

    return run


def _fixed(shape: Any) -> list[int]:
    """A shape with every open dimension set to 1."""
    return [1 if d.is_dynamic else d.get_length() for d in shape]


def _onnxruntime(data: bytes, threads: int, folder: Path | None) -> Call:
    """ONNX Runtime on the CPU, on what tf2onnx makes of the model."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    content = to_onnx(data, folder)
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no common base but this
        raise InputError(f"onnxruntime cannot run this model: {str(error).splitlines()[0]}") from None
    rng = np.random.default_rng(SEED)
    kinds = {"tensor(int8)": "int8", "tensor(uint8)": "uint8", "tensor(int16)": "int16", "tensor(float)": "float32"}
    inputs = {}
    for port in session.get_inputs():
        if port.type not in kinds:
            raise InputError(f"onnxruntime: input {port.name!r} is {port.type}, one of {', '.join(kinds)} is expected")
        shape = tuple(d if isinstance(d, int) else 1 for d in port.shape)
        inputs[port.name] = random_input(shape, kinds[port.type], rng)
    return lambda: session.run(None, inputs)


def to_onnx(data: bytes, folder: Path | None = None) -> bytes:
    """The model as ONNX, made by tf2onnx in a process of its own (it brings TensorFlow along); kept in `folder`."""
    kept = folder / f"{hashlib.sha256(data).hexdigest()[:32]}.onnx" if folder is not None else None
    if kept is not None and kept.exists():
        return kept.read_bytes()
    with tempfile.TemporaryDirectory() as name:
        source, target = Path(name) / "model.tflite", Path(name) / "model.onnx"
        source.write_bytes(data)
        arguments = ["--tflite", str(source), "--output", str(target), "--opset", ONNX_OPSET]
        done = subprocess.run(
            [sys.executable, "-m", "tf2onnx.convert", *arguments],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )
        if done.returncode or not target.exists():
            lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no message"]
            raise InputError(f"tf2onnx cannot convert this model: {lines[-1]}")
        content = target.read_bytes()
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(content)
    return content

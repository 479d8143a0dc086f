"""What ai-edge-quantizer makes of a model, in the Python of an environment that has it.

Not every algorithm takes every operation: of version 0.10 GPTQ and OSCAR leave convolutions in float without a word. A form
counts as int8 if none of its layers is left so.
"""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.graph import Graph, Signature
from edgeq.tflite import write

Array = npt.NDArray[Any]

ALGORITHMS = ("MIN_MAX_UNIFORM_QUANT", "MSE", "OCTAV", "GPTQ", "OSCAR")
"""ai-edge-quantizer's, for weights; activations it takes from the extremes."""

PEER = """
import sys
import numpy as np
from ai_edge_quantizer import algorithm_manager, qtyping, quantizer, recipe, recipe_manager
model, samples, out, algorithm, granularity = sys.argv[1:]
chosen = recipe.static_wi8_ai8(algorithm_manager.AlgorithmName[algorithm])
if granularity != "CHANNELWISE":
    codes = qtyping.TensorQuantizationConfig
    config = qtyping.OpQuantizationConfig(
        activation_tensor_config=codes(num_bits=8, symmetric=False),
        weight_tensor_config=codes(num_bits=8, symmetric=True, granularity=qtyping.QuantGranularity[granularity]),
        compute_precision=qtyping.ComputePrecision.INTEGER,
    )
    everywhere = recipe_manager.RecipeManager()
    everywhere.add_quantization_config(
        regex=".*", operation_name=qtyping.TFLOperationName.ALL_SUPPORTED, op_config=config,
        algorithm_key=algorithm_manager.AlgorithmName[algorithm],
    )
    chosen = everywhere.get_quantization_recipe()
q = quantizer.Quantizer(float_model=model)
q.load_quantization_recipe(recipe=chosen)
x = np.load(samples)
result = q.calibrate({"serving_default": [{"x": row[None]} for row in x]})
q.quantize(result).export_model(out)
"""


def peer_model(
    python: str, graph: Graph, calibration: Array, algorithm: str, granularity: str = "CHANNELWISE"
) -> bytes | str:
    """ai-edge-quantizer's static int8 form, or its last word. It wants a signature, so the model gets one. granularity:
    CHANNELWISE or TENSORWISE, of weights' scales."""
    names = Signature("serving_default", 0, (("x", graph.inputs[0]),), (("y", graph.outputs[0]),))
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        (at / "model.tflite").write_bytes(write(replace(graph, signatures=(names,))))
        np.save(at / "x.npy", calibration.reshape(-1, *graph.tensors[graph.inputs[0]].shape[1:]))
        files = [str(at / name) for name in ("model.tflite", "x.npy", "out.tflite")]
        command = [python, "-c", PEER, *files, algorithm, granularity]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return (done.stderr.strip().splitlines() or ["no word"])[-1]
        return (at / "out.tflite").read_bytes()


LAYERS = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED")


def left_in_float(graph: Graph) -> int:
    """How many layers write floats."""
    return sum(op.code in LAYERS and graph.tensors[op.outputs[0]].dtype == "float32" for op in graph.ops)

"""What the rounding of one layer does to the outputs, all others being float.

A layer's own error, under the Hessian of its inputs, says how far its sums are off, and not what becomes of that: a RELU6 hides
what lies beyond it, and the layers after it need some channels more than others. So where there is little to choose from, it is
measured (sensitivity as in Dong et al., "HAWQ", ICCV 2019, measured and not estimated).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.graph import Graph
from edgeq.quantize.bias import mean_shift
from edgeq.quantize.compare import Judge
from edgeq.quantize.rules import RULES
from edgeq.quantize.weights import Coded
from edgeq.records import replace

Array = npt.NDArray[Any]


def alone(graph: Graph, n: int, coded: Coded, means: Mapping[int, Array], judge: Judge) -> float:
    """Noise per signal at the outputs of the float graph, layer n alone having these weights, and its bias corrected.

    means: as edgeq.quantize.bias.mean_inputs gives them; a layer that is not among them keeps its bias.
    """
    return weights_alone(graph, {n: coded}, means, judge)


def weights_alone(graph: Graph, codes: Mapping[int, Coded], means: Mapping[int, Array], judge: Judge) -> float:
    """The same with several layers' weights, all values between them being float."""
    tensors, ops = list(graph.tensors), list(graph.ops)
    for n, coded in codes.items():
        op = graph.ops[n]
        rule = RULES[op.code]
        assert rule.weights is not None
        w = graph.tensors[op.inputs[rule.weights]]
        shape = [1] * len(w.shape)
        shape[coded.axis] = -1
        real = coded.data * coded.scale.reshape(shape).astype(np.float64)
        tensors.append(replace(w, data=real.astype(np.float32), buffer=0))
        inputs = list(op.inputs)
        inputs[rule.weights] = len(tensors) - 1
        if n in means and rule.bias is not None and rule.bias < len(inputs) and inputs[rule.bias] >= 0:
            b = graph.tensors[inputs[rule.bias]]
            bias = np.asarray(b.data) - mean_shift(op.code, real - np.asarray(w.data), means[n]).reshape(b.shape)
            tensors.append(replace(b, data=bias.astype(np.float32), buffer=0))
            inputs[rule.bias] = len(tensors) - 1
        ops[n] = replace(op, inputs=tuple(inputs))
    other: Graph = graph.with_main(tensors=tuple(tensors), ops=tuple(ops))
    return judge.error(other, {i: i for i in judge.targets})

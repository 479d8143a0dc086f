"""Small float models for the quantizer, each named for what it asks of it, and the runtimes to hold its work against."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from engine_models import samples

from edgeq.engine import Tracer
from edgeq.feed import encode, quantmod_of
from edgeq.graph import Graph, Op, Quantization, Signature, SubGraph, Tensor
from edgeq.tflite import write
from edgeq.tflite.schema import table

Array = Any


class Net:
    """A float graph as it is written down: each method adds an operation and returns its output's index."""

    def __init__(self, *shapes: tuple[int, ...], seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.tensors = [Tensor(f"x{i}", s, "float32") for i, s in enumerate(shapes)]
        self.inputs = tuple(range(len(shapes)))
        self.ops: list[Op] = []

    def const(self, value: Any, name: str = "c") -> int:
        value = np.asarray(value)
        self.tensors.append(Tensor(f"{name}{len(self.tensors)}", value.shape, value.dtype.name, value))
        return len(self.tensors) - 1

    def op(self, code: str, inputs: Sequence[int], shape: tuple[int, ...], options: Any = None) -> int:
        self.tensors.append(Tensor(f"{code.lower()}{len(self.tensors)}", shape, "float32"))
        self.ops.append(Op(code, tuple(inputs), (len(self.tensors) - 1,), options))
        return len(self.tensors) - 1

    def weights(self, *shape: int, scale: float = 0.3) -> int:
        return self.const(self.rng.normal(0, scale, shape).astype(np.float32), "w")

    def bias(self, n: int) -> int:
        return self.const(self.rng.normal(0, 0.3, n).astype(np.float32), "b")

    def conv(self, x: int, out: int, k: int = 3, stride: int = 1, act: int = 0, w: int = -1, b: int = -1) -> int:
        n, h, width, c = self.tensors[x].shape
        w = self.weights(out, k, k, c) if w < 0 else w
        b = self.bias(out) if b < 0 else b
        options = table("Conv2DOptions", stride_h=stride, stride_w=stride, fused_activation_function=act)
        return self.op("CONV_2D", (x, w, b), (n, -(-h // stride), -(-width // stride), out), options)

    def depthwise(self, x: int, act: int = 0) -> int:
        shape = self.tensors[x].shape
        c = shape[3]
        options = table(
            "DepthwiseConv2DOptions", stride_h=1, stride_w=1, depth_multiplier=1, fused_activation_function=act
        )
        return self.op("DEPTHWISE_CONV_2D", (x, self.weights(1, 3, 3, c), self.bias(c)), shape, options)

    def dense(self, x: int, out: int, act: int = 0, w: int = -1, b: int = -1) -> int:
        n, k = self.tensors[x].shape
        w = self.weights(out, k) if w < 0 else w
        b = self.bias(out) if b < 0 else b
        return self.op(
            "FULLY_CONNECTED", (x, w, b), (n, out), table("FullyConnectedOptions", fused_activation_function=act)
        )

    def add(self, a: int, b: int, act: int = 0) -> int:
        shape = np.broadcast_shapes(self.tensors[a].shape, self.tensors[b].shape)
        return self.op("ADD", (a, b), shape, table("AddOptions", fused_activation_function=act))

    def global_pool(self, x: int) -> int:
        n, h, w, c = self.tensors[x].shape
        options = table("Pool2DOptions", padding=1, stride_h=1, stride_w=1, filter_height=h, filter_width=w)
        return self.op("AVERAGE_POOL_2D", (x,), (n, 1, 1, c), options)

    def reshape(self, x: int, *shape: int) -> int:
        new = self.const(np.array(shape, np.int32), "shape")
        return self.op("RESHAPE", (x, new), shape, table("ReshapeOptions", new_shape=shape))

    def concat(self, *xs: int) -> int:
        shape = (*self.tensors[xs[0]].shape[:-1], sum(self.tensors[x].shape[-1] for x in xs))
        return self.op("CONCATENATION", xs, shape, table("ConcatenationOptions", axis=len(shape) - 1))

    def softmax(self, x: int) -> int:
        return self.op("SOFTMAX", (x,), self.tensors[x].shape, table("SoftmaxOptions", beta=1.0))

    def logistic(self, x: int) -> int:
        return self.op("LOGISTIC", (x,), self.tensors[x].shape)

    def sine(self, x: int) -> int:
        return self.op("SIN", (x,), self.tensors[x].shape)

    def relu(self, x: int) -> int:
        return self.op("RELU", (x,), self.tensors[x].shape)

    def graph(self, *outputs: int) -> Graph:
        return Graph((SubGraph(tuple(self.tensors), tuple(self.ops), self.inputs, outputs, "main"),))


def classifier(batch: int = 1) -> Graph:
    """[batch, 8, 8, 3] → conv, depthwise, residual ADD, pool, dense → softmax [batch, 5]."""
    net = Net((batch, 8, 8, 3))
    a = net.conv(0, 8, act=1)
    b = net.conv(net.depthwise(a, act=3), 8, k=1)
    pooled = net.global_pool(net.add(a, b, act=1))
    return net.graph(net.softmax(net.dense(net.reshape(pooled, batch, 8), 5)))


def two_inputs() -> Graph:
    """[1, 6] and [1, 4, 4, 2], concatenated after a layer each, with names from a signature → [1, 3] and [1, 8]."""
    net = Net((1, 6), (1, 4, 4, 2))
    left = net.dense(0, 8, act=1)
    right = net.dense(net.reshape(net.conv(1, 2), 1, 32), 8)
    both = net.concat(left, right)
    graph = net.graph(net.dense(both, 3), left)
    names = ((("vector", 0), ("image", 1)), (("scores", graph.outputs[0]), ("hidden", graph.outputs[1])))
    return replace(graph, signatures=(Signature("serving_default", 0, *names),))


def float_island() -> Graph:
    """SIN in the middle of dense layers, and at an output: it has no integer form."""
    net = Net((1, 10))
    a = net.dense(0, 12)
    gate = net.sine(a)
    b = net.dense(gate, 12)
    return net.graph(net.sine(b), net.dense(net.add(gate, b), 4))


def only_moved() -> Graph:
    """What a SIN gives is reshaped before and after a dense layer reads it."""
    net = Net((1, 4, 4))
    flat = net.reshape(net.sine(0), 1, 16)
    return net.graph(net.dense(flat, 3), flat)


def half_weights() -> Graph:
    """float16 weights and bias behind DEQUANTIZE, as converters store them."""
    net = Net((1, 7))
    w = net.const(net.rng.normal(0, 0.3, (5, 7)).astype(np.float16))
    b = net.const(net.rng.normal(0, 0.3, 5).astype(np.float16))
    wide = [net.op("DEQUANTIZE", (i,), net.tensors[i].shape) for i in (w, b)]
    return net.graph(net.dense(0, 5, act=1, w=wide[0], b=wide[1]))


def dynamic_range() -> Graph:
    """int8 weights between float activations."""
    net = Net((1, 7))
    w = net.const(net.rng.integers(-127, 128, (5, 7)).astype(np.int8))
    scale = np.linspace(0.001, 0.01, 5).astype(np.float32)
    net.tensors[w] = replace(net.tensors[w], quantization=Quantization(scale, np.zeros(5, np.int64)))
    return net.graph(net.dense(0, 5, act=1, w=w))


def shared() -> Graph:
    """Two dense layers with the same weights and the same bias, at inputs of other scales."""
    net = Net((1, 6))
    w, b = net.weights(6, 6), net.bias(6)
    return net.graph(net.dense(net.dense(0, 6, act=1, w=w, b=b), 6, w=w, b=b))


def loose_relu() -> Graph:
    """RELU as an operation of its own behind a convolution, and one behind a tensor that others read too."""
    net = Net((1, 6, 6, 2))
    a = net.relu(net.conv(0, 4))
    b = net.conv(a, 4)
    return net.graph(net.add(net.relu(b), b))


def constant_operands() -> Graph:
    """A constant that is added, one that is multiplied, one that is concatenated."""
    net = Net((1, 5))
    a = net.add(0, net.const(np.linspace(-1, 3, 5).astype(np.float32)))
    m = net.op("MUL", (a, net.const(np.float32([[0.5, -2, 0, 1, 4]]))), (1, 5), table("MulOptions"))
    return net.graph(net.concat(m, net.const(np.float32([[9.0, -1.0]]))))


def softmax_joined() -> Graph:
    """Softmax scores concatenated with values far outside of [0, 1]."""
    net = Net((1, 6))
    a = net.dense(0, 4)
    return net.graph(net.concat(net.softmax(a), net.dense(0, 4)), a)


def unused_channels() -> Graph:
    """A channel of zero weights, one of tiny weights beside a large bias, an output that is always zero."""
    net = Net((1, 8))
    w = net.rng.normal(0, 0.3, (6, 8)).astype(np.float32)
    w[0], w[1] = 0.0, w[1] * 1e-12
    b = np.float32([0.75, 3.0, 0.1, -0.2, 0.0, 0.3])
    a = net.dense(0, 6, w=net.const(w), b=net.const(b))
    never = net.dense(0, 2, act=1, w=net.const(np.full((2, 8), 1e-3, np.float32)), b=net.const(np.float32([-9, -9])))
    return net.graph(a, never)


MODELS: dict[str, Callable[[], Graph]] = {
    "classifier": classifier,
    "batch of two": lambda: classifier(2),
    "two inputs, two outputs, a signature": two_inputs,
    "an operation without an integer form": float_island,
    "moves between floats": only_moved,
    "float16 weights": half_weights,
    "dynamic range": dynamic_range,
    "shared weights and bias": shared,
    "RELU apart": loose_relu,
    "constant operands": constant_operands,
    "softmax joined with others": softmax_joined,
    "unused channels": unused_channels,
}


def inputs_of(graph: Graph, n: int = 24, seed: int = 1) -> list[tuple[Array, ...]]:
    """Normally distributed inputs."""
    rng = np.random.default_rng(seed)
    return [tuple(samples(graph.tensors[i], rng) for i in graph.inputs) for _ in range(n)]


def answers(graph: Graph, inputs: Sequence[tuple[Array, ...]], rounding: str = "xnnpack") -> list[list[Array]]:
    """The outputs as real numbers on edgeq's engine, by input."""
    run = Tracer(graph, rounding).run
    out = []
    for x in inputs:
        values = run(encode(graph, x))
        out.append([_real(graph.tensors[i], np.array(values[i])) for i in graph.outputs])
    return out


def runtimes() -> list[str]:
    """The runtimes that are installed."""
    found = []
    for module, names in (
        ("tflite_runtime", ("tflite-runtime REF", "tflite-runtime")),
        ("ai_edge_litert", ("LiteRT REF", "LiteRT")),
    ):
        try:
            __import__(f"{module}.interpreter")
        except ImportError:
            continue
        found += names
    return found


def peer_answers(graph: Graph, inputs: Sequence[tuple[Array, ...]], runtime: str) -> list[list[Array]]:
    """The outputs as real numbers in one of `runtimes()`."""
    if runtime.startswith("tflite-runtime"):
        interpreter = pytest.importorskip("tflite_runtime.interpreter")
    else:
        interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    resolver = interpreter.OpResolverType
    kind = resolver.BUILTIN_REF if runtime.endswith("REF") else resolver.AUTO
    run = interpreter.Interpreter(model_content=bytes(write(graph)), experimental_op_resolver_type=kind, num_threads=1)
    run.allocate_tensors()
    by_name = {d["index"]: d for d in run.get_input_details()}
    out = []
    for x in inputs:
        for i, a in zip(graph.inputs, encode(graph, x), strict=True):
            run.set_tensor(by_name[i]["index"], a)
        run.invoke()
        out.append([_real(graph.tensors[i], run.get_tensor(i)) for i in graph.outputs])
    return out


def sqnr(wanted: Sequence[Sequence[Array]], found: Sequence[Sequence[Array]]) -> Iterator[float]:
    """dB of each output over all inputs."""
    for a, b in zip(zip(*wanted, strict=True), zip(*found, strict=True), strict=True):
        x, y = (np.concatenate([v.astype(np.float64).reshape(-1) for v in s]) for s in (a, b))
        noise = float(((x - y) ** 2).sum())
        yield 200.0 if noise == 0 else 10 * np.log10(max(float((x**2).sum()), 1e-300) / noise)


def _real(t: Tensor, values: Array) -> Array:
    q = quantmod_of(t)
    return values if q is None else q.dequantize(values)

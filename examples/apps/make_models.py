"""Models and inputs for the apps of this folder: `python examples/apps/make_models.py FOLDER`.

Small, but of the kinds that apps meet: the demo's digits, quantized; a wake word ("a rising tone, twice") as a window model and
as a streaming model with its state outside; key points as heatmaps and offsets, PoseNet's way. All data is made here from a
fixed seed. Nothing is trained by descent: the wake word's last layer is solved in closed form over fixed filters (a ridge
regression), and the pose network's filters look for colours.
"""

from __future__ import annotations

import sys
import wave
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parent))
from wake_word import BINS, FRAME, HOP, RATE, frames

from edgeq import demo
from edgeq.graph import Activation, Graph, Op, Padding, SubGraph, Table, Tensor
from edgeq.quantize.run import quantize
from edgeq.recipe import recipe
from edgeq.samples import Samples
from edgeq.tflite import read, write
from edgeq.tflite.schema import table

Array = npt.NDArray[Any]
FRAMES = 30
CLASSES = ("wake word", "other", "silence")
POINTS, SIZE, CELLS = 17, 48, 12


class Network:
    """A float32 graph under construction, one operation behind the other."""

    def __init__(self, name: str, shape: tuple[int, ...]) -> None:
        self.tensors = [Tensor(name, shape, "float32")]
        self.ops: list[Op] = []

    def constant(self, name: str, values: Array) -> int:
        """A constant tensor; its index."""
        self.tensors.append(Tensor(name, values.shape, values.dtype.name, values))
        return len(self.tensors) - 1

    def add(self, code: str, name: str, inputs: tuple[int, ...], shape: tuple[int, ...], options: Table | None) -> int:
        """An operation and its output; the output\'s index."""
        self.tensors.append(Tensor(name, shape, "float32"))
        self.ops.append(Op(code, inputs, (len(self.tensors) - 1,), options))
        return len(self.tensors) - 1

    def conv(self, x: int, name: str, w: Array, b: Array, strides: tuple[int, int] = (1, 1), relu: bool = True) -> int:
        """A convolution with SAME padding: w (out_c, kh, kw, in_c), b (out_c,)."""
        _, h, width, _ = self.tensors[x].shape
        options = table(
            "Conv2DOptions",
            padding=Padding.SAME,
            stride_h=strides[0],
            stride_w=strides[1],
            fused_activation_function=Activation.RELU if relu else Activation.NONE,
        )
        shape = (1, -(-h // strides[0]), -(-width // strides[1]), len(w))
        inputs = (x, self.constant(f"{name}/w", w.astype(np.float32)), self.constant(f"{name}/b", b.astype(np.float32)))
        return self.add("CONV_2D", name, inputs, shape, options)

    def graph(self, outputs: tuple[int, ...], description: str) -> Graph:
        """The network with these outputs."""
        return Graph((SubGraph(tuple(self.tensors), tuple(self.ops), (0,), outputs, "main"),), description)


def int8(graph: Graph, samples: Array) -> Graph:
    """Quantized with these samples."""
    return quantize(graph, samples, recipe("int8")).graph


# --- digits -----------------------------------------------------------------------------------------------------------


def digits(folder: Path) -> None:
    """The demo's network in float and int8, a held-out image of every digit with 32×32 pixels, and labels."""
    (folder / "digits_int8.tflite").write_bytes(
        write(int8(read(demo.MODEL.read_bytes()), Samples(str(demo.CALIBRATION))["x"]))
    )
    (folder / "digits_float.tflite").write_bytes(demo.MODEL.read_bytes())
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    (folder / "digits.txt").write_text("".join(f"{name}\n" for name in names))
    held_out = Samples(str(demo.HELD_OUT))
    for digit in range(10):
        k = int(np.argmax(np.asarray(held_out["y"]) == digit))
        image = np.kron(np.asarray(held_out["x"][k, ..., 0]) * 255, np.ones((4, 4)))
        np.save(folder / f"digit-{digit}.npy", image.astype(np.uint8))


# --- the wake word ----------------------------------------------------------------------------------------------------


def sound(kind: int, rng: np.random.Generator, seconds: float = 0.62) -> Array:
    """Audio of a class as float64 in 16-bit units: two rising tones; falling tones, steady tones or noise; silence."""
    n = int(seconds * RATE)
    t = np.arange(n) / RATE
    background = rng.normal(0, rng.uniform(20, 120), n)
    if kind == 2:
        return background
    if kind == 1 and rng.random() < 0.3:
        return background + rng.normal(0, rng.uniform(500, 4000), n)
    low, high = rng.uniform(350, 550), rng.uniform(1500, 2200)
    half = np.modf(2 * t / seconds)[0]
    sweep = {0: half, 1: 1 - half if rng.random() < 0.6 else np.full(n, rng.random())}[kind]
    phase = 2 * np.pi * np.cumsum(low * (high / low) ** sweep) / RATE
    return background + rng.uniform(2000, 9000) * np.sin(phase) * np.minimum(1, 20 * np.minimum(half, 1 - half))


def window(kind: int, rng: np.random.Generator) -> Array:
    """(1, FRAMES, 1, BINS): what a model sees of a sound."""
    audio = sound(kind, rng, (FRAME + (FRAMES - 1) * HOP) / RATE)
    return frames(audio, BINS)[None, :FRAMES, None]


def wake_word(folder: Path) -> None:
    """wake_window.tflite, the same with its window outside and in a variable, and a recording with two wake words."""
    rng = np.random.default_rng(7)
    kinds = np.arange(360) % 3
    x = np.concatenate([window(int(k), rng) for k in kinds])
    net = Network("window", (1, FRAMES, 1, BINS))
    filters = rng.normal(0, 1 / np.sqrt(3 * BINS), (24, 3, 1, BINS))
    hidden = net.conv(0, "conv", filters, rng.normal(0, 0.1, 24), strides=(2, 1))
    columns = net.tensors[hidden].shape[1] * 24
    flat_shape = net.constant("flat/shape", np.array([1, columns], np.int32))
    flat = net.add(
        "RESHAPE", "flat", (hidden, flat_shape), (1, columns), table("ReshapeOptions", new_shape=(1, columns))
    )
    features = _features(net, hidden, x)
    target = 6.0 * (np.eye(3)[kinds] - 1 / 3)
    bias = features.mean(0)
    centred = features - bias
    w = np.linalg.solve(centred.T @ centred + 0.3 * np.eye(columns), centred.T @ target).T
    dense = (
        net.constant("dense/w", w.astype(np.float32)),
        net.constant("dense/b", (target.mean(0) - w @ bias).astype(np.float32)),
    )
    logits = net.add("FULLY_CONNECTED", "logits", (flat, *dense), (1, 3), table("FullyConnectedOptions"))
    scores = net.add("SOFTMAX", "scores", (logits,), (1, 3), table("SoftmaxOptions", beta=1.0))
    graph = int8(net.graph((scores,), "two rising tones"), x[:120])
    (folder / "wake_window.tflite").write_bytes(write(graph))
    (folder / "wake_streaming.tflite").write_bytes(write(streaming(graph)))
    (folder / "wake_stateful.tflite").write_bytes(write(stateful(graph)))
    parts = [sound(k, rng) for k in (2, 2, 0, 2, 1, 2, 1, 0, 2, 2)]
    with wave.open(str(folder / "recording.wav"), "wb") as f:
        f.setnchannels(1)
        f.setsampwidth(2)
        f.setframerate(RATE)
        f.writeframes(np.clip(np.round(np.concatenate(parts)), -32768, 32767).astype("<i2").tobytes())


def _features(net: Network, output: int, x: Array) -> Array:
    """(n, …) float64: what the network so far makes of the samples."""
    from edgeq.engine import build

    with build(net.graph((output,), "")) as model:
        return np.asarray(model(x)).reshape(len(x), -1).astype(np.float64)


def streaming(graph: Graph) -> Graph:
    """The window model with a frame and the frames before as inputs, and the frames to remember as an output."""
    g, n = graph.main, len(graph.tensors)
    tensors, ops = _sliding(graph)
    main = replace(g, tensors=tensors, ops=(*ops, *g.ops), inputs=(n, n + 1), outputs=(*g.outputs, n + 2))
    return replace(graph, subgraphs=(main,), signatures=())


def stateful(graph: Graph) -> Graph:
    """The window model with a frame as its input, and the frames before in a resource variable, zero at first."""
    g, n = graph.main, len(graph.tensors)
    tensors, slide = _sliding(graph)
    handle, variable = len(tensors), table("VarHandleOptions", container="", shared_name="frames")
    ops = (
        Op("CALL_ONCE", (), (), table("CallOnceOptions", init_subgraph_index=1)),
        Op("VAR_HANDLE", (), (handle,), variable),
        Op("READ_VARIABLE", (handle,), (n + 1,), table("ReadVariableOptions")),
        *slide,
        Op("ASSIGN_VARIABLE", (handle, n + 2), (), table("AssignVariableOptions")),
        *g.ops,
    )
    main = replace(g, tensors=(*tensors, Tensor("frames", (), "resource")), ops=ops, inputs=(n,))
    state = tensors[n + 1]
    assert state.quantization is not None
    zeros = np.full(state.shape, state.quantization.zero_point[0], np.int8)
    first = SubGraph(
        (Tensor("frames", (), "resource"), replace(state, name="zeros", data=zeros)),
        (Op("VAR_HANDLE", (), (0,), variable), Op("ASSIGN_VARIABLE", (0, 1), (), table("AssignVariableOptions"))),
        (),
        (),
        "first",
    )
    return replace(graph, subgraphs=(main, first), signatures=())


def _sliding(graph: Graph) -> tuple[tuple[Tensor, ...], tuple[Op, ...]]:
    """Tensors frame, state and state/next behind the graph's n own, and what makes its input and the last of the first two."""
    (x,), n = graph.inputs, len(graph.tensors)
    q = graph.tensors[x].quantization
    vectors = [np.array(v, np.int32) for v in ([0, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1])]
    tensors = (
        *graph.tensors,
        Tensor("frame", (1, 1, 1, BINS), "int8", quantization=q),
        Tensor("state", (1, FRAMES - 1, 1, BINS), "int8", quantization=q),
        Tensor("state/next", (1, FRAMES - 1, 1, BINS), "int8", quantization=q),
        *(Tensor(f"slice/{m}", (4,), "int32", v) for m, v in zip(("begin", "end", "strides"), vectors, strict=True)),
    )
    ops = (
        Op("CONCATENATION", (n + 1, n), (x,), table("ConcatenationOptions", axis=1), version=2),
        Op("STRIDED_SLICE", (x, n + 3, n + 4, n + 5), (n + 2,), table("StridedSliceOptions", end_mask=15), version=2),
    )
    return tensors, ops


# --- the pose ---------------------------------------------------------------------------------------------------------


def colours() -> Array:
    """(POINTS, 3): corners and edges of the cube of colours, all as far from grey, so that each is the most like itself."""
    grid = np.array([(r, g, b) for r in (-1, 0, 1) for g in (-1, 0, 1) for b in (-1, 0, 1)], np.float64)
    length = np.linalg.norm(grid, axis=1)
    return (grid[length > 1] / length[length > 1, None])[:POINTS]


def figure(rng: np.random.Generator) -> tuple[Array, Array]:
    """A grey image (SIZE, SIZE, 3) uint8 with a patch of 4×4 pixels of every point's colour, and the cells (POINTS, 2)."""
    image = np.full((SIZE, SIZE, 3), 128.0) + rng.normal(0, 4, (SIZE, SIZE, 3))
    places = rng.permutation(CELLS * CELLS)[:POINTS]
    cells = np.stack([places // CELLS, places % CELLS], axis=1)
    for (y, x), colour in zip(cells, colours(), strict=True):
        image[4 * y : 4 * y + 4, 4 * x : 4 * x + 4] = 127.5 + 110 * colour
    return np.clip(np.round(image), 0, 255).astype(np.uint8), cells


def pose(folder: Path) -> None:
    """pose_int8.tflite: a stage that averages cells, one that matches colours; and three images with their points."""
    rng = np.random.default_rng(11)
    c = colours()
    net = Network("image", (1, SIZE, SIZE, 3))
    # Both signs of every channel, since a ReLU follows.
    mean = np.zeros((6, 4, 4, 3))
    for k in range(3):
        mean[k, ..., k], mean[k + 3, ..., k] = 1 / 16, -1 / 16
    cells = net.conv(0, "cells", mean, np.zeros(6), strides=(4, 4))
    match = np.concatenate([c, -c], axis=1).reshape(POINTS, 1, 1, 6)
    heat = net.conv(cells, "heatmaps", 8 * match, np.full(POINTS, -4.0), relu=False)
    jitter = rng.normal(0, 0.2, (2 * POINTS, 1, 1, 6))
    moved = net.conv(cells, "offsets", jitter, np.full(2 * POINTS, 2.0), relu=False)
    images = [figure(rng)[0] for _ in range(40)]
    x = np.stack(images).astype(np.float32) / np.float32(127.5) - 1
    (folder / "pose_int8.tflite").write_bytes(write(int8(net.graph((heat, moved), "coloured points"), x)))
    for k in range(3):
        image, at = figure(rng)
        np.save(folder / f"figure-{k}.npy", image)
        np.save(folder / f"figure-{k}-points.npy", at)


def main(folder: Path) -> None:
    """Write all of it."""
    folder.mkdir(parents=True, exist_ok=True)
    digits(folder)
    wake_word(folder)
    pose(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Train the small CNN that `edgeq demo` carries, and write it as a float .tflite file with its two sample files.

    python examples/train_digits.py [FOLDER]        (default: edgeq/demo; needs scikit-learn for the digits)

The network, on 8×8 grey images of handwritten digits in [0, 1]:

    conv 3×3, 16, relu → depthwise 3×3, relu → conv 1×1, 32, relu → average pool 2×2 → conv 3×3, 48, relu → fully
    connected, 10 → softmax

Everything is plain NumPy, in float64 from a fixed seed, so that two machines differ by rounding alone: the weights agree
to about 1e-6 after training, and the files that come with edgeq are what this script writes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.files import write_atomic
from edgeq.graph import Activation, Graph, Op, Padding, Signature, SubGraph, Table, Tensor
from edgeq.samples import write_npz
from edgeq.tflite import write

Array = npt.NDArray[Any]
Weights = dict[str, Array]

SEED = 20240229
EPOCHS = 20
BATCH = 32
RATE = 4e-3
HELD_OUT = 500
CALIBRATION = 100

SHAPES = {
    "conv1/w": (16, 3, 3, 1),  # (out_c, kh, kw, in_c), as TFLite stores a convolution
    "conv1/b": (16,),
    "depthwise/w": (1, 3, 3, 16),  # (1, kh, kw, c)
    "depthwise/b": (16,),
    "pointwise/w": (32, 1, 1, 16),
    "pointwise/b": (32,),
    "conv2/w": (48, 3, 3, 32),
    "conv2/b": (48,),
    "dense/w": (10, 768),  # (out, in)
    "dense/b": (10,),
}


@dataclass(frozen=True)
class Split:
    """Images (n, 8, 8, 1) float32 in [0, 1] and their labels (n,) uint8."""

    x: Array
    y: Array

    def __getitem__(self, rows: slice | Array) -> Split:
        return Split(self.x[rows], self.y[rows])


def digits() -> tuple[Split, Split]:
    """(training, held-out): scikit-learn's digits in an order fixed by the seed."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    whole = Split((pixels / 16).reshape(-1, 8, 8, 1).astype(np.float32), labels.astype(np.uint8))
    order = np.random.default_rng(SEED).permutation(len(whole.y))
    return whole[order[HELD_OUT:]], whole[order[:HELD_OUT]]


# --- layers: each forward returns its output and what the backward needs ----------------------------------------------


def windows(x: Array) -> Array:
    """The 3×3 neighbourhood of every pixel, zero outside: (n, h, w, c) → (n, h, w, 9, c)."""
    _, h, w, _ = x.shape
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return np.stack([padded[:, i : i + h, j : j + w] for i in range(3) for j in range(3)], axis=3)


def unwindows(g: Array) -> Array:
    """The gradient of `windows`: (n, h, w, 9, c) → (n, h, w, c)."""
    n, h, w, _, c = g.shape
    padded = np.zeros((n, h + 2, w + 2, c))
    for k in range(9):
        padded[:, k // 3 : k // 3 + h, k % 3 : k % 3 + w] += g[..., k, :]
    return padded[:, 1:-1, 1:-1]


def conv(x: Array, w: Array, b: Array) -> tuple[Array, Array]:
    """3×3 (same padding) or 1×1 convolution: (n, h, w, in_c) → (n, h, w, out_c)."""
    columns = (windows(x) if w.shape[1] == 3 else x[..., None, :]).reshape(*x.shape[:3], -1)
    return columns @ w.reshape(len(w), -1).T + b, columns


def conv_gradients(g: Array, columns: Array, w: Array) -> tuple[Array, Array, Array]:
    """Gradients of the input, weights and bias."""
    flat = g.reshape(-1, g.shape[-1])
    dw = (flat.T @ columns.reshape(len(flat), -1)).reshape(w.shape)
    dcolumns = (g @ w.reshape(len(w), -1)).reshape(*g.shape[:3], -1, w.shape[3])
    return unwindows(dcolumns) if w.shape[1] == 3 else dcolumns[..., 0, :], dw, flat.sum(0)


def forward(p: Weights, x: Array) -> tuple[Array, list[Array]]:
    """Logits (n, 10) of images (n, 8, 8, 1), and each layer's columns and activations for `gradients`."""
    a1, c1 = conv(x, p["conv1/w"], p["conv1/b"])
    a1 = np.maximum(a1, 0)
    c2 = windows(a1)
    a2 = np.maximum((c2 * p["depthwise/w"].reshape(9, -1)).sum(3) + p["depthwise/b"], 0)
    a3, c3 = conv(a2, p["pointwise/w"], p["pointwise/b"])
    a3 = np.maximum(a3, 0)
    n, h, w, c = a3.shape
    pooled = a3.reshape(n, h // 2, 2, w // 2, 2, c).mean((2, 4))
    a4, c4 = conv(pooled, p["conv2/w"], p["conv2/b"])
    a4 = np.maximum(a4, 0)
    flat = a4.reshape(n, -1)
    return flat @ p["dense/w"].T + p["dense/b"], [c1, a1, c2, a2, c3, a3, c4, a4, flat]


def gradients(p: Weights, seen: list[Array], g: Array) -> Weights:
    """Gradient of every weight, from the gradient (n, 10) of the logits."""
    c1, a1, c2, a2, c3, a3, c4, a4, flat = seen
    out: Weights = {"dense/w": g.T @ flat, "dense/b": g.sum(0)}
    g = (g @ p["dense/w"]).reshape(a4.shape) * (a4 > 0)
    g, out["conv2/w"], out["conv2/b"] = conv_gradients(g, c4, p["conv2/w"])
    g = g.repeat(2, 1).repeat(2, 2) / 4 * (a3 > 0)
    g, out["pointwise/w"], out["pointwise/b"] = conv_gradients(g, c3, p["pointwise/w"])
    g = g * (a2 > 0)
    out["depthwise/w"] = (c2 * g[..., None, :]).sum((0, 1, 2)).reshape(p["depthwise/w"].shape)
    out["depthwise/b"] = g.sum((0, 1, 2))
    g = unwindows(g[..., None, :] * p["depthwise/w"].reshape(9, -1)) * (a1 > 0)
    _, out["conv1/w"], out["conv1/b"] = conv_gradients(g, c1, p["conv1/w"])
    return out


def softmax(z: Array) -> Array:
    """Rows of `z` as probabilities."""
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


# --- training ---------------------------------------------------------------------------------------------------------


def initial(rng: np.random.Generator) -> Weights:
    """He's normal initialisation (He et al. 2015); zero biases."""
    weights = {}
    for name, shape in SHAPES.items():
        fan_in = np.prod(shape[1:3]) if name.startswith("depthwise") else np.prod(shape[1:])
        weights[name] = np.zeros(shape) if name.endswith("/b") else rng.normal(0, np.sqrt(2 / fan_in), shape)
    return weights


def shifted(x: Array, rng: np.random.Generator) -> Array:
    """Each image moved by −1, 0 or 1 pixels both ways."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    rows, columns = rng.integers(0, 3, (2, len(x)))
    return np.stack([p[i : i + 8, j : j + 8] for p, i, j in zip(padded, rows, columns, strict=True)])


def batches(data: Split, rng: np.random.Generator) -> Iterator[Split]:
    """One epoch in a random order."""
    order = rng.permutation(len(data.y))
    for start in range(0, len(order) - BATCH + 1, BATCH):
        yield data[order[start : start + BATCH]]


def train(data: Split, epochs: int = EPOCHS) -> Weights:
    """The weights after Adam (Kingma & Ba 2015) with a rate that falls to zero along a cosine."""
    rng = np.random.default_rng(SEED)
    p = initial(rng)
    first = {k: np.zeros_like(v) for k, v in p.items()}
    second = {k: np.zeros_like(v) for k, v in p.items()}
    steps = epochs * (len(data.y) // BATCH)
    t = 0
    for _ in range(epochs):
        for batch in batches(data, rng):
            t += 1
            z, seen = forward(p, shifted(batch.x.astype(np.float64), rng))
            g = gradients(p, seen, (softmax(z) - np.eye(10)[batch.y]) / BATCH)
            rate = RATE * (1 + np.cos(np.pi * t / steps)) / 2
            for k in p:
                first[k] = 0.9 * first[k] + 0.1 * g[k]
                second[k] = 0.999 * second[k] + 0.001 * g[k] ** 2
                p[k] -= rate * (first[k] / (1 - 0.9**t)) / (np.sqrt(second[k] / (1 - 0.999**t)) + 1e-8)
    return p


def accuracy(p: Weights, data: Split) -> float:
    """Share of images whose largest logit is the label's."""
    return float((forward(p, data.x.astype(np.float64))[0].argmax(1) == data.y).mean())


# --- as a .tflite file ------------------------------------------------------------------------------------------------


def graph(p: Weights) -> Graph:
    """The network as TFLite knows it, float32, batch 1."""
    tensors: list[Tensor] = []

    def computed(name: str, *shape: int) -> int:
        tensors.append(Tensor(name, shape, "float32"))
        return len(tensors) - 1

    def weight(name: str) -> int:
        data = p[name].astype(np.float32)
        tensors.append(Tensor(name, data.shape, "float32", data))
        return len(tensors) - 1

    def conv_options(kind: str, **more: int) -> Table:
        same = {"padding": Padding.SAME, "stride_w": 1, "stride_h": 1, "fused_activation_function": Activation.RELU}
        return Table(kind, {**same, "dilation_w_factor": 1, "dilation_h_factor": 1, **more})

    image = computed("image", 1, 8, 8, 1)
    a1, a2, a3 = computed("conv1", 1, 8, 8, 16), computed("depthwise", 1, 8, 8, 16), computed("pointwise", 1, 8, 8, 32)
    pooled, a4, flat = computed("pool", 1, 4, 4, 32), computed("conv2", 1, 4, 4, 48), computed("flat", 1, 768)
    logits, probabilities = computed("dense", 1, 10), computed("probabilities", 1, 10)
    tensors.append(Tensor("flat/shape", (2,), "int32", np.array([-1, 768], np.int32)))
    shape = len(tensors) - 1
    pool = Table("Pool2DOptions", {
        "padding": Padding.VALID, "stride_w": 2, "stride_h": 2, "filter_width": 2, "filter_height": 2,
        "fused_activation_function": Activation.NONE,
    })  # fmt: skip
    ops = (
        Op("CONV_2D", (image, weight("conv1/w"), weight("conv1/b")), (a1,), conv_options("Conv2DOptions")),
        Op("DEPTHWISE_CONV_2D", (a1, weight("depthwise/w"), weight("depthwise/b")), (a2,),
           conv_options("DepthwiseConv2DOptions", depth_multiplier=1)),
        Op("CONV_2D", (a2, weight("pointwise/w"), weight("pointwise/b")), (a3,), conv_options("Conv2DOptions")),
        Op("AVERAGE_POOL_2D", (a3,), (pooled,), pool),
        Op("CONV_2D", (pooled, weight("conv2/w"), weight("conv2/b")), (a4,), conv_options("Conv2DOptions")),
        Op("RESHAPE", (a4, shape), (flat,), Table("ReshapeOptions", {"new_shape": (-1, 768)})),
        Op("FULLY_CONNECTED", (flat, weight("dense/w"), weight("dense/b")), (logits,),
           Table("FullyConnectedOptions", {"fused_activation_function": Activation.NONE})),
        Op("SOFTMAX", (logits,), (probabilities,), Table("SoftmaxOptions", {"beta": 1.0})),
    )  # fmt: skip
    return Graph(
        (SubGraph(tuple(tensors), ops, (image,), (probabilities,), name="main"),),
        description="handwritten digits, 8×8 (edgeq examples/train_digits.py)",
        signatures=(Signature("serving_default", 0, (("image", image),), (("probabilities", probabilities),)),),
    )


def main(folder: Path) -> None:
    """Train, report, and write digits.tflite, calibration.npz and held_out.npz."""
    training, held_out = digits()
    p = train(training)
    print(f"accuracy: training {accuracy(p, training):.4f}, held out {accuracy(p, held_out):.4f}")
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "digits.tflite", write(graph(p)))
    write_npz(
        folder / "calibration.npz", {"x": training.x[:CALIBRATION], "y": training.y[:CALIBRATION]}, compressed=True
    )
    write_npz(folder / "held_out.npz", {"x": held_out.x, "y": held_out.y}, compressed=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1] / "edgeq" / "demo")

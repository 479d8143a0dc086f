"""What share of the peak convolutions of the shapes of common networks reach, each as a model of its own.

    python benchmarks/layers.py [FILTER…] [--isa NAME]

FILTER: words that a layer's line must contain, one of them ("uint8", "3x3", "112", "34"); all layers without any. Every layer is
timed as `edgeq bench --profile` times it, on one thread, over data near in the caches, with a ReLU behind it whose zero point is
the least code, as most layers have one; the peak is measured first. uint8 weights have a zero point.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edgeq import peak, profile
from edgeq.engine import Model
from edgeq.graph import Graph, Op, Quantization, SubGraph, Tensor
from edgeq.tflite.schema import table


@dataclass(frozen=True)
class Layer:
    """Image height and width, channels in and out, window, stride, groups."""

    size: int
    c: int
    out: int
    kh: int = 1
    kw: int = 1
    stride: int = 1
    groups: int = 1

    @property
    def name(self) -> str:
        """As in "3x3 s2 112 32->64"."""
        groups = f" groups {self.groups}" if self.groups > 1 else ""
        return f"{self.kh}x{self.kw} s{self.stride} {self.size} {self.c}->{self.out}{groups}"


POINTWISE = (
    (112, 16, 96), (112, 32, 16), (112, 32, 64), (56, 24, 144), (56, 144, 24), (56, 96, 24), (56, 64, 256), (56, 256, 64),
    (56, 64, 72), (64, 24, 88), (48, 96, 34), (35, 192, 48), (33, 320, 21), (28, 40, 240), (28, 240, 40), (20, 256, 36),
    (19, 512, 273), (17, 768, 192), (14, 240, 112), (14, 112, 672), (14, 1024, 256), (7, 512, 2048), (7, 2048, 512),
    (96, 64, 10),
)  # fmt: skip
SQUARE = (
    (224, 3, 32, 3, 2), (300, 3, 32, 3, 2), (224, 3, 64, 3, 2), (224, 3, 32, 5, 2), (224, 3, 64, 7, 2), (224, 3, 96, 16, 16),
    (96, 4, 32, 3, 1), (112, 16, 16, 3, 1), (112, 32, 32, 3, 1), (112, 32, 64, 3, 2), (56, 24, 24, 3, 1), (56, 48, 40, 3, 1),
    (56, 64, 64, 3, 1), (56, 64, 128, 3, 2), (40, 34, 34, 3, 1), (35, 64, 96, 3, 1), (35, 48, 64, 5, 1), (28, 40, 40, 3, 1),
    (28, 128, 128, 3, 1), (28, 128, 256, 3, 2), (28, 48, 64, 5, 1), (19, 256, 24, 3, 1), (17, 192, 320, 3, 2),
    (14, 256, 256, 3, 1), (14, 256, 512, 3, 2), (8, 384, 384, 3, 1), (7, 512, 512, 3, 1),
)  # fmt: skip
OTHERS = (
    Layer(17, 128, 128, 1, 7), Layer(17, 128, 192, 7, 1), Layer(8, 384, 384, 1, 3), Layer(8, 384, 384, 3, 1),
    Layer(56, 256, 512, 1, 1, 2), Layer(56, 128, 128, 3, 3, 1, 4), Layer(56, 128, 128, 3, 3, 1, 32),
    Layer(28, 240, 240, 1, 1, 1, 2),
)  # fmt: skip


def layers() -> Iterator[Layer]:
    """All of them."""
    yield from (Layer(*shape) for shape in POINTWISE)
    yield from (Layer(size, c, out, k, k, stride) for size, c, out, k, stride in SQUARE)
    yield from OTHERS


def model(layer: Layer, dtype: str) -> Graph:
    """One CONV_2D with SAME borders and a ReLU."""
    rng, low, out = np.random.default_rng(0), -128 if dtype == "int8" else 0, layer.out
    side = -(-layer.size // layer.stride)

    def quantization(scale: float, zero_point: int, channels: int = 1) -> Quantization:
        return Quantization(np.full(channels, scale, np.float32), np.full(channels, zero_point, np.int64), 0)

    shape = (out, layer.kh, layer.kw, layer.c // layer.groups)
    if dtype == "int8":
        weights, of_weights = rng.integers(-127, 128, shape).astype(np.int8), quantization(0.004, 0, out)
    else:
        weights, of_weights = rng.integers(0, 256, shape).astype(np.uint8), quantization(0.004, 117)
    tensors = (
        Tensor("x", (1, layer.size, layer.size, layer.c), dtype, quantization=quantization(0.03, low)),
        Tensor("w", shape, dtype, weights, of_weights, buffer=1),
        Tensor("b", (out,), "int32", rng.integers(-3000, 3000, out).astype(np.int32), buffer=2),
        Tensor("y", (1, side, side, out), dtype, quantization=quantization(0.07, low)),
    )
    options = table(
        "Conv2DOptions", padding=0, stride_h=layer.stride, stride_w=layer.stride, dilation_h_factor=1, dilation_w_factor=1,
        fused_activation_function=1,
    )  # fmt: skip
    return Graph((SubGraph(tensors, (Op("CONV_2D", (0, 1, 2), (3,), options),), (0,), (3,), "main"),))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("filters", nargs="*", metavar="FILTER")
    parser.add_argument("--isa", help="a plainer instruction set, as EDGEQ_ISA names it")
    wanted = parser.parse_args()
    if wanted.isa:
        os.environ["EDGEQ_ISA"] = wanted.isa
    found = None
    for layer in layers():
        for dtype in ("int8", "uint8"):
            line = f"{layer.name} {dtype}"
            if wanted.filters and not any(word in line for word in wanted.filters):
                continue
            with Model(model(layer, dtype)) as one:
                found = found or peak.measure(one.program.machine)
                x = np.random.default_rng(1).integers(0, 256, one.inputs[0].shape).astype(np.uint8).view(dtype)
                rows = profile.profile(one, [x], rounds=5, seconds=0.001, peak=found).rows
            taken, macs = sum(r.microseconds for r in rows if r.macs), sum(r.macs for r in rows)
            tile = next(r.tile for r in rows if r.macs)
            print(
                f"{line:28} {macs / 1e6:7.1f} M {taken:8.1f} us {macs / taken / 1e3 / found.u8:5.0%}  {tile}",
                flush=True,
            )


if __name__ == "__main__":
    main()

"""Float models against float64: whether a difference between edgeq and a runtime is anybody's mistake or the order of sums.

    python benchmarks/double.py MODEL.tflite… [--samples 3]

Every operation is computed in float64, of the float32 parameters and inputs. For each output: the greatest distance from that of
edgeq, of TFLite's reference kernels and of LiteRT, relative to the output's range.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from exactness import engine, random_inputs
from naive.oracle import Oracle, missing
from naive.windows import patches

from edgeq.graph import Activation, Graph
from edgeq.tflite import read

Array = npt.NDArray[Any]
Options = Mapping[str, Any]
CLAMPS = {
    Activation.RELU: (0, np.inf), Activation.RELU6: (0, 6), Activation.RELU_N1_TO_1: (-1, 1), Activation.NONE: (-np.inf, np.inf),
}  # fmt: skip


def clamped(o: Options, y: Array) -> Array:
    """The fused activation."""
    return np.clip(y, *CLAMPS[Activation(o.get("fused_activation_function", 0))])


def windows(x: Array, size: Sequence[int], o: Options) -> Array:
    """(n, h, w, kh, kw, c)."""
    dilation = (o.get("dilation_h_factor", 1), o.get("dilation_w_factor", 1))
    return patches(x, (size[0], size[1]), (o["stride_h"], o["stride_w"]), dilation, o["padding"])


def biased(y: Array, a: Sequence[Array]) -> Array:
    """Input 2 added, where it is there."""
    return y + a[2] if len(a) > 2 and a[2] is not None else y


def conv(a: Sequence[Array], o: Options) -> Array:
    """CONV_2D."""
    return clamped(o, biased(np.tensordot(windows(a[0], a[1].shape[1:3], o), a[1], ([3, 4, 5], [1, 2, 3])), a))


def depthwise(a: Sequence[Array], o: Options) -> Array:
    """DEPTHWISE_CONV_2D."""
    x = np.repeat(a[0], a[1].shape[3] // a[0].shape[3], axis=3)
    return clamped(o, biased(np.einsum("nhwijc,ijc->nhwc", windows(x, a[1].shape[1:3], o), a[1][0]), a))


def resized(a: Sequence[Array], o: Options) -> Array:
    """RESIZE_BILINEAR."""
    y = a[0]
    for axis, out in zip((1, 2), (int(v) for v in a[1]), strict=True):
        size = y.shape[axis]
        corners = o["align_corners"] and out > 1
        place = np.arange(out) * ((size - 1) / (out - 1) if corners else size / out)
        if o["half_pixel_centers"]:
            place = (np.arange(out) + 0.5) * size / out - 0.5
        low, high = np.maximum(np.floor(place), 0).astype(int), np.minimum(np.ceil(place), size - 1).astype(int)
        share = (place - low).reshape([out if k == axis else 1 for k in range(4)])
        y = np.take(y, low, axis) * (1 - share) + np.take(y, high, axis) * share
    return y


FUNCTIONS: Mapping[str, Callable[[Sequence[Array], Options], Array]] = {
    "CONV_2D": conv,
    "DEPTHWISE_CONV_2D": depthwise,
    "FULLY_CONNECTED": lambda a, o: clamped(o, biased(a[0].reshape(-1, a[1].shape[1]) @ a[1].T, a)),
    "ADD": lambda a, o: clamped(o, a[0] + a[1]),
    "SUB": lambda a, o: clamped(o, a[0] - a[1]),
    "MUL": lambda a, o: clamped(o, a[0] * a[1]),
    "DEQUANTIZE": lambda a, o: a[0].astype(np.float64),
    "RELU": lambda a, o: np.maximum(a[0], 0),
    "RELU6": lambda a, o: np.clip(a[0], 0, 6),
    "PRELU": lambda a, o: np.where(a[0] >= 0, a[0], a[0] * a[1]),
    "LOGISTIC": lambda a, o: 1 / (1 + np.exp(-a[0])),
    "HARD_SWISH": lambda a, o: a[0] * np.clip(a[0] + 3, 0, 6) / 6,
    "CONCATENATION": lambda a, o: np.concatenate(a, o["axis"]),
    "PAD": lambda a, o: np.pad(a[0], a[1]),
    "MEAN": lambda a, o: a[0].mean(tuple(int(k) for k in a[1]), keepdims=bool(o["keep_dims"])),
    "MAX_POOL_2D": lambda a, o: windows(a[0], (o["filter_height"], o["filter_width"]), o).max((3, 4)),
    "RESIZE_BILINEAR": resized,
}
"""Operation → what it computes of float64 inputs."""


def run(graph: Graph, inputs: Sequence[Array]) -> dict[int, Array]:
    """Every tensor of a graph in float64."""
    values: dict[int, Array] = {}
    for i, t in enumerate(graph.tensors):
        if t.data is not None:
            values[i] = t.data.astype(np.float64) if t.data.dtype.kind == "f" else t.data
    values.update((i, x.astype(np.float64)) for i, x in zip(graph.inputs, inputs, strict=True))
    for op in graph.ops:
        given = [values[i] if i >= 0 else None for i in op.inputs]
        y = graph.tensors[op.outputs[0]]
        if op.code == "RESHAPE":
            values[op.outputs[0]] = given[0].reshape(y.shape)  # type: ignore[union-attr]
        elif op.code in FUNCTIONS:
            values[op.outputs[0]] = FUNCTIONS[op.code](given, op.options.values if op.options else {})  # type: ignore[arg-type]
        else:
            raise SystemExit(f"{op.code} has no function of float64 here")
    return values


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL")
    parser.add_argument("--samples", type=int, default=3)
    args = parser.parse_args()
    print(f"{'model':<28} {'output':<20} {'edgeq':>9} {'reference':>9} {'LiteRT':>9}")
    for path in args.models:
        content = path.read_bytes()
        graph = read(content)
        ways = {"edgeq": engine(graph, "xnnpack")}
        ways |= {r: Oracle(content, r) for r in ("tflite", "xnnpack") if not missing(r)}
        worst = {i: dict.fromkeys(ways, 0.0) for i in graph.outputs}
        for inputs in random_inputs(graph, args.samples, np.random.default_rng(0)):
            right = run(graph, inputs)
            for name, way in ways.items():
                for i, found in zip(graph.outputs, way(inputs), strict=True):
                    distance = np.abs(found - right[i]).max() / max(float(np.ptp(right[i])), 1e-30)
                    worst[i][name] = max(worst[i][name], float(distance))
        for i, row in worst.items():
            if right[i].size > 1:
                cells = " ".join(f"{row[n]:9.1e}" if n in row else f"{'':9}" for n in ("edgeq", "tflite", "xnnpack"))
                print(f"{path.stem:<28} {graph.tensors[i].name[-20:]:<20} {cells}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

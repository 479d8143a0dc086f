"""Find the key points of a body in an image: `estimate_pose.py -m MODEL -i IMAGE…` (.npy, or what Pillow opens).

Two kinds of model work: MoveNet's, whose output (1, 1, K, 3) holds y, x and score of every point, and PoseNet's, with heatmaps
(1, h, w, K) and offsets (1, h, w, 2K), which are decoded here: the best cell of every heatmap, moved by its offset.
"""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path

import numpy as np

NAMES = (
    "nose", "left eye", "right eye", "left ear", "right ear", "left shoulder", "right shoulder", "left elbow", "right elbow",
    "left wrist", "right wrist", "left hip", "right hip", "left knee", "right knee", "left ankle", "right ankle",
)  # fmt: skip
MIN_SCORE = 0.3


def load_image(filename: str, height: int, width: int) -> np.ndarray:
    """(height, width, 3) uint8."""
    if filename.endswith(".npy"):
        image = np.load(filename)
    else:
        from PIL import Image

        image = np.asarray(Image.open(filename).convert("RGB").resize((width, height)))
    rows, columns = np.arange(height) * image.shape[0] // height, np.arange(width) * image.shape[1] // width
    return image[rows][:, columns]


def dequantized(interpreter, detail):
    """An output as real numbers."""
    scale, zero_point = detail["quantization"]
    value = interpreter.get_tensor(detail["index"])
    return (value.astype(np.float32) - zero_point) * scale if scale else value


def decode(heatmaps: np.ndarray, offsets: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(K, 3): y and x of every point within 0 to 1, and its score."""
    h, w, count = heatmaps.shape
    out = np.empty((count, 3), np.float32)
    for k in range(count):
        y, x = divmod(int(heatmaps[..., k].argmax()), w)
        row = (y * (size[0] / h) + offsets[y, x, k]) / size[0]
        column = (x * (size[1] / w) + offsets[y, x, count + k]) / size[1]
        out[k] = row, column, 1 / (1 + np.exp(-heatmaps[y, x, k]))
    return out


def main():
    """Print the points of every image that are there."""
    parser = argparse.ArgumentParser()
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("-i", "--image", nargs="+", required=True)
    parser.add_argument("--runtime", default="edgeq", choices=["edgeq", "tflite_runtime", "ai_edge_litert"])
    parser.add_argument("--reference", action="store_true", help="ask for the reference kernels")
    parser.add_argument("--save", help="write the raw outputs to this .npz")
    args = parser.parse_args()

    tflite = import_module(f"{args.runtime}.interpreter")  # from tflite_runtime import interpreter as tflite
    resolver = tflite.OpResolverType.BUILTIN_REF if args.reference else tflite.OpResolverType.AUTO
    interpreter = tflite.Interpreter(args.model, experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    image_detail = interpreter.get_input_details()[0]
    height, width = (int(d) for d in image_detail["shape"][1:3])
    saved = {}
    for number, filename in enumerate(args.image):
        image = load_image(filename, height, width)
        scale, zero_point = image_detail["quantization"]
        if image_detail["dtype"] == np.float32:
            image = image / np.float32(127.5) - 1
        elif image_detail["dtype"] == np.int8:
            image = np.clip(np.round((image / 127.5 - 1) / scale) + zero_point, -128, 127)
        interpreter.set_tensor(image_detail["index"], image[None].astype(image_detail["dtype"]))
        interpreter.invoke()
        outputs = interpreter.get_output_details()
        if len(outputs) == 1:
            points = dequantized(interpreter, outputs[0]).reshape(-1, 3)
        else:
            heatmaps, offsets = sorted((dequantized(interpreter, d)[0] for d in outputs), key=lambda a: a.shape[-1])
            points = decode(heatmaps, offsets, (height, width))
        for d in outputs:
            saved[f"{number} {d['name']}"] = interpreter.get_tensor(d["index"])
        print(Path(filename).name)
        for name, (y, x, score) in zip(NAMES, points, strict=False):
            if score >= MIN_SCORE:
                print(f"  {name:15s} {x:.2f} {y:.2f}")
    if args.save:
        np.savez(args.save, **saved)


if __name__ == "__main__":
    main()

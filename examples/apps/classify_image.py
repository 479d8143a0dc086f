"""Label an image, as TensorFlow's label_image.py does: `classify_image.py -m MODEL -i IMAGE… -l LABELS`.

The runtime is named by --runtime; its module's Interpreter is all that the script uses of it. Images are .npy arrays (H, W, C),
or anything that Pillow opens where it is installed. Integer models get the raw pixels or what their input's parameters make of
them; float models get (pixel − mean) / std.
"""

from __future__ import annotations

import argparse
import time
from importlib import import_module
from pathlib import Path

import numpy as np


def load_labels(filename: str) -> list[str]:
    """One a line."""
    return [line.strip() for line in Path(filename).read_text().splitlines()]


def load_image(filename: str, height: int, width: int, channels: int) -> np.ndarray:
    """(height, width, channels) uint8; nearest neighbours where the size differs."""
    if filename.endswith(".npy"):
        image = np.load(filename)
    else:
        from PIL import Image

        image = np.asarray(Image.open(filename).convert("L" if channels == 1 else "RGB").resize((width, height)))
    image = image.reshape(*image.shape[:2], -1)
    rows = np.arange(height) * image.shape[0] // height
    columns = np.arange(width) * image.shape[1] // width
    return image[rows][:, columns, :channels]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("-i", "--image", nargs="+", required=True, help="images to be classified")
    parser.add_argument("-m", "--model_file", required=True, help=".tflite model to be executed")
    parser.add_argument("-l", "--label_file", help="name of file containing labels, one a line")
    parser.add_argument("--input_mean", default=127.5, type=float)
    parser.add_argument("--input_std", default=127.5, type=float)
    parser.add_argument("--num_threads", default=None, type=int)
    parser.add_argument("--runtime", default="edgeq", choices=["edgeq", "tflite_runtime", "ai_edge_litert"])
    parser.add_argument("--reference", action="store_true", help="ask for the reference kernels")
    parser.add_argument("--save", help="write the raw outputs to this .npy")
    args = parser.parse_args()

    tflite = import_module(f"{args.runtime}.interpreter")  # from tflite_runtime import interpreter as tflite
    resolver = tflite.OpResolverType.BUILTIN_REF if args.reference else tflite.OpResolverType.AUTO
    interpreter = tflite.Interpreter(
        model_path=args.model_file, num_threads=args.num_threads, experimental_op_resolver_type=resolver
    )
    interpreter.allocate_tensors()

    input_details = interpreter.get_input_details()
    output_details = interpreter.get_output_details()

    # NxHxWxC, H:1, W:2
    _, height, width, channels = input_details[0]["shape"]
    labels = load_labels(args.label_file) if args.label_file else []
    raw, seconds = [], 0.0
    for filename in args.image:
        pixels = load_image(filename, height, width, channels)
        input_data = np.expand_dims(pixels, axis=0)
        dtype, (scale, zero_point) = input_details[0]["dtype"], input_details[0]["quantization"]
        if dtype == np.float32:
            input_data = (np.float32(input_data) - args.input_mean) / args.input_std
        elif dtype != np.uint8:
            real = (np.float32(input_data) - args.input_mean) / args.input_std
            info = np.iinfo(dtype)
            input_data = np.clip(np.round(real / scale) + zero_point, info.min, info.max).astype(dtype)

        interpreter.set_tensor(input_details[0]["index"], input_data)
        start = time.perf_counter()
        interpreter.invoke()
        seconds += time.perf_counter() - start

        output_data = interpreter.get_tensor(output_details[0]["index"])
        raw.append(output_data)
        results = np.squeeze(output_data).astype(np.float32)
        scale, zero_point = output_details[0]["quantization"]
        if scale:
            results = (results - zero_point) * scale
        top_k = results.argsort(kind="stable")[-5:][::-1]
        print(Path(filename).name)
        for i in top_k:
            print(f"{results[i]:08.3f}: {labels[i] if labels else i}")
    if args.save:
        np.save(args.save, np.stack(raw))
    import sys

    print(f"time: {1000 * seconds / len(args.image):.3f}ms", file=sys.stderr)

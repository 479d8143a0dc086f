"""ONNX → .tflite with onnx2tf. Its files say NCHW, TFLite's NHWC: image inputs come out transposed."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path


def main(source: str, out: str, options: str) -> int:
    """Convert; the exit status."""
    try:
        import numpy as np
        import onnx2tf
        from onnx2tf import onnx2tf as steps
    except ImportError as error:
        print(error, file=sys.stderr)
        return 3
    given = json.loads(options)
    # For image models it would fetch a picture from the network to compare layers on; noise of its shape serves as well.
    noise = np.random.default_rng(0).random((20, 128, 128, 3), np.float32)
    steps.download_test_image_data = lambda: noise
    shapes = [f"{name}:{','.join(map(str, shape))}" for name, shape in given["shapes"].items()]
    with tempfile.TemporaryDirectory() as folder:
        onnx2tf.convert(
            input_onnx_file_path=source,
            output_folder_path=folder,
            batch_size=given["batch"],
            overwrite_input_shape=shapes or None,
            copy_onnx_input_output_names_to_tflite=True,
            non_verbose=True,
        )
        (made,) = Path(folder).glob("*_float32.tflite")
        Path(out).write_bytes(made.read_bytes())
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

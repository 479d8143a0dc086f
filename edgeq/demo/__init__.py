"""The model that comes with edgeq: a small CNN for handwritten digits, and samples to calibrate and judge it with.

`examples/train_digits.py` writes these three files. README.md beside them says where the digits come from.
"""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).parent

MODEL = _HERE / "digits.tflite"
"""Float model: image (1, 8, 8, 1) float32 in [0, 1] → probabilities (1, 10)."""

CALIBRATION = _HERE / "calibration.npz"
"""100 of the images that the model was trained on: x (100, 8, 8, 1) float32, y (100,) uint8."""

HELD_OUT = _HERE / "held_out.npz"
"""500 images that the model was not trained on: x (500, 8, 8, 1) float32, y (500,) uint8."""

"""Which integer operations XNNPACK takes in LiteRT's default interpreter; the others run on LiteRT's optimised builtins.

The limits are the delegate's own, as measured (docs/exactness.md, note 3).
"""

from __future__ import annotations

import numpy as np

from edgeq.graph import Op
from edgeq.plan.builder import Builder
from edgeq.plan.multiplier import f32

CONVOLUTIONS = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"}


def takes(b: Builder, op: Op) -> bool:
    """Whether XNNPACK computes this integer operation. Only asked of operations whose integers depend on the answer."""
    y = b.output(op)
    if not b.xnnpack or y.dtype not in ("int8", "uint8"):
        return False
    if op.code == "DEPTHWISE_CONV_2D":
        # One scale along axis 3 is not recognised as per-tensor quantization, which is the only kind for uint8.
        q = b.tensor(op, 1).quantization
        return y.dtype == "int8" or (q is not None and q.axis == 0)
    if op.code in CONVOLUTIONS or op.code in ("MEAN", "RESIZE_BILINEAR"):
        return True
    if op.code in ("ADD", "SUB"):
        return all(2.0**-10 <= b.scale(b.tensor(op, k)) / b.scale(y) < 2.0**8 for k in (0, 1))
    if op.code == "MUL":
        return bool(2.0**-16 <= f32(b.scale(b.tensor(op, 0)) * b.scale(b.tensor(op, 1))) / b.scale(y) < 2.0**8)
    ratio = f32(b.scale(b.tensor(op, 0)) / b.scale(y))
    if op.code == "QUANTIZE":
        return bool(b.tensor(op, 0).dtype == y.dtype and 2.0**-8 <= ratio <= 2.0**7)
    if op.code == "LEAKY_RELU":
        below = f32(ratio * f32(op.options.alpha if op.options is not None else 0))
        return bool(2.0**-8 <= ratio <= 2.0**7 and np.abs(below) >= 2.0**-8 and -127.99609375 <= below <= 2.0**7)
    return False

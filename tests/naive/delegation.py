"""Which operations XNNPACK takes in LiteRT's default interpreter; the others run on LiteRT's optimised builtins.

The limits are those of the delegate, found by scanning scales over powers of two and their neighbours (ai-edge-litert 2.3).
"""

from __future__ import annotations

from .node import Node, f32, quantization, scale_of

CONVOLUTIONS = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"}


def takes(node: Node) -> bool:
    """Whether XNNPACK computes this integer operation. Only asked of operations whose integers depend on the answer."""
    if not node.xnnpack or node.output.dtype not in ("int8", "uint8"):
        return False
    code = node.op.code
    if code == "DEPTHWISE_CONV_2D":
        # One scale along axis 3 is not recognised as per-tensor quantization, which is the only kind for uint8.
        return node.output.dtype == "int8" or quantization(node.tensor(1)).axis == 0
    if code in CONVOLUTIONS or code in ("MEAN", "RESIZE_BILINEAR"):
        return True
    if code in ("ADD", "SUB"):
        return all(2.0**-10 <= scale_of(node.tensor(k)) / scale_of(node.output) < 2.0**8 for k in (0, 1))
    if code == "MUL":
        return 2.0**-16 <= f32(scale_of(node.tensor(0)) * scale_of(node.tensor(1))) / scale_of(node.output) < 2.0**8
    ratio = f32(scale_of(node.tensor(0)) / scale_of(node.output))
    if code == "QUANTIZE":
        return node.tensor(0).dtype == node.output.dtype and 2.0**-8 <= ratio <= 2.0**7
    if code == "LEAKY_RELU":
        below = f32(ratio * f32(node.option("alpha")))
        return 2.0**-8 <= ratio <= 2.0**7 and abs(below) >= 2.0**-8 and -127.99609375 <= below <= 2.0**7
    return False

"""edgeq: quantize, calibrate, seal and run `.tflite` models on edge devices.

The names below load on first use, so that `import edgeq` costs nothing and trust commands never import the kernels.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "QuantMod": "edgeq.quantmod",
    "CustomNode": "edgeq.customs",
    "Prepared": "edgeq.customs",
    "register_op": "edgeq.customs",
    "EdgeqError": "edgeq.errors",
    "Interpreter": "edgeq.interpreter",
    "MaskKey": "edgeq.masking",
    "Masked": "edgeq.masking",
    "load": "edgeq.loader",
    "mask": "edgeq.masking",
    "open_tflite": "edgeq.loader",
    "unmask": "edgeq.masking",
}

__all__ = [
    "CustomNode",
    "EdgeqError",
    "Interpreter",
    "MaskKey",
    "Masked",
    "Prepared",
    "QuantMod",
    "__version__",
    "load",
    "mask",
    "open_tflite",
    "register_op",
    "unmask",
]

if TYPE_CHECKING:
    from edgeq.customs import CustomNode, Prepared, register_op
    from edgeq.errors import EdgeqError
    from edgeq.interpreter import Interpreter
    from edgeq.loader import load, open_tflite
    from edgeq.masking import Masked, MaskKey, mask, unmask
    from edgeq.quantmod import QuantMod


def __getattr__(name: str) -> Any:
    if name in _HOME:
        if name == "load":
            from edgeq import bytecode

            value = bytecode.begin(lambda: getattr(import_module(_HOME[name]), name))
        else:
            value = getattr(import_module(_HOME[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'edgeq' has no attribute {name!r}")

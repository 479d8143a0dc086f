"""The interface of `tflite_runtime.interpreter`, for apps that move over by changing one import:

    from edgeq.interpreter import Interpreter, load_delegate
    import edgeq.interpreter as tflite

`api` is the class, `native` what it does on edgeq's machine, `session` the memory and the run, `details` how tensors are
described, `signatures` running by name, `delegates` what stands for TFLite's resolvers and delegates.
"""

from __future__ import annotations

from edgeq.interpreter.api import Interpreter, InterpreterWithCustomOps
from edgeq.interpreter.delegates import Delegate, OpResolverType, load_delegate
from edgeq.interpreter.signatures import SignatureRunner

__all__ = ["Delegate", "Interpreter", "InterpreterWithCustomOps", "OpResolverType", "SignatureRunner", "load_delegate"]

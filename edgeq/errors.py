"""Every error that edgeq raises on purpose, in one tree: one type per thing that a caller can act on.

The message says what was found and what was expected. Only the command line turns an error into text and an exit status;
everything else raises. Keys and plaintext never appear in a message.
"""

from __future__ import annotations


class EdgeqError(Exception):
    """Root of the tree: catch this to catch everything that edgeq refuses."""


# --- what the user gave ---------------------------------------------------------------------------------------------------


class InputError(EdgeqError):
    """An argument, array or sample file is not what was asked for (name, shape, dtype, range)."""


class OutputError(EdgeqError):
    """A result could not be written (full disk, missing folder, no permission); nothing was left half written."""


# --- models ---------------------------------------------------------------------------------------------------------------


class ModelError(EdgeqError):
    """Something is wrong with a model file."""


class FormatError(ModelError):
    """The bytes are not a well-formed .tflite flatbuffer."""


class CheckError(ModelError):
    """The flatbuffer is well formed, but the graph in it could not be run safely (index, shape, dtype, scale, buffer)."""


class UnsupportedError(ModelError):
    """The model is sound, but it holds an operation, type or option that edgeq does not run."""


class QuantizeError(EdgeqError):
    """A model cannot be quantized or calibrated as asked."""


class MachineError(EdgeqError):
    """The compiled kernels could not be built or loaded on this machine."""

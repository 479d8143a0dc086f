"""Every error that edgeq raises on purpose, in one tree: one type per thing that a caller can act on.

The message says what was found and what was expected. Only the command line turns an error into text and an exit
status; everything else raises. Keys and plaintext never appear in a message.

Here are the types that are caught on the way to a first answer, and those above them; the others are in edgeq/refusals.py,
which is imported when one of them is asked for. They are had from here all the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeq.refusals import *  # noqa: F403


class EdgeqError(Exception):
    """Root of the tree: catch this to catch everything that edgeq refuses."""


class InputError(EdgeqError):
    """An argument, array or sample file is not what was asked for (name, shape, dtype, range)."""


class OutputError(EdgeqError):
    """A result could not be written (full disk, missing folder, no permission); nothing was left half written."""


class ModelError(EdgeqError):
    """Something is wrong with a model file."""


class FormatError(ModelError):
    """The bytes are not a well-formed .tflite flatbuffer."""


class CheckError(ModelError):
    """The flatbuffer is well formed, but its graph could not be run safely (index, shape, dtype, scale, buffer)."""


class UnsupportedError(ModelError):
    """The model is sound, but it holds an operation, type or option that edgeq does not run."""


class DataDependentError(UnsupportedError):
    """What a plan must know before anything runs is computed or fed: edgeq.dynamic runs such a model piece by piece.

    tensor: the index of the tensor whose values are wanted, -1 where it is the operation as a whole.
    """

    def __init__(self, message: str, tensor: int = -1) -> None:
        super().__init__(message)
        self.tensor = tensor


class CustomOpError(EdgeqError):
    """A function that the application registered for a custom operation refused or failed."""


class MachineError(EdgeqError):
    """The compiled kernels could not be built or loaded on this machine."""


class TrustError(EdgeqError):
    """A bundle, key or grant was refused."""


class EncodingError(TrustError):
    """JSON, base64 or text is not in the one strict form that edgeq accepts."""


class SignatureError(TrustError):
    """Something is wrong with a signature."""


class BadSignatureError(SignatureError):
    """The signature does not fit the signed bytes under the key that it names."""


class DecryptError(TrustError):
    """The payload or its key cannot be opened."""


if not TYPE_CHECKING:

    def __getattr__(name: str) -> type[EdgeqError]:
        if name.endswith("Error"):  # Python itself asks for __path__
            from edgeq import refusals

            if name in refusals.NAMES:
                return getattr(refusals, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

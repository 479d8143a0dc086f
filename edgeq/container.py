"""The .eqb file: a bundle's three byte strings behind a header of fixed size. Framing only; no byte is believed here.

Every length is compared with its cap and with the size of the file before anything is read or allocated.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from edgeq import limits
from edgeq.errors import ContainerError, LengthError, SuiteError, TruncatedError

MAGIC: Final = b"EQB\r\n\x1a\n\x00"
"""As PNG's: text-mode transfers, which change line ends or stop at Ctrl-Z, change it."""

VERSION: Final = 1
HEADER_SIZE: Final = 32

_HEADER: Final = struct.Struct("<8s6I")


@dataclass(frozen=True)
class Layout:
    """Where a bundle's parts lie in its file: the manifest behind the header, then the signature, then the payload."""

    manifest_size: int
    signature_size: int
    payload_size: int

    @property
    def front_size(self) -> int:
        """Bytes in front of the padding: header, manifest, signature."""
        return HEADER_SIZE + self.manifest_size + self.signature_size

    @property
    def payload_offset(self) -> int:
        """Where the payload starts: on a page."""
        return -(-self.front_size // limits.PAYLOAD_ALIGNMENT) * limits.PAYLOAD_ALIGNMENT

    @property
    def file_size(self) -> int:
        """Bytes of the whole file."""
        return self.payload_offset + self.payload_size


def parse_header(header: bytes, file_size: int) -> Layout:
    """The layout of a file of `file_size` bytes that starts with `header`.

    Raises TruncatedError, ContainerError (magic, reserved), SuiteError (version), LengthError.
    """
    if len(header) < HEADER_SIZE:
        raise TruncatedError(f"bundle: {len(header)} bytes, the header alone has {HEADER_SIZE}")
    magic, version, manifest, signature, second, payload, reserved = _HEADER.unpack_from(header)
    if magic != MAGIC:
        raise ContainerError("bundle: the file does not start with the magic of a bundle")
    if version != VERSION:
        raise SuiteError(f"bundle: format version {version}, this edgeq reads version {VERSION}")
    if second != 0:
        raise SuiteError("bundle: a second signature, which format version 1 does not have")
    if reserved != 0:
        raise ContainerError(f"bundle: expected 0 in the reserved field, found {reserved}")
    for name, size, limit in (
        ("manifest", manifest, limits.MANIFEST),
        ("signature", signature, limits.SIGNATURE),
        ("payload", payload, limits.PAYLOAD),
    ):
        if not 1 <= size <= limit:
            raise LengthError(f"bundle: {name} of {size} bytes, expected 1 to {limit}")
    layout = Layout(manifest, signature, payload)
    if file_size < layout.file_size:
        raise TruncatedError(f"bundle: {file_size} bytes, the header announces {layout.file_size}")
    if file_size > layout.file_size:
        raise LengthError(f"bundle: {file_size} bytes, {file_size - layout.file_size} more than the header announces")
    return layout


def split_front(layout: Layout, front: bytes) -> tuple[bytes, bytes]:
    """Manifest and signature, out of everything in front of the payload.

    Raises ContainerError if the padding is not zero.
    """
    end = HEADER_SIZE + layout.manifest_size
    if any(front[layout.front_size :]):
        raise ContainerError("bundle: expected zero padding in front of the payload")
    return front[HEADER_SIZE:end], front[end : layout.front_size]


def front(manifest: bytes, signature: bytes, payload_size: int) -> bytes:
    """Everything in front of a payload of `payload_size` bytes.

    Raises LengthError for a part that a reader would refuse.
    """
    sizes = (len(manifest), len(signature), 0, payload_size, 0)
    header = _HEADER.pack(MAGIC, VERSION, *sizes)
    layout = Layout(len(manifest), len(signature), payload_size)
    parse_header(header, layout.file_size)  # what would not be read is not written
    return (header + manifest + signature).ljust(layout.payload_offset, b"\x00")

"""The .eqb file: a bundle's byte strings behind a header of fixed size. Framing only; no byte is believed here.

Every length is compared with its cap and with the size of the file before anything is read or allocated.
"""

from __future__ import annotations

import struct
from typing import Final

from edgeq import errors, limits
from edgeq.records import dataclass

MAGIC: Final = b"EQB\r\n\x1a\n\x00"
"""As PNG's: text-mode transfers, which change line ends or stop at Ctrl-Z, change it."""

VERSION: Final = 1
HEADER_SIZE: Final = 32

_HEADER: Final = struct.Struct("<8s6I")


@dataclass(frozen=True)
class Layout:
    """Where a bundle's parts lie in its file: header, manifest, signature, perhaps a second one, payload."""

    manifest_size: int
    signature_size: int
    payload_size: int
    second_size: int = 0

    @property
    def front_size(self) -> int:
        """Bytes in front of the padding: header, manifest, signatures."""
        return HEADER_SIZE + self.manifest_size + self.signature_size + self.second_size

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
        raise errors.TruncatedError(f"bundle: {len(header)} bytes, the header alone has {HEADER_SIZE}")
    magic, version, manifest, signature, second, payload, reserved = _HEADER.unpack_from(header)
    if magic != MAGIC:
        raise errors.ContainerError("bundle: the file does not start with the magic of a bundle")
    if version != VERSION:
        raise errors.SuiteError(f"bundle: format version {version}, this edgeq reads version {VERSION}")
    if reserved != 0:
        raise errors.ContainerError(f"bundle: expected 0 in the reserved field, found {reserved}")
    for name, size, least, limit in (
        ("manifest", manifest, 1, limits.MANIFEST),
        ("signature", signature, 1, limits.SIGNATURE),
        ("second signature", second, 0, limits.SIGNATURE),
        ("payload", payload, 1, limits.PAYLOAD),
    ):
        if not least <= size <= limit:
            raise errors.LengthError(f"bundle: {name} of {size} bytes, expected {least} to {limit}")
    layout = Layout(manifest, signature, payload, second)
    if file_size < layout.file_size:
        raise errors.TruncatedError(f"bundle: {file_size} bytes, the header announces {layout.file_size}")
    if file_size > layout.file_size:
        raise errors.LengthError(
            f"bundle: {file_size} bytes, {file_size - layout.file_size} more than the header announces"
        )
    return layout


def split_front(layout: Layout, front: bytes) -> tuple[bytes, bytes, bytes]:
    """Manifest, signature and second signature (b"": none), out of everything in front of the payload.

    Raises ContainerError if the padding is not zero.
    """
    end = HEADER_SIZE + layout.manifest_size
    second = end + layout.signature_size
    if any(front[layout.front_size :]):
        raise errors.ContainerError("bundle: expected zero padding in front of the payload")
    return front[HEADER_SIZE:end], front[end:second], front[second : layout.front_size]


def front(manifest: bytes, signature: bytes, payload_size: int, second: bytes = b"") -> bytes:
    """Everything in front of a payload of `payload_size` bytes.

    Raises LengthError for a part that a reader would refuse.
    """
    sizes = (len(manifest), len(signature), len(second), payload_size, 0)
    header = _HEADER.pack(MAGIC, VERSION, *sizes)
    layout = Layout(len(manifest), len(signature), payload_size, len(second))
    parse_header(header, layout.file_size)  # what would not be read is not written
    return (header + manifest + signature + second).ljust(layout.payload_offset, b"\x00")

"""The payload cipher: ChaCha20-Poly1305 in 64 KiB chunks, so that a device decrypts into one buffer and keeps no copy.

STREAM (Hoang, Reyhanitabar, Rogaway, Vizár, CRYPTO 2015): the nonce is the chunk's number and whether it is the last, so a
chunk opens only in its place. The key is bound to the manifest and committed to; docs/bundle-format.md has the formulas.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Iterator
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes

from edgeq import errors, limits
from edgeq.primitives import HKDF, ChaCha20Poly1305
from edgeq.recipients import ContentKey

TAG: Final = 16
SEALED_CHUNK: Final = limits.CHUNK + TAG
"""Ciphertext of a full chunk, its tag included."""

_COMMITMENT: Final = b"edgeq-bundle/1 commitment"
_STREAM: Final = b"edgeq-bundle/1 stream"


def sealed_size(size: int) -> int:
    """Length of the ciphertext of `size` bytes, size ≥ 1."""
    return size + TAG * _chunks(size)


def commitment(key: ContentKey, bundle_id: bytes) -> bytes:
    """The 32 bytes that say, without telling it, which content key a bundle was sealed with."""
    return _derive(key, bundle_id, _COMMITMENT)


def check_commitment(key: ContentKey, bundle_id: bytes, expected: bytes) -> None:
    """Return if `key` is the key that `expected` commits to; else raise KeyCommitmentError."""
    if not hmac.compare_digest(commitment(key, bundle_id), expected):
        raise errors.KeyCommitmentError("the content key is not the one that this bundle was sealed with")


def encrypt(key: ContentKey, manifest_hash: bytes, parts: Iterable[memoryview], size: int) -> bytearray:
    """The ciphertext of the `size` bytes that `parts` hold one after the other."""
    cipher = _cipher(key, manifest_hash)
    out = bytearray(sealed_size(size))
    view = memoryview(out)
    last = _chunks(size) - 1
    for number, chunk in enumerate(_rechunk(parts)):
        start = number * SEALED_CHUNK
        place = view[start : start + len(chunk) + TAG]
        cipher.encrypt_into(_nonce(number, number == last), chunk, manifest_hash, place)
    return out


def decrypt_into(out: memoryview, key: ContentKey, manifest_hash: bytes, chunks: Iterable[memoryview]) -> None:
    """Fill `out` with the plaintext of the ciphertext `chunks`, each SEALED_CHUNK bytes but the last.

    Raises ChunkError, with `out` zeroed, unless every chunk is authentic, in its place, and none is missing or left.
    """
    try:
        _decrypt_into(out, _cipher(key, manifest_hash), manifest_hash, chunks)
    except BaseException:
        wipe(out)  # nobody reads a part of a model, and it does not stay in memory
        raise


def wipe(buffer: memoryview) -> None:
    """Overwrite with zeros, without a second buffer of that size."""
    for start in range(0, len(buffer), limits.CHUNK):
        place = buffer[start : start + limits.CHUNK]
        place[:] = bytes(len(place))


def _decrypt_into(out: memoryview, cipher: ChaCha20Poly1305, aad: bytes, chunks: Iterable[memoryview]) -> None:
    total = _chunks(len(out))
    number = -1
    for number, chunk in enumerate(chunks):
        place = out[number * limits.CHUNK : (number + 1) * limits.CHUNK]
        if number >= total or len(chunk) != len(place) + TAG:
            raise errors.ChunkError(f"chunk {number} of {total} has {len(chunk)} bytes, expected {len(place) + TAG}")
        try:
            cipher.decrypt_into(_nonce(number, number == total - 1), chunk, aad, place)
        except InvalidTag:
            raise errors.ChunkError(f"chunk {number} of {total} was altered or is not in its place") from None
    if number != total - 1:
        raise errors.ChunkError(f"{number + 1} chunks, expected {total}")


def _chunks(size: int) -> int:
    return -(-size // limits.CHUNK)


def _rechunk(parts: Iterable[memoryview]) -> Iterator[memoryview]:
    """The same bytes in pieces of one chunk, copying only where a piece spans two parts."""
    held = bytearray()
    for part in parts:
        start = 0
        if held:
            start = min(limits.CHUNK - len(held), len(part))
            held += part[:start]
            if len(held) < limits.CHUNK:
                continue
            yield memoryview(held)
            held = bytearray()
        while len(part) - start >= limits.CHUNK:
            yield part[start : start + limits.CHUNK]
            start += limits.CHUNK
        held += part[start:]
    if held:
        yield memoryview(held)


def _cipher(key: ContentKey, manifest_hash: bytes) -> ChaCha20Poly1305:
    return ChaCha20Poly1305(_derive(key, manifest_hash, _STREAM))


def _derive(key: ContentKey, salt: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=salt, info=info).derive(key.reveal())


def _nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11, "big") + (b"\x01" if last else b"\x00")

"""The two forms of a bundle into one another: the same byte strings, reframed. Nothing is verified or decrypted."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from edgeq import container
from edgeq.bundle import PAYLOAD_FILE
from edgeq.errors import ContainerError, OutputError
from edgeq.files import PathLike, write_atomic
from edgeq.manifest import MANIFEST_FILE
from edgeq.oms import SIGNATURE_FILE
from edgeq.second import SIGNATURE_FILE as SECOND_FILE
from edgeq.source import StoredBundle, open_source
from edgeq.stream import SEALED_CHUNK


def pack(directory: PathLike, output: PathLike) -> None:
    """Write the bundle in `directory` as the one file `output`.

    Raises what edgeq.source.open_source raises, ContainerError if it is no bundle, OutputError.
    """
    with open_source(directory) as source:
        if not isinstance(source, StoredBundle):
            raise ContainerError(f"{os.fspath(directory)}: expected a bundle")
        write_atomic(output, _pieces(source))


def unpack(bundle: PathLike, directory: PathLike) -> None:
    """Write the bundle in the file `bundle` as the new directory `directory`, whole or not at all.

    Raises what edgeq.source.open_source raises, ContainerError if it is no bundle, OutputError.
    """
    target = Path(directory)
    with open_source(bundle) as source:
        if not isinstance(source, StoredBundle):
            raise ContainerError(f"{os.fspath(bundle)}: expected a bundle")
        if target.exists():
            raise OutputError(f"{target}: there is a file or directory already; it was left as it is")
        beside = target.absolute().with_name(f".edgeq-{secrets.token_hex(8)}.tmp")
        try:
            beside.mkdir()
            write_atomic(beside / MANIFEST_FILE, source.manifest)
            write_atomic(beside / SIGNATURE_FILE, source.signature)
            if source.second:
                write_atomic(beside / SECOND_FILE, source.second)
            write_atomic(beside / PAYLOAD_FILE, source.payload.chunks(SEALED_CHUNK))
            beside.rename(target)
        except BaseException as error:
            shutil.rmtree(beside, ignore_errors=True)
            if isinstance(error, OSError):
                raise OutputError(f"{target}: cannot be written: {error.strerror}") from None
            raise


def _pieces(source: StoredBundle) -> Iterator[bytes | memoryview]:
    yield container.front(source.manifest, source.signature, source.payload.size, source.second)
    yield from source.payload.chunks(SEALED_CHUNK)

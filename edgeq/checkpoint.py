"""What an interrupted calibration leaves behind: encrypted with a key that only this device can derive, and removed at the end.

It holds histograms and some of the samples, which are nobody's business: so it is sealed like an overlay, bound to the
model and to what was asked, and whatever does not open is not used.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from edgeq import limits
from edgeq.errors import InputError, OutputError
from edgeq.files import PRIVATE, PathLike, read_limited, remove_leftovers, write_atomic
from edgeq.recipients import Identity

MAGIC: Final = b"edgeq-checkpoint-1\n"
SUFFIX: Final = ".part"
"""Of the file, behind the name of what is being made."""

EVERY: Final = 5.0
"""Seconds between two; writing one takes milliseconds."""

DEAD: Final = 600.0
"""Seconds after which whoever wrote to a file and did not finish has died."""

_LABEL: Final = b"edgeq-checkpoint/1 seal"
_NONCE_SIZE: Final = 12


class Checkpoint:
    """The file beside `output` that a run of this kind goes on from. `purpose` is what must be the same: model and options."""

    def __init__(self, output: PathLike, identity: Identity, purpose: bytes) -> None:
        self.path = Path(f"{os.fspath(output)}{SUFFIX}")
        self._cipher = ChaCha20Poly1305(identity.derive(_LABEL).reveal())
        self._bound = MAGIC + hashlib.sha256(purpose).digest()
        self._next = time.monotonic() + EVERY

    def read(self) -> bytes | None:
        """What the interrupted run wrote, None where there is nothing that this run can go on from."""
        try:
            data = read_limited(self.path, limits.CHECKPOINT)
        except InputError:
            return None
        head = len(MAGIC) + _NONCE_SIZE
        if len(data) <= head or not data.startswith(MAGIC):
            return None
        try:
            return self._cipher.decrypt(data[len(MAGIC) : head], data[head:], self._bound)
        except InvalidTag:
            return None

    def write(self, content: bytes) -> None:
        """Replace the file. Raises OutputError."""
        nonce = os.urandom(_NONCE_SIZE)
        sealed = self._cipher.encrypt(nonce, content, self._bound)
        write_atomic(self.path, MAGIC + nonce + sealed, mode=PRIVATE)

    def write_when_due(self, content: Callable[[], bytes]) -> None:
        """Replace the file if the last one is EVERY seconds old; a disk that does not take it does not end the run."""
        if time.monotonic() >= self._next:
            with suppress(OutputError):
                self.write(content())
            self._next = time.monotonic() + EVERY

    def remove(self) -> None:
        """Delete the file, if there is one, and what runs that died while they wrote it have left beside it."""
        with suppress(FileNotFoundError):
            self.path.unlink()
        remove_leftovers(self.path.parent, DEAD)

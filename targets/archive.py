"""A zip file, smaller than the standard library writes it: deflate by zopfli, where that is installed, which looks further.

Entries are sorted and dated 1980, so that the same files give the same bytes (with the same compressor).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from functools import lru_cache
from importlib.util import find_spec

_LOCAL, _CENTRAL, _END = struct.Struct("<4s5H3L2H"), struct.Struct("<4s6H3L5H2L"), struct.Struct("<4s4H2LH")
_VERSION, _UNIX, _UTF8, _DEFLATED, _STORED = 20, 3, 1 << 11, 8, 0
_DATE = 1 << 5 | 1  # 1980-01-01, the first day that the format knows
_ROUNDS = 5


def archive(files: Mapping[str, bytes]) -> bytes:
    """The content of a zip file with these entries; shared objects may be executed, nothing else."""
    body, directory = bytearray(), bytearray()
    alone = sum(name.endswith(".so") for name in files) == 1  # a device's wheel is worth some seconds more
    for name in sorted(files):
        content, path = files[name], name.encode()
        packed = deflated(content, splitting=alone)
        method = _DEFLATED
        if len(packed) >= len(content):
            packed, method = content, _STORED
        facts = (method, 0, _DATE, zlib.crc32(content), len(packed), len(content), len(path), 0)
        mode = (0o100755 if name.endswith(".so") else 0o100644) << 16
        directory += _CENTRAL.pack(
            b"PK\x01\x02", _UNIX << 8 | _VERSION, _VERSION, _UTF8, *facts, 0, 0, 0, mode, len(body)
        ) + path  # fmt: skip
        body += _LOCAL.pack(b"PK\x03\x04", _VERSION, _UTF8, *facts) + path + packed
    end = _END.pack(b"PK\x05\x06", 0, 0, len(files), len(files), len(directory), len(body), 0)
    return bytes(body + directory + end)


def deflated(content: bytes, *, splitting: bool = False) -> bytes:
    """A raw deflate stream of this content. splitting: into blocks, which takes three times as long and saves 0.4 % of code."""
    if find_spec("zopfli") is not None:
        return _by_zopfli(content, splitting)
    coder = zlib.compressobj(9, zlib.DEFLATED, -15)
    return coder.compress(content) + coder.flush()


@lru_cache(maxsize=256)  # most of what one target's wheel holds is in the next one's, too
def _by_zopfli(content: bytes, splitting: bool) -> bytes:
    from zopfli.zlib import compress

    # Not the two bytes of zlib's head, not its checksum.
    return bytes(compress(content, numiterations=_ROUNDS, blocksplitting=splitting)[2:-4])

"""Seeded mutations of everything that the trust side parses: an EdgeqError or the original meaning, nothing else.

`python tests/test_tamper_fuzz.py N` runs N mutations of each reader instead of the few that the tests run.
"""

from __future__ import annotations

import base64
import json
import random
import sys
from collections.abc import Callable
from contextlib import suppress

import pytest
import rooted
from trusted import LATER, NOW, device, granted, publisher, sealed, trust

from edgeq import audit, bundle, grant, manifest, oms, pem, root, seal, state, status
from edgeq.errors import EdgeqError

Reader = tuple[bytes, Callable[[bytes], object]]

TOKENS = [
    b'"', b"{", b"}", b"[", b"]", b",", b":", b"\\", b"\\u0000", b"\\ud800", b"null", b"true", b"NaN", b"-0", b"1e9",
    b"9" * 40, b"\x00", b"\xff", b"\xc3\xa9", b"\xef\xbb\xbf", b"[" * 100, b'{"a":' * 50, b"=", b"A" * 100, b"-----", b"\n",
]  # fmt: skip
"""What means something to one of the parsers."""


def readers() -> dict[str, Reader]:
    """Each thing that is parsed, with the function that parses it."""
    envelope = json.loads(sealed().signature)["dsseEnvelope"]
    held = granted(sealed())
    taken_back = status.revoking(
        status.first(publisher().public.key_id, now=NOW, expires=LATER), grants=frozenset({"00" * 16, "01" * 16})
    )
    signed_status = status.sign(status.requiring(taken_back, "m", 2), publisher())
    key = state.mac_key(device())
    remembered = state.write(state.counted(state.start(device().public.key_id, NOW), "00" * 16, None), key)
    signer = audit.signing_key(device())
    begin = audit.start(device().public.key_id, "init", NOW)
    end = audit.extended(begin, audit.Event("checkpoint"), device().public.key_id, signer, NOW, full=False)
    lines = [line.encode() for line in (*begin.pending, *end.pending)]
    private = pem.private_bytes(publisher().blocks, None)
    return {
        "bundle": (seal.seal(b"model", publisher(), model_id="m", version=1).to_bytes(), bundle.parse),
        "signature": (sealed().signature, lambda data: oms.verify(data, trust())),
        "statement": (base64.b64decode(envelope["payload"]), oms._digests),
        "manifest": (sealed().manifest, manifest.parse),
        "grant": (held, lambda data: grant.verify(data, trust())),
        "grant payload": (base64.b64decode(json.loads(held)["payload"]), grant.parse),
        "status": (signed_status, lambda data: status.verify(data, trust())),
        "status payload": (base64.b64decode(json.loads(signed_status)["payload"]), status.parse),
        "root": (rooted.signed(rooted.first(), 0, 1), root.verify),
        "root payload": (root.parse(rooted.signed(rooted.first())).envelope.payload, root._root),
        "audit line": (lines[0], audit.parse),
        "audit log": (b"".join(line + b"\n" for line in lines), lambda data: audit.verify([(1, data)], signer.public)),
        "state": (remembered, lambda data: state.read(data, key, device().public.key_id)),
        "private key": (private, lambda data: pem.load_private(data, None, "key")),
        "public key": (pem.public_bytes(device().public.blocks), lambda data: pem.load_public(data, "key")),
    }


def mutate(data: bytes, rng: random.Random) -> bytes:
    """One to four changes: a bit, a byte, a token, a piece cut, doubled or moved."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        place, length = rng.randrange(len(out) + 1), rng.choice((1, 2, 4, 16, 64))
        match rng.randrange(6):
            case 0:
                out[place : place + 1] = bytes([rng.randrange(256)])
            case 1 if place < len(out):
                out[place] ^= 1 << rng.randrange(8)
            case 2:
                out[place:place] = rng.choice(TOKENS)
            case 3:
                del out[place : place + length]
            case 4:
                out[place:place] = out[place : place + length]
            case _:
                end = rng.randrange(len(out) + 1)
                out[place : place + length] = out[end : end + length]
    return bytes(out)


def run(name: str, times: int, seed: int = 0) -> None:
    """Feed a reader `times` mutations; what it raises other than EdgeqError passes through."""
    data, read = readers()[name]
    rng = random.Random(f"{name} {seed}")
    for _ in range(times):
        with suppress(EdgeqError):
            read(mutate(data, rng))


@pytest.mark.parametrize(
    "name",
    ["bundle", "signature", "statement", "manifest", "grant", "grant payload", "status", "status payload", "state"],
)
def test_documents(name: str) -> None:
    """No mutation of a document or container raises anything but an EdgeqError."""
    run(name, 300 if name.startswith("root") else 1500)  # a root holds six keys, which take their time


@pytest.mark.parametrize("name", ["private key", "public key"])
def test_key_files(name: str) -> None:
    """No mutation of a key file raises anything but an EdgeqError."""
    run(name, 500)


if __name__ == "__main__":
    for reader in readers():
        run(reader, int(sys.argv[1]), seed=1)
        print(f"{reader}: {sys.argv[1]} mutations, no stray exception")

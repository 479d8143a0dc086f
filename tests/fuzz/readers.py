"""Everything that edgeq parses of what others wrote: by name, a sound example and the function that reads it.

A reader raises an EdgeqError or returns; whatever else comes out of it is a finding. Signed documents are there twice: with their
signatures, and as the payload inside, which a forger could fill at will.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from functools import cache

import numpy as np
import rooted
from tflite_models import int8_cnn
from trusted import LATER, NOW, device, granted, publisher, sealed, trust

from edgeq import audit, bundle, coding, grant, manifest, masked, masking, oms, pem, root, seal, second, state, status
from edgeq.check import check
from edgeq.keys import PublisherKey
from edgeq.tflite import read, write

Reader = tuple[bytes, Callable[[bytes], object]]


@cache
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
    signing_twice = PublisherKey.generate(second=True)
    twice = seal.seal(b"model", signing_twice, model_id="m", version=1)
    private = pem.private_bytes(publisher().blocks, None)
    return {
        "bundle": (seal.seal(b"model", publisher(), model_id="m", version=1).to_bytes(), bundle.parse),
        "signature": (sealed().signature, lambda data: oms.verify(data, trust())),
        "statement": (base64.b64decode(envelope["payload"]), oms._digests),
        "second signature": (
            twice.second,
            lambda data: second.check(data, signing_twice.public.second, twice.manifest),
        ),
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
        "masked array": (masking.mask(np.arange(6), device().public).to_bytes(), masked.parse),
        "tflite": (write(int8_cnn()), lambda data: check(read(data))),
        "coded payload": (_coded(), lambda data: coding.decode(memoryview(data))),
        "public key": (pem.public_bytes(device().public.blocks), lambda data: pem.load_public(data, "key")),
    }


def _coded() -> bytes:
    """A payload with codebooks, one section packed and one deflated."""
    model = bytes([3]) + bytes([7, 9] * 20) + bytes([1, 2, 5, 8] * 10) + b"behind"
    packed = coding.Section(1, 4, 10, 2, 1, coding.PACKED, bytes([7, 9] * 2), coding.pack(bytes([0, 1] * 20), 1))
    four = coding.Section(
        41, 4, 10, 4, 2, coding.DEFLATED, bytes([1, 2, 5, 8]), coding.deflate(bytes([0, 1, 2, 3] * 10))
    )
    return coding.encode(model, [packed, four])

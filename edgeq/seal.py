"""Sealing: a publisher's model becomes a bundle, signed, and encrypted unless asked otherwise."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace

from edgeq import bundle, oms, second, stream
from edgeq.bundle import Bundle
from edgeq.fields import MODEL_ID, VERSION
from edgeq.keys import RAW_SIGNATURE_SIZE, PublisherKey
from edgeq.manifest import CODED, MANIFEST_FILE, PAYLOAD_SIZE, PLAIN, Encryption, Manifest
from edgeq.recipients import ContentKey


def seal(
    model: bytes | memoryview,
    key: PublisherKey,
    *,
    model_id: str,
    version: int,
    encrypt: bool = True,
    coded: bool = False,
) -> Bundle:
    """A bundle that holds `model`, byte for byte, in the name of `key`. `coded`: `model` is a coded payload (edgeq.coding).

    The content key is random and kept nowhere but in the bundle, wrapped for the publisher's own key. The caller has
    checked that `model` is a well-formed .tflite: nothing here looks into it.

    Raises DocumentError for a model id, version or size that a manifest cannot hold.
    """
    manifest = Manifest(
        bundle_id=os.urandom(16).hex(),
        model_id=MODEL_ID(model_id, "model id"),
        version=VERSION(version, "version"),
        payload_size=PAYLOAD_SIZE(len(model), "model size"),
        payload_type=CODED if coded else PLAIN,
    )
    if not encrypt:
        return _sign(manifest, memoryview(model), key)
    content_key = ContentKey.generate()
    manifest = replace(manifest, encryption=_encryption(manifest, content_key, key))
    return _sign(manifest, _encrypt(manifest, content_key, memoryview(model), key), key)


def _encryption(manifest: Manifest, content_key: ContentKey, key: PublisherKey) -> Encryption:
    commitment = stream.commitment(content_key, bytes.fromhex(manifest.bundle_id)).hex()
    bare = Encryption(commitment, key.wrapping.key_id, b"")
    info = replace(manifest, encryption=bare).wrap_info()
    return replace(bare, wrapped_key=key.wrapping.wrap(content_key, info))


def _encrypt(manifest: Manifest, content_key: ContentKey, model: memoryview, key: PublisherKey) -> bytearray:
    signature = bundle.sign_plaintext(key, manifest, hashlib.sha256(model).digest())
    manifest_hash = hashlib.sha256(manifest.to_bytes()).digest()
    return stream.encrypt(content_key, manifest_hash, (model, memoryview(signature)), len(model) + RAW_SIGNATURE_SIZE)


def _sign(manifest: Manifest, payload: bytearray | memoryview, key: PublisherKey) -> Bundle:
    manifest_bytes = manifest.to_bytes()
    digests = {
        MANIFEST_FILE: hashlib.sha256(manifest_bytes).hexdigest(),
        bundle.PAYLOAD_FILE: hashlib.sha256(payload).hexdigest(),
    }
    signature = oms.sign(key, digests, manifest.model_id)
    return Bundle(manifest_bytes, signature, payload, second.sign(key, oms.signed_bytes(signature)))

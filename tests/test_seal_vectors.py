"""The committed bundle vectors: every later edgeq reads what this one wrote, to the same result."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import struct
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, hpke, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from edgeq import bundle, errors, grant, keys, loader, manifest, stream, strict
from edgeq.trust import Trust

FOLDER = Path(__file__).resolve().parent / "vectors" / "bundle"
INDEX = json.loads((FOLDER / "index.json").read_text())


def named(row: dict[str, Any]) -> str:
    return f"{row['bundle']} {row['grant']} {row['operation']} at {row['now']}: {row['expect']}"


@pytest.mark.parametrize("row", INDEX["cases"], ids=named)
def test_case(row: dict[str, Any]) -> None:
    """Each case opens to the model, or is refused with the error that is written down."""

    def read() -> bytes | memoryview:
        return loader.read_model(
            FOLDER / row["bundle"],
            grant=row["grant"] and FOLDER / row["grant"],
            identity=FOLDER / "device-private.pem",
            trust=FOLDER / "publisher.pub",
            operation=row["operation"],
            now=datetime.fromtimestamp(row["now"], timezone.utc),
        )

    if row["expect"] == "opens":
        assert bytes(read()) == (FOLDER / "model.tflite").read_bytes()
    else:
        with pytest.raises(errors.TrustError) as refused:
            read()
        assert type(refused.value).__name__ == row["expect"]


def test_values() -> None:
    """The ids, digests and keys are those that are written down, by this implementation's formulas."""
    private = keys.load_publisher(FOLDER / "publisher-private.pem")
    assert private.public.key_id == INDEX["publisher_key_id"]
    assert keys.load_device_public(FOLDER / "device.pub").key_id == INDEX["device_key_id"]
    source = bundle.parse((FOLDER / "sealed.eqb").read_bytes())
    assert hashlib.sha256(source.manifest).hexdigest() == INDEX["manifest_sha256"]
    assert hashlib.sha256(source.payload).hexdigest() == INDEX["payload_sha256"]
    assert hashlib.sha256((FOLDER / "model.tflite").read_bytes()).hexdigest() == INDEX["model_sha256"]
    said = manifest.parse(source.manifest)
    assert said.encryption is not None
    key = private.unwrap(said.encryption.wrapped_key, said.wrap_info())
    assert key.reveal().hex() == INDEX["content_key"]
    again = stream.encrypt(key, bytes.fromhex(INDEX["manifest_sha256"]), [plaintext(source, key)], said.plaintext_size)
    assert again == source.payload


def plaintext(source: bundle.Bundle, key: keys.ContentKey) -> memoryview:
    out = memoryview(bytearray(manifest.parse(source.manifest).plaintext_size))
    pieces = range(0, len(source.payload), stream.SEALED_CHUNK)
    chunks = [memoryview(source.payload)[i : i + stream.SEALED_CHUNK] for i in pieces]
    stream.decrypt_into(out, key, hashlib.sha256(source.manifest).digest(), chunks)
    return out


@pytest.mark.parametrize("name", ["sealed.eqb", "signed.eqb"])
def test_bundles_write_back(name: str) -> None:
    """A bundle that was read is written to the same bytes, its manifest too."""
    data = (FOLDER / name).read_bytes()
    parsed = bundle.parse(data)
    assert parsed.to_bytes() == data
    assert manifest.parse(parsed.manifest).to_bytes() == parsed.manifest


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.eqg")), ids=lambda path: path.stem)
def test_grants_write_back(path: Path) -> None:
    """A grant that was read is written to the same bytes."""
    trust = Trust((keys.load_publisher_public(FOLDER / "publisher.pub"),))
    held = grant.verify(path.read_bytes(), trust)
    value = json.loads(path.read_bytes())
    assert strict.to_base64(strict.canonical(held.to_json())) == value["payload"]
    assert strict.canonical(value) == path.read_bytes()


def test_directory_by_model_signing() -> None:
    """A directory that model_signing signed verifies without model_signing."""
    found = loader.verify(FOLDER / "oms", trust=FOLDER / "publisher.pub")
    assert set(found.digests) == {"config.json", "weights.bin"}
    assert found.key_id == INDEX["publisher_key_id"]


def test_a_reader_from_the_document_alone() -> None:
    """docs/bundle-format.md says enough: this reader, which uses nothing of edgeq's, opens the encrypted vector."""
    data = (FOLDER / "sealed.eqb").read_bytes()
    magic, number, manifest_size, signature_size, second, payload_size, zero = struct.unpack("<8s6I", data[:32])
    assert (magic, number, second, zero) == (b"EQB\r\n\x1a\n\0", 1, 0, 0)
    start = -(-(32 + manifest_size + signature_size) // 4096) * 4096
    said_bytes, payload = data[32 : 32 + manifest_size], data[start:]
    assert len(payload) == payload_size
    said = json.loads(said_bytes)

    terms_bytes = base64.b64decode(json.loads((FOLDER / "load.eqg").read_bytes())["payload"])
    terms = json.loads(terms_bytes)
    wrapped = base64.b64decode(terms.pop("wrapped_key"))
    info = b"edgeq-grant/1 device key\0" + hashlib.sha256(spell(terms)).digest()
    device = serialization.load_pem_private_key((FOLDER / "device-private.pem").read_bytes(), None)
    suite = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305)
    content_key = suite.decrypt(wrapped, device, info=info)
    assert content_key.hex() == INDEX["content_key"]

    manifest_hash, bundle_id = hashlib.sha256(said_bytes).digest(), bytes.fromhex(said["bundle_id"])
    assert derive(content_key, bundle_id, b"edgeq-bundle/1 commitment").hex() == said["encryption"]["commitment"]
    cipher = ChaCha20Poly1305(derive(content_key, manifest_hash, b"edgeq-bundle/1 stream"))
    pieces = [payload[i : i + 65_552] for i in range(0, len(payload), 65_552)]
    opened = b"".join(
        cipher.decrypt(i.to_bytes(11, "big") + bytes([i == len(pieces) - 1]), piece, manifest_hash)
        for i, piece in enumerate(pieces)
    )
    model, signature = opened[:-64], opened[-64:]
    assert (len(pieces), model) == (2, (FOLDER / "model.tflite").read_bytes())

    statement = {name: said[name] for name in ("bundle_id", "model_id", "version")}
    statement |= {"size": len(model), "sha256": hashlib.sha256(model).hexdigest()}
    kind, body = b"application/vnd.edgeq.plaintext.v1+json", spell(statement)
    message = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(body), body)
    public = serialization.load_pem_public_key((FOLDER / "publisher.pub").read_bytes())
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    public.verify(encode_dss_signature(r, s), message, ec.ECDSA(hashes.SHA256()))


def spell(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def derive(key: bytes, salt: bytes, info: bytes) -> bytes:
    """HKDF-SHA256 to 32 bytes (RFC 5869: one block), from HMAC alone."""
    return hmac.digest(hmac.digest(salt, key, "sha256"), info + b"\x01", "sha256")

"""Sealing: what a bundle holds, and that nothing of it depends on anything but the model and the keys."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from trusted import content_key, model, plain, publisher, sealed, trust

from edgeq import bundle, container, limits, loader, manifest, pack, seal, stream
from edgeq.bundle import Bundle
from edgeq.errors import ContainerError, OutputError
from edgeq.keys import RAW_SIGNATURE_SIZE

CHUNK = limits.CHUNK
SIZES = [
    1,
    8,
    CHUNK - RAW_SIGNATURE_SIZE - 1,
    CHUNK - RAW_SIGNATURE_SIZE,
    CHUNK - RAW_SIGNATURE_SIZE + 1,
    CHUNK - 1,
    CHUNK,
    CHUNK + 1,
    2 * CHUNK - RAW_SIGNATURE_SIZE,
    3 * CHUNK + 7,
]


@pytest.mark.parametrize("size", SIZES)
def test_any_size_comes_back(size: int) -> None:
    """A model of any size decrypts to itself, the inner signature behind it, wherever the chunks end."""
    whole = hashlib.shake_256(b"any").digest(size)
    source = seal.seal(whole, publisher(), model_id="m", version=1)
    signed = bundle.open_signed(source.manifest, source.signature, trust())
    assert len(source.payload) == signed.manifest.stored_size == stream.sealed_size(size + RAW_SIGNATURE_SIZE)
    out = memoryview(bytearray(signed.manifest.plaintext_size))
    pieces = range(0, len(source.payload), stream.SEALED_CHUNK)
    chunks = [memoryview(source.payload)[i : i + stream.SEALED_CHUNK] for i in pieces]
    stream.decrypt_into(out, content_key(source), signed.manifest_hash, chunks)
    assert out[:size] == whole
    bundle.check_plaintext(signed, hashlib.sha256(whole).digest(), bytes(out[size:]))


def test_file_form() -> None:
    """The payload starts on a page and ends the file; what parses writes back to the same bytes."""
    for source in (sealed(), plain()):
        data = source.to_bytes()
        parsed = bundle.parse(data)
        assert parsed.to_bytes() == data
        assert b"".join(source.pieces()) == data
        assert (len(data) - len(source.payload)) % limits.PAYLOAD_ALIGNMENT == 0
        assert manifest.parse(parsed.manifest).to_bytes() == source.manifest
        assert data.startswith(container.MAGIC)


def test_signed_only_payload_is_the_model() -> None:
    """The payload of a bundle that is not encrypted is the model as it stands, for any tool."""
    assert bytes(plain().payload) == model()
    assert manifest.parse(plain().manifest).encryption is None


def test_nothing_repeats() -> None:
    """Sealing one model twice shares no id, no key, no commitment and no chunk."""
    first, second = sealed(), sealed.__wrapped__()
    a, b = manifest.parse(first.manifest), manifest.parse(second.manifest)
    assert a.encryption is not None
    assert b.encryption is not None
    assert a.bundle_id != b.bundle_id
    assert a.encryption.commitment != b.encryption.commitment
    assert content_key(first).reveal() != content_key(second).reveal()
    assert not set(chunks(first.payload)) & set(chunks(second.payload))


def chunks(payload: bytes | bytearray | memoryview) -> list[bytes]:
    return [bytes(payload[i : i + 1024]) for i in range(0, len(payload), 1024)]


def test_manifest_tells_nothing_of_the_model() -> None:
    """A bundle's readable parts hold no digest of the plain model, in any of the usual spellings."""
    digest = hashlib.sha256(model()).digest()
    for part in (sealed().manifest, sealed().signature):
        assert digest.hex().encode() not in part
        assert digest not in part
    assert model()[:16] not in sealed().to_bytes()


def test_overhead() -> None:
    """Encryption adds 16 bytes to each 64 KiB and the inner signature; framing less than two pages."""
    large = seal.seal(bytes(4 * 1024 * 1024), publisher(), model_id="m", version=1)
    assert len(large.payload) == 4 * 1024 * 1024 + 64 + 65 * 16
    assert len(large.to_bytes()) - len(large.payload) == limits.PAYLOAD_ALIGNMENT


def test_manifest_is_canonical_json() -> None:
    """The manifest is the JSON that docs/bundle-format.md describes, in its canonical spelling."""
    value = json.loads(sealed().manifest)
    assert list(value) == sorted(value)
    assert value["format"] == "edgeq-bundle/1"
    assert (value["model_id"], value["version"], value["payload_size"]) == ("acme/spotter", 3, 200_000)
    assert list(value["encryption"]) == ["commitment", "publisher", "suite", "wrapped_key"]


def test_canonical_is_rfc_8785() -> None:
    """edgeq's canonical JSON is that of an independent RFC 8785 writer."""
    rfc8785 = pytest.importorskip("rfc8785")
    for data in (sealed().manifest, sealed().signature, plain().manifest):
        assert rfc8785.dumps(json.loads(data)) == data


# --- packing and unpacking --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [sealed, plain], ids=["encrypted", "plain"])
def test_pack_and_unpack(tmp_path: Path, source: Callable[[], Bundle]) -> None:
    """A bundle unpacked and packed again is the same file, and either form verifies."""
    data = source().to_bytes()
    (tmp_path / "one.eqb").write_bytes(data)
    pack.unpack(tmp_path / "one.eqb", tmp_path / "folder")
    assert sorted(path.name for path in (tmp_path / "folder").iterdir()) == sorted(bundle.FILES)
    pack.pack(tmp_path / "folder", tmp_path / "two.eqb")
    assert (tmp_path / "two.eqb").read_bytes() == data
    for path in ("one.eqb", "folder"):
        assert loader.verify(tmp_path / path, trust=trust()).key_id == publisher().public.key_id


def test_unpack_does_not_overwrite(tmp_path: Path) -> None:
    """Unpacking into something that exists changes nothing there."""
    (tmp_path / "one.eqb").write_bytes(plain().to_bytes())
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError):
        pack.unpack(tmp_path / "one.eqb", tmp_path / "folder")
    assert list((tmp_path / "folder").iterdir()) == []


def test_unpack_leaves_nothing_behind(tmp_path: Path) -> None:
    """A bundle that turns out to be cut short leaves no directory."""
    (tmp_path / "one.eqb").write_bytes(plain().to_bytes()[:-1])
    with pytest.raises(Exception, match="announces"):
        pack.unpack(tmp_path / "one.eqb", tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["one.eqb"]


def test_pack_a_plain_model(tmp_path: Path) -> None:
    """Only bundles are packed and unpacked."""
    (tmp_path / "model.tflite").write_bytes(model())
    with pytest.raises(ContainerError):
        pack.unpack(tmp_path / "model.tflite", tmp_path / "folder")

"""OpenSSF Model Signing, both ways: `model_signing` accepts what edgeq signs, edgeq accepts what `model_signing` signs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from trusted import edit_json, model, plain, publisher, sealed, stranger

from edgeq import loader, pack, pem, seal
from edgeq.bundle import Bundle
from edgeq.errors import DigestError, EncodingError, FileSetError, SignatureCountError, SuiteError, UntrustedKeyError
from edgeq.keys import PublisherKey

pytest.importorskip("model_signing")
pytest.importorskip("OpenSSL", reason="model-signing needs pyOpenSSL and does not say so")

from model_signing import hashing, signing, verifying


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the publisher's two key files, as edgeq writes them, and a stranger's public one."""
    private = publisher().blocks
    (tmp_path / "acme.key").write_bytes(pem.private_bytes(private, None))
    (tmp_path / "acme.pub").write_bytes(pem.public_bytes([key.public_key() for key in private]))
    (tmp_path / "other.pub").write_bytes(pem.public_bytes([stranger().public.signing]))
    return tmp_path


def unpacked(folder: Path, source: Bundle) -> Path:
    """The bundle as a directory."""
    (folder / "bundle.eqb").write_bytes(source.to_bytes())
    pack.unpack(folder / "bundle.eqb", folder / "bundle")
    return folder / "bundle"


def their_verify(directory: Path, public: Path) -> None:
    """What model_signing's API does with a key; it raises for what it refuses."""
    config = verifying.Config().use_elliptic_key_verifier(public_key=public)
    config.verify(directory, directory / "model.sig")


def their_sign(directory: Path, private: Path, config: hashing.Config | None = None) -> None:
    """model_signing's API signs a directory with a key of edgeq's."""
    hashes = (config or hashing.Config()).set_ignored_paths(paths=["model.sig"])
    signer = signing.Config().use_elliptic_key_signer(private_key=private).set_hashing_config(hashes)
    signer.sign(directory, directory / "model.sig")


@pytest.mark.parametrize("source", [sealed, plain], ids=["encrypted", "plain"])
def test_they_accept_ours(folder: Path, source: Callable[[], Bundle]) -> None:
    """model_signing verifies an unpacked bundle with the .pub file as it is, and refuses another key."""
    directory = unpacked(folder, source())
    their_verify(directory, folder / "acme.pub")
    with pytest.raises(ValueError, match="Key mismatch"):
        their_verify(directory, folder / "other.pub")


def test_their_command_accepts_ours(folder: Path) -> None:
    """`model_signing verify key`, unmodified, says that an unpacked bundle is good, and that a changed one is not."""
    directory = unpacked(folder, plain())
    command = [sys.executable, "-m", "model_signing", "verify", "key", str(directory)]
    command += ["--signature", str(directory / "model.sig"), "--public_key", str(folder / "acme.pub")]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    (directory / "payload.bin").write_bytes(model()[:-1] + b"\x00")
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0


def test_their_command_accepts_a_second_signature(folder: Path) -> None:
    """A bundle that is signed twice is good to model_signing too, once it is told which file is not its business."""
    key = PublisherKey.generate(second=True)
    (folder / "twice.pub").write_bytes(pem.public_bytes(key.public.blocks))
    directory = unpacked(folder, seal.seal(model(), key, model_id="acme/m", version=1))
    command = [sys.executable, "-m", "model_signing", "verify", "key", str(directory)]
    command += ["--signature", str(directory / "model.sig"), "--public_key", str(folder / "twice.pub")]
    command += ["--ignore-paths", str(directory / "model.pq.sig")]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("source", [sealed, plain], ids=["encrypted", "plain"])
def test_we_accept_theirs(folder: Path, source: Callable[[], Bundle]) -> None:
    """A bundle's directory that model_signing signed with the .key file as it is verifies, and packs to a bundle."""
    directory = unpacked(folder, source())
    (directory / "model.sig").unlink()
    their_sign(directory, folder / "acme.key")
    found = loader.verify(directory, trust=folder / "acme.pub")
    assert found.key_id == publisher().public.key_id
    assert found.manifest is not None
    with pytest.raises(UntrustedKeyError):
        loader.verify(directory, trust=folder / "other.pub")
    pack.pack(directory, folder / "again.eqb")
    assert loader.verify(folder / "again.eqb", trust=folder / "acme.pub").digests == found.digests
    (directory / "payload.bin").write_bytes(bytes(len(source().payload)))
    with pytest.raises(DigestError):
        loader.verify(directory, trust=folder / "acme.pub")


def any_directory(folder: Path) -> Path:
    """A model of many files, which is not a bundle."""
    directory = folder / "any"
    (directory / "sub" / "deep").mkdir(parents=True)
    for name in ("config.json", "sub/weights-1", "sub/weights.bin", "sub/deep/ä.txt"):
        (directory / name).write_bytes(name.encode())
    return directory


def test_we_accept_any_directory_of_theirs(folder: Path) -> None:
    """Any directory that model_signing signed with a P-256 key verifies, as long as every file in it is signed."""
    directory = any_directory(folder)
    their_sign(directory, folder / "acme.key")
    found = loader.verify(directory, trust=folder / "acme.pub")
    assert set(found.digests) == {"config.json", "sub/weights-1", "sub/weights.bin", "sub/deep/ä.txt"}
    assert found.manifest is None


OTHER_SUITES = [
    ("blake3", hashing.Config().use_file_serialization(hashing_algorithm="blake3"), SuiteError),
    # model_signing writes the shard size as a float, which it does not read back itself.
    ("shards", hashing.Config().use_shard_serialization(shard_size=1000), EncodingError),
]


@pytest.mark.parametrize(("config", "error"), [pytest.param(c, e, id=name) for name, c, e in OTHER_SUITES])
def test_other_suites(folder: Path, config: hashing.Config, error: type[Exception]) -> None:
    """A signature over other digests, or over parts of files, is another suite, which edgeq does not speak."""
    directory = any_directory(folder)
    their_sign(directory, folder / "acme.key", config)
    with pytest.raises(error):
        loader.verify(directory, trust=folder / "acme.pub")


def ignored_file(directory: Path) -> None:
    (directory / ".gitignore").write_bytes(b"anything")


def second_signature(directory: Path) -> None:
    def add(value: dict[str, Any]) -> None:
        value["dsseEnvelope"]["signatures"].append({"sig": "AAAA", "keyid": ""})

    (directory / "model.sig").write_bytes(edit_json((directory / "model.sig").read_bytes(), add))


@pytest.mark.parametrize(("change", "error"), [(ignored_file, FileSetError), (second_signature, SignatureCountError)])
def test_where_we_are_stricter(folder: Path, change: Callable[[Path], None], error: type[Exception]) -> None:
    """model_signing passes over files of git and over all signatures but the first; edgeq refuses both."""
    directory = any_directory(folder)
    their_sign(directory, folder / "acme.key")
    change(directory)
    their_verify(directory, folder / "acme.pub")
    with pytest.raises(error):
        loader.verify(directory, trust=folder / "acme.pub")


def test_both_refuse_a_signature_by_name_only(folder: Path) -> None:
    """A directory whose signature was taken from another is refused by both."""
    first, second = any_directory(folder), folder / "second"
    their_sign(first, folder / "acme.key")
    shutil.copytree(first, second)
    (second / "config.json").write_bytes(b"other")
    with pytest.raises(ValueError, match="mismatch"):
        their_verify(second, folder / "acme.pub")
    with pytest.raises(DigestError):
        loader.verify(second, trust=folder / "acme.pub")

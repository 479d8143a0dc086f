"""The published vectors of OpenSSF Model Signing: what edgeq makes of each, and what model_signing does."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from trusted import NOW, publisher

from edgeq import keys, loader, root
from edgeq.errors import (
    BadSignatureError,
    DigestError,
    DocumentError,
    EnvelopeError,
    FileSetError,
    KeyFileError,
    LengthError,
    UntrustedKeyError,
)

VECTORS = Path(__file__).parent / "vectors" / "oms"
KEY = VECTORS / "signing-key-pub.pem"

ACCEPTED = ["valid/key.bundle.json", "model_signing/v1.1.0.sig"]

REFUSED: list[tuple[str, type[Exception], bool]] = [
    ("model_signing/v1.0.1.sig", EnvelopeError, True),
    ("valid/certificate.bundle.json", EnvelopeError, False),
    ("valid/sigstore.bundle.json", EnvelopeError, False),
    ("invalid/empty.bundle.json", LengthError, False),
    ("invalid/missing-envelope.bundle.json", DocumentError, False),
    ("invalid/missing-tlog-entries.bundle.json", EnvelopeError, False),
    ("invalid/missing-verification-material.bundle.json", DocumentError, False),
    ("invalid/wrong-predicate.bundle.json", BadSignatureError, False),
]
"""File, edgeq's error, and whether model_signing verifies it with the key; certificates and identities need other commands."""


def directory(folder: Path, vector: str) -> Path:
    """The signed directory with this signature."""
    found = folder / "model"
    found.mkdir()
    (found / "signme-1").write_bytes(b"signme-1\n")
    (found / "signme-2").write_bytes(b"signme-2")
    (found / "model.sig").write_bytes((VECTORS / vector).read_bytes())
    return found


def theirs(found: Path) -> bool | None:
    """Whether model_signing accepts the directory with the key, as its command calls it; None where it is not installed."""
    if not (find_spec("model_signing") and find_spec("OpenSSL")):
        return None
    from model_signing import hashing, verifying

    signature = found / "model.sig"
    passed_over = hashing.Config().set_ignored_paths(paths=[signature])
    try:
        config = verifying.Config().use_elliptic_key_verifier(public_key=KEY).set_hashing_config(passed_over)
        config.verify(found, signature)
    except Exception:
        return False
    return True


@pytest.mark.parametrize("vector", ACCEPTED)
def test_accepted_by_both(tmp_path: Path, vector: str) -> None:
    """A signature with the published key verifies, and does not for other files, more files or another key."""
    found = directory(tmp_path, vector)
    assert set(loader.verify(found, trust=KEY).digests) == {"signme-1", "signme-2"}
    assert theirs(found) is not False
    (found / "signme-2").write_bytes(b"signme-3")
    with pytest.raises(DigestError):
        loader.verify(found, trust=KEY)
    assert theirs(found) is not True


@pytest.mark.parametrize(("vector", "error", "accepted"), REFUSED, ids=[vector for vector, *_ in REFUSED])
def test_refused(tmp_path: Path, vector: str, error: type[Exception], accepted: bool) -> None:
    """What the vectors call invalid is refused, and what needs certificates or identities, with an error that says so."""
    found = directory(tmp_path, vector)
    with pytest.raises(error):
        loader.verify(found, trust=KEY)
    assert theirs(found) in (None, accepted)


def test_where_we_differ(tmp_path: Path) -> None:
    """A file on the signed ignore list is not signed: model_signing passes over it, edgeq refuses the directory."""
    found = directory(tmp_path, "model_signing/v1.1.0.sig")
    (found / "ignore-me").write_bytes(b"")
    assert theirs(found) is not False
    with pytest.raises(FileSetError):
        loader.verify(found, trust=KEY)


def test_a_key_on_another_curve(tmp_path: Path) -> None:
    """A key on P-384 is trusted to sign directories and nothing else: it can own no root."""
    found = directory(tmp_path, "valid/key.bundle.json")
    with pytest.raises(UntrustedKeyError):
        loader.verify(found, trust=publisher().public)
    other = keys.load_publisher_public(KEY)
    assert other.wrapping is None
    with pytest.raises(KeyFileError):
        root.draft(root.first({other.key_id: other.to_der()}, 1, now=NOW))

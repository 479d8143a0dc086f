"""Keys: what the files hold, who may read them, and what is refused as a key."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa, x25519

from edgeq import keys, limits, pem
from edgeq.errors import BadSignatureError, InputError, KeyFileError, OutputError, PassphraseError, WrappedKeyError
from edgeq.recipients import ContentKey, has_hybrid

PKCS8, SPKI = serialization.PrivateFormat.PKCS8, serialization.PublicFormat.SubjectPublicKeyInfo
PEM = serialization.Encoding.PEM


def test_publisher_files(tmp_path: Path) -> None:
    """A publisher's two files give back its keys: they sign and verify, wrap and unwrap."""
    made = keys.new_publisher(tmp_path / "acme")
    private = keys.load_publisher(tmp_path / "acme.key")
    public = keys.load_publisher_public(tmp_path / "acme.pub")
    assert private.public.key_id == public.key_id == made.public.key_id
    public.verify(b"message", private.sign(b"message"))
    public.verify_raw(b"message", private.sign_raw(b"message"))
    assert public.wrapping is not None
    key = ContentKey.generate()
    assert private.unwrap(public.wrapping.wrap(key, b"info"), b"info").reveal() == key.reveal()


def test_device_files(tmp_path: Path) -> None:
    """A device's two files give back its key: what is wrapped for the one opens with the other."""
    keys.new_device(tmp_path / "pi")
    private, public = keys.load_device(tmp_path / "pi.key"), keys.load_device_public(tmp_path / "pi.pub")
    key = ContentKey.generate()
    wrapped = public.wrap(key, b"info")
    assert private.unwrap(wrapped, b"info").reveal() == key.reveal()
    with pytest.raises(WrappedKeyError):
        private.unwrap(wrapped, b"other info")


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_private_files_are_private(tmp_path: Path, umask: int) -> None:
    """A private key is readable by its owner alone, whatever the umask; a public key by whom the umask lets."""
    before = os.umask(umask)
    try:
        keys.new_device(tmp_path / "pi")
    finally:
        os.umask(before)
    assert (tmp_path / "pi.key").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "pi.pub").stat().st_mode & 0o777 == 0o644 & ~umask


@pytest.mark.parametrize("taken", ["pi.key", "pi.pub"])
def test_no_key_is_overwritten(tmp_path: Path, taken: str) -> None:
    """A new key never takes the place of a file, and a failure leaves no half of a pair."""
    (tmp_path / taken).write_bytes(b"precious")
    with pytest.raises(OutputError, match="there is a file already"):
        keys.new_device(tmp_path / "pi")
    assert (tmp_path / taken).read_bytes() == b"precious"
    assert os.listdir(tmp_path) == [taken]


def test_passphrase(tmp_path: Path) -> None:
    """An encrypted key opens with its passphrase, and with nothing else; there is no plain key in the file."""
    keys.new_publisher(tmp_path / "acme", passphrase=b"correct horse")
    text = (tmp_path / "acme.key").read_text()
    assert text.count("BEGIN ENCRYPTED PRIVATE KEY") == text.count("BEGIN") == (3 if has_hybrid() else 2)
    assert keys.load_publisher(tmp_path / "acme.key", passphrase=b"correct horse").sign(b"x")
    for wrong in (None, b"", b"correct horsf", b"x" * (limits.PASSPHRASE + 1)):
        with pytest.raises(PassphraseError):
            keys.load_publisher(tmp_path / "acme.key", passphrase=wrong)


def test_passphrase_that_nobody_needs(tmp_path: Path) -> None:
    """A passphrase in the environment does not stand in the way of a key that is not encrypted."""
    keys.new_device(tmp_path / "pi")
    assert keys.load_device(tmp_path / "pi.key", passphrase=b"unused").public.key_id


@pytest.mark.parametrize("passphrase", [None, b"secret"])
def test_openssl_reads_our_keys(tmp_path: Path, passphrase: bytes | None) -> None:
    """`openssl pkey` opens what edgeq writes: nothing about the files is edgeq's own."""
    keys.new_publisher(tmp_path / "acme", passphrase=passphrase)
    command = ["openssl", "pkey", "-in", str(tmp_path / "acme.key"), "-pubout", "-passin", "pass:secret"]
    try:
        done = subprocess.run(command, capture_output=True, check=True)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    assert (tmp_path / "acme.pub").read_bytes().startswith(done.stdout)


def test_a_lone_signing_key_is_trust(tmp_path: Path) -> None:
    """A P-256 public key that another tool made can be trusted, though nothing can be sealed for it."""
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    (tmp_path / "other.pub").write_bytes(public.public_bytes(PEM, SPKI))
    assert keys.load_publisher_public(tmp_path / "other.pub").wrapping is None


def pem_of(*private: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | x25519.X25519PrivateKey) -> bytes:
    return b"".join(key.private_bytes(PEM, PKCS8, serialization.NoEncryption()) for key in private)


P256, X25519 = ec.generate_private_key(ec.SECP256R1()), x25519.X25519PrivateKey.generate()
P384 = ec.generate_private_key(ec.SECP384R1())
PUBLISHER, DEVICE = pem_of(P256, X25519), pem_of(X25519)

NOT_A_PUBLISHER = [
    ("a device's key", DEVICE),
    ("two keys in the wrong order", pem_of(X25519, P256)),
    ("a signing key alone", pem_of(P256)),
    ("three keys", pem_of(P256, X25519, X25519)),
    ("another curve", pem_of(ec.generate_private_key(ec.SECP384R1()), X25519)),
    ("RSA", pem_of(rsa.generate_private_key(65537, 2048), X25519)),
    ("a public key", P256.public_key().public_bytes(PEM, SPKI)),
    ("text in front", b"# my key\n" + PUBLISHER),
    ("text behind", PUBLISHER + b"# my key\n"),
    ("text between", pem_of(P256) + b"x" + DEVICE),
    ("empty", b""),
    ("not text", b"\x80\xff" * 50),
    ("cut short", PUBLISHER[:-40]),
    ("damaged", PUBLISHER.replace(b"MI", b"NI", 1)),
    ("too long", PUBLISHER + b"\n" * limits.KEY_FILE),
]


@pytest.mark.parametrize("data", [pytest.param(data, id=name) for name, data in NOT_A_PUBLISHER])
def test_not_a_publisher_key(tmp_path: Path, data: bytes) -> None:
    """Whatever is not a publisher's two private keys is refused with one line that repeats none of it."""
    with pytest.raises(KeyFileError) as caught:
        keys.parse_publisher(data, what="acme.key")
    assert str(caught.value).startswith("acme.key: ")
    assert "\n" not in str(caught.value)
    assert not any(line in str(caught.value).encode() for line in data.splitlines() if len(line) > 8)


@pytest.mark.parametrize(
    ("parse", "data"),
    [
        (keys.parse_device, PUBLISHER),
        (keys.parse_device, X25519.public_key().public_bytes(PEM, SPKI)),
        (keys.parse_publisher_public, PUBLISHER),
        (keys.parse_publisher_public, X25519.public_key().public_bytes(PEM, SPKI)),
        (keys.parse_device_public, DEVICE),
        (keys.parse_device_public, P256.public_key().public_bytes(PEM, SPKI)),
    ],
)
def test_one_kind_of_key_for_another(parse: Callable[[bytes], object], data: bytes) -> None:
    """A private key for a public one, or a publisher's for a device's, is refused."""
    with pytest.raises(KeyFileError, match="expected"):
        parse(data)


def test_no_key_file(tmp_path: Path) -> None:
    """A path that is no file is an InputError, as for any other argument."""
    with pytest.raises(InputError, match="no such file"):
        keys.load_device(tmp_path / "missing.key")


@pytest.mark.parametrize("signature", [b"", b"\x30\x06\x02\x01\x00\x02\x01\x00", bytes(64), b"\x30" * 72])
def test_malformed_signatures(signature: bytes) -> None:
    """A signature that is no signature at all is a bad signature, in either form."""
    public = keys.PublisherPublic(P256.public_key())
    with pytest.raises(BadSignatureError):
        public.verify(b"message", signature)
    with pytest.raises(BadSignatureError):
        public.verify_raw(b"message", signature)


def test_keys_do_not_print() -> None:
    """No repr or str of a private key or content key shows any of it."""
    key, device = ContentKey(b"0123456789abcdef" * 2), keys.DeviceKey(X25519)
    publisher = keys.PublisherKey(P256, device)
    raw = X25519.private_bytes_raw()
    for shown in (repr(key), str(vars(type(key))), repr(device), repr(publisher), str(device.__dict__)):
        assert "0123456789abcdef" not in shown
        assert raw.hex() not in shown
        assert repr(raw)[2:-1] not in shown


def test_a_verifier_leaves_closed_what_it_does_not_use(tmp_path: Path) -> None:
    """Whoever verifies gets the same signing keys as from the whole file, and none to wrap for."""
    for options in ({"hybrid": False}, {"hybrid": True}, {"hybrid": True, "second": True}):
        try:
            made = keys.PublisherKey.generate(**options)
        except KeyFileError:
            continue  # a `cryptography` without ML-KEM or ML-DSA
        data = pem.public_bytes(made.public.blocks)
        found, whole = keys.parse_verifier(data), keys.parse_publisher_public(data)
        assert (found.key_id, found.hint, found.second_der()) == (whole.key_id, whole.hint, whole.second_der())
        assert found.wrapping is None
    alone = pem.public_bytes([P256.public_key()])
    assert keys.parse_verifier(alone).key_id == keys.parse_publisher_public(alone).key_id


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(PUBLISHER, id="private"),
        pytest.param(pem.public_bytes([X25519.public_key()]), id="none that signs"),
        pytest.param(pem.public_bytes([X25519.public_key(), P256.public_key()]), id="in another order"),
        pytest.param(pem.public_bytes([P256.public_key(), X25519.public_key(), P256.public_key()]), id="two that sign"),
        pytest.param(pem.public_bytes([P256.public_key(), P256.public_key()]), id="nothing between two that sign"),
        pytest.param(pem.public_bytes([P384.public_key(), X25519.public_key()]), id="a curve that seals nothing"),
        pytest.param(
            pem.public_bytes([P256.public_key()]) + pem._pem("PUBLIC KEY", pem.public_der(X25519.public_key()) + b"x"),
            id="a key of another length",
        ),
    ],
)
def test_what_is_no_publisher_verifies_nothing(data: bytes) -> None:
    """A file that holds no publisher's public keys is refused by either reading."""
    for parse in (keys.parse_verifier, keys.parse_publisher_public):
        with pytest.raises(KeyFileError):
            parse(data)

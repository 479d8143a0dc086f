"""Device keys in chips: opening wraps with nothing but ECDH, and real tokens (SoftHSM2, swtpm) where they are installed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hpke, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tflite_models import int8_cnn

from edgeq import chip, identities, keys, pem
from edgeq.chip import ChipKey
from edgeq.cli import main
from edgeq.errors import EdgeqError, InputError, KeyFileError, OutputError, PassphraseError, WrappedKeyError
from edgeq.recipients import ContentKey
from edgeq.tflite import write

SOFTHSM = Path("/usr/lib/softhsm/libsofthsm2.so")
SUITE = hpke.Suite(hpke.KEM.P256, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305)


def point(key: ec.EllipticCurvePublicKey) -> bytes:
    """65 bytes, uncompressed."""
    return key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)


def in_software(private: ec.EllipticCurvePrivateKey) -> ChipKey:
    """A chip that is none."""

    def exchange(other: bytes) -> bytes:
        return private.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), other))

    return ChipKey(chip.recipient(point(private.public_key())), exchange)


def test_it_is_hpke() -> None:
    """What `cryptography` wraps for a P-256 key opens with ECDH alone, and only under its info and whole."""
    private = ec.generate_private_key(ec.SECP256R1())
    found, key = in_software(private), ContentKey.generate()
    for info in (b"", b"info", bytes(100)):
        wrapped = SUITE.encrypt(key.reveal(), private.public_key(), info=info)
        assert found.unwrap(wrapped, info).reveal() == key.reveal()
        assert SUITE.decrypt(found.public.wrap(key, info), private, info=info) == key.reveal()
        for other, said in ((wrapped, info + b"x"), (wrapped[:-1], info), (wrapped + b"x", info), (b"", info)):
            with pytest.raises(WrappedKeyError):
                found.unwrap(other, said)


def test_points_off_the_curve_never_reach_the_chip() -> None:
    """A share that is not a point of P-256, uncompressed, is refused before the chip multiplies it with its key."""
    private, asked = ec.generate_private_key(ec.SECP256R1()), []
    found = ChipKey(chip.recipient(point(private.public_key())), lambda other: asked.append(other) or bytes(32))
    good = point(ec.generate_private_key(ec.SECP256R1()).public_key())
    off = bytes((*good[:-1], good[-1] ^ 1))
    for share in (off, bytes(65), b"\x04" + bytes(64), b"\x02" + good[1:33] + bytes(32), b"\x04" + b"\xff" * 64):
        with pytest.raises(WrappedKeyError):
            found.unwrap(share + bytes(48), b"")
    assert asked == []


def test_derived_secrets() -> None:
    """A chip derives the same secret every time, others for other labels, and another chip others."""
    found, other = (in_software(ec.generate_private_key(ec.SECP256R1())) for _ in range(2))
    assert found.derive(b"a").reveal() == found.derive(b"a").reveal()
    assert len({found.derive(b"a").reveal(), found.derive(b"b").reveal(), other.derive(b"a").reveal()}) == 3


def test_public_files() -> None:
    """A chip's public key is told from one that signs, in both directions, and reads back."""
    private = ec.generate_private_key(ec.SECP256R1())
    data = pem.public_bytes([pem.ChipPublic(private.public_key())])
    assert keys.parse_device_public(data).key_id == in_software(private).public.key_id
    assert keys.parse_recipient(data).key_id == in_software(private).public.key_id
    for read in (keys.parse_publisher_public,):
        with pytest.raises(KeyFileError):
            read(data)
    with pytest.raises(KeyFileError):
        keys.parse_device_public(pem.public_bytes([private.public_key()]))
    der = bytearray(pem.public_der(pem.ChipPublic(private.public_key())))
    der[-1] ^= 1
    with pytest.raises(KeyFileError, match="point"):
        keys.parse_device_public(pem._pem("PUBLIC KEY", bytes(der)))


NO_CHIP = """
pkcs11: pkcs11:token=a pkcs11:token=a;object=b pkcs11:token=a;object=b?module-path=c&x=d
tpm2: tpm2:7 tpm2:0x80000000 tpm2:0x81800000 tpm2:0x81010007?tcti=$(x) tpm2:0x81010007;x
"""


@pytest.mark.parametrize("name", NO_CHIP.split())
def test_names_of_no_chip(name: str) -> None:
    """A name that says too little, too much or something else is refused by what it should have said."""
    with pytest.raises(InputError, match="expected"):
        identities.load(name, passphrase=b"1234")


# --- real tokens ------------------------------------------------------------------------------------------------------

Token = tuple[str, str, Callable[[str], str]]


@pytest.fixture(scope="module")
def softhsm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Token]:
    """A SoftHSM2 token; the name of a key in it, its PIN, and names of others."""
    if not SOFTHSM.exists() or not shutil.which("softhsm2-util") or not find_spec("pkcs11"):
        pytest.skip("SoftHSM2 (softhsm2) or python-pkcs11 is not installed")
    folder = tmp_path_factory.mktemp("softhsm")
    (folder / "tokens").mkdir()
    (folder / "conf").write_text(f"directories.tokendir = {folder}/tokens\nobjectstore.backend = file\n")
    before = os.environ.get("SOFTHSM2_CONF")
    os.environ["SOFTHSM2_CONF"] = f"{folder}/conf"
    make = "softhsm2-util --init-token --free --label fleet --so-pin 1234 --pin 5678"
    subprocess.run(make.split(), check=True, capture_output=True)
    yield "pkcs11:token=fleet;object=gate?module-path=" + str(SOFTHSM), "5678", lambda n: n.replace("gate", "other")
    if before is None:
        del os.environ["SOFTHSM2_CONF"]
    else:
        os.environ["SOFTHSM2_CONF"] = before


@pytest.fixture(scope="module")
def swtpm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Token]:
    """A TPM in software; as `softhsm`."""
    if not shutil.which("swtpm") or not find_spec("tpm2_pytss"):
        pytest.skip("swtpm or tpm2-pytss is not installed")
    folder, port = tmp_path_factory.mktemp("swtpm"), free_ports()
    server = f"--server type=tcp,port={port} --ctrl type=tcp,port={port + 1} --flags not-need-init,startup-clear"
    command = f"swtpm socket --tpm2 --tpmstate dir={folder} {server}"
    with subprocess.Popen(command.split(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            until_open(port)
            tcti = f"swtpm:host=127.0.0.1,port={port}"
            yield f"tpm2:0x81010007?tcti={tcti}", "secret", lambda name: name.replace("0x81010007", "0x81010008")
        finally:
            process.kill()


def free_ports() -> int:
    """A port that is free, and so is the next."""
    for _ in range(50):
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            try:
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port
    raise AssertionError("no two ports")


def until_open(port: int) -> None:
    """Return when somebody listens."""
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port + 1)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("swtpm does not listen")


@pytest.fixture(params=["softhsm", "swtpm"])
def token(request: pytest.FixtureRequest) -> Token:
    """Each kind of token."""
    return request.getfixturevalue(request.param)  # type: ignore[no-any-return]


def test_a_token(
    token: Token, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A key made in a token opens bundles and keeps a state, from the command line, and never lies in a file."""
    name, pin, other = token
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGEQ_PASSPHRASE", pin)
    Path("m.tflite").write_bytes(write(int8_cnn()))
    access = ["--grant", "m.eqg", "--identity", name, "--trust", "acme.pub", "--state", "state"]
    for command, status in (
        (["keys", "new", "publisher", "acme"], 0),
        (["device", "init", "--identity", name, "--state", "state"], 1),
        (["keys", "new", "device", "pi", "--in", name, "--passphrase"], 0),
        (["keys", "new", "device", "pi2", "--in", name, "--passphrase"], 1),
        (["keys", "new", "device", "pi", "--in", other(name), "--passphrase"], 1),
        (["seal", "m.tflite", "--key", "acme.key", "--model-id", "m", "--version", "1", "-o", "m.eqb"], 0),
        (
            [
                "grant",
                "m.eqb",
                "--key",
                "acme.key",
                "--to",
                "pi.pub",
                "--allow",
                "export",
                "--max-loads=2",
                "-o",
                "m.eqg",
            ],
            0,
        ),
        (["device", "init", "--identity", name, "--state", "state"], 0),
        (["unseal", "m.eqb", *access, "-o", "out1.tflite"], 0),
        (["unseal", "m.eqb", *access, "-o", "out2.tflite"], 0),
        (["unseal", "m.eqb", *access, "-o", "out3.tflite"], 1),
        (["audit", "verify", "--identity", name, "--state", "state"], 0),
    ):
        assert main(command) == status, (command, capsys.readouterr().err)
    assert Path("out2.tflite").read_bytes() == Path("m.tflite").read_bytes()
    assert not Path("pi.key").exists()
    assert not Path("pi2.pub").exists()


def test_a_token_refuses(token: Token) -> None:
    """No PIN, a wrong one, a key that is not there, and a second key in the same place each have their own error."""
    name, pin, other = token
    with suppress(OutputError):  # the test before made it
        identities.create(name, passphrase=pin.encode())
    found = identities.load(name, passphrase=pin.encode())
    key = ContentKey.generate()
    assert found.unwrap(found.public.wrap(key, b"i"), b"i").reveal() == key.reveal()
    assert found.derive(b"a").reveal() == identities.load(name, passphrase=pin.encode()).derive(b"a").reveal()
    with pytest.raises(WrappedKeyError):
        found.unwrap(found.public.wrap(key, b"i"), b"j")
    for wrong in (None, b"0000"):
        with pytest.raises(PassphraseError):
            identities.load(name, passphrase=wrong)
    with pytest.raises(KeyFileError):
        identities.load(other(name), passphrase=pin.encode())
    with pytest.raises(OutputError):
        identities.create(name, passphrase=pin.encode())


@pytest.mark.parametrize(
    "name", ["pkcs11:token=a;object=b?module-path=/nowhere.so", "tpm2:0x81010007?tcti=device:/nowhere"]
)
def test_no_chip_there(name: str) -> None:
    """A library or device that is not there, or an extra that is not installed, is one clear error."""
    with pytest.raises(EdgeqError):
        identities.load(name, passphrase=b"1234")

"""The loader: one door for plain models and bundles, in an order that nothing skips."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tflite_models import int8_cnn
from trusted import (
    NOW,
    content_key,
    device,
    good_case,
    granted,
    model,
    plain,
    publisher,
    sealed,
    stranger,
    trust,
)

import edgeq
from edgeq import bundle, errors, grant, keys, loader, manifest, pack, pem, seal, stream
from edgeq.errors import (
    BadSignatureError,
    ContainerError,
    FormatError,
    GrantExpiredError,
    GrantOperationError,
    InputError,
    NotAModelError,
    PassphraseError,
    UnsignedError,
    UntrustedKeyError,
)
from edgeq.files import write_atomic
from edgeq.tflite import write
from edgeq.trust import Trust


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with a real model, plain and sealed, the keys and the grant, all in files."""
    tflite = write(int8_cnn())
    source = seal.seal(tflite, publisher(), model_id="acme/cnn", version=1)
    verified = bundle.verify(source, trust())
    held = grant.issue(verified, publisher(), device().public, ["load"], now=NOW.replace(year=2020))
    wide = grant.issue(verified, publisher(), device().public, ["export", "load"], now=NOW.replace(year=2020))
    unencrypted = seal.seal(tflite, publisher(), model_id="acme/cnn", version=1, encrypt=False)
    for name, data in (
        ("model.tflite", tflite),
        ("model.eqb", source.to_bytes()),
        ("plain.eqb", unencrypted.to_bytes()),
        ("load.eqg", held),
        ("export.eqg", wide),
        ("device.key", pem.private_bytes(device().blocks, None)),
        ("acme.pub", pem.public_bytes(publisher().public.blocks)),
        ("other.pub", pem.public_bytes([stranger().public.signing])),
    ):
        (tmp_path / name).write_bytes(data)
    pack.unpack(tmp_path / "model.eqb", tmp_path / "model.dir")
    return tmp_path


@pytest.mark.parametrize("name", ["model.eqb", "model.dir"])
def test_bundle_and_plain_model_run_alike(files: Path, name: str) -> None:
    """A sealed model, in either form, gives what the plain one gives."""
    x = np.random.default_rng(0).integers(-128, 128, (1, 8, 8, 2)).astype(np.int8)
    expected = edgeq.load(files / "model.tflite")(x)
    opened = edgeq.load(files / name, grant=files / "load.eqg", identity=files / "device.key", trust=files / "acme.pub")
    np.testing.assert_array_equal(opened(x), expected)


def test_signed_only_bundle_runs(files: Path) -> None:
    """A bundle that is not encrypted needs trust, and neither grant nor identity."""
    x = np.zeros((1, 8, 8, 2), np.int8)
    expected = edgeq.load(files / "model.tflite")(x)
    np.testing.assert_array_equal(edgeq.load(files / "plain.eqb", trust=files / "acme.pub")(x), expected)
    with pytest.raises(UntrustedKeyError):
        edgeq.load(files / "plain.eqb", trust=files / "other.pub")


def test_open_tflite(files: Path) -> None:
    """The plain bytes leave a bundle under a grant that allows export, and byte for byte."""
    access = {"identity": files / "device.key", "trust": files / "acme.pub"}
    expected = (files / "model.tflite").read_bytes()
    opened = edgeq.open_tflite(files / "model.eqb", grant=files / "export.eqg", **access)
    assert (type(opened), opened) == (bytes, expected)
    with pytest.raises(GrantOperationError):
        edgeq.open_tflite(files / "model.eqb", grant=files / "load.eqg", **access)


def test_open_tflite_of_what_is_not_encrypted(files: Path) -> None:
    """What anybody can read leaves without a grant: a signed-only bundle that verifies, and a plain model."""
    expected = (files / "model.tflite").read_bytes()
    assert edgeq.open_tflite(files / "plain.eqb", trust=files / "acme.pub") == expected
    assert edgeq.open_tflite(files / "model.tflite") == expected


@pytest.mark.parametrize("given", ["trust", "grant"])
def test_a_plain_model_is_no_substitute(files: Path, given: str) -> None:
    """Where a signature is expected, a plain model in the bundle's place is refused."""
    access = {"trust": files / "acme.pub"} if given == "trust" else {"grant": files / "load.eqg"}
    with pytest.raises(UnsignedError):
        loader.read_model(files / "model.tflite", **access)
    with pytest.raises(UnsignedError):
        loader.verify(files / "model.tflite", trust=files / "acme.pub")


def test_several_publishers(files: Path) -> None:
    """Trust may name several publishers, as paths, keys or a Trust."""
    both = (files / "other.pub", files / "acme.pub")
    for given in (both, [publisher().public, stranger().public], Trust((publisher().public,)), publisher().public):
        assert loader.verify(files / "model.eqb", trust=given).key_id == publisher().public.key_id
    with pytest.raises(UntrustedKeyError, match=stranger().public.key_id[:16]):
        loader.verify(files / "model.eqb", trust=files / "other.pub")


def test_encrypted_identity(tmp_path: Path) -> None:
    """An identity in an encrypted file opens with its passphrase, and says so without it."""
    made = keys.new_device(tmp_path / "pi", passphrase=b"secret")
    case = good_case().but(identity=tmp_path / "pi.key", grant=granted(sealed(), to=made))
    with pytest.raises(PassphraseError):
        case.load(tmp_path)
    opened = loader.read_model(
        tmp_path / "case.eqb",
        grant=case.grant,
        identity=tmp_path / "pi.key",
        trust=trust(),
        now=NOW,
        passphrase=b"secret",
    )
    assert opened == model()


def test_the_system_clock_is_asked(tmp_path: Path) -> None:
    """Without a time given, a grant that expired long ago is refused."""
    ancient = granted(sealed(), now=NOW.replace(year=2001), expires=NOW.replace(year=2002))
    (tmp_path / "case.eqb").write_bytes(sealed().to_bytes())
    with pytest.raises(GrantExpiredError):
        loader.read_model(tmp_path / "case.eqb", grant=ancient, identity=device(), trust=trust())


def test_several_operations(tmp_path: Path) -> None:
    """Work that needs several operations needs each of them granted."""
    (tmp_path / "case.eqb").write_bytes(sealed().to_bytes())
    access = {"identity": device(), "trust": trust(), "now": NOW, "operation": ("calibrate", "export")}
    both, one = granted(sealed(), allow=("calibrate", "export")), granted(sealed(), allow=("calibrate",))
    assert loader.read_model(tmp_path / "case.eqb", grant=both, **access) == model()
    with pytest.raises(GrantOperationError, match="not export"):
        loader.read_model(tmp_path / "case.eqb", grant=one, **access)


def test_no_operation(tmp_path: Path) -> None:
    """Opening a bundle for nothing in particular is refused: no grant allows that."""
    (tmp_path / "case.eqb").write_bytes(sealed().to_bytes())
    with pytest.raises(InputError, match="expected an operation"):
        loader.read_model(
            tmp_path / "case.eqb", grant=granted(sealed()), identity=device(), trust=trust(), operation=(), now=NOW
        )


def test_what_is_given_back_cannot_be_written(tmp_path: Path) -> None:
    """The opened model is read-only: no caller changes a verified model by accident."""
    for source in (sealed(), plain()):
        (tmp_path / "case.eqb").write_bytes(source.to_bytes())
        opened = loader.read_model(
            tmp_path / "case.eqb", grant=granted(sealed()), identity=device(), trust=trust(), now=NOW
        )
        assert isinstance(opened, memoryview)
        assert opened.readonly


def test_inspect_bundle(files: Path) -> None:
    """A bundle's claims can be read without any key, and only a bundle's."""
    for name in ("model.eqb", "model.dir", "plain.eqb"):
        assert loader.inspect_bundle(files / name).model_id == "acme/cnn"
    with pytest.raises(ContainerError):
        loader.inspect_bundle(files / "model.tflite")


NOT_MODELS: list[tuple[str, Callable[[Path], Path], type[Exception]]] = [
    ("no such file", lambda folder: folder / "missing", InputError),
    ("text", lambda folder: written(folder, b"hello, world, this is no model"), NotAModelError),
    ("empty", lambda folder: written(folder, b""), NotAModelError),
    ("a grant", lambda folder: folder / "load.eqg", NotAModelError),
    ("a directory", lambda folder: folder, NotAModelError),
    ("a device", lambda folder: Path("/dev/zero"), InputError),
    ("a flatbuffer of nothing", lambda folder: written(folder, b"\x04\x00\x00\x00TFL3"), FormatError),
]


def written(folder: Path, data: bytes) -> Path:
    (folder / "written").write_bytes(data)
    return folder / "written"


@pytest.mark.parametrize(("make", "error"), [pytest.param(make, error, id=name) for name, make, error in NOT_MODELS])
def test_neither_model_nor_bundle(files: Path, make: Callable[[Path], Path], error: type[Exception]) -> None:
    """What is neither a model nor a bundle is one line of error, of a kind that both sides catch."""
    with pytest.raises(error) as caught:
        edgeq.load(make(files))
    assert "\n" not in str(caught.value)


def test_order_of_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The signature stands before the grant, the grant before the cipher: a later step never sees what an earlier refuses."""

    def never(*_: object) -> None:
        raise AssertionError("reached")

    monkeypatch.setattr(stream, "decrypt_into", never)
    damaged = bytearray(good_case().data)
    place = damaged.index(b'"sig":"') + 40
    damaged[place] = ord("A") if damaged[place] != ord("A") else ord("B")
    expired = good_case().but(grant=granted(sealed(), expires=NOW.replace(year=2031)), now=NOW.replace(year=2032))
    with pytest.raises(GrantExpiredError):
        expired.load(tmp_path)
    with pytest.raises(BadSignatureError):
        expired.but(data=bytes(damaged)).load(tmp_path)


def test_large_payload_is_hashed_beside(tmp_path: Path) -> None:
    """A payload large enough for a second thread opens to the same bytes, and is refused for the same damage."""
    large = model(3_000_000)
    source = seal.seal(large, publisher(), model_id="acme/large", version=1)
    case = good_case(source)
    assert case.load(tmp_path) == large
    damaged = bytearray(case.data)
    damaged[-1] ^= 1
    with pytest.raises(errors.ChunkError):
        case.but(data=bytes(damaged)).load(tmp_path)


def test_content_key_is_the_bundles_own() -> None:
    """Publisher and device derive one content key, which the manifest commits to."""
    source = manifest.parse(sealed().manifest)
    assert source.encryption is not None
    found = stream.commitment(content_key(sealed()), bytes.fromhex(source.bundle_id))
    assert found.hex() == source.encryption.commitment


TRUST_MODULES = ["keys", "seal", "grant", "trust", "bundle", "source", "pack", "loader"]


@pytest.mark.parametrize("module", TRUST_MODULES)
def test_trust_imports_neither_numpy_nor_numba(module: str) -> None:
    """Whoever only seals, grants or verifies waits for no array library and no compiler."""
    code = f"import sys, edgeq.{module}; print([m for m in ('numpy', 'numba', 'llvmlite') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_verifying_imports_neither_numpy_nor_numba(tmp_path: Path) -> None:
    """Not while it works, either: opening an encrypted bundle to its bytes included."""
    write_atomic(tmp_path / "case.eqb", sealed().pieces())
    write_atomic(tmp_path / "acme.pub", pem.public_bytes([publisher().public.signing]))
    write_atomic(tmp_path / "device.key", pem.private_bytes(device().blocks, None))
    write_atomic(tmp_path / "case.eqg", granted(sealed(), now=NOW.replace(year=2020)))
    code = (
        "import sys; from edgeq import loader; loader.verify('case.eqb', trust='acme.pub');"
        "loader.read_model('case.eqb', grant='case.eqg', identity='device.key', trust='acme.pub');"
        "print([m for m in ('numpy', 'numba', 'llvmlite') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == "[]"

"""Attacks on what is to outlast P-256 and X25519: second signatures and hybrid wraps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import rooted
from refusals import refused
from trusted import LATER, NOW, Case, device, edit_json, good_case, granted, publisher, regranted, sealed, stranger

from edgeq import bundle, grant, loader, oms, pack, root, seal, second
from edgeq.bundle import Bundle
from edgeq.errors import (
    BadSignatureError,
    DocumentError,
    EncodingError,
    KeyFileError,
    LengthError,
    MissingSignatureError,
    SuiteError,
    TrustError,
    UntrustedKeyError,
    WrappedKeyError,
)
from edgeq.keys import PublisherKey
from edgeq.recipients import DeviceKey, has_hybrid
from edgeq.trust import Trust

pytestmark = pytest.mark.skipif(not has_hybrid(), reason="this cryptography package has no ML-KEM and ML-DSA")

MODEL = b"\x1c\x00\x00\x00TFL3" + bytes(1000)


@cache
def twofold() -> PublisherKey:
    """A publisher with a second signing key."""
    return PublisherKey.generate(second=True)


@cache
def twice_signed(encrypt: bool = True) -> Bundle:
    """A bundle with both signatures."""
    return seal.seal(MODEL, twofold(), model_id="acme/m", version=1, encrypt=encrypt)


def case(source: Bundle) -> Case:
    """A case with the publisher that has a second key."""
    held = grant.issue(bundle.verify(source, trust()), twofold(), device().public, ["load"], now=NOW)
    return Case(source.to_bytes(), held, device(), trust())


def trust() -> Trust:
    """Trust in the publisher as its .pub says, with the second key."""
    return Trust((twofold().public,))


def under_root() -> Trust:
    """Trust in a root that names the publisher and its second key."""
    made = root.with_publisher(rooted.first(), twofold().public, frozenset({"acme/*"}), LATER)
    return rooted.trusting(root.verify(rooted.signed(made, 0, 1)))


@pytest.mark.parametrize("believed", [trust, under_root])
def test_both_signatures_open(tmp_path: Path, believed: Callable[[], Trust]) -> None:
    """With both signatures a bundle opens, as a file and as a directory, and packs back to the same bytes."""
    good = case(twice_signed()).but(trust=believed())
    assert good.load(tmp_path) == MODEL
    (tmp_path / "b.eqb").write_bytes(good.data)
    pack.unpack(tmp_path / "b.eqb", tmp_path / "b")
    assert loader.verify(tmp_path / "b", trust=believed(), now=NOW).key_id == twofold().public.key_id
    pack.pack(tmp_path / "b", tmp_path / "again.eqb")
    assert (tmp_path / "again.eqb").read_bytes() == good.data


def test_who_asks_for_one_signature_takes_either(tmp_path: Path) -> None:
    """A device that was told of the P-256 key alone opens bundles with a second signature and without."""
    alone = Trust((replace(twofold().public, second=None),))
    for source in (twice_signed(), replace(twice_signed(), second=b"")):
        assert case(twice_signed()).but(data=source.to_bytes(), trust=alone).load(tmp_path) == MODEL


@pytest.mark.parametrize("believed", [trust, under_root])
@pytest.mark.parametrize("encrypt", [True, False])
def test_row_12_stripped_second_signature(tmp_path: Path, encrypt: bool, believed: Callable[[], Trust]) -> None:
    """Without the second signature nothing opens and nothing verifies where trust asks for it, file or directory."""
    source = replace(twice_signed(encrypt), second=b"")
    (tmp_path / "b.eqb").write_bytes(source.to_bytes())
    pack.unpack(tmp_path / "b.eqb", tmp_path / "b")
    held = case(twice_signed()).grant
    for path in (tmp_path / "b.eqb", tmp_path / "b"):
        with refused(MissingSignatureError):
            loader.verify(path, trust=believed(), now=NOW)
        with refused(MissingSignatureError):
            loader.read_model(path, grant=held, identity=device(), trust=believed(), now=NOW)


def other_key(source: Bundle) -> bytes:
    return second.sign(PublisherKey.generate(second=True), oms.signed_bytes(source.signature))


def named_as_ours(source: Bundle) -> bytes:
    ours = second.strict.parse_canonical(source.second, 1 << 20, "")["key"]
    return edit_json(other_key(source), lambda value: value.update(key=ours))


def of_another_bundle(_: Bundle) -> bytes:
    return seal.seal(MODEL, twofold(), model_id="acme/m", version=2).second


def edited(**fields: object) -> Callable[[Bundle], bytes]:
    return lambda source: edit_json(source.second, lambda value: value.update(fields))


FORGED: list[tuple[str, Callable[[Bundle], bytes], type[TrustError]]] = [
    ("another key's", other_key, UntrustedKeyError),
    ("another key's in our name", named_as_ours, BadSignatureError),
    ("of another bundle", of_another_bundle, BadSignatureError),
    ("zeros", edited(signature=second.strict.to_base64(bytes(3309))), BadSignatureError),
    ("short", edited(signature=second.strict.to_base64(bytes(3308))), LengthError),
    ("no signature", edited(signature=""), LengthError),
    ("another format", edited(format="edgeq-second/2"), SuiteError),
    ("more fields", edited(more=1), DocumentError),
    ("spaces", lambda source: source.second + b" ", EncodingError),
    ("the first one again", lambda source: source.signature, DocumentError),
]


@pytest.mark.parametrize(("forge", "error"), [pytest.param(f, e, id=name) for name, f, e in FORGED])
def test_row_12_forged_second_signature(
    tmp_path: Path, forge: Callable[[Bundle], bytes], error: type[TrustError]
) -> None:
    """A second signature by anybody else, over anything else, or malformed is refused."""
    source = twice_signed()
    with refused(error):
        case(source).but(data=replace(source, second=forge(source)).to_bytes()).load(tmp_path)


def test_row_12_flipped_second_signature(tmp_path: Path) -> None:
    """A flipped bit anywhere in the second signature is refused."""
    source, good = twice_signed(), case(twice_signed())
    for place in range(0, len(source.second), 61):
        damaged = bytearray(source.second)
        damaged[place] ^= 1
        with refused(TrustError):
            good.but(data=replace(source, second=bytes(damaged)).to_bytes()).load(tmp_path)


def test_row_12_a_forger_of_the_first(tmp_path: Path) -> None:
    """Whoever can forge P-256 signatures (here: has that key) signs nothing without the second key."""
    forger = PublisherKey(twofold()._signing, stranger().identity, PublisherKey.generate(second=True)._second)
    source = seal.seal(MODEL, forger, model_id="acme/m", version=9, encrypt=False)
    (tmp_path / "b.eqb").write_bytes(source.to_bytes())
    with refused(UntrustedKeyError):
        loader.verify(tmp_path / "b.eqb", trust=trust())


def test_row_12_a_directory_has_one_signature(tmp_path: Path) -> None:
    """A signed directory that is no bundle does not verify where two signatures are asked for."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a").write_bytes(b"a")
    digest = bundle.hashlib.sha256(b"a").hexdigest()
    (tmp_path / "d" / "model.sig").write_bytes(oms.sign(twofold(), {"a": digest}, "d"))
    assert loader.verify(tmp_path / "d", trust=Trust((replace(twofold().public, second=None),)))
    with refused(MissingSignatureError):
        loader.verify(tmp_path / "d", trust=trust())


def test_row_12_a_root_keeps_its_second_key() -> None:
    """What a root says of a second key cannot be taken out or replaced under its signatures; a bad key makes no root."""
    made = root.with_publisher(rooted.first(), twofold().public, frozenset({"acme/*"}), LATER)
    data = rooted.signed(made, 0, 1)
    assert root.verify(data) == made
    plain = replace(made, publishers={**made.publishers, **rooted.first().publishers})
    plain = root.with_publisher(plain, replace(twofold().public, second=None), frozenset({"acme/*"}), LATER)
    forged = replace(root.parse(rooted.signed(plain)).envelope, signatures=root.parse(data).envelope.signatures)
    with refused(BadSignatureError):
        root.verify(root.strict.canonical(forged.to_json()))
    name = twofold().public.key_id
    for der in (b"", bytes(1974), twofold().public.to_der()):
        odd = {**made.publishers, name: replace(made.publishers[name], ml_dsa_65=der)}
        with refused(KeyFileError):
            root.draft(replace(made, publishers=odd))


# --- hybrid wraps -----------------------------------------------------------------------------------------------------


def test_hybrid_is_the_default() -> None:
    """Devices, issuers and publishers have hybrid keys unless asked otherwise, and so no wrap is classical alone."""
    assert len(grant.unverified(granted(sealed())).wrapped_key) == 1168
    assert bundle.manifest.parse(sealed().manifest).encryption is not None
    assert len(bundle.manifest.parse(sealed().manifest).encryption.wrapped_key) == 1168
    assert len(DeviceKey.generate().blocks) == 2
    assert len(DeviceKey.generate(hybrid=False).blocks) == 1


def test_row_29_malformed_ml_kem(tmp_path: Path) -> None:
    """A hybrid share whose ML-KEM ciphertext is damaged, empty or another's gives no key."""
    other = grant.unverified(granted(sealed(), to=DeviceKey.generate())).wrapped_key
    key = grant.unverified(granted(sealed())).wrapped_key
    for forged in (
        *(bytes((*key[:i], key[i] ^ 1, *key[i + 1 :])) for i in range(0, 1168, 97)),
        bytes(1088) + key[1088:],
        b"\xff" * 1088 + key[1088:],
        other[:1088] + key[1088:],
        key[:1088] + other[1088:],
        key[:1088] + other[1088:1120] + key[1120:],
    ):
        held = regranted(granted(sealed()), lambda held, forged=forged: replace(held, wrapped_key=forged))
        with refused(WrappedKeyError):
            good_case().but(grant=held).load(tmp_path)


def test_row_29_no_downgrade(tmp_path: Path) -> None:
    """A hybrid device opens nothing that was wrapped for its X25519 half alone, nor the other way round."""
    half = DeviceKey(device()._key)
    opened = grant.open_key(
        grant.unverified(granted(sealed())), device(), bundle.verify(sealed(), Trust((publisher().public,))).manifest
    )
    for wrapped_for, opener in ((half, device()), (device(), half)):

        def forge(held: grant.Grant, wrapped_for: DeviceKey = wrapped_for, opener: DeviceKey = opener) -> grant.Grant:
            named = replace(held, device=opener.public.key_id)
            return replace(named, wrapped_key=wrapped_for.public.wrap(opened, named.wrap_info()))

        with refused(WrappedKeyError):
            good_case().but(grant=regranted(granted(sealed()), forge), identity=opener).load(tmp_path)

"""The tamper matrix, rows 1 to 5, 7, 14 and 17: what an attacker can do to a bundle's bytes and files.

"Signed again" stands for more than an attacker can do: the outer signature is valid over the damage, so that the
encryption has to notice it on its own.
"""

from __future__ import annotations

import os
import struct
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from refusals import note, refused
from trusted import (
    content_key,
    device,
    edit_json,
    good_case,
    granted,
    model,
    plain,
    regranted,
    sealed,
    signed_again,
    trust,
)

from edgeq import bundle, container, grant, limits, loader, stream
from edgeq.bundle import Bundle
from edgeq.errors import (
    BadSignatureError,
    ChunkError,
    ContainerError,
    DigestError,
    DocumentError,
    EncodingError,
    EnvelopeError,
    GrantPayloadError,
    InnerSignatureError,
    LengthError,
    NotAModelError,
    SignatureCountError,
    SuiteError,
    TruncatedError,
    TrustError,
    UntrustedKeyError,
)
from edgeq.keys import RAW_SIGNATURE_SIZE
from edgeq.recipients import ContentKey

BIG = stream.SEALED_CHUNK
FULL = 3  # full chunks in front of the last one
PLAINTEXT = len(model()) + RAW_SIGNATURE_SIZE


def test_untouched_loads(tmp_path: Path) -> None:
    """What nobody touched loads: the refusals below are not for another reason."""
    assert good_case().load(tmp_path) == model()
    assert good_case().but(data=plain().to_bytes(), grant=None, identity=None).load(tmp_path) == model()


# --- row 1: flips -----------------------------------------------------------------------------------------------------

SHIFTED = (LengthError, EncodingError, ContainerError, DigestError)
"""What a wrong length of the manifest or the signature leads to: parts that start or end elsewhere."""

FLIPPED_HEADER = [
    ("magic", range(0, 8), (NotAModelError,)),
    ("version", range(8, 12), (SuiteError,)),
    ("manifest length", range(12, 16), SHIFTED),
    ("signature length", range(16, 20), SHIFTED),
    ("second signature length", range(20, 24), SHIFTED),
    ("payload length", range(24, 28), (LengthError,)),
    ("reserved", range(28, 32), (ContainerError,)),
]


@pytest.mark.parametrize(("places", "errors"), [pytest.param(p, e, id=name) for name, p, e in FLIPPED_HEADER])
def test_row_01_flipped_header(tmp_path: Path, places: range, errors: tuple[type[TrustError], ...]) -> None:
    """Every single bit of the header is refused when flipped."""
    case = good_case()
    for place in places:
        for bit in range(8):
            damaged = bytearray(case.data)
            damaged[place] ^= 1 << bit
            with refused(*errors):
                case.but(data=bytes(damaged)).load(tmp_path)


FLIPPED_PARTS = [
    ("manifest", (DigestError,)),
    (
        "signature",
        (
            EncodingError,
            EnvelopeError,
            DocumentError,
            SignatureCountError,
            UntrustedKeyError,
            BadSignatureError,
        ),
    ),
    ("padding", (ContainerError,)),
    ("payload", (ChunkError,)),
]


@pytest.mark.parametrize(("part", "errors"), FLIPPED_PARTS, ids=[name for name, _ in FLIPPED_PARTS])
def test_row_01_flipped_part(tmp_path: Path, part: str, errors: tuple[type[TrustError], ...]) -> None:
    """Every byte of the manifest and the signature, and bytes all over the rest, are refused when flipped."""
    case, source = good_case(), sealed()
    front = container.HEADER_SIZE + len(source.manifest)
    padding = front + len(source.signature)
    places = {
        "manifest": range(container.HEADER_SIZE, front),
        "signature": range(front, padding),
        "padding": range(padding, limits.PAYLOAD_ALIGNMENT, 97),
        "payload": range(limits.PAYLOAD_ALIGNMENT, len(case.data), 9973),
    }[part]
    for number, place in enumerate(places):
        damaged = bytearray(case.data)
        damaged[place] ^= 1 << number % 8
        with refused(*errors):
            case.but(data=bytes(damaged)).load(tmp_path)


def test_row_01_flipped_signed_only_payload(tmp_path: Path) -> None:
    """A flipped byte of a payload that is signed but not encrypted is refused by its digest."""
    data = bytearray(plain().to_bytes())
    data[-1] ^= 1
    with refused(DigestError):
        good_case().but(data=bytes(data)).load(tmp_path)


def test_row_01_flipped_payload_without_decrypting(tmp_path: Path) -> None:
    """`verify`, which holds no key, refuses a flipped byte of an encrypted payload by its digest."""
    data = bytearray(sealed().to_bytes())
    data[-1] ^= 1
    (tmp_path / "bundle.eqb").write_bytes(data)
    with refused(DigestError):
        loader.verify(tmp_path / "bundle.eqb", trust=trust())


# --- rows 2 to 5: chunks ----------------------------------------------------------------------------------------------

BOUNDARIES = [n * BIG + d for n in range(FULL + 1) for d in (-1, 0, 1) if n * BIG + d >= 0]


@pytest.mark.parametrize("kept", BOUNDARIES)
def test_row_02_truncated(tmp_path: Path, kept: int) -> None:
    """A file that ends at a chunk boundary, or one byte beside it, is refused by its length."""
    case = good_case()
    with refused(TruncatedError):
        case.but(data=case.data[: limits.PAYLOAD_ALIGNMENT + kept]).load(tmp_path)


@pytest.mark.parametrize("kept", [kept for kept in BOUNDARIES if kept])
def test_row_02_truncated_and_signed_again(tmp_path: Path, kept: int) -> None:
    """A payload that is shorter than the manifest implies is refused, whoever signs it."""
    source = sealed()
    cut = signed_again(replace(source, payload=bytes(source.payload[:kept])))
    with refused(LengthError):
        good_case().but(data=cut.to_bytes()).load(tmp_path)


@pytest.mark.parametrize("kept", BOUNDARIES)
def test_row_02_truncated_stream(kept: int) -> None:
    """The cipher itself refuses a stream that ends early."""
    assert_stream_refused(chunks_of(sealed().payload[:kept]))


def chunks_of(payload: bytes | bytearray | memoryview) -> list[bytes]:
    return [bytes(payload[i : i + BIG]) for i in range(0, len(payload), BIG)]


def swapped(chunks: list[bytes]) -> list[bytes]:
    return [chunks[1], chunks[0], *chunks[2:]]


def duplicated(chunks: list[bytes]) -> list[bytes]:
    return [chunks[0], chunks[0], *chunks[2:]]


def repeated(chunks: list[bytes]) -> list[bytes]:
    return [chunks[0], *chunks]


def dropped_first(chunks: list[bytes]) -> list[bytes]:
    return chunks[1:]


def dropped_last(chunks: list[bytes]) -> list[bytes]:
    return chunks[:-1]


def full_last(chunks: list[bytes]) -> list[bytes]:
    return [*chunks[:-1], chunks[0]]


def appended(chunks: list[bytes]) -> list[bytes]:
    return [*chunks, chunks[0]]


def appended_last(chunks: list[bytes]) -> list[bytes]:
    return [*chunks, chunks[-1]]


def appended_empty(chunks: list[bytes]) -> list[bytes]:
    return [*chunks, b""]


CHUNK_ATTACKS = [
    ("row 3", swapped),
    ("row 3", duplicated),
    ("row 3", repeated),
    ("row 3", dropped_first),
    ("row 3", dropped_last),
    ("row 4", full_last),
    ("row 4", appended),
    ("row 4", appended_last),
    ("row 4", appended_empty),  # last, since it leaves no trace in a file
]
CHUNK_IDS = [f"{row}-{attack.__name__}" for row, attack in CHUNK_ATTACKS]


@pytest.mark.parametrize(("row", "attack"), CHUNK_ATTACKS, ids=CHUNK_IDS)
def test_row_03_and_04_chunks(row: str, attack: Callable[[list[bytes]], list[bytes]]) -> None:
    """The cipher refuses chunks that were swapped, doubled, dropped or appended, and nothing of them is left."""
    assert_stream_refused(attack(chunks_of(sealed().payload)), int(row[-1]))


@pytest.mark.parametrize(("row", "attack"), CHUNK_ATTACKS[:-1], ids=CHUNK_IDS[:-1])
def test_row_03_and_04_bundle(tmp_path: Path, row: str, attack: Callable[[list[bytes]], list[bytes]]) -> None:
    """The same in a bundle whose signature and grant fit the damage: refused by length or by the cipher."""
    damaged = replace(sealed(), payload=b"".join(attack(chunks_of(sealed().payload))))
    assert_refused_although_signed(tmp_path, sealed(), damaged, (ChunkError, LengthError), int(row[-1]))


@pytest.mark.parametrize("last", [False, True])
def test_row_04_final_flag(last: bool) -> None:
    """A chunk encrypted as the last opens nowhere else, and another does not open as the last."""
    key, salt, whole = content_key(sealed()), manifest_hash(sealed()), bytes(2 * limits.CHUNK)
    two = chunks_of(bytes(stream.encrypt(key, salt, [memoryview(whole)], len(whole))))
    one = chunks_of(bytes(stream.encrypt(key, salt, [memoryview(whole[: limits.CHUNK])], limits.CHUNK)))
    chunks, size = ([one[0], two[1]], 2) if last else ([two[0]], 1)
    out = memoryview(bytearray(size * limits.CHUNK))
    with refused(ChunkError, match="chunk 0"):
        stream.decrypt_into(out, key, salt, [memoryview(c) for c in chunks])


@pytest.mark.parametrize("place", range(FULL + 1))
def test_row_05_spliced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: int) -> None:
    """Chunks do not move between two bundles, even under one content key, by any one place."""
    key = content_key(sealed())
    monkeypatch.setattr(ContentKey, "generate", classmethod(lambda cls: key))
    first, second = sealed.__wrapped__(version=3), sealed.__wrapped__(version=4)
    mixed = chunks_of(first.payload)
    mixed[place] = chunks_of(second.payload)[place]
    assert content_key(second).reveal() == content_key(first).reveal()
    assert_refused_although_signed(tmp_path, first, replace(first, payload=b"".join(mixed)), (ChunkError,))


def assert_stream_refused(chunks: list[bytes], row: int | None = None) -> None:
    """The cipher refuses these chunks, and leaves nothing of what it decrypted before it noticed."""
    out = memoryview(bytearray(PLAINTEXT))
    with refused(ChunkError, row=row):
        stream.decrypt_into(out, content_key(sealed()), manifest_hash(sealed()), map(memoryview, chunks))
    assert not any(out)


def assert_refused_although_signed(
    folder: Path, good: Bundle, damaged: Bundle, errors: tuple[type[TrustError], ...], row: int | None = None
) -> None:
    """Refused even if its outer signature is valid and the grant for the good bundle names exactly this payload."""
    again = signed_again(damaged)
    digest = bundle.open_signed(again.manifest, again.signature, trust()).payload_sha256
    with refused(*errors, row=row):
        good_case(good).but(data=again.to_bytes(), grant=rewrapped(good, payload_sha256=digest)).load(folder)


def rewrapped(source: Bundle, **fields: object) -> bytes:
    """A grant with other fields, its key wrapped anew for them: what only the publisher could make."""
    key = content_key(source)

    def change(held: grant.Grant) -> grant.Grant:
        bare = replace(held, **fields)  # type: ignore[arg-type]
        return replace(bare, wrapped_key=device().public.wrap(key, bare.wrap_info()))

    return regranted(granted(source), change)


def manifest_hash(source: Bundle) -> bytes:
    return bundle.open_signed(source.manifest, source.signature, trust()).manifest_hash


# --- row 7: manifest A, payload B -------------------------------------------------------------------------------------


def test_row_07_other_manifest(tmp_path: Path) -> None:
    """Another bundle's manifest is refused by its digest."""
    mixed = replace(sealed(), manifest=sealed(version=4).manifest)
    with refused(DigestError):
        good_case().but(data=mixed.to_bytes()).load(tmp_path)


def test_row_07_other_payload(tmp_path: Path) -> None:
    """Another bundle's payload of the same length is refused: it does not decrypt, and its digest differs."""
    mixed = replace(sealed(), payload=sealed(version=4).payload)
    with refused(ChunkError):
        good_case().but(data=mixed.to_bytes()).load(tmp_path)
    (tmp_path / "mixed.eqb").write_bytes(mixed.to_bytes())
    with refused(DigestError):
        loader.verify(tmp_path / "mixed.eqb", trust=trust())


def test_row_07_other_payload_signed_again(tmp_path: Path) -> None:
    """If the publisher had signed the mix, the grant is for another payload, and a fitting grant opens no chunk."""
    mixed = replace(sealed(), payload=sealed(version=4).payload)
    with refused(GrantPayloadError):
        good_case().but(data=signed_again(mixed).to_bytes()).load(tmp_path)
    assert_refused_although_signed(tmp_path, sealed(), mixed, (ChunkError,))


def test_row_07_other_plaintext(tmp_path: Path) -> None:
    """Whoever has the content key can encrypt another model, but not sign it: the inner signature refuses it."""
    source, other = sealed(), model()[:-1] + b"\x00"
    sealed_parts = memoryview(bytearray(PLAINTEXT))
    stream.decrypt_into(
        sealed_parts, content_key(source), manifest_hash(source), map(memoryview, chunks_of(source.payload))
    )
    parts = (memoryview(other), sealed_parts[len(other) :])
    payload = stream.encrypt(content_key(source), manifest_hash(source), parts, PLAINTEXT)
    assert_refused_although_signed(tmp_path, source, replace(source, payload=payload), (InnerSignatureError,))


# --- row 14: lengths --------------------------------------------------------------------------------------------------

LENGTHS = [
    pytest.param(offset, length, id=f"{name} {length}")
    for name, offset in (("manifest", 12), ("signature", 16), ("second signature", 20), ("payload", 24))
    for length in (0, 2**31, 2**32 - 1, 10_000_000)
    if (name, length) != ("second signature", 0)  # which is what it holds
]


@pytest.mark.parametrize(("offset", "length"), LENGTHS)
def test_row_14_length_fields(tmp_path: Path, offset: int, length: int) -> None:
    """A length of 0, 2^31, 2^32 − 1 or past the end of the file is refused before anything of that size is allocated."""
    data = bytearray(sealed().to_bytes())
    struct.pack_into("<I", data, offset, length)
    path = tmp_path / "case.eqb"
    path.write_bytes(data)
    tracemalloc.start()
    try:
        with refused(LengthError, SuiteError):
            loader.verify(path, trust=trust())
        assert tracemalloc.get_traced_memory()[1] < 500_000
    finally:
        tracemalloc.stop()


def test_row_14_longer_than_announced(tmp_path: Path) -> None:
    """Bytes behind the payload are refused."""
    with refused(LengthError):
        good_case().but(data=good_case().data + b"\x00").load(tmp_path)


@pytest.mark.parametrize("size", [0, 1, 4, 8, 31])
def test_row_14_shorter_than_a_header(tmp_path: Path, size: int) -> None:
    """A file that ends inside the header is neither a bundle nor a model."""
    with refused(NotAModelError, TruncatedError):
        good_case().but(data=good_case().data[:size]).load(tmp_path)


@pytest.mark.parametrize("size", [1, 2**31 - 1, 2**53 - 1])
def test_row_14_payload_size_in_the_manifest(tmp_path: Path, size: int) -> None:
    """A manifest that implies another length of the payload is refused, even signed, before a buffer is made for it."""
    source = sealed()
    manifest = edit_json(source.manifest, lambda value: value.update(payload_size=size))
    (tmp_path / "case.eqb").write_bytes(signed_again(replace(source, manifest=manifest)).to_bytes())
    tracemalloc.start()
    try:
        with refused(LengthError, DocumentError):
            loader.verify(tmp_path / "case.eqb", trust=trust())
        assert tracemalloc.get_traced_memory()[1] < 500_000
    finally:
        tracemalloc.stop()


# --- row 17: replaced while it is used --------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [sealed, plain])
def test_row_17_replaced_between_verify_and_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: Callable[[], Bundle]
) -> None:
    """A file that takes the bundle's name after the signature was verified is not looked at."""
    case, verify = good_case().but(data=source().to_bytes()), bundle.open_signed

    def verify_then_replace(*arguments: bytes) -> bundle.Signed:
        result = verify(*arguments)  # type: ignore[arg-type]
        (tmp_path / "evil").write_bytes(b"\x1c\x00\x00\x00TFL3" + bytes(len(case.data)))
        os.replace(tmp_path / "evil", tmp_path / "case.eqb")
        return result

    monkeypatch.setattr(bundle, "open_signed", verify_then_replace)
    assert case.load(tmp_path) == model()
    note("not looked at")


@pytest.mark.parametrize(
    ("source", "errors"), [(sealed, (ChunkError, DigestError)), (plain, (DigestError,))], ids=["encrypted", "plain"]
)
def test_row_17_written_over_between_verify_and_load(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    source: Callable[[], Bundle],
    errors: tuple[type[TrustError], ...],
) -> None:
    """A payload that is changed inside the open file after the signature was verified is refused."""
    case = good_case().but(data=source().to_bytes())
    verify = bundle.open_signed

    def verify_then_write(*arguments: bytes) -> bundle.Signed:
        result = verify(*arguments)  # type: ignore[arg-type]
        with open(tmp_path / "case.eqb", "r+b") as file:
            file.seek(-100, os.SEEK_END)
            file.write(bytes(10))
        return result

    monkeypatch.setattr(bundle, "open_signed", verify_then_write)
    with refused(*errors):
        case.load(tmp_path)


def test_row_17_shortened_between_verify_and_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is cut short after the signature was verified is refused, not read past its end."""
    case, verify = good_case(), bundle.open_signed

    def verify_then_cut(*arguments: bytes) -> bundle.Signed:
        result = verify(*arguments)  # type: ignore[arg-type]
        os.truncate(tmp_path / "case.eqb", 5000)
        return result

    monkeypatch.setattr(bundle, "open_signed", verify_then_cut)
    with refused(TruncatedError):
        case.load(tmp_path)

"""Coded payloads: weights as codebooks and indices, back to the same bytes, and every way to be malformed."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from quantize_models import inputs_of
from test_quantize_recipes import larger
from trusted import NOW, device, granted, publisher, trust

from edgeq import codebooks, coding, limits
from edgeq.bundle import Bundle
from edgeq.cli import main
from edgeq.coding import DEFLATED, HEADER, PACKED, SECTION, Section, decode, deflate, encode, pack, packed_size
from edgeq.errors import CodingError, DigestError
from edgeq.loader import inspect_bundle, read_model
from edgeq.manifest import parse
from edgeq.quantize import quantize
from edgeq.recipe import RECIPES
from edgeq.seal import seal
from edgeq.tflite import read, write

MODEL = bytes(range(10)) + bytes([7, 9] * 20) + b"behind"
"""Ten bytes, 4 channels of 10 weights with two values, and the rest."""


def section(**changes) -> Section:
    fields = {"offset": 10, "channels": 4, "row": 10, "share": 2, "bits": 1, "packing": PACKED}
    fields |= {"levels": bytes([7, 9] * 2), "indices": pack(bytes([0, 1] * 20), 1)}
    return Section(**{**fields, **changes})


def test_round_trip_by_hand():
    """A model with one section comes back byte for byte, whichever way its indices lie."""
    assert bytes(decode(memoryview(encode(MODEL, [section()])))) == MODEL
    deflated = section(packing=DEFLATED, indices=deflate(bytes([0, 1] * 20)))
    assert bytes(decode(memoryview(encode(MODEL, [deflated])))) == MODEL
    assert bytes(decode(memoryview(encode(MODEL, [])))) == MODEL


@given(st.integers(1, 4), st.binary(min_size=1, max_size=200))
def test_indices_side_by_side(bits, data):
    """Indices of 1 to 4 bits are packed into as many bytes as they need, and come back."""
    indices = bytes(v % (1 << bits) for v in data)
    packed = pack(indices, bits)
    assert len(packed) == packed_size(len(indices), bits)
    assert coding._unpack(packed, len(indices), bits) == indices


@pytest.mark.parametrize("name", ["codebook4", "codebook3", "codebook2"])
def test_round_trip_of_models(name):
    """A quantized model with codebooks becomes clearly smaller, and comes back byte for byte."""
    graph = larger()
    model = bytes(write(quantize(graph, inputs_of(graph, 16), RECIPES[name]).graph))
    payload = codebooks.coded(model, read(model))
    assert payload is not None
    assert len(payload) < 0.7 * len(model)
    assert bytes(decode(memoryview(payload))) == model


def test_what_has_no_codebooks():
    """An ordinary int8 model is not coded."""
    graph = larger()
    model = bytes(write(quantize(graph, inputs_of(graph, 16)).graph))
    assert codebooks.coded(model, read(model)) is None


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_sections_of_every_width(bits):
    """Weights with 2 to 16 values to a group of channels are found with just the bits that they need."""
    rng = np.random.default_rng(bits)
    levels = np.sort(rng.choice(np.arange(-127, 128), (8, 1 << bits)), axis=1)
    weights = np.take_along_axis(np.repeat(levels, 4, axis=0), rng.integers(0, 1 << bits, (32, 60)), 1).astype(np.int8)
    found = codebooks.section(0, weights)
    assert (found.bits, found.channels, found.row) == (bits, 32, 60)
    assert coding._weights(found) == weights.tobytes()


@pytest.mark.parametrize(("most", "bits"), [(15, 5), (31, 6), (63, 7), (100, 7), (127, None)])
def test_sections_of_many_codes(most, bits):
    """Weights of more than 16 codes become a section where they leave a part of int8 unused and an entropy code pays."""
    rng = np.random.default_rng(most)
    weights = np.clip(np.rint(rng.normal(0, most / 6, (32, 300))), -most, most).astype(np.int8)
    weights[:, :2] = -most, most
    found = codebooks.section(0, weights)
    assert (found and found.bits) == bits
    if found is not None:
        model = b"before" + weights.tobytes() + b"behind"
        payload = encode(model, [replace(found, offset=6)])
        assert len(payload) < 0.8 * len(model)
        assert bytes(decode(memoryview(payload))) == model


GOOD = encode(MODEL, [section()])
FIRST = HEADER.size


def at(place: int, value: bytes, base: bytes = GOOD) -> bytes:
    return base[:place] + value + base[place + len(value) :]


HOSTILE = {
    "empty": b"",
    "half a header": GOOD[: HEADER.size - 1],
    "another magic": at(0, b"EQC2"),
    "a size of 0": at(4, bytes(4)),
    "a size that nothing could inflate to": at(4, struct.pack("<I", 0x7FFFFFFF)),
    "another size": at(4, struct.pack("<I", len(MODEL) + 1)),
    "another digest": at(8, bytes(32)),
    "more sections than there may be": at(40, struct.pack("<I", limits.SECTIONS + 1)),
    "more sections than there is room for": at(40, struct.pack("<I", 4000)),
    "one section more": at(40, struct.pack("<I", 2)),
    "a section at the end": at(FIRST, struct.pack("<I", len(MODEL))),
    "a section that wraps around": at(FIRST + 4, struct.pack("<II", 0xFFFFFFFF, 0xFFFFFFFF)),
    "no channels": at(FIRST + 4, bytes(4)),
    "no weights": at(FIRST + 8, bytes(4)),
    "nobody shares": at(FIRST + 12, bytes(4)),
    "more share than there are": at(FIRST + 12, struct.pack("<I", 5)),
    "no bits": at(FIRST + 16, b"\0"),
    "5 bits side by side": at(FIRST + 16, b"\5"),
    "9 bits": encode(MODEL, [section(bits=9, packing=DEFLATED, levels=bytes(1024), indices=deflate(bytes(40)))]),
    "another packing": at(FIRST + 17, b"\2"),
    "the field that is 0": at(FIRST + 18, b"\1"),
    "another length of indices": at(FIRST + 20, struct.pack("<I", 6)),
    "indices without end": at(FIRST + 20, struct.pack("<I", 0xFFFFFFFF)),
    "a bit behind the last index": encode(MODEL[:-7], [section(row=9, indices=b"\xaa" * 4 + b"\xfa")]),
    "indices that are not deflated": encode(MODEL, [section(packing=DEFLATED, indices=b"\xff" * 8)]),
    "an index too many": encode(MODEL, [section(packing=DEFLATED, indices=deflate(bytes(41)))]),
    "an index too few": encode(MODEL, [section(packing=DEFLATED, indices=deflate(bytes(39)))]),
    "an index out of the codebook": encode(MODEL, [section(packing=DEFLATED, indices=deflate(bytes([2] * 40)))]),
    "bytes behind the indices": encode(MODEL, [section(packing=DEFLATED, indices=deflate(bytes(40)) + b"x")]),
    "a deflated bomb": encode(MODEL, [section(packing=DEFLATED, indices=deflate(bytes(1 << 20)))]),
    "sections over one another": encode(MODEL + bytes(40), [section(), section(offset=30)]),
    "sections in another order": encode(MODEL + bytes(40), [section(offset=56), section()]),
    "cut short": GOOD[:-1],
    "something behind": GOOD + b"\0",
    "another level": GOOD.replace(bytes([7, 9, 7, 9]), bytes([7, 9, 7, 8])),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_payloads(name):
    """Whatever contradicts itself is refused before anything of its size is allocated."""
    with pytest.raises(CodingError):
        decode(memoryview(HOSTILE[name]))


@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_a_changed_byte(place, change):
    """A payload with any byte changed is refused."""
    changed = bytearray(GOOD)
    changed[place] ^= change
    try:
        found = bytes(decode(memoryview(changed)))
    except CodingError:
        return
    assert found == MODEL  # a bit that deflate does not look at


def test_deflate_of_nothing():
    """A model that is one section has an empty rest."""
    whole = MODEL[10:50]
    assert bytes(decode(memoryview(encode(whole, [section(offset=0)])))) == whole
    assert zlib.decompress(deflate(b""), -15) == b""
    assert SECTION.size == 24


def coded_bundle(payload: bytes, encrypt: bool = True) -> Bundle:
    return seal(payload, publisher(), model_id="acme/spotter", version=3, encrypt=encrypt, coded=True)


def opened(tmp_path, bundle: Bundle) -> bytes:
    path = tmp_path / "m.eqb"
    path.write_bytes(bundle.to_bytes())
    grant = granted(bundle) if parse(bundle.manifest).encryption is not None else None
    identity = device() if grant is not None else None
    return bytes(read_model(path, grant=grant, identity=identity, trust=trust(), now=NOW))


@pytest.mark.parametrize("encrypt", [True, False])
def test_a_bundle_of_a_coded_model(tmp_path, encrypt):
    """A bundle of a coded payload opens to the model, byte for byte, encrypted or only signed."""
    assert opened(tmp_path, coded_bundle(GOOD, encrypt)) == MODEL


@pytest.mark.parametrize("name", ["another digest", "a deflated bomb", "a size that nothing could inflate to"])
def test_a_signed_hostile_payload(tmp_path, name):
    """What the publisher signed is refused all the same if it contradicts itself."""
    with pytest.raises(CodingError):
        opened(tmp_path, coded_bundle(HOSTILE[name]))


def test_a_coded_payload_under_another_type(tmp_path):
    """A coded payload is never taken for a plain one: the type stands in the signed manifest."""
    bundle = coded_bundle(GOOD)
    changed = replace(bundle, manifest=bundle.manifest.replace(b"tflite-coded", b"tflite"))
    path = tmp_path / "m.eqb"
    path.write_bytes(changed.to_bytes())
    with pytest.raises(DigestError):
        read_model(path, grant=granted(bundle), identity=device(), trust=trust(), now=NOW)


def test_the_command_line(tmp_path, capsys):
    """`edgeq seal` codes a model that has codebooks; what opens is the file as it was, and the bundle is smaller."""
    graph = larger()
    model = bytes(write(quantize(graph, inputs_of(graph, 16), RECIPES["codebook4"]).graph))
    path = tmp_path / "m.tflite"
    path.write_bytes(model)
    assert main(["keys", "new", "publisher", str(tmp_path / "p")]) == 0
    key, out = str(tmp_path / "p.key"), str(tmp_path / "m.eqb")
    assert main(["seal", str(path), "--key", key, "--model-id", "m", "--version", "1", "-o", out]) == 0
    manifest = inspect_bundle(out)
    assert manifest.payload_type == "tflite-coded"
    assert manifest.payload_size < 0.7 * len(model)

"""Masked arrays: what comes back, what adds up, what a stranger sees, and what is refused."""

from __future__ import annotations

import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from trusted import NOW, device, new_device, publisher

import edgeq
from edgeq import device as devices
from edgeq import limits, masked, masking, pem
from edgeq.cli import main
from edgeq.errors import (
    ContainerError,
    DocumentError,
    EncodingError,
    InputError,
    LengthError,
    MaskError,
    NonceReusedError,
    SuiteError,
    TruncatedError,
    TrustError,
    WrappedKeyError,
)
from edgeq.masking import MaskKey, mask, unmask
from edgeq.quantmod import QuantMod

RNG = np.random.default_rng(20)


def extremes(dtype: str) -> np.ndarray:
    """An array (3, 100) with the ends of an integer type in it."""
    info = np.iinfo(dtype)
    x = RNG.integers(info.min, info.max, (3, 100), dtype, endpoint=True)
    x[0, :2] = info.min, info.max
    return x


@pytest.mark.parametrize("bits", masked.BITS)
@pytest.mark.parametrize("dtype", masked.INTEGERS)
def test_integers_come_back(dtype: str, bits: int) -> None:
    """Integers unmask to themselves, in a type of the modulus' width; a modulus that does not hold them is refused."""
    x = extremes(dtype)
    if bits < 8 * x.dtype.itemsize:
        with pytest.raises(InputError, match="does not fit"):
            mask(x, device().public, bits=bits)
        return
    y = unmask(mask(x, device().public, bits=bits), device())
    assert y.dtype == np.dtype(f"{'u' if dtype[0] == 'u' else 'i'}{bits // 8}")
    assert (y == x).all()


@pytest.mark.parametrize("dtype", masked.FLOATS)
def test_floats_come_back_rounded(dtype: str) -> None:
    """Floats unmask to floor(2^e·x + 1/2)/2^e, to the last bit."""
    x = RNG.normal(0, 3, (5, 7)).astype(dtype)
    for exponent, bits in ((24, 64), (10, 32), (2, 8), (-1, 16)):
        y = unmask(mask(x, device().public, exponent=exponent, bits=bits), device())
        assert (y == np.floor(x.astype(np.float64) * 2.0**exponent + 0.5) / 2.0**exponent).all()


@pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 0, 3), (300_001,), (4, 5, 6)])
def test_shapes_and_files(shape: tuple[int, ...]) -> None:
    """Every shape survives masking, writing, reading and unmasking; what is read writes back to the same bytes."""
    for x in (RNG.integers(-9, 9, shape, np.int64), RNG.normal(size=shape), RNG.integers(0, 9, shape).T):
        found = mask(x, device().public)
        again = masked.parse(found.to_bytes())
        assert again.to_bytes() == found.to_bytes()
        y = unmask(again, device())
        assert y.shape == x.shape
        assert np.abs(y - x).max(initial=0) <= 2.0**-25


def test_sums_unmask_to_sums() -> None:
    """Arrays of several senders, keys and nonces add up masked, in any order and grouping, and wrap mod 2^bits."""
    senders = [MaskKey.new(publisher().wrapping) for _ in range(3)]
    arrays = [RNG.integers(-128, 128, 1000).astype(np.int8) for _ in range(12)]
    parts = [mask(x, senders[i % 3], bits=16) for i, x in enumerate(arrays)]
    exact = sum(x.astype(np.int64) for x in arrays)
    for total in (sum(parts), sum(parts[::-1]), (parts[0] + parts[5]) + sum(parts[1:5] + parts[6:])):
        read = masked.parse(total.to_bytes())
        assert (unmask(read, publisher().identity) == exact).all()
    narrow = sum(mask(x, senders[0]) for x in arrays)
    assert (unmask(narrow, publisher().identity) == exact.astype(np.int8)).all()


def test_float_sums_have_the_stated_error() -> None:
    """A sum of n floats is off by at most n/2^(e + 1)."""
    arrays = [RNG.normal(size=500) for _ in range(40)]
    total = unmask(sum(mask(x, device().public, exponent=12) for x in arrays), device())
    assert np.abs(total - sum(arrays)).max() <= 40 / 2.0**13


def test_it_is_the_formula() -> None:
    """A masked array is QuantMod's floor(C·x + d) mod p with the vector d of the cipher."""
    secret, x = bytes(range(64)), RNG.normal(0, 40, 4096)
    for bits in (8, 16):
        vector = np.zeros(x.size, f"u{bits // 8}")
        masking._shift(vector, secret, 7, np.add)
        codes, _ = masking._codes(np.clip(x, -60, 60), bits, 1)
        masking._shift(codes, secret, 7, np.add)
        q = QuantMod(np.full(x.size, 2.0), vector + 0.5, 1 << bits, axis=0, dtype=np.dtype(f"u{bits // 8}"))
        assert (q.quantize(np.clip(x, -60, 60), wrap=True) == codes).all()


# --- what a stranger sees ---------------------------------------------------------------------------------------------


def chi_square(counts: np.ndarray) -> float:
    """How many standard deviations chi-square is from what uniform residues give."""
    expected = counts.sum() / counts.size
    free = counts.size - 1
    return float((((counts - expected) ** 2 / expected).sum() - free) / (2 * free) ** 0.5)


@pytest.mark.parametrize("bits", masked.BITS)
@pytest.mark.parametrize("what", ["constant", "ramp", "samples"])
def test_residues_are_uniform(bits: int, what: str) -> None:
    """Whatever is masked, all residues are equally frequent: each of 2^8 and 2^16, and every 16 bits of the wider ones."""
    n = 1 << 21
    x = {
        "constant": np.full(n, 3),
        "ramp": np.arange(n) & 127,
        "samples": np.clip(np.random.default_rng(1).normal(0, 20, n), -127, 127).astype(np.int64),
    }[what]
    values = x.astype(f"i{bits // 8}").view(f"u{bits // 8}")
    masking._shift(values, bytes(range(1, 65)), 5, np.add)
    if bits == 8:
        assert abs(chi_square(np.bincount(values, minlength=256))) < 4
        pairs = values[::2].astype(np.int64) << 8 | values[1::2]
        assert abs(chi_square(np.bincount(pairs, minlength=1 << 16))) < 4
    for lane in range(bits // 16):
        part = (values >> np.array(16 * lane, values.dtype) & np.array(0xFFFF, values.dtype)).astype(np.int64)
        assert abs(chi_square(np.bincount(part, minlength=1 << 16))) < 4
    given = x == x[0]  # and the residues of one value alone
    assert abs(chi_square(np.bincount((values[given] & np.array(15, values.dtype)).astype(np.int64), minlength=16))) < 4


def test_no_vector_twice() -> None:
    """The same array under the same key is masked by another vector each time, even if the nonce were to come again."""
    x, key = np.zeros(64, np.uint64), MaskKey.new(device().public)
    first, second = mask(x, key), mask(x, key)
    assert (first.values != second.values).all()
    object.__setattr__(key, "_nonces", masking._InMemory())  # a device whose disk was put back
    again = mask(x, key)
    assert again.terms[0].nonce == first.terms[0].nonce
    assert (again.values != first.values).all()


def test_nothing_prints() -> None:
    """No repr shows a key, a wrapped key or a value."""
    key = MaskKey.new(device().public)
    found = mask(np.arange(5), key)
    assert str(key._key.reveal()) not in repr(key) + repr(found)
    assert "values" not in repr(found)


# --- nonces -----------------------------------------------------------------------------------------------------------


def test_nonces_are_used_once() -> None:
    """Under one key a nonce that is not above all before is refused, and nothing is masked; others are not."""
    x, key = np.arange(4), MaskKey.new(device().public)
    assert [mask(x, key).terms[0].nonce for _ in range(3)] == [0, 1, 2]
    assert mask(x, key, nonce=9).terms[0].nonce == 9
    for used in (9, 5, 0, -1, limits.INTEGER + 1):
        with pytest.raises(NonceReusedError):
            mask(x, key, nonce=used)
    assert mask(x, key).terms[0].nonce == 10
    assert mask(x, MaskKey.new(device().public), nonce=9).terms[0].nonce == 9


def test_the_state_remembers_nonces(tmp_path: Path) -> None:
    """A device's own key is the same tomorrow, and so is what it was used for, for each owner; the log has each use."""
    devices.init(tmp_path / "state", device(), now=NOW.replace(year=2026))
    owner, x = publisher().wrapping, np.arange(4)

    def key() -> MaskKey:
        return masking.device_key(owner, device(), tmp_path / "state")

    found = [mask(x, key()) for _ in range(3)]
    assert [m.terms[0].nonce for m in found] == [0, 1, 2]
    with pytest.raises(NonceReusedError):
        mask(x, key(), nonce=2)
    assert mask(x, masking.device_key(new_device().public, device(), tmp_path / "state")).terms[0].nonce == 0
    assert (unmask(sum(found), publisher().identity) == 3 * x).all()
    assert key()._key.reveal() == key()._key.reveal()
    log = "".join(p.read_text() for p in (tmp_path / "state").glob("audit-*"))
    assert re.findall(r'"event":"mask","nonce":(\d)', log) == ["0", "1", "2", "0"]


def test_threads_and_processes_share_no_nonce(tmp_path: Path) -> None:
    """However many processes and threads mask with one device's key, no nonce comes twice."""
    devices.init(tmp_path / "state", device(), now=NOW.replace(year=2026))
    children = []
    for number in range(4):
        child = os.fork()
        if not child:
            try:
                key = masking.device_key(publisher().wrapping, device(), tmp_path / "state")
                (tmp_path / f"{number}.json").write_text(json.dumps([key.take() for _ in range(10)]))
            finally:
                os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    taken = [n for number in range(4) for n in json.loads((tmp_path / f"{number}.json").read_text())]
    assert sorted(taken) == list(range(40))
    key = MaskKey.new(device().public)
    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(lambda _: key.take(), range(400))) == list(range(400))


# --- refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "options", "says"),
    [
        (np.array([1.0, np.nan]), {}, "NaN"),
        (np.array([np.inf]), {}, "NaN"),
        (np.array([128.0]), {"bits": 8, "exponent": 0}, "does not fit 8 bits"),
        (np.array([1e30]), {}, "does not fit 64 bits"),
        (np.array([1]), {"exponent": 3}, "exponent is for floats"),
        (np.array([1.0]), {"exponent": 2000}, "exponent is 2000"),
        (np.array([1]), {"bits": 24}, "bits is 24"),
        (np.array(["a"]), {}, "cannot be masked"),
        (np.array([1j]), {}, "cannot be masked"),
        (np.array([True]), {}, "cannot be masked"),
    ],
)
def test_arrays_that_cannot_be_masked(x: np.ndarray, options: dict[str, int], says: str) -> None:
    """What has no residue is refused by name, and uses up no nonce."""
    key = MaskKey.new(device().public)
    with pytest.raises(InputError, match=says):
        mask(x, key, **options)
    assert key.take() == 0


def test_sums_that_there_are_not() -> None:
    """Arrays of another shape, type, modulus, exponent or owner are not added, nor is one array twice."""
    x = np.arange(6, dtype=np.int8)
    first = mask(x, device().public)
    for other in (
        mask(x[:5], device().public),
        mask(x.reshape(2, 3), device().public),
        mask(x, device().public, bits=16),
        mask(x.view(np.uint8), device().public),
        mask(x, publisher().wrapping),
    ):
        with pytest.raises(MaskError, match="different kinds"):
            first + other
    with pytest.raises(NonceReusedError, match="twice"):
        first + first
    with pytest.raises(MaskError, match="different kinds"):
        mask(x / 2, device().public) + mask(x / 2, device().public, exponent=3)


def test_only_the_owner_unmasks() -> None:
    """Another key is refused, also when the array is made to name it."""
    found = mask(np.arange(6), device().public)
    thief = new_device()
    with pytest.raises(MaskError, match="masked for key"):
        unmask(found, thief)
    with pytest.raises(WrappedKeyError):
        unmask(replace(found, recipient=thief.public.key_id), thief)


def test_a_single_array_is_authentic() -> None:
    """Any changed bit of a masked array's file is refused when it is read or unmasked."""
    data = mask(np.arange(6, dtype=np.int16), device().public).to_bytes()
    for bit in range(0, 8 * len(data), 5):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(TrustError):
            unmask(masked.parse(bytes(damaged)), device())
    for end in range(0, len(data), 7):
        with pytest.raises(TrustError):
            masked.parse(data[:end])


def header(data: bytes) -> dict:
    """The header of an .eqm file, as JSON."""
    return json.loads(data[12 : 12 + int.from_bytes(data[8:12], "little")])


def rebuilt(data: bytes, **change: object) -> bytes:
    """The file with other header fields."""
    fields = {**header(data), **change}
    text = masked.strict.canonical(fields)
    return data[:8] + len(text).to_bytes(4, "little") + text + data[12 + int.from_bytes(data[8:12], "little") :]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"format": "edgeq-mask/2"}, SuiteError),
        ({"suite": "other"}, SuiteError),
        ({"bits": 24}, DocumentError),
        ({"bits": 8}, DocumentError),
        ({"bits": 64}, TruncatedError),
        ({"bits": True}, DocumentError),
        ({"shape": [5]}, LengthError),
        ({"shape": [2**53 - 1, 2**53 - 1]}, DocumentError),
        ({"shape": [-1]}, DocumentError),
        ({"shape": [2**31 - 1] * 32}, TruncatedError),
        ({"shape": [0] * 33}, DocumentError),
        ({"shape": 6}, DocumentError),
        ({"exponent": 3}, DocumentError),
        ({"dtype": "float32"}, DocumentError),
        ({"dtype": "object"}, DocumentError),
        ({"dtype": ["int16"]}, DocumentError),
        ({"recipient": "00"}, DocumentError),
        ({"tag": "zz"}, DocumentError),
        ({"terms": []}, DocumentError),
        ({"terms": [{"nonce": 0, "salt": "00" * 16}]}, DocumentError),
        ({"terms": [{"nonce": 0, "salt": "00" * 16, "wrapped_key": ""}]}, LengthError),
        ({"terms": [{"nonce": 0, "salt": "00" * 15, "wrapped_key": "AAAA"}]}, DocumentError),
        ({"terms": [{"nonce": 0, "salt": "00" * 16, "wrapped_key": "AAAA"}] * 2, "tag": ""}, NonceReusedError),
        ({"extra": 1}, DocumentError),
    ],
    ids=str,
)
def test_malformed_headers(change: dict[str, object], error: type[Exception]) -> None:
    """Every field out of bounds is refused before anything is allocated for it."""
    data = mask(np.arange(6, dtype=np.int16), device().public).to_bytes()
    masked.parse(rebuilt(data))
    with pytest.raises(error):
        masked.parse(rebuilt(data, **change))


def test_malformed_files() -> None:
    """Another magic, a header that is too long or not canonical, and bytes behind the values are refused."""
    data = mask(np.arange(6, dtype=np.int16), device().public).to_bytes()
    for damaged, error in (
        (b"", TruncatedError),
        (b"EDGEQBND" + data[8:], ContainerError),
        (data[:8] + b"\xff\xff\xff\xff" + data[12:], LengthError),
        (data[:8] + b"\xff\xff\x00\x00" + data[12:], TruncatedError),
        (data.replace(b'{"bits"', b'{ "bits"').replace(data[8:12], bytes((data[8] + 1,)) + data[9:12]), TrustError),
        (data.replace(b'"bits"', b'"bitz"'), TrustError),
        (data[:12] + b"x" + data[13:], EncodingError),
        (data + b"\x00", LengthError),
    ):
        with pytest.raises(error):
            masked.parse(damaged)


# --- as users call it -------------------------------------------------------------------------------------------------


def test_with_paths(tmp_path: Path) -> None:
    """Paths of key files do: a device's, and a publisher's with a passphrase."""
    (tmp_path / "d.pub").write_bytes(pem.public_bytes(device().public.blocks))
    (tmp_path / "d.key").write_bytes(pem.private_bytes(device().blocks, b"open sesame"))
    x = np.arange(5.0)
    found = edgeq.mask(x, tmp_path / "d.pub")
    assert (edgeq.unmask(found, tmp_path / "d.key", passphrase=b"open sesame") == x).all()
    with pytest.raises(TrustError, match="passphrase"):
        edgeq.unmask(found, tmp_path / "d.key")


def test_at_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two devices mask, somebody adds up, the owner unmasks the sum; with a state a used nonce is not taken again."""
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.arange(5, dtype=np.int16))
    np.save("y.npy", np.full(5, 100, np.int16))
    for line, status in (
        ("keys new publisher owner", 0),
        ("keys new device pi", 0),
        ("device init --identity pi.key --state state", 0),
        ("mask x.npy --to owner.pub -o x.eqm", 0),
        ("mask y.npy --to owner.pub --identity pi.key --state state -o y.eqm", 0),
        ("mask y.npy --to owner.pub --identity pi.key --state state -o z.eqm", 0),
        ("sum x.eqm y.eqm -o sum.eqm", 0),
        ("audit show --state state", 0),
        ("audit verify --identity pi.key --state state", 0),
        ("unmask sum.eqm z.eqm --identity owner.key -o sum.npy", 0),
        ("mask x.npy --to owner.pub --state state -o w.eqm", 1),
        ("mask x.npy --to nobody.pub -o w.eqm", 1),
        ("sum x.eqm x.eqm -o w.eqm", 1),
        ("unmask sum.eqm --identity pi.key -o w.npy", 1),
        ("unmask x.npy --identity owner.key -o w.npy", 1),
    ):
        assert main(line.split()) == status, line
        err = capsys.readouterr().err
        assert err.count("\n") == 1 or not status, line
    assert (np.load("sum.npy") == np.arange(5) + 200).all()
    assert not Path("w.eqm").exists()
    assert not Path("w.npy").exists()

"""What edgeq reads and writes by hand because a library's way costs a start: the same as the library's."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq import pem, spelling
from edgeq.errors import KeyFileError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)

BLOCK = re.compile(r"-----BEGIN ([A-Z ]{1,64})-----\r?\n[A-Za-z0-9+/=\r\n]*-----END \1-----\s*")


@pytest.fixture(params=["C", "Python"])
def way(request, monkeypatch) -> None:
    """With the scanner and encoder of `_json`, and as where there are none."""
    if request.param == "Python":
        monkeypatch.setattr(spelling, "make_scanner", None)
        monkeypatch.setattr(spelling, "make_encoder", None)


@given(JSON)
def test_values_are_spelled_as_json_spells_them(value) -> None:
    """A value's spelling is json's canonical one, and reads back as the value."""
    text = spelling.spell(value)
    assert text == json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))
    assert spelling.understand(text) == value
    assert spelling.understand(f" \n{text}\t") == value


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "{", '{"a"}', '{"a":1,}', "[1,]", "[1 2]", "01", "1 1", "tru", "nul", '"', '"\\x"', '"\x01"', "\ufeff1", "{}}",
        "NaN", "-Infinity", "1e400", "-", "- 1", "\xa01", "1\xa0", '{"a":1 "b":2}', "{1:2}", "\x00", '"\\ud800"',
    ],
)  # fmt: skip
def test_texts_are_understood_as_json_understands_them(text, way) -> None:
    """What json refuses is refused with the same words and place, what it takes gives the same value."""
    _check_text(text)


@given(st.text('{}[]",:0123456789-.eE truefalsn\\u', max_size=24))
def test_any_text_is_understood_as_json_understands_it(text) -> None:
    """The same of arbitrary texts."""
    _check_text(text)


def _check_text(text: str) -> None:
    assert _outcome(spelling.understand, text) == _outcome(json.loads, text)


def _outcome(read, text: str) -> tuple[object, ...]:
    try:
        return ("value", repr(read(text)))
    except json.JSONDecodeError as error:
        return ("refused", error.msg, error.pos)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [float("-inf")], {"a": {1}}, [b"x"]])
def test_what_has_no_spelling_is_refused_each_time(value, way) -> None:
    """NaN, infinities and other types are refused, and leave nothing behind that a later value would meet."""
    for _ in range(2):
        with pytest.raises((ValueError, TypeError)):
            spelling.spell(value)
    assert spelling.spell([1, {"b": 2, "a": None}]) == '[1,{"a":null,"b":2}]'


def test_hooks_see_what_json_gives_them(way) -> None:
    """Objects come as pairs, numbers and constants as their text."""
    found = spelling.understand(
        '{"a":1,"a":[2.5,NaN,-0]}', pairs=list, integer=lambda t: f"i{t}", real=lambda t: f"r{t}", constant=lambda t: f"c{t}"
    )  # fmt: skip
    assert found == [("a", "i1"), ("a", ["r2.5", "cNaN", "i-0"])]


PIECES = [
    "-----BEGIN ",
    "-----END ",
    "-----",
    "-",
    "PUBLIC KEY",
    "A B",
    "",
    "key",
    "\n",
    "\r\n",
    "\r",
    " ",
    "AQ==",
    "é",
    "\x1c",
]


@given(st.lists(st.sampled_from(PIECES), max_size=24))
def test_blocks_are_found_as_the_pattern_finds_them(pieces) -> None:
    """A key file is a sequence of PEM blocks and nothing else, as one regular expression says it."""
    _check_blocks("".join(pieces))


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["A", "PUBLIC KEY", "X" * 64, "X" * 65, "", "a"]),
            st.sampled_from(["A", "PUBLIC KEY", "X" * 64, "X" * 65, "", "a"]),
            st.sampled_from(["\n", "\r\n", "", " \n", "\r", "\n-\n"]),
            st.sampled_from(["AQ==\n", "A Q", "", "AQ\r\n"]),
            st.sampled_from(["\n", "", " \t\n", "\x1c", "-"]),
            st.booleans(),
        ),
        max_size=3,
    )
)
def test_whole_blocks_are_found_as_the_pattern_finds_them(blocks) -> None:
    """The same of what is nearly, or entirely, a key file."""
    _check_blocks(
        "".join(
            f"-----BEGIN {a}-----{line}{body}-----END {a if same else b}-----{after}"
            for a, b, line, body, after, same in blocks
        )
    )


def _check_blocks(text: str) -> None:
    expected = [(m[1], m[0].rstrip().encode()) for m in BLOCK.finditer(text)]
    if not text.isascii() or not expected or BLOCK.sub("", text):
        with pytest.raises(KeyFileError):
            pem._blocks(text.encode(), "x")
    else:
        assert [(label, block.rstrip()) for label, block in pem._blocks(text.encode(), "x")] == expected

"""JSON and base64 with one spelling per value, and the checks that turn parsed JSON into fields.

Two parsers that read one text differently are a way in. So nothing here accepts duplicate keys, floats, NaN, huge
integers, deep nesting or lax base64; and what edgeq writes itself is canonical (RFC 8785 for what it uses: objects,
arrays, ASCII strings, integers, true, false, null), so that what parses writes back to the same bytes.
"""

from __future__ import annotations

import base64
import binascii
import operator
import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NoReturn

from edgeq import errors, limits
from edgeq.errors import EncodingError
from edgeq.spelling import spell, understand

Check = Callable[[Any, str], Any]
"""Takes a value and what to call it in an error; returns the value as the program wants it, or raises."""

_HEXADECIMAL = "0123456789abcdef"


def canonical(value: Any) -> bytes:
    """The one spelling of a JSON value."""
    return spell(value).encode()


def parse(data: bytes, limit: int, what: str) -> Any:
    """The JSON value that `data` spells, in any white space and order of keys.

    Raises LengthError above `limit` bytes, EncodingError for everything that is not strict JSON; `what` names the
    document in the message.
    """
    return _parse(data, limit, what)[0]


def parse_canonical(data: bytes, limit: int, what: str) -> Any:
    """The JSON value that `data` spells, which must be its canonical spelling.

    Raises as `parse` does, and EncodingError for any other spelling.
    """
    value, spelled = _parse(data, limit, what)
    if spelled != data:
        raise EncodingError(f"{what}: expected canonical JSON (sorted keys, no white space), found another spelling")
    return value


def _parse(data: bytes, limit: int, what: str) -> tuple[Any, bytes]:
    """The value, and its canonical spelling."""
    if len(data) > limit:
        raise errors.LengthError(f"{what}: {len(data)} bytes, the limit is {limit}")
    try:
        text = bytes(data).decode("utf-8")
    except UnicodeDecodeError as error:
        raise EncodingError(f"{what}: expected UTF-8, found byte {data[error.start]:#04x} at {error.start}") from None
    _refuse_depth(text, what)
    try:
        value = understand(text, pairs=_unique, integer=_integer, real=_refuse, constant=_refuse)
        return value, canonical(value)
    except EncodingError as error:
        raise EncodingError(f"{what}: {error}") from None
    except UnicodeEncodeError:  # a lone surrogate, spelled \ud800, is a str that has no bytes
        raise EncodingError(f"{what}: a string holds half a surrogate pair") from None
    except ValueError as error:
        from json import JSONDecodeError

        if isinstance(error, JSONDecodeError):
            raise EncodingError(f"{what}: expected JSON, at character {error.pos}: {error.msg}") from None
        raise


def to_base64(data: bytes) -> str:
    """The one base64 spelling of `data`."""
    return base64.b64encode(data).decode("ascii")


def from_base64(text: str, what: str) -> bytes:
    """The bytes that `text` spells in base64: standard alphabet, padded, no white space, unused bits zero.

    Raises EncodingError for any other spelling.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise EncodingError(f"{what}: expected base64") from None
    if to_base64(data) != text:
        raise EncodingError(f"{what}: expected the canonical spelling of base64, found another")
    return data


# --- fields -----------------------------------------------------------------------------------------------------------


def record(value: Any, fields: Mapping[str, Check], what: str) -> dict[str, Any]:
    """The fields of a JSON object that has exactly these, each through its check.

    Raises DocumentError for a missing, unknown or wrong field.
    """
    if not isinstance(value, dict):
        raise errors.DocumentError(f"{what}: expected an object, found {_kind(value)}")
    for name in fields:
        if name not in value:
            raise errors.DocumentError(f"{what}: the field {name!r} is missing")
    for name in value:
        if name not in fields:
            raise errors.DocumentError(f"{what}: unknown field {name[:64]!a}")
    return {name: check(value[name], f"{what}: {name}") for name, check in fields.items()}


def only(expected: str) -> Check:
    """Exactly this string: a format or suite that cannot be chosen."""

    def check(value: Any, what: str) -> str:
        if value != expected or not isinstance(value, str):
            raise errors.SuiteError(f"{what}: expected {expected!r}, found {_show(value)}")
        return value

    return check


def one_of(*expected: str) -> Check:
    """One of these strings: the kinds that there are."""

    def check(value: Any, what: str) -> Any:
        if not isinstance(value, str) or value not in expected:
            raise errors.SuiteError(f"{what}: expected {' or '.join(map(repr, expected))}, found {_show(value)}")
        return value

    return check


def text(pattern: str, says: str, longest: int) -> Check:
    """A string of at most `longest` characters that matches `pattern` entirely; `says` describes it."""

    def check(value: Any, what: str) -> str:
        # Compiled when there is something to check, not when a process starts: `re` keeps what it has compiled.
        if not isinstance(value, str) or len(value) > longest or not re.fullmatch(pattern, value):
            raise errors.DocumentError(f"{what}: expected {says}, found {_show(value)}")
        return value

    return check


def spelled(first: str, others: str, says: str, longest: int) -> Check:
    """A string of 1 to `longest` characters: one of `first`, then any of `others`; `says` describes it."""

    def check(value: Any, what: str) -> str:
        if isinstance(value, str) and 0 < len(value) <= longest and value[0] in first and not value.strip(others):
            return value
        raise errors.DocumentError(f"{what}: expected {says}, found {_show(value)}")

    return check


def hexadecimal(size: int) -> Check:
    """`size` bytes as lower-case hexadecimal digits, kept as text."""

    def check(value: Any, what: str) -> str:
        if not isinstance(value, str) or not is_hexadecimal(value, size):
            raise errors.DocumentError(
                f"{what}: expected {2 * size} lower-case hexadecimal digits, found {_show(value)}"
            )
        return value

    return check


def is_hexadecimal(value: str, size: int) -> bool:
    """Whether a string spells `size` bytes as lower-case hexadecimal digits."""
    return len(value) == 2 * size and not value.strip(_HEXADECIMAL)


def encoded(*sizes: int) -> Check:
    """As many bytes as one of `sizes`, in base64, given back as bytes."""

    def check(value: Any, what: str) -> bytes:
        if not isinstance(value, str):
            raise errors.DocumentError(f"{what}: expected base64, found {_kind(value)}")
        data = from_base64(value, what)
        if len(data) not in sizes:
            raise errors.LengthError(f"{what}: expected {' or '.join(map(str, sizes))} bytes, found {len(data)}")
        return data

    return check


def integer(lowest: int, highest: int) -> Check:
    """An integer between two bounds, both included."""

    def check(value: Any, what: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= highest:
            raise errors.DocumentError(f"{what}: expected an integer from {lowest} to {highest}, found {_show(value)}")
        return value

    return check


def optional(check: Check) -> Check:
    """Null, or what `check` accepts."""
    return lambda value, what: None if value is None else check(value, what)


def mapping(name: Check, value: Check, most: int) -> Check:
    """An object of at most `most` entries, each name and each value through its check."""

    def check(found: Any, what: str) -> dict[str, Any]:
        if not isinstance(found, dict):
            raise errors.DocumentError(f"{what}: expected an object, found {_kind(found)}")
        if len(found) > most:
            raise errors.LengthError(f"{what}: {len(found)} entries, the limit is {most}")
        return {name(key, what): value(item, f"{what}: {key}") for key, item in found.items()}

    return check


def hexadecimals(size: int, most: int) -> Check:
    """An array of at most `most` strings as `hexadecimal` takes them, sorted, each once; given back as a frozen set.

    Checked all at once: there may be ten thousand.
    """
    says = f"sorted strings of {2 * size} lower-case hexadecimal digits, each once"

    def check(value: Any, what: str) -> frozenset[str]:
        if not isinstance(value, list):
            raise errors.DocumentError(f"{what}: expected an array, found {_kind(value)}")
        if len(value) > most:
            raise errors.LengthError(f"{what}: {len(value)} entries, the limit is {most}")
        if not (
            all(isinstance(entry, str) for entry in value)
            and set(map(len, value)) <= {2 * size}
            and not "".join(value).strip(_HEXADECIMAL)
            and all(map(operator.lt, value, value[1:]))
        ):
            raise errors.DocumentError(f"{what}: expected {says}")
        return frozenset(value)

    return check


def _show(value: Any) -> str:
    return f"{value[:64]!a}" if isinstance(value, str) else str(value) if isinstance(value, int) else _kind(value)


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "an array", str: "a string", bool: "a truth value", int: "an integer"}
    return "null" if value is None else kinds[type(value)]


def _refuse_depth(text: str, what: str) -> None:
    """Nesting is counted before parsing, since the parser recurses."""
    if text.count("[") + text.count("{") <= limits.JSON_DEPTH:
        return  # fewer brackets than levels: most documents, and the long ones
    depth = 0
    for match in _string_or_bracket().finditer(text):
        if match[0] in "[{":
            depth += 1
            if depth > limits.JSON_DEPTH:
                raise EncodingError(f"{what}: nested deeper than {limits.JSON_DEPTH} levels")
        elif match[0] in "]}":
            depth -= 1


@cache
def _string_or_bracket() -> re.Pattern[str]:
    """A string, ended by its quote or by the text, or one bracket. Every quote starts a match, so the scan is linear
    whatever the text; whether the text is JSON at all, the parser says afterwards."""
    return re.compile(r'"[^"\\]*(?:\\(?:.|\Z)[^"\\]*)*(?:"|\Z)|[\[\]{}]', re.DOTALL)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in pairs:
        if name in result:
            raise EncodingError(f"the key {name[:64]!a} appears twice in one object")
        result[name] = value
    return result


def _integer(digits: str) -> int:
    # By length first: Python takes quadratic time for a million digits.
    if len(digits) > 17 or abs(int(digits)) > limits.INTEGER:
        raise EncodingError(f"an integer of {len(digits)} digits, the largest is {limits.INTEGER}")
    if digits == "-0":
        raise EncodingError("the integer -0 has another spelling, 0")
    return int(digits)


def _refuse(digits: str) -> NoReturn:
    raise EncodingError(f"expected integers only, found {digits[:32]}")

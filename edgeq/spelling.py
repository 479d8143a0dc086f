"""JSON by the C code that the standard library's `json` is written around, without the module itself.

Importing `json` compiles six regular expressions, which takes a millisecond of the few that a device has for its first answer.
Its scanner and encoder lie in CPython's `_json`; where there is none, `json` does the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

try:
    from _json import encode_basestring, make_encoder, make_scanner
except ImportError:  # another Python
    make_encoder = make_scanner = None  # type: ignore[assignment,misc]

__all__ = ["spell", "understand"]

_SPACE = " \t\n\r"


def understand(
    text: str,
    *,
    pairs: Callable[[list[tuple[str, Any]]], Any] = dict,
    integer: Callable[[str], Any] = int,
    real: Callable[[str], Any] = float,
    constant: Callable[[str], Any] = float,
) -> Any:
    """What `json.loads` gives: `pairs` makes objects, `integer` and `real` numbers, `constant` NaN and the infinities.

    Raises json.JSONDecodeError, a ValueError, for what is not JSON, and whatever they raise.
    """
    if make_scanner is None:
        import json

        return json.loads(text, object_pairs_hook=pairs, parse_int=integer, parse_float=real, parse_constant=constant)
    if text.startswith("\ufeff"):
        raise _error("Unexpected UTF-8 BOM (decode using utf-8-sig)", text, 0)
    scan = make_scanner(_Hooks(pairs, integer, real, constant))  # type: ignore[arg-type]
    try:
        value, end = scan(text, len(text) - len(text.lstrip(_SPACE)))
    except StopIteration as stop:
        raise _error("Expecting value", text, stop.value) from None
    if rest := text[end:].lstrip(_SPACE):
        raise _error("Extra data", text, len(text) - len(rest))
    return value


def spell(value: Any) -> str:
    """The shortest JSON of a value, keys sorted, characters as they are. Raises ValueError for NaN and the infinities,
    TypeError for what has no JSON."""
    if make_encoder is None:
        import json

        return json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))
    if isinstance(value, str):
        return encode_basestring(value)
    return "".join(make_encoder({}, _refuse, encode_basestring, None, ":", ",", True, False, False)(value, 0))


class _Hooks:
    """What the scanner asks for, by the names of json.JSONDecoder."""

    strict = True
    object_hook = None

    def __init__(self, pairs: Any, integer: Any, real: Any, constant: Any) -> None:
        self.object_pairs_hook, self.parse_int, self.parse_float, self.parse_constant = pairs, integer, real, constant


def _error(says: str, text: str, at: int) -> ValueError:
    from json import JSONDecodeError

    return JSONDecodeError(says, text, at)


def _refuse(value: Any) -> Any:
    raise TypeError(f"{type(value).__name__} has no spelling in JSON")

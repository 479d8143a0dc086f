"""How names from a model file appear in messages: they are untrusted text, and a message is one line."""

from __future__ import annotations

_LONGEST = 60


def shown(name: str) -> str:
    """`name` quoted, with control characters escaped, cut at 60 characters."""
    return repr(name if len(name) <= _LONGEST else name[: _LONGEST - 3] + "...")

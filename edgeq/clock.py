"""Time as trusted code takes it: moments with a zone as arguments, Unix seconds in documents, nothing read from a clock."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Final

from edgeq.errors import InputError

EARLIEST: Final = 1_735_689_600
"""2025-01-01: no clock that shows an earlier time was ever set on a device that runs this."""

DAY: Final = 86_400
"""Seconds."""

SKEW: Final = timedelta(minutes=5)
"""How far apart two clocks may be before it means something."""


def timestamp(moment: datetime) -> int:
    """Unix seconds of a moment; raises InputError for a time without a zone."""
    if moment.tzinfo is None:
        raise InputError(f"expected a time with its zone, found {moment.isoformat()}")
    return int(moment.timestamp())


def expiry(text: str, now: datetime) -> datetime:
    """The moment that a user means by "90d" (days from `now`), "2030-12-31" (the end of that day, UTC) or
    "2030-12-31T18:00:00Z".

    Raises InputError for anything else.
    """
    if days := re.fullmatch(r"([0-9]{1,5})d", text):
        return now + timedelta(days=int(days[1]))
    with suppress(OverflowError):  # the end of the last day that there is
        if found := _date(text):
            return found + timedelta(days=1)
    if found := _instant(text):
        return found
    raise InputError(f"expected an expiry such as 90d, 2030-12-31 or 2030-12-31T18:00:00Z, found {text[:40]!a}")


def start(text: str) -> datetime:
    """The moment that a user means by "2030-12-31" (the start of that day, UTC) or "2030-12-31T18:00:00Z".

    Raises InputError for anything else.
    """
    if found := _date(text) or _instant(text):
        return found
    raise InputError(f"expected a time such as 2030-12-31 or 2030-12-31T18:00:00Z, found {text[:40]!a}")


def _date(text: str) -> datetime | None:
    return _parsed(text) if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text) else None


def _instant(text: str) -> datetime | None:
    instant = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z"
    return _parsed(text[:-1]) if re.fullmatch(instant, text) else None


def _parsed(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text).replace(tzinfo=timezone.utc)
    except ValueError:  # the 31st of February
        return None


def moment(seconds: int) -> datetime:
    """The moment that Unix seconds name."""
    return datetime.fromtimestamp(seconds, timezone.utc)


def show(seconds: int) -> str:
    """Unix seconds as text, in UTC."""
    return moment(seconds).strftime("%Y-%m-%dT%H:%M:%SZ")

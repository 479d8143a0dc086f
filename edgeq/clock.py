"""Time as trusted code takes it: moments with a zone as arguments, Unix seconds in documents, nothing read from a clock."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

from edgeq.errors import InputError


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
    try:
        if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
            return datetime.fromisoformat(text).replace(tzinfo=timezone.utc) + timedelta(days=1)
        if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z", text):
            return datetime.fromisoformat(text[:-1]).replace(tzinfo=timezone.utc)
        raise ValueError
    except (ValueError, OverflowError):
        raise InputError(
            f"expected an expiry such as 90d, 2030-12-31 or 2030-12-31T18:00:00Z, found {text[:40]!a}"
        ) from None


def show(seconds: int) -> str:
    """Unix seconds as text, in UTC."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")

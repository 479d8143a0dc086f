"""Issuing grants: what they say, what is refused, and how an expiry is written."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from trusted import LATER, NOW, device, good_case, granted, new_device, plain, publisher, sealed, stranger, trust

from edgeq import bundle, clock, errors, grant
from edgeq.errors import DocumentError, GrantIssuerError, InputError, WrappedKeyError
from edgeq.keys import PublisherKey


def test_what_a_grant_says() -> None:
    """A grant holds what was asked for, and names the bundle, the device and the issuer."""
    held = grant.verify(
        granted(sealed(), allow=("load", "export"), expires=LATER, versions=(1, 9), max_loads=5), trust()
    )
    assert held.operations == ("export", "load")
    assert (held.model_id, held.min_version, held.max_version) == ("acme/spotter", 1, 9)
    assert (held.issuer, held.device) == (publisher().public.key_id, device().public.key_id)
    assert (held.not_before, held.expires) == (int(NOW.timestamp()) - 300, int(LATER.timestamp()))
    assert (held.max_loads, held.max_offline_days, held.min_status_epoch) == (5, None, None)


def test_defaults() -> None:
    """A grant covers the bundle's own version, never expires, and starts five minutes before its issue."""
    held = grant.verify(granted(sealed()), trust())
    assert (held.min_version, held.max_version, held.expires) == (3, 3, None)
    assert held.not_before == int((NOW - grant.CLOCK_SKEW).timestamp())


def test_what_parses_writes_back() -> None:
    """A grant that was read is written to the same bytes."""
    held = grant.unverified(granted(sealed(), expires=LATER))
    assert grant.parse(grant.strict.canonical(held.to_json())) == held


def test_grants_share_nothing() -> None:
    """Two grants with the same terms have their own ids and wrapped keys."""
    first, second = (grant.unverified(granted(sealed())) for _ in range(2))
    assert first.grant_id != second.grant_id
    assert first.wrapped_key != second.wrapped_key


def test_a_fleet(tmp_path: Path) -> None:
    """One bundle opens on each of several devices with its own grant, and on none with another's."""
    devices = [new_device() for _ in range(3)]
    grants = [granted(sealed(), to=one) for one in devices]
    for i, one in enumerate(devices):
        for j, held in enumerate(grants):
            case = good_case().but(identity=one, grant=held)
            if i == j:
                assert case.load(tmp_path)
            else:
                with pytest.raises(errors.GrantDeviceError):
                    case.load(tmp_path)


REFUSED: list[tuple[str, dict[str, Any], type[Exception]]] = [
    ("no operation", {"allow": ()}, InputError),
    ("unknown operation", {"allow": ("load", "train")}, InputError),
    ("expires before it is issued", {"expires": NOW - timedelta(days=1)}, InputError),
    ("expires at once", {"expires": NOW}, InputError),
    ("expires before it starts", {"expires": LATER, "not_before": LATER}, InputError),
    ("time without a zone", {"expires": datetime(2031, 1, 1)}, InputError),
    ("versions backwards", {"versions": (3, 2)}, DocumentError),
    ("version 0", {"versions": (0, 3)}, DocumentError),
    ("no loads at all", {"max_loads": 0}, DocumentError),
    ("negative epoch", {"min_status_epoch": -1}, DocumentError),
]


@pytest.mark.parametrize(("terms", "error"), [pytest.param(t, e, id=name) for name, t, e in REFUSED])
def test_terms_that_make_no_sense(terms: dict[str, Any], error: type[Exception]) -> None:
    """Terms that no reader would accept, or that leave no moment, are refused when the grant is issued."""
    with pytest.raises(error):
        granted(sealed(), **terms)


def test_a_plain_bundle_needs_no_grant() -> None:
    """There is nothing to grant for a bundle that is not encrypted."""
    with pytest.raises(InputError, match="no grant is needed"):
        granted(plain())


def test_only_the_publisher_grants() -> None:
    """A grant for a bundle is issued with the key that signed it; another cannot, even with the wrapping key."""
    verified = bundle.verify(sealed(), trust())
    with pytest.raises(GrantIssuerError):
        grant.issue(verified, stranger(), device().public, ["load"], now=NOW)
    half = PublisherKey(publisher()._signing, stranger().identity)
    with pytest.raises(WrappedKeyError):
        grant.issue(verified, half, device().public, ["load"], now=NOW)


UTC = timezone.utc
EXPIRIES = [
    ("90d", NOW + timedelta(days=90)),
    ("1d", NOW + timedelta(days=1)),
    ("2030-12-31", datetime(2031, 1, 1, tzinfo=UTC)),
    ("2030-12-31T18:00:00Z", datetime(2030, 12, 31, 18, tzinfo=UTC)),
]


@pytest.mark.parametrize(("text", "moment"), EXPIRIES)
def test_expiry(text: str, moment: datetime) -> None:
    """An expiry is a number of days, a day that still counts, or a moment in UTC."""
    assert clock.expiry(text, NOW) == moment


@pytest.mark.parametrize(
    "text", ["", "90", "d", "-1d", "90h", "2030-13-01", "2030-02-30", "9999-12-31", "2030-12-31T18:00:00", "٣d"]
)
def test_expiry_that_is_none(text: str) -> None:
    """Anything else is refused with examples of what is meant."""
    with pytest.raises(InputError, match="such as 90d"):
        clock.expiry(text, NOW)

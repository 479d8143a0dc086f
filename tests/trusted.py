"""A publisher, two devices, sealed models, and the ways to damage them: what the tests of the trust side share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from functools import cache
from pathlib import Path
from typing import Any

from edgeq import bundle, grant, oms, seal, strict
from edgeq.bundle import PAYLOAD_FILE, Bundle
from edgeq.grant import Grant
from edgeq.keys import PublisherKey
from edgeq.loader import read_model
from edgeq.manifest import MANIFEST_FILE
from edgeq.recipients import ContentKey, DeviceKey
from edgeq.trust import Trust

NOW = datetime(2030, 6, 1, 12, 0, 0, tzinfo=timezone.utc)
LATER = NOW + timedelta(days=90)


def new_publisher() -> PublisherKey:
    """A publisher's keys that no file holds."""
    return PublisherKey.generate()


def new_device() -> DeviceKey:
    """A device's key that no file holds."""
    return DeviceKey.generate()


@cache
def publisher() -> PublisherKey:
    """The publisher that the tests trust."""
    return new_publisher()


@cache
def stranger() -> PublisherKey:
    """A publisher that nobody trusts."""
    return new_publisher()


@cache
def device() -> DeviceKey:
    """The device that grants are for."""
    return new_device()


def trust() -> Trust:
    """Trust in the publisher alone."""
    return Trust((publisher().public,))


def model(size: int = 200_000) -> bytes:
    """Bytes that pass for a .tflite as far as the trust side looks: four chunks, the last of them part-filled."""
    return b"\x1c\x00\x00\x00TFL3" + hashlib.shake_256(b"model").digest(size - 8)


@cache
def sealed(size: int = 200_000, version: int = 3, model_id: str = "acme/spotter") -> Bundle:
    """An encrypted bundle."""
    return seal.seal(model(size), publisher(), model_id=model_id, version=version)


@cache
def plain() -> Bundle:
    """A signed-only bundle."""
    return seal.seal(model(), publisher(), model_id="acme/spotter", version=3, encrypt=False)


def granted(source: Bundle, *, to: DeviceKey | None = None, allow: tuple[str, ...] = ("load",), **terms: Any) -> bytes:
    """An .eqg file for a bundle of the publisher's."""
    recipient = (to or device()).public
    return grant.issue(bundle.verify(source, trust()), publisher(), recipient, allow, **{"now": NOW, **terms})


@dataclass(frozen=True)
class Case:
    """All that a device is given: what it loads, with what, for what, and when."""

    data: bytes
    grant: bytes | None = None
    identity: Any = None
    trust: Any = None
    operation: str = "load"
    now: datetime = NOW
    state: Any = None

    def load(self, folder: Path) -> bytes:
        """The model bytes, through the loader, from a file."""
        path = folder / "case.eqb"
        path.write_bytes(self.data)
        return bytes(
            read_model(
                path,
                grant=self.grant,
                identity=self.identity,
                trust=self.trust,
                state=self.state,
                operation=self.operation,
                now=self.now,
            )
        )

    def but(self, **changes: Any) -> Case:
        """The same with one thing changed."""
        return replace(self, **changes)


def good_case(source: Bundle | None = None) -> Case:
    """A case that loads: the encrypted bundle with its grant, device and trust."""
    source = source or sealed()
    return Case(source.to_bytes(), granted(source), device(), trust())


def signed_again(source: Bundle, key: PublisherKey | None = None) -> Bundle:
    """The same manifest and payload, whatever they are now, under a valid outer signature."""
    parts = {MANIFEST_FILE: source.manifest, PAYLOAD_FILE: bytes(source.payload)}
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in parts.items()}
    return replace(source, signature=oms.sign(key or publisher(), digests, "again"))


def regranted(data: bytes, change: Callable[[Grant], Grant], key: PublisherKey | None = None) -> bytes:
    """A grant with changed fields, validly signed: what only the issuer could make."""
    return grant.sign(change(grant.unverified(data)), key or publisher())


def edit_json(data: bytes, change: Callable[[Any], Any]) -> bytes:
    """JSON with a change made to its value in place, spelled canonically again."""
    value = json.loads(data)
    change(value)
    return strict.canonical(value)


def content_key(source: Bundle) -> ContentKey:
    """The content key of an encrypted bundle of the publisher's."""
    held = grant.verify(granted(source), trust())
    return grant.open_key(held, device(), bundle.verify(source, trust()).manifest)

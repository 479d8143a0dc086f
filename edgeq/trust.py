"""Whom this device believes: the publishers whose signatures count.

Today a set of public keys, given by the caller; a signed, rotating root takes its place behind the same two questions.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from edgeq.errors import UntrustedKeyError
from edgeq.keys import PublisherPublic


@dataclass(frozen=True, eq=False)
class Trust:
    """The publishers that are trusted to sign bundles and to issue grants for their own bundles."""

    publishers: tuple[PublisherPublic, ...]

    def by_key_id(self, key_id: str) -> PublisherPublic:
        """The trusted publisher whose signing key has this id; raises UntrustedKeyError."""
        return self._find(key_id, (publisher.key_id for publisher in self.publishers))

    def by_hint(self, hint: str) -> PublisherPublic:
        """The trusted publisher whose signing key an OMS signature names so; raises UntrustedKeyError."""
        return self._find(hint, (publisher.hint for publisher in self.publishers))

    def _find(self, name: str, names: Iterable[str]) -> PublisherPublic:
        for publisher, candidate in zip(self.publishers, names, strict=True):
            if candidate == name:
                return publisher
        trusted = ", ".join(f"{publisher.key_id[:16]}…" for publisher in self.publishers) or "none"
        raise UntrustedKeyError(f"signed by a key that is not trusted (it is named {name[:16]!a}; trusted: {trusted})")

"""Whom this device believes, and for what: the keys of publishers, given by the caller, or a root that says more.

The questions are the same either way. A bare publisher may sign any model, grants for its own bundles, and its own statuses;
under a root, each key may do what the root says, until then.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime
from typing import TYPE_CHECKING

from edgeq import clock, errors
from edgeq.keys import PublisherPublic
from edgeq.records import dataclass

if TYPE_CHECKING:
    from edgeq.root import Delegation, Root


@dataclass(frozen=True, eq=False)
class Trust:
    """The publishers that are trusted to sign bundles, and the root that says so, if there is one (`under`)."""

    publishers: tuple[PublisherPublic, ...]
    root: Root | None = None

    def by_hint(self, hint: str) -> PublisherPublic:
        """The trusted publisher whose signing key an OMS signature names so; raises UntrustedKeyError."""
        return _find(hint, self.publishers, lambda key: key.hint)

    def issuer(self, key_id: str) -> PublisherPublic:
        """The publisher or issuer with this key id, who may have signed a grant; raises UntrustedKeyError."""
        if self.root is not None and key_id in self.root.issuers:
            return self.root.key(key_id)
        return _find(key_id, self.publishers, lambda key: key.key_id)

    def status_key(self, key_id: str) -> PublisherPublic:
        """The key with this id, which may have signed a status; raises UntrustedKeyError."""
        if self.root is None:
            return _find(key_id, self.publishers, lambda key: key.key_id)
        return _find(key_id, tuple(self.root.key(name) for name in self.root.status), lambda key: key.key_id)

    def authority(self, signer: str) -> str:
        """Whose status speaks for what the key with this id has signed."""
        return signer if self.root is None else self.root.root_id

    def check_publisher(self, signer: str, model_id: str | None, when: datetime) -> None:
        """Return if this trusted publisher may sign bundles of this model, or a directory that has no model id (None).

        Raises RootExpiredError, ClockSetBackError, DelegationModelError, DelegationExpiredError; never without a root.
        """
        if self.root is not None:
            _check_time(self.root, when)
            _check_delegation(self.root.publishers[signer], signer, model_id, when)

    def check_issuer(
        self, issuer: str, publisher: str, model_id: str, operations: Collection[str], when: datetime
    ) -> None:
        """Return if the key `issuer` may grant these operations with a bundle of this model signed by `publisher`.

        Raises GrantIssuerError, DelegationModelError, DelegationExpiredError, DelegationOperationError, and as
        `check_publisher` for the root itself.
        """
        if issuer == publisher:
            return  # who was held against the root as the bundle's signer
        if self.root is None or issuer not in self.root.issuers:
            raise errors.GrantIssuerError(f"the grant is by key {issuer[:16]}…, the bundle by {publisher[:16]}…")
        _check_time(self.root, when)
        given = self.root.issuers[issuer]
        _check_delegation(given, issuer, model_id, when)
        if extra := sorted(set(operations) - set(given.operations)):
            raise errors.DelegationOperationError(
                f"the root lets the key {issuer[:16]}… grant {', '.join(given.operations)}, not {', '.join(extra)}"
            )

    def check_status_key(self, signer: str, when: datetime) -> None:
        """Return if this trusted key may sign statuses now.

        Raises RootExpiredError, ClockSetBackError, DelegationExpiredError; never without a root.
        """
        if self.root is not None:
            _check_time(self.root, when)
            _check_until(self.root.status[signer], signer, when)


def under(believed: Root) -> Trust:
    """Trust in what a root says."""
    return Trust(tuple(believed.publisher(name) for name in believed.publishers), believed)


def _find(
    name: str, candidates: tuple[PublisherPublic, ...], naming: Callable[[PublisherPublic], str]
) -> PublisherPublic:
    for key in candidates:
        if naming(key) == name:
            return key
    trusted = ", ".join(f"{key.key_id[:16]}…" for key in candidates[:8]) or "none"
    raise errors.UntrustedKeyError(
        f"signed by a key that is not trusted (it is named {name[:16]!a}; trusted: {trusted})"
    )


def _check_time(believed: Root, when: datetime) -> None:
    from edgeq import root  # imported here: a device that believes publishers' keys needs none of it

    root.check_time(believed, when)


def _check_delegation(given: Delegation, key: str, model_id: str | None, when: datetime) -> None:
    if not ("*" in given.models if model_id is None else given.covers(model_id)):
        asked = "a directory without a model id" if model_id is None else repr(model_id)
        raise errors.DelegationModelError(
            f"the root lets the key {key[:16]}… sign for {', '.join(given.models)[:128]}, not for {asked}"
        )
    _check_until(given.until, key, when)


def _check_until(until: int, key: str, when: datetime) -> None:
    if clock.timestamp(when) >= until:
        raise errors.DelegationExpiredError(
            f"the root lets the key {key[:16]}… do that until {clock.show(until)}, which has passed"
        )

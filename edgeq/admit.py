"""May this bundle be opened here and now? Every rule that a valid signature leaves open, in one place.

Pure functions: what is asked for, what the device remembers, and the time come as arguments.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING, Any

from edgeq import grant as grants
from edgeq.bundle import Signed
from edgeq.grant import Grant
from edgeq.records import dataclass
from edgeq.trust import Trust

if TYPE_CHECKING:
    from edgeq.state import State
    from edgeq.status import Status


@dataclass(frozen=True, eq=False)
class Request:
    """Somebody wants to open a bundle that was verified: whom they believe, for what, when by the clock, on which device,
    with which grant.

    `device` is a key id. A bundle that is not encrypted needs no grant, and, where no state is kept, no device.
    """

    signed: Signed
    trust: Trust
    operations: tuple[str, ...]
    now: datetime
    device: str = ""
    grant: Grant | None = None

    @property
    def authority(self) -> str:
        """Whose status speaks for the bundle."""
        return self.trust.authority(self.signed.signer.key_id)

    @property
    def signers(self) -> frozenset[str]:
        """The ids of the keys that signed the bundle and the grant."""
        issuer = () if self.grant is None else (self.grant.issuer,)
        return frozenset((self.signed.signer.key_id, *issuer))


def described(operations: Collection[str], signed: Signed | None = None, held: Grant | None = None) -> dict[str, Any]:
    """What the audit log says of an opening, as far as it is known."""
    return {
        "model_id": None if signed is None else signed.manifest.model_id,
        "version": None if signed is None else signed.manifest.version,
        "payload_sha256": None if signed is None else signed.payload_sha256,
        "grant_id": None if held is None else held.grant_id,
        "operations": tuple(sorted(set(operations))),
    }


@dataclass(frozen=True, eq=False)
class Memory:
    """What a device remembers, and the newest status that it applied of the bundle's authority."""

    state: State
    status: Status | None


def check(request: Request, memory: Memory | None) -> datetime:
    """The time that the rules were held against, if none of them speaks against the opening.

    `memory` is None where no state is kept: then no version is too old, nothing is revoked, and a grant with a condition
    that needs a state is refused.

    Raises ClockError, RootExpiredError, DelegationError, RollbackError, VersionReuseError, StatusExpiredError,
    RevokedError, GrantError and their kinds.
    """
    signed, held, manifest = request.signed, request.grant, request.signed.manifest
    when = request.now
    if memory is not None:
        from edgeq import state as states  # imported here: nothing is remembered where no state is kept
        from edgeq import status as statuses

        when = states.trusted_time(memory.state, request.now)
    request.trust.check_publisher(signed.signer.key_id, manifest.model_id, when)
    if memory is not None:
        states.check_version(memory.state, manifest.model_id, manifest.version, signed.payload_sha256)
        if memory.status is not None:
            statuses.check(
                memory.status,
                model_id=manifest.model_id,
                version=manifest.version,
                keys=request.signers,
                grant_id=None if held is None else held.grant_id,
                device=request.device,
                when=when,
            )
    if held is not None:
        grants.check(
            held,
            signed,
            request.trust,
            device=request.device,
            operations=request.operations,
            now=when,
            state=None if memory is None else memory.state,
        )
    return when


def admit(request: Request, memory: Memory) -> State:
    """What the device remembers after this opening. Raises as `check` does, and StateFullError."""
    from edgeq import state as states

    when = check(request, memory)
    manifest = request.signed.manifest
    after = states.opened(memory.state, when, manifest.model_id, manifest.version, request.signed.payload_sha256)
    if request.grant is None or request.grant.max_loads is None:
        return after
    return states.counted(after, request.grant.grant_id, request.grant.expires)

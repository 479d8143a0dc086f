"""May this bundle be opened here and now? Every rule that a valid signature leaves open, in one place.

Pure functions: what is asked for, what the device remembers, and the time come as arguments.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from edgeq import grant as grants
from edgeq import state as states
from edgeq.bundle import Signed
from edgeq.grant import Grant
from edgeq.state import State


@dataclass(frozen=True, eq=False)
class Request:
    """Somebody wants to open a bundle that was verified: for what, when by the clock, with which grant, on which device.

    A bundle that is not encrypted needs neither grant nor device (its key id).
    """

    signed: Signed
    operations: tuple[str, ...]
    now: datetime
    grant: Grant | None = None
    device: str = ""


def check(request: Request, state: State | None) -> datetime:
    """The time that the rules were held against, if none of them speaks against the opening.

    `state` is what the device remembers, None if it keeps no state: then no version is too old, and a grant with a
    condition that needs one is refused.

    Raises ClockError, RollbackError, VersionReuseError, GrantError and its kinds.
    """
    signed = request.signed
    when = request.now if state is None else states.trusted_time(state, request.now)
    if state is not None:
        manifest = signed.manifest
        states.check_version(state, manifest.model_id, manifest.version, signed.payload_sha256)
    if request.grant is not None:
        grants.check(request.grant, signed, device=request.device, operations=request.operations, now=when, state=state)
    return when


def admit(request: Request, state: State) -> State:
    """What the device remembers after this opening. Raises as `check` does, and StateFullError."""
    when = check(request, state)
    manifest = request.signed.manifest
    after = states.opened(state, when, manifest.model_id, manifest.version, request.signed.payload_sha256)
    if request.grant is None or request.grant.max_loads is None:
        return after
    return states.counted(after, request.grant.grant_id, request.grant.expires)

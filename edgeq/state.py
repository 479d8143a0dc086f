"""What a device remembers between two openings, and the rules about it: time, versions, loads and statuses seen.

Pure functions over values, bytes and time; edgeq.device keeps the bytes on the disk. docs/trust-formats.md has the format.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, Final

from edgeq import audit, clock, dsse, limits, strict
from edgeq.audit import Head
from edgeq.errors import (
    ClockSetBackError,
    ClockUnsetError,
    DocumentError,
    NonceReusedError,
    RollbackError,
    StateDamagedError,
    StateDeviceError,
    StateFullError,
    TrustError,
    VersionReuseError,
)
from edgeq.fields import KEY_ID, MODEL_ID, SUITE, TIME, VERSION
from edgeq.recipients import Identity, Secret
from edgeq.records import dataclass, field, replace

FORMAT: Final = "edgeq-state/1"

_WHAT: Final = "device state"
_MAC_TYPE: Final = "application/vnd.edgeq.state.v1+json"
_MAC_LABEL: Final = b"edgeq-state/1 mac"
_COUNT: Final = strict.integer(1, limits.INTEGER)


@dataclass(frozen=True)
class Newest:
    """The newest version of a model that was opened."""

    version: int
    payload_sha256: str


@dataclass(frozen=True)
class Loads:
    """How often a grant was used, and when it expires (Unix seconds, None: never)."""

    count: int
    expires: int | None


@dataclass(frozen=True)
class StatusSeen:
    """The newest status of an authority that was applied, and the key that signed it; times in Unix seconds.

    Epoch 0 stands for a status whose key the root has taken out since: it still holds, and any other may follow it.
    """

    epoch: int
    issued: int
    expires: int
    sha256: str
    signer: str


@dataclass(frozen=True)
class RootSeen:
    """The version of a root that the device believes, by the hash of its file."""

    root_id: str
    version: int
    sha256: str


@dataclass(frozen=True)
class State:
    """What a device remembers: `time` in Unix seconds; models by id, loads by grant id, statuses by authority, and
    the last nonce that was used to mask arrays for an owner, by their key id."""

    device: str
    time: int
    audit: Head
    root: RootSeen | None = None
    models: Mapping[str, Newest] = field(default_factory=dict)
    loads: Mapping[str, Loads] = field(default_factory=dict)
    statuses: Mapping[str, StatusSeen] = field(default_factory=dict)
    masks: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The state as a JSON value, without its MAC."""
        return {
            "format": FORMAT,
            "suite": SUITE,
            "device": self.device,
            "time": self.time,
            "audit": {**vars(self.audit), "pending": list(self.audit.pending)},
            "root": None if self.root is None else vars(self.root),
            "models": {name: vars(newest) for name, newest in self.models.items()},
            "loads": {name: vars(loads) for name, loads in self.loads.items()},
            "statuses": {name: vars(seen) for name, seen in self.statuses.items()},
            "masks": dict(self.masks),
        }

    def count(self, grant_id: str) -> int:
        """How many loads were counted under a grant."""
        used = self.loads.get(grant_id)
        return 0 if used is None else used.count


# --- the rules --------------------------------------------------------------------------------------------------------


def start(device: str, now: datetime, reason: str = "init") -> State:
    """The state of a device that has seen nothing but the time, with the log that begins so; raises ClockUnsetError."""
    return State(device, _plausible(now), audit.start(device, reason, now))


def trusted_time(state: State, now: datetime) -> datetime:
    """The time to hold everything against: the clock's, or the latest seen if the clock is a little behind it.

    Raises ClockUnsetError or ClockSetBackError if the clock is no clock to go by.
    """
    shown = _plausible(now)
    if shown < state.time - clock.SKEW.total_seconds():
        raise ClockSetBackError(
            f"the clock shows {clock.show(shown)}, but this device has seen {clock.show(state.time)}: it was set back "
            "(set it right; if the later time was the wrong one, edgeq device reset)"
        )
    return clock.moment(max(shown, state.time))


def check_version(state: State, model_id: str, version: int, payload_sha256: str) -> None:
    """Return if this is no older and no other model than what was opened; else raise RollbackError, VersionReuseError."""
    newest = state.models.get(model_id)
    if newest is None or version > newest.version:
        return
    if version < newest.version:
        raise RollbackError(f"{model_id} version {version}: this device has opened version {newest.version}")
    if payload_sha256 != newest.payload_sha256:
        raise VersionReuseError(f"{model_id} version {version}: this device has opened another payload as that version")


def opened(state: State, when: datetime, model_id: str, version: int, payload_sha256: str) -> State:
    """The state after a model was opened, which the rules allowed; raises StateFullError."""
    seen = clock.timestamp(when)
    models = {**state.models, model_id: Newest(version, payload_sha256)}
    if len(models) > limits.STATE_MODELS:
        raise StateFullError(f"the device state has room for {limits.STATE_MODELS} models, and all of it is taken")
    current = {name: used for name, used in state.loads.items() if used.expires is None or seen < used.expires}
    return replace(state, time=max(state.time, seen), models=models, loads=current)


def counted(state: State, grant_id: str, expires: int | None) -> State:
    """The state after one load more under a grant; raises StateFullError."""
    loads = {**state.loads, grant_id: Loads(state.count(grant_id) + 1, expires)}
    if len(loads) > limits.STATE_GRANTS:
        raise StateFullError(f"the device state has room for {limits.STATE_GRANTS} grants, and all of it is taken")
    return replace(state, loads=loads)


def informed(state: State, when: datetime, authority: str, status: StatusSeen) -> State:
    """The state after a status was applied, which the rules allowed; raises StateFullError."""
    statuses = {**state.statuses, authority: status}
    if len(statuses) > limits.STATE_AUTHORITIES:
        raise StateFullError(
            f"the device state has room for {limits.STATE_AUTHORITIES} authorities, and all of it is taken"
        )
    return replace(state, time=max(state.time, clock.timestamp(when), status.issued), statuses=statuses)


def rooted(state: State, when: datetime, root: RootSeen, issued: int, status_keys: Collection[str]) -> State:
    """The state after a version of a root was taken into it, issued at `issued`, which the rules allowed.

    A status by a key that is not among the root's `status_keys` any more loses its epoch: whoever stole that key may have
    chosen the highest that there is.
    """
    statuses = dict(state.statuses)
    seen = statuses.get(root.root_id)
    if seen is not None and seen.signer not in status_keys:
        statuses[root.root_id] = replace(seen, epoch=0)
    return replace(state, time=max(state.time, clock.timestamp(when), issued), root=root, statuses=statuses)


def masking(state: State, recipient: str, nonce: int | None) -> State:
    """The state after a nonce was taken to mask an array for an owner: this one, or the next.

    Raises as `following` does, and StateFullError.
    """
    masks = {**state.masks, recipient: following(state.masks.get(recipient, -1), nonce)}
    if len(masks) > limits.STATE_MASKS:
        raise StateFullError(f"the device state has room for {limits.STATE_MASKS} owners of masks, and all is taken")
    return replace(state, masks=masks)


def following(last: int, nonce: int | None) -> int:
    """The nonce after `last`, or the one asked for; raises NonceReusedError unless it is above `last`."""
    taken = last + 1 if nonce is None else nonce
    if not last < taken <= limits.INTEGER:
        raise NonceReusedError(
            f"nonce {taken}: nonces up to {last} were used, none is used twice, and the last is {limits.INTEGER}"
        )
    return taken


def _plausible(now: datetime) -> int:
    shown = clock.timestamp(now)
    if shown < clock.EARLIEST:
        raise ClockUnsetError(f"the clock shows {now:%Y-%m-%d}: it was never set, so no time can be held against it")
    return shown


# --- the bytes --------------------------------------------------------------------------------------------------------


def mac_key(identity: Identity) -> Secret:
    """The key that this device authenticates its state with."""
    return identity.derive(_MAC_LABEL)


def write(state: State, key: Secret) -> bytes:
    """The content of state.json."""
    value = state.to_json()
    return strict.canonical({"mac": _mac(value, key), "state": value})


def read(data: bytes, key: Secret, device: str) -> State:
    """The state that this device wrote.

    Raises StateDeviceError if the bytes are another device's, StateDamagedError if they are nobody's.
    """
    try:
        value = strict.parse_canonical(data, limits.STATE, _WHAT)
        outer = strict.record(value, {"mac": strict.hexadecimal(32), "state": _any}, _WHAT)
        if not hmac.compare_digest(outer["mac"], _mac(outer["state"], key)):
            claimed = outer["state"].get("device") if isinstance(outer["state"], dict) else None
            if isinstance(claimed, str) and claimed != device:
                raise StateDeviceError(f"the state is of device {claimed[:16]!a}…, this is {device[:16]}…")
            raise StateDamagedError("the MAC does not fit: this device did not write it")
        found = outer["state"]
        if isinstance(found, dict) and "masks" not in found:
            found = {**found, "masks": {}}  # written before there were masks
        fields = strict.record(found, _FIELDS, _WHAT)
    except StateDeviceError:
        raise
    except TrustError as error:
        raise StateDamagedError(f"{error}; it opens nothing (edgeq device reset starts a new one)") from None
    del fields["format"], fields["suite"]
    return State(**fields)


def _mac(value: Any, key: Secret) -> str:
    message = dsse.pae(_MAC_TYPE, strict.canonical(value))
    return hmac.new(key.reveal(), message, hashlib.sha256).hexdigest()


def _any(value: Any, what: str) -> Any:
    return value


def _lines(value: Any, what: str) -> tuple[str, ...]:
    """The last lines of the audit log, which edgeq.audit parses when they are needed."""
    if not isinstance(value, list) or not 1 <= len(value) <= 2 or not all(isinstance(line, str) for line in value):
        raise DocumentError(f"{what}: expected one or two lines")
    return tuple(value)


def _entry(kind: type, fields: Mapping[str, strict.Check]) -> strict.Check:
    return lambda value, what: kind(**strict.record(value, fields, what))


_NEWEST: Final = _entry(Newest, {"version": VERSION, "payload_sha256": strict.hexadecimal(32)})
_LOADS: Final = _entry(Loads, {"count": _COUNT, "expires": strict.optional(TIME)})
_SEEN: Final = _entry(
    StatusSeen,
    {
        "epoch": strict.integer(0, limits.INTEGER),
        "issued": TIME,
        "expires": TIME,
        "sha256": strict.hexadecimal(32),
        "signer": KEY_ID,
    },
)
_ROOT: Final = _entry(
    RootSeen, {"root_id": KEY_ID, "version": strict.integer(1, limits.INTEGER), "sha256": strict.hexadecimal(32)}
)
_HEAD: Final[dict[str, strict.Check]] = {
    "sequence": _COUNT,
    "hash": strict.hexadecimal(32),
    "segment": _COUNT,
    "pending": _lines,
}
_FIELDS: Final[dict[str, strict.Check]] = {
    "format": strict.only(FORMAT),
    "suite": strict.only(SUITE),
    "device": KEY_ID,
    "time": TIME,
    "audit": lambda value, what: Head(**strict.record(value, _HEAD, what)),
    "root": strict.optional(_ROOT),
    "models": strict.mapping(MODEL_ID, _NEWEST, limits.STATE_MODELS),
    "loads": strict.mapping(strict.hexadecimal(16), _LOADS, limits.STATE_GRANTS),
    "statuses": strict.mapping(KEY_ID, _SEEN, limits.STATE_AUTHORITIES),
    "masks": strict.mapping(KEY_ID, strict.integer(0, limits.INTEGER), limits.STATE_MASKS),
}

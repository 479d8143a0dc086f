"""The steps of a deployment, in the order in which they must come: look, copy, make the key, put together, check, switch.

Until the switch, what ran on the device goes on as it was; the switch is one rename. Anything that does not fit (another
device's grant, a bundle that was altered, a wheel for another processor) is refused here, before it is copied.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edgeq import grant as grants
from edgeq import keys, limits
from edgeq.bundle import Verified
from edgeq.deploy import release as releases
from edgeq.deploy.release import Blob, Release
from edgeq.deploy.ssh import Connection
from edgeq.errors import DeployError, InputError, NoGrantError, SelfCheckError
from edgeq.files import read_limited, write_atomic
from edgeq.opening import believe, verify

if TYPE_CHECKING:
    from edgeq.trust import Trust

OLDEST_PYTHON: Final = (3, 10)

Told = Callable[[str, int, int], None]
"""What is copied, bytes so far, bytes in all."""


@dataclass(frozen=True)
class Device:
    """What a device is and holds, as the agent found it."""

    python: str
    architecture: str
    features: frozenset[str]
    part: str
    packages: dict[str, str | None]
    folder: str
    key: str | None
    current: str | None
    previous: str | None
    objects: frozenset[str]
    parts: dict[str, int]

    @property
    def processor(self) -> str:
        """For people."""
        return f"{self.architecture}{f' {self.part}' if self.part else ''}, Python {self.python}"


@dataclass(frozen=True)
class Offered:
    """A bundle that was found whole and signed here, with the grant and the trust that go with it."""

    bundle: Blob
    verified: Verified
    trust: Blob
    believed: Trust
    grant: Blob | None

    @property
    def about(self) -> dict[str, Any]:
        """What the bundle says of itself."""
        manifest = self.verified.manifest
        return {} if manifest is None else {"model_id": manifest.model_id, "version": manifest.version}


def look(connection: Connection) -> Device:
    """What is at the other end. Raises DeployError for a system that edgeq does not run on."""
    detector = resources.files("edgeq.targets").joinpath("detect.py").read_bytes()
    found = connection.call("probe", data=[detector])
    if found["system"] != "Linux":
        raise DeployError(f"{connection.address}: the device runs {found['system']}, expected Linux")
    if tuple(map(int, found["python"].split(".")[:2])) < OLDEST_PYTHON:
        raise DeployError(f"{connection.address}: Python {found['python']} there, expected 3.10 or newer (--python)")
    fields = {name: found[name] for name in Device.__dataclass_fields__}
    return Device(**{**fields, "features": frozenset(found["features"]), "objects": frozenset(found["objects"])})


def offer(bundle: str, trust: str, grant: str | None) -> Offered:
    """The bundle, verified; a grant is read, and held against the device later. Raises TrustError and its kinds, InputError."""
    believed = believe(trust)
    verified = verify(bundle, trust=believed)
    if verified.manifest is None or not Path(bundle).is_file():
        raise InputError(f"{bundle}: expected a bundle, one .eqb file")
    return Offered(
        releases.blob(bundle), verified, releases.blob(trust), believed, None if grant is None else releases.blob(grant)
    )


def check_grant(offered: Offered, key: str, *, state: bool) -> None:
    """Return if the grant lets the device with this public key load the bundle now. Raises TrustError and its kinds.

    Conditions that need a state (a number of loads, a fresh status) are the device's to check, if it keeps one.
    """
    manifest = offered.verified.manifest
    if manifest is None or manifest.encryption is None:
        return
    device = keys.parse_device_public(key.encode(), what="the device's public key")
    if offered.grant is None:
        raise NoGrantError(
            f"{offered.bundle.path}: the bundle is encrypted: expected --grant, for device {device.key_id[:16]}…"
        )
    held = grants.verify(read_limited(offered.grant.path, limits.GRANT), offered.believed)
    grants.check(
        replace(held, max_loads=None, max_offline_days=None, min_status_epoch=None) if state else held,
        offered.verified.signed,
        offered.believed,
        device=device.key_id,
        operations=("load",),
        now=datetime.now(timezone.utc),
    )


def copy(connection: Connection, device: Device, blobs: Sequence[Blob], told: Told) -> int:
    """Copy what the device does not have, continuing what broke; returns the bytes that were sent."""
    total = 0
    for item in blobs:
        if item.sha256 in device.objects:
            continue
        part = device.parts.get(item.sha256, 0)
        offset = part if part <= item.size else 0

        def sent(count: int, item: Blob = item, offset: int = offset) -> None:
            told(item.path.name, offset + count, item.size)

        connection.call("put", item.sha256, str(item.size), str(offset), data=item.pieces(offset), sent=sent)
        total += item.size - offset
    return total


def install(connection: Connection, wheels: Sequence[Blob], site: str) -> dict[str, str]:
    """Unpack wheels that were copied; returns the packages in them."""
    if not wheels:
        return {}
    found: dict[str, str] = connection.call("site", data=[_json({"id": site, "wheels": releases.wheels_json(wheels)})])[
        "packages"
    ]
    return found


def check_packages(device: Device, installed: dict[str, str], target: str) -> None:
    """Return if the device has what edgeq needs, in its Python or in the wheels. Raises DeployError naming what is missing."""
    if "edgeq" not in installed and device.packages["edgeq"] is None:
        raise DeployError(
            f"edgeq is not installed on the device: expected --wheel (edgeq targets wheel {target} makes one)"
        )
    for name in ("numpy", "cryptography"):
        if name not in installed and device.packages[name] is None:
            raise DeployError(
                f"{name} is not installed on the device: install it there, or give its wheel with --wheel"
            )


@dataclass(frozen=True)
class Identity:
    """A device's public key (PEM), whether it was made just now, and whether the device keeps a state."""

    key: str
    made: bool
    state: bool


def identity(connection: Connection, site: str, python: str, *, state: bool) -> Identity:
    """The device's key, made there if there was none; with `state` its memory, too."""
    found = connection.call("identity", python, site, data=[_json({"state": state})])
    return Identity(found["key"], found["made"], found["state"])


def keep_key(key: str, path: str) -> bool:
    """Write the device's public key to `path`; false if it is there already. Raises DeployError if another one is."""
    if not Path(path).exists():
        write_atomic(path, key.encode())
        return True
    if read_limited(path, limits.KEY_FILE) != key.encode():
        raise DeployError(
            f"{path}: the device has another key: another device, or one that was set up anew; "
            "give another --pub, and a grant for the new key"
        )
    return False


def put_together(connection: Connection, made: Release) -> None:
    """Make the release's folder on the device, beside the one in use."""
    connection.call("release", data=[_json(made.to_json())])


def check(connection: Connection, release_id: str) -> dict[str, Any]:
    """What the device says of a release: it opened the bundle and ran it. Raises SelfCheckError if it did not."""
    program = resources.files("edgeq.deploy").joinpath("selfcheck.py").read_bytes()
    found = connection.call("check", release_id, data=[program])
    if "failed" in found:
        raise SelfCheckError(f"{connection.address}: the self-check failed, nothing was switched: {found['failed']}")
    return found


def switch(connection: Connection, release_id: str) -> None:
    """Make the release the current one."""
    connection.call("switch", release_id)


def _json(value: object) -> bytes:
    return json.dumps(value).encode()

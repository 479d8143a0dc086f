"""`edgeq deploy`: put a bundle onto a device, over ssh."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from edgeq.cli import figures, models, show
from edgeq.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeq.deploy.address import Address
    from edgeq.deploy.release import Blob
    from edgeq.deploy.ssh import Connection
    from edgeq.deploy.steps import Device

Rows = list[tuple[str, object]]


@click.command()
@click.argument("what", nargs=-1, required=True, metavar="[BUNDLE] USER@HOST[:DIR]")
@click.option("--grant", metavar="G.eqg", help="What lets this device open the bundle.")
@models.trust_option()
@click.option(
    "--wheel", "wheels", multiple=True, metavar="W.whl", help="Unpacked for the app; may be given several times."
)
@click.option("--state", is_flag=True, help="The device is to remember what it opened (edgeq device).")
@click.option("--pub", metavar="DEVICE.pub", help="Where the device's public key goes [default: HOST.pub].")
@click.option("--python", default="python3", show_default=True, metavar="PATH", help="Python on the device.")
@click.option("--port", type=click.IntRange(1, 65535), help="The port of sshd, as ssh -p.")
@click.option("--ssh-config", metavar="FILE", help="A configuration for ssh, as ssh -F.")
@click.option("--rollback", is_flag=True, help="Go back to the release before this one.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of lines.")
def deploy(
    what: tuple[str, ...],
    grant: str | None,
    trust: str | None,
    wheels: tuple[str, ...],
    state: bool,
    pub: str | None,
    python: str,
    port: int | None,
    ssh_config: str | None,
    rollback: bool,
    as_json: bool,
) -> None:
    """Put a bundle onto a device, and see it run there.

    Over the system's ssh, whose check of host keys cannot be turned off. Copies what the device does not have yet, makes
    the device's key if there is none and brings the public half back (HOST.pub), opens the bundle there and runs it once,
    and only then makes the new release the current one. The release before stays for --rollback.

    Without BUNDLE, or without --grant for an encrypted one, the device is only prepared: grant to HOST.pub, then deploy.
    """
    from edgeq.deploy import address as addresses
    from edgeq.deploy.ssh import connect

    if len(what) > 2 or (rollback and len(what) != 1):
        raise InputError(f"expected {'' if rollback else '[BUNDLE] '}USER@HOST[:DIR], found {len(what)} arguments")
    address = addresses.parse(what[-1])
    options = [*([] if port is None else [f"-p{port}"]), *([] if ssh_config is None else [f"-F{ssh_config}"])]
    with connect(address, python=python, options=options) as connection:
        if rollback:
            found = _back(connection)
        else:
            bundle = what[0] if len(what) == 2 else None
            found = _forward(connection, address, bundle, grant, trust, wheels, state, pub, python)
    if as_json:
        show.as_json({name.replace(" ", "_"): value for name, value in found})
    else:
        show.facts(found)


def _forward(
    connection: Connection,
    address: Address,
    bundle: str | None,
    grant: str | None,
    trust: str | None,
    wheels: Sequence[str],
    state: bool,
    pub: str | None,
    python: str,
) -> Rows:
    from edgeq.deploy import release as releases
    from edgeq.deploy import steps

    offered = None
    if bundle is not None:
        if trust is None:
            raise InputError("expected --trust: whom the device is to believe")
        offered = steps.offer(bundle, trust, grant)
    device = steps.look(connection)
    target = _target(device)
    carried = [releases.wheel(path, device.architecture) for path in wheels]
    site = releases.Release({}, tuple(carried)).site
    sent = _copy(connection, device, carried)
    steps.check_packages(device, steps.install(connection, carried, site), target)
    own = steps.identity(connection, site, python, state=state)
    path = pub or f"{re.sub(r'[^A-Za-z0-9._-]', '_', address.host)}.pub"
    kept = steps.keep_key(own.key, path)
    rows: Rows = [
        ("device", f"{address}, {device.processor}, target {target}"),
        (
            "device key",
            f"{'made there' if own.made else 'was there'}, public half {'written to' if kept else 'is'} {path}",
        ),
    ]
    manifest = None if offered is None else offered.verified.manifest
    if offered is None or (manifest is not None and manifest.encryption is not None and offered.grant is None):
        name = "BUNDLE" if bundle is None else bundle
        show.note(
            f"the device is prepared: edgeq grant {name} --key K.key --to {path} -o G.eqg, then deploy with --grant"
        )
        return rows
    steps.check_grant(offered, own.key, state=own.state)
    files = {releases.BUNDLE: offered.bundle, releases.TRUST: offered.trust}
    if offered.grant is not None:
        files[releases.GRANT] = offered.grant
    made_here = releases.Release(files, tuple(carried), python, own.state, offered.about)
    sent += _copy(connection, device, list(files.values()))
    steps.put_together(connection, made_here)
    checked = steps.check(connection, made_here.id)
    steps.switch(connection, made_here.id)
    return [
        *rows,
        ("copied", figures.size(sent) if sent else "nothing, all of it was there"),
        ("self-check", _checked(checked)),
        ("release", f"{made_here.id}, in {device.folder}/current"),
        *(
            []
            if device.current in (None, made_here.id)
            else [("before", f"{device.current}, edgeq deploy --rollback {address}")]
        ),
    ]


def _back(connection: Connection) -> Rows:
    from edgeq.deploy import steps
    from edgeq.errors import DeployError

    device = steps.look(connection)
    if device.previous is None or device.previous == device.current:
        raise DeployError(f"{connection.address}: there is no release to go back to")
    checked = steps.check(connection, device.previous)
    steps.switch(connection, device.previous)
    return [
        ("device", f"{connection.address}, {device.processor}"),
        ("self-check", _checked(checked)),
        ("release", f"{device.previous}, in {device.folder}/current"),
        ("before", f"{device.current}, edgeq deploy --rollback {connection.address}"),
    ]


def _copy(connection: Connection, device: Device, blobs: list[Blob]) -> int:
    from edgeq.deploy import steps

    with show.progress("copying", sum(b.size for b in blobs)) as advance:
        return steps.copy(connection, device, blobs, lambda name, done, total: advance(done, total, name))


def _target(device: Device) -> str:
    """The name of the target that fits the device best."""
    from edgeq.targets.table import TARGETS

    fitting = [t for t in TARGETS.values() if t.architecture == device.architecture and set(t.needs) <= device.features]
    fitting.sort(key=lambda t: (device.part in t.parts, t.order))
    return fitting[-1].name if fitting else "none"


def _checked(found: dict[str, Any]) -> str:
    """The device's own account, in a line."""
    return (
        f"opened in {figures.duration(found['open_s'])}, one inference {figures.duration(found['inference_s'])}, "
        f"kernels for {found['kernels']}, peak {found['peak_mib']:.0f} MiB, edgeq {found['edgeq']}"
    )

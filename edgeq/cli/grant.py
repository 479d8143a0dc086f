"""`edgeq grant`: let one device use one bundle."""

from __future__ import annotations

import click

from edgeq.cli import show
from edgeq.cli.passphrase import with_passphrase


@click.command()
@click.argument("bundle", metavar="BUNDLE")
@click.option("--key", required=True, metavar="K.key", help="The private key of the bundle's publisher.")
@click.option("--to", required=True, metavar="DEVICE.pub", help="The device's public key.")
@click.option(
    "--allow",
    default="load",
    show_default=True,
    metavar="LIST",
    help="Some of load, calibrate, export, debug, with commas. None implies another.",
)
@click.option(
    "--expires", metavar="90d|DATE", help="After so many days, or at the end of 2030-12-31 (UTC) [default: never]"
)
@click.option("-o", "--output", required=True, metavar="OUT.eqg", help="Where the grant goes.")
def grant(bundle: str, key: str, to: str, allow: str, expires: str | None, output: str) -> None:
    """Let one device open a bundle.

    A grant is the bundle's key, wrapped for that device, and what the device may do: load runs the model; calibrate
    lets its parameters change; export lets the plain .tflite out; debug lets intermediate values be read.
    """
    from datetime import datetime, timezone

    from edgeq import keys
    from edgeq.clock import expiry
    from edgeq.files import write_atomic
    from edgeq.grant import issue
    from edgeq.loader import verify
    from edgeq.trust import Trust

    now = datetime.now(timezone.utc)
    operations = [name.strip() for name in allow.split(",") if name.strip()]
    until = None if expires is None else expiry(expires, now)
    device = keys.load_device_public(to)
    publisher = with_passphrase(key, lambda passphrase: keys.load_publisher(key, passphrase=passphrase))
    verified = verify(bundle, trust=Trust((publisher.public,)))
    write_atomic(output, issue(verified, publisher, device, operations, now=now, expires=until))
    show.facts(
        [
            ("grant", output),
            ("bundle", bundle),
            ("device", device.key_id),
            ("allows", ", ".join(sorted(set(operations)))),
            ("expires", "never" if until is None else until.strftime("%Y-%m-%d %H:%M UTC")),
        ]
    )

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
@click.option("--not-before", metavar="DATE", help="From 2030-12-31 (UTC) on [default: now].")
@click.option("--max-loads", type=click.IntRange(1), metavar="N", help="Open it so often and no more.")
@click.option(
    "--max-offline-days", type=click.IntRange(1, 36_500), metavar="N", help="With a status no older than that."
)
@click.option("--min-status-epoch", type=click.IntRange(0), metavar="N", help="With a status of that epoch or newer.")
@click.option("-o", "--output", required=True, metavar="OUT.eqg", help="Where the grant goes.")
def grant(
    bundle: str,
    key: str,
    to: str,
    allow: str,
    expires: str | None,
    not_before: str | None,
    max_loads: int | None,
    max_offline_days: int | None,
    min_status_epoch: int | None,
    output: str,
) -> None:
    """Let one device open a bundle.

    A grant is the bundle's key, wrapped for that device, and what the device may do: load runs the model; calibrate
    lets its parameters change; export lets the plain .tflite out; debug lets intermediate values be read.

    A grant with one of the last three conditions opens only on a device that keeps a state (edgeq device).
    """
    from datetime import datetime, timezone

    from edgeq import keys
    from edgeq.clock import expiry, start
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
    issued = issue(
        verified,
        publisher,
        device,
        operations,
        now=now,
        expires=until,
        not_before=None if not_before is None else start(not_before),
        max_loads=max_loads,
        max_offline_days=max_offline_days,
        min_status_epoch=min_status_epoch,
    )
    write_atomic(output, issued)
    conditions = [
        ("not before", not_before),
        ("max loads", max_loads),
        ("max offline days", max_offline_days),
        ("min status epoch", min_status_epoch),
    ]
    show.facts(
        [
            ("grant", output),
            ("bundle", bundle),
            ("device", device.key_id),
            ("allows", ", ".join(sorted(set(operations)))),
            ("expires", "never" if until is None else until.strftime("%Y-%m-%d %H:%M UTC")),
            *((name, value) for name, value in conditions if value is not None),
        ]
    )

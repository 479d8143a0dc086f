"""`edgeq grant`: let one device use one bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgeq.cli import show
from edgeq.cli.passphrase import with_passphrase
from edgeq.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from edgeq.bundle import Verified
    from edgeq.grant import Grant
    from edgeq.keys import PublisherKey


@click.command()
@click.argument("bundle", metavar="BUNDLE")
@click.option(
    "--key", required=True, metavar="K.key", help="The private key of the bundle's publisher, or an issuer's."
)
@click.option("--to", required=True, metavar="DEVICE.pub", help="The public key of the device, or of an issuer.")
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
@click.option("--from", "source", metavar="MINE.eqg", help="An issuer's own grant from the publisher, to hand on.")
@click.option("--trust", metavar="ROOT", help="The root that lets the issuer grant; goes with --from.")
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
    source: str | None,
    trust: str | None,
    output: str,
) -> None:
    """Let one device open a bundle.

    A grant is the bundle's key, wrapped for that device, and what the device may do: load runs the model; calibrate
    lets its parameters change; export lets the plain .tflite out; debug lets intermediate values be read.

    A grant with --max-loads, --max-offline-days or --min-status-epoch opens only on a device that keeps a state
    (edgeq device).

    An issuer that a root names (edgeq root) grants with its own key, --trust ROOT, and --from the grant that the
    publisher gave it: no more than that allows, and no longer.
    """
    from datetime import datetime, timezone

    from edgeq import keys
    from edgeq.clock import expiry, start
    from edgeq.files import write_atomic
    from edgeq.grant import issue
    from edgeq.opening import verify
    from edgeq.trust import Trust

    if (source is None) != (trust is None):
        raise InputError("expected --from and --trust together, which an issuer needs, or neither")

    now = datetime.now(timezone.utc)
    operations = [name.strip() for name in allow.split(",") if name.strip()]
    until = None if expires is None else expiry(expires, now)
    device = keys.load_recipient(to)
    publisher = with_passphrase(key, lambda passphrase: keys.load_publisher(key, passphrase=passphrase))
    if source is None or trust is None:
        held, verified = None, verify(bundle, trust=Trust((publisher.public,)))
    else:
        held, verified = _to_hand_on(bundle, publisher, source, trust, operations, now)
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
        held=held,
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


def _to_hand_on(
    bundle: str, issuer: PublisherKey, source: str, trust: str, operations: Collection[str], now: datetime
) -> tuple[Grant, Verified]:
    """The grant that an issuer holds, and its bundle, if the root in `trust` lets it grant these operations."""
    from edgeq import grant as grants
    from edgeq import limits
    from edgeq.files import read_limited
    from edgeq.opening import believe, verify

    believed = believe(trust)
    verified = verify(bundle, trust=believed, now=now)
    held = grants.verify(read_limited(source, limits.GRANT), believed)
    believed.check_issuer(issuer.public.key_id, verified.key_id, held.model_id, operations, now)
    return held, verified

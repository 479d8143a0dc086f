"""`edgeq mask`, `edgeq sum`, `edgeq unmask`: arrays that only their owner can read, and that can still be added up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgeq.cli import show
from edgeq.cli.models import identity_option, open_identity, state_option
from edgeq.cli.passphrase import with_passphrase
from edgeq.errors import InputError

if TYPE_CHECKING:
    from edgeq.masked import Masked


@click.command()
@click.argument("source", metavar="IN.npy")
@click.option(
    "--to", required=True, metavar="OWNER.pub", help="Who alone can unmask it: a device, publisher or issuer."
)
@click.option("--bits", type=int, help="Sums go round mod 2^bits [default: the width of the integers, 64 for floats]")
@click.option("--exponent", type=int, help="Floats become floor(2^exponent·x + 1/2) [default: 24]")
@click.option("-o", "--output", required=True, metavar="OUT.eqm", help="Where the masked array goes.")
@identity_option()
@state_option()
def mask(
    source: str,
    to: str,
    bits: int | None,
    exponent: int | None,
    output: str,
    identity: str | None,
    state: str | None,
) -> None:
    """Mask an array for its owner: add a secret vector mod 2^bits, which nobody else can take off.

    The sum of masked arrays (edgeq sum) unmasks to the sum of the arrays. With --state, the key is this device's own
    for that owner, and the state remembers what it was used for; else it is a fresh one.
    """
    from edgeq import masking
    from edgeq.files import write_atomic
    from edgeq.samples import read_npy

    x = read_npy(source)
    if state is None:
        key = masking.MaskKey.new(to)
    elif identity is None:
        raise InputError("--state needs --identity: a device's state is read with the device's key")
    else:
        key = masking.device_key(to, open_identity(identity), state)
    masked = masking.mask(x, key, bits=bits, exponent=exponent)
    write_atomic(output, masked.to_bytes())
    show.facts([("masked", output), *_facts(masked), ("nonce", masked.terms[0].nonce)])


@click.command("sum")
@click.argument("sources", metavar="IN.eqm...", nargs=-1, required=True)
@click.option("-o", "--output", required=True, metavar="SUM.eqm", help="Where the sum goes.")
def add(sources: tuple[str, ...], output: str) -> None:
    """Add masked arrays up, without being able to read any of them."""
    from edgeq.files import write_atomic

    total = _sum(sources)
    write_atomic(output, total.to_bytes())
    show.facts([("sum", output), *_facts(total)])


@click.command()
@click.argument("sources", metavar="IN.eqm...", nargs=-1, required=True)
@click.option("-o", "--output", required=True, metavar="OUT.npy", help="Where the array goes.")
@identity_option(required=True)
def unmask(sources: tuple[str, ...], output: str, identity: str) -> None:
    """The array behind a masked one, or the sum of several."""
    from edgeq import keys, masking
    from edgeq.samples import write_npy

    total = _sum(sources)
    owner = with_passphrase(identity, lambda passphrase: keys.load_owner(identity, passphrase=passphrase))
    write_npy(output, masking.unmask(total, owner))
    show.facts([("unmasked", output), *_facts(total)])


def _sum(sources: tuple[str, ...]) -> Masked:
    from edgeq import limits, masked
    from edgeq.files import read_limited

    first, *rest = sources
    total = masked.parse(read_limited(first, limits.PAYLOAD))
    for source in rest:
        total = total + masked.parse(read_limited(source, limits.PAYLOAD))
    return total


def _facts(masked: Masked) -> list[tuple[str, object]]:
    return [
        ("array", f"{masked.dtype} {list(masked.values.shape)}, mod 2^{masked.bits}"),
        ("C", "1" if masked.exponent is None else f"2^{masked.exponent}"),
        ("owner", masked.recipient),
        ("summands", len(masked.terms)),
    ]

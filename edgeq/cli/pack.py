"""`edgeq unpack` and `edgeq pack`: a bundle as a directory, and back."""

from __future__ import annotations

import click

from edgeq.cli import show


@click.command()
@click.argument("bundle", metavar="BUNDLE")
@click.option("-o", "--output", required=True, metavar="DIR", help="The directory to make.")
def unpack(bundle: str, output: str) -> None:
    """Write a bundle as a directory.

    model_signing can verify that. The directory holds manifest.json, payload.bin (still encrypted, if it was) and
    model.sig. Nothing is verified.
    """
    from edgeq.pack import unpack as write

    write(bundle, output)
    show.facts([("directory", output)])


@click.command()
@click.argument("directory", metavar="DIR")
@click.option("-o", "--output", required=True, metavar="OUT.eqb", help="Where the bundle goes.")
def pack(directory: str, output: str) -> None:
    """Write an unpacked bundle as one file again.

    Byte for byte what it was. Nothing is verified.
    """
    from edgeq.pack import pack as write

    write(directory, output)
    show.facts([("bundle", output)])

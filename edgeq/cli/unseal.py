"""`edgeq unseal`: the plain model out of a bundle."""

from __future__ import annotations

import click

from edgeq.cli import figures, models, show
from edgeq.cli.models import Access


@click.command()
@click.argument("bundle", metavar="BUNDLE")
@click.option(
    "-o", "--output", required=True, metavar="OUT.tflite", help="Where the model goes, readable by you alone."
)
@models.access_options
def unseal(bundle: str, output: str, access: Access) -> None:
    """Write the plain .tflite file of a bundle.

    An encrypted bundle needs a grant that allows export.
    """
    from edgeq.files import PRIVATE, write_atomic
    from edgeq.loader import open_tflite

    data = models.opened(
        access,
        lambda identity: open_tflite(
            bundle, grant=access.grant, identity=identity, trust=access.trust, state=access.state
        ),
    )
    write_atomic(output, data, mode=PRIVATE)
    show.facts([("model", output), ("size", figures.size(len(data)))])

"""`edgeq verify`: is this bundle, byte for byte, what its publisher signed? And, if asked: does it open here?"""

from __future__ import annotations

import click

from edgeq.cli import figures, models, show
from edgeq.cli.models import Access


@click.command()
@click.argument("bundle", metavar="BUNDLE")
@models.trust_option(required=True)
@click.option("--grant", metavar="G.eqg", help="Open it too, as an app would, and keep its plan for that app's start.")
@models.identity_option()
@models.state_option()
@models.engine_options
def verify(
    bundle: str, trust: str, grant: str | None, identity: str | None, state: str | None, rounding: str, threads: int
) -> None:
    """Check a bundle's signature and every byte.

    That needs no grant, and nothing is decrypted. BUNDLE is an .eqb file or an unpacked directory; a directory signed
    by model_signing is verified too.

    With --grant, which no variable stands for, the bundle is opened as well, by the same rules and in the same order as an app's
    edgeq.load opens it; with a state, that is one of the openings that it counts. What planning the model gives is kept for
    this user, sealed, so that the app's first start is as short as later ones, if it loads with the same --threads and
    --rounding.
    """
    from edgeq.loader import verify as check

    found = check(bundle, trust=trust)
    manifest = found.manifest
    rows: list[tuple[str, object]] = [("verified", bundle), ("signed by", found.key_id)]
    if manifest is None:
        rows.append(("files", f"{len(found.digests)} signed"))
    else:
        rows += [
            ("model", f"{manifest.model_id} version {manifest.version}"),
            (
                "payload",
                f"{figures.size(manifest.payload_size)}, {'encrypted' if manifest.encryption else 'not encrypted'}",
            ),
        ]
    if grant is not None:
        rows += _opened(bundle, Access(grant, identity, trust, state), rounding, threads)
    show.facts(rows)


def _opened(bundle: str, access: Access, rounding: str, threads: int) -> list[tuple[str, object]]:
    """Open the bundle as an app would; what to say of that."""
    from edgeq.engine import Model

    model = models.open_model(bundle, access, rounding, threads, "native")
    try:
        kept = isinstance(model, Model) and model.kept
    finally:
        model.close()
    return [("opens", f"with {access.grant}"), ("plan", "kept for the next start" if kept else "not kept")]

"""`edgeq verify`: is this bundle, byte for byte, what its publisher signed?"""

from __future__ import annotations

import click

from edgeq.cli import figures, models, show


@click.command()
@click.argument("bundle", metavar="BUNDLE")
@models.trust_option(required=True)
def verify(bundle: str, trust: str) -> None:
    """Check a bundle's signature and every byte.

    That needs no grant, and nothing is decrypted. BUNDLE is an .eqb file or an unpacked directory; a directory signed
    by model_signing is verified too.
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
    show.facts(rows)

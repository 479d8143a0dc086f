"""`edgeq targets build` and `wheel`: kernels built ahead, and wheels that carry them. Not on devices."""

from __future__ import annotations

from pathlib import Path

import click

from edgeq.cli import figures, show
from edgeq.cli.targets import named, targets
from edgeq.targets.target import Target


@targets.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the objects. [default: the cache]",
)
@click.option("--processes", type=click.IntRange(1, 64), default=2, show_default=True, help="Targets compiled at once.")
def build(names: tuple[str, ...], output: Path | None, processes: int) -> None:
    """Compile the kernels for the families NAME (default: all): NAME.so and a manifest NAME.json each.

    About half a minute a target. What is there already, from the same sources and compilers, stays. Models then run from the
    objects in the cache. Needs Numba and a linker: pip install 'edgeq[targets]', or Debian's lld.
    """
    from edgeq.targets.identity import source_digest
    from edgeq.targets.objects import Manifest, built_folder
    from edgeq.targets.table import TARGETS

    chosen = [named(n) for n in names] or list(TARGETS.values())
    folder = output or built_folder(source_digest())
    made = compile_for(chosen, folder, processes)
    rows = []
    for t in chosen:
        m = Manifest.from_json((folder / f"{t.name}.json").read_bytes())
        rows.append([t.name, figures.size(m.size), m.sha256[:16], "compiled" if t.name in made else "was there"])
    show.table(["target", "size", "sha256", ""], rows)
    show.note(f"objects are in {folder}")


@targets.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "-o", "--output", type=click.Path(file_okay=False, path_type=Path), default=Path("dist"), show_default=True
)
@click.option("--processes", type=click.IntRange(1, 64), default=2, show_default=True, help="Targets compiled at once.")
def wheel(names: tuple[str, ...], output: Path, processes: int) -> None:
    """Make a slim wheel for each family NAME; without names, the plain wheel with every family's kernels.

    A slim wheel needs NumPy, cryptography, click and flatbuffers on the device, and no compiler. What is not built yet is
    compiled first.
    """
    from edgeq.files import write_atomic
    from edgeq.targets import wheel as wheels
    from edgeq.targets.identity import source_digest
    from edgeq.targets.objects import built_folder
    from edgeq.targets.table import TARGETS

    chosen = [named(n) for n in names] or list(TARGETS.values())
    folder = built_folder(source_digest())
    compile_for(chosen, folder, processes)
    output.mkdir(parents=True, exist_ok=True)
    made = [wheels.slim(folder, t) for t in chosen] if names else [wheels.plain(folder, chosen)]
    for name, content in made:
        write_atomic(output / name, content)
    show.table(["wheel", "size"], [[str(output / name), figures.size(len(content))] for name, content in made])


def compile_for(chosen: list[Target], folder: Path, processes: int) -> list[str]:
    """Build with one progress bar for all; returns the names that had to be compiled."""
    from edgeq.targets.build import build as build_all

    share: dict[str, float] = {}
    with show.progress("compiling", 100 * len(chosen)) as advance:

        def tell(name: str, done: int, total: int) -> None:
            share[name] = done / total
            advance(int(100 * sum(share.values())), 100 * max(len(share), len(chosen)), f"compiling for {name}")

        return build_all(chosen, folder, tell, processes)

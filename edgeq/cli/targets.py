"""`edgeq targets`: device families, what this processor is, and the kernels built ahead for them."""

from __future__ import annotations

from pathlib import Path

import click

from edgeq.cli import figures, show
from edgeq.errors import InputError
from edgeq.targets.detect import Cpu
from edgeq.targets.target import Target


@click.group()
def targets() -> None:
    """Device families: list, show and detect them, build kernels and wheels for them."""


@targets.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of a table.")
def list_(as_json: bool) -> None:
    """List the families that edgeq builds for, and which of them this processor runs."""
    from edgeq.targets.detect import detect
    from edgeq.targets.table import TARGETS

    cpu = detect()
    if as_json:
        show.as_json([{**vars(t), "runs_here": _runs(t, cpu)} for t in TARGETS.values()])
        return
    rows = [[t.name, t.title, t.isa, "yes" if _runs(t, cpu) else "", t.emulate] for t in TARGETS.values()]
    show.table(["target", "devices", "isa", "runs here", "emulated as"], rows)


@targets.command("show")
@click.argument("name")
def show_(name: str) -> None:
    """Show everything that NAME's file says."""
    t = _target(name)
    pairs = [
        ("name", ", ".join((t.name, *t.aliases))),
        ("devices", t.title),
        ("triple", t.triple),
        ("cpu", t.cpu),
        ("features", t.features or "those of the cpu"),
        ("isa", t.isa),
        ("needs", ", ".join(t.needs)),
        ("tuned for", ", ".join(t.parts) or "no processor by name"),
        ("emulated as", t.emulate or "qemu has no such processor"),
        ("wheel", t.platform),
        ("cipher", t.cipher),
        ("notes", t.notes),
    ]
    show.facts(pairs)


@targets.command("detect")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of lines.")
def detect_(as_json: bool) -> None:
    """Say what this processor offers, and which kernels it runs."""
    from edgeq.machine import choose
    from edgeq.targets.detect import detect
    from edgeq.targets.table import TARGETS

    cpu = detect()
    fitting = [t for t in sorted(TARGETS.values(), key=lambda t: (cpu.part not in t.parts, -t.order)) if _runs(t, cpu)]
    chosen, refused = choose()
    if as_json:
        show.as_json(
            {
                "architecture": cpu.architecture,
                "part": cpu.part,
                "features": sorted(cpu.features),
                "targets": [t.name for t in fitting],
                "chosen": chosen.name if chosen else None,
                "refused": [{"target": name, "why": why} for name, why in refused],
            }
        )
        return
    show.facts(
        [
            ("processor", " ".join(x for x in (cpu.architecture, cpu.part) if x)),
            ("features", ", ".join(sorted(cpu.features)) or "none that edgeq asks for"),
            ("targets", ", ".join(t.name for t in fitting) or "none"),
            ("kernels", f"built ahead for {chosen.name}: {chosen.path}" if chosen else "none built ahead fit"),
            *((f"not {name}", why) for name, why in refused),
        ]
    )


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

    chosen = [_target(n) for n in names] or list(TARGETS.values())
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

    chosen = [_target(n) for n in names] or list(TARGETS.values())
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


def _target(name: str) -> Target:
    from edgeq.targets.table import TARGETS, find

    found = find(name)
    if found is None:
        raise InputError(f"there is no target {name!r}; the targets are {', '.join(TARGETS)}")
    return found


def _runs(t: Target, cpu: Cpu) -> bool:
    """Whether a processor may run this family's code."""
    return t.architecture == cpu.architecture and not cpu.lacks(t.needs)

"""`edgeq targets`: device families, what this processor is, and the kernels built ahead for them."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module

import click

from edgeq.cli import show
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
    t = named(name)
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


def named(name: str) -> Target:
    """The target of this name or alias; raises InputError."""
    from edgeq.targets.table import TARGETS, find

    found = find(name)
    if found is None:
        raise InputError(f"there is no target {name!r}; the targets are {', '.join(TARGETS)}")
    return found


def _runs(t: Target, cpu: Cpu) -> bool:
    """Whether a processor may run this family's code."""
    return t.architecture == cpu.architecture and not cpu.lacks(t.needs)


with suppress(ModuleNotFoundError):
    import_module("edgeq.cli.objects")  # `build` and `wheel`; by its name, so that a device's wheel is without

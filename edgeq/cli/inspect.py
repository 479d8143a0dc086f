"""`edgeq inspect`: what a model file or bundle holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgeq.cli import figures, models, show
from edgeq.cli.models import Access
from edgeq.errors import DataDependentError, EdgeqError, UnsupportedError

if TYPE_CHECKING:
    from edgeq.graph import Graph, Op, Quantization, SubGraph, Tensor
    from edgeq.manifest import Manifest


@click.command()
@click.argument("file", metavar="FILE")
@click.option("--plan", "planned", is_flag=True, help="Also show what runs it here: kernels, tiles, cycles and memory.")
@models.access_options
def inspect(file: str, planned: bool, access: Access) -> None:
    """Show what a model or bundle holds.

    Of a model: inputs, outputs, operations and the memory that running it takes. Of a bundle: the manifest,
    as the bundle claims it (edgeq verify checks it); with a grant for this device, or with --trust alone if it is not
    encrypted, the model inside too.

    --plan lists the plan's instructions: kernel and register tile (rows × vectors), the units that threads share out,
    multiply-adds, bytes read and written, the fewest cycles that the instruction set and the caches allow for those, and
    where in the arena the output begins.
    """
    from edgeq.source import PlainModel, open_source

    with open_source(file) as source:
        bundled = not isinstance(source, PlainModel)
    if bundled:
        from edgeq.loader import inspect_bundle

        manifest = inspect_bundle(file)
        _manifest(file, manifest)
        if access.trust is None or (manifest.encryption is not None and access.grant is None):
            return
        show.result()
    else:
        access = Access()  # of a plain model nothing is believed, whatever the environment trusts
    opened = models.open_bytes(file, access, "load")
    _model(file, opened.data, "export" in opened.allowed, planned)


def _manifest(file: str, manifest: Manifest) -> None:
    encryption = manifest.encryption
    show.facts(
        [
            ("bundle", file),
            ("model", f"{manifest.model_id} version {manifest.version}"),
            ("payload", f"{manifest.payload_type}, {figures.size(manifest.payload_size)}"),
            ("encryption", "none" if encryption is None else "edgeq-1"),
            ("bundle id", manifest.bundle_id),
            *([] if encryption is None else [("publisher's key", encryption.publisher)]),
        ]
    )


def _model(file: str, data: bytes | memoryview, may_leave: bool, planned: bool) -> None:
    from edgeq.check import sound  # NumPy: help and bundles do without
    from edgeq.tflite import read

    graph = sound(read(data))
    show.facts(
        [
            ("model", file),
            ("size", figures.size(len(data))),
            *([("description", graph.description)] if graph.description else []),
            ("operations", len(graph.ops)),
            ("weights", figures.size(sum(t.data.nbytes for t in graph.tensors if t.data is not None))),
            *_plan(file, graph, may_leave),
        ]
    )
    rows = [_port("input", name, graph.tensors[i]) for name, i in zip(graph.input_names(), graph.inputs, strict=True)]
    rows += [
        _port("output", name, graph.tensors[i]) for name, i in zip(graph.output_names(), graph.outputs, strict=True)
    ]
    show.result()
    show.table(["", "name", "shape", "dtype", "scale", "zero point"], rows)
    show.result()
    main = graph.main
    show.table(
        ["#", "operation", "output", "dtype", "weights"],
        [[k, *_operation(main, op)] for k, op in enumerate(main.ops)],
    )
    if planned:
        show.result()
        _steps(graph)


def _steps(graph: Graph) -> None:
    """The plan of this machine, instruction by instruction."""
    from edgeq.engine import build
    from edgeq.explain import steps

    with build(graph) as model:
        machine = model.program.machine
        found = steps(graph, model.plan, machine.isa, machine.cpu)
    show.table(
        ["#", "operation", "kernel", "tile", "units", "MACs", "bytes", "cycles ≥", "arena at", "output"],
        [
            [
                s.op,
                s.code,
                s.kernel or "–",
                s.tile,
                s.units or "",
                f"{s.macs:,}" if s.macs else "",
                f"{s.moved:,}" if s.kernel else "",
                f"{s.cycles:,}" if s.kernel else "",
                "" if s.offset is None else f"{s.offset:,}",
                figures.size(s.size),
            ]
            for s in found
        ],
        title=f"plan for {machine.cpu} ({machine.isa.name})",
    )


def _plan(file: str, graph: Graph, may_leave: bool) -> list[tuple[str, object]]:
    """What running it takes, or why it cannot be run here."""
    from edgeq.dynamic import is_dynamic
    from edgeq.engine import build

    try:
        with build(graph) as model:
            plan = model.plan
    except UnsupportedError as error:
        if isinstance(error, DataDependentError) and is_dynamic(graph, "xnnpack"):
            return [("plan", f"made while it runs, as shapes depend on values: {error}")]
        return [("plan", f"none: {error}"), ("runs in", _instead(file, graph, may_leave))]
    except EdgeqError as error:
        return [("plan", f"none: {error}")]
    return [
        ("plan", f"{len(plan.instructions)} instructions, {plan.macs:,} multiply-adds"),
        ("memory", f"{figures.size(plan.arena_bytes)} arena, {figures.size(plan.constant_bytes)} constants"),
    ]


def _instead(file: str, graph: Graph, may_leave: bool) -> str:
    """Who runs what edgeq cannot."""
    from edgeq import fallback

    lacking = f"edgeq lacks {len(fallback.lacking(graph, 'xnnpack'))} of its operations (edgeq lint {file})"
    if not may_leave:
        return f"nothing: {lacking}, and the grant does not allow export to another runtime"
    runtime = fallback.find("xnnpack")
    if runtime is None:
        return f"nothing: {lacking}, and no other runtime is installed"
    return f"{runtime}, as {lacking}"


def _port(side: str, name: str, tensor: Tensor) -> list[object]:
    return [side, name, figures.shape(tensor.shape), tensor.dtype, *_affine(tensor.quantization)]


def _affine(q: Quantization | None) -> tuple[str, str]:
    """Scale and zero point, where there are any."""
    if q is None or not len(q.scale):
        return "", ""
    if q.per_axis:
        return f"{len(q.scale)} along axis {q.axis}", ""
    return f"{float(q.scale[0]):.6g}", str(int(q.zero_point[0])) if len(q.zero_point) else "0"


def _operation(graph: SubGraph, op: Op) -> list[object]:
    """Code, output shapes and dtypes, and bytes of constant inputs."""
    outputs = [graph.tensors[i] for i in op.outputs]
    weights = sum(t.data.nbytes for t in (graph.tensors[i] for i in op.inputs if i >= 0) if t.data is not None)
    return [
        op.custom_code or op.code,
        ", ".join(figures.shape(t.shape) for t in outputs),
        ", ".join(sorted({t.dtype for t in outputs})),
        figures.size(weights) if weights else "",
    ]

"""`edgeq convert`: other formats to .tflite, through converters that others keep."""

from __future__ import annotations

import click

from edgeq.cli import figures, show


def _shape(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    out = {}
    for value in values:
        name, equals, lengths = value.rpartition("=")
        try:
            shape = tuple(int(d) for d in lengths.split(","))
        except ValueError:
            shape = ()
        if not equals or not name or not shape or min(shape) < 1:
            raise click.BadParameter(f"{value!r}, NAME=1,224,224,3 is expected")
        out[name] = shape
    return out


@click.command()
@click.argument("source", metavar="MODEL.onnx|keras|h5|pt2|tflite|SAVED_MODEL")
@click.option("-o", "--output", metavar="MODEL.tflite", required=True)
@click.option("--batch", type=click.IntRange(1), help="The batch of inputs that leave it open; 1 by default.")
@click.option("--shape", "shapes", multiple=True, metavar="NAME=1,224,224,3", callback=_shape, help="An input's shape.")
@click.option("--python", metavar="PYTHON", help="A Python of another environment, where the converter is installed.")
@click.option("--log", metavar="FILE", help="Where to write all that the converter says.")
def convert(
    source: str, output: str, batch: int | None, shapes: dict[str, tuple[int, ...]], python: str | None, log: str | None
) -> None:
    """Make a .tflite of a model in another format, or with inputs of other shapes.

    ONNX by onnx2tf (pip install 'edgeq[onnx]'), Keras files and SavedModel folders by TensorFlow ('edgeq[keras]'), programs
    saved by torch.export by litert-torch ('edgeq[torch]'). The result is in float32; `edgeq quantize` is what comes next. It
    is read and checked before it is written.

    Of a .tflite the inputs get other shapes, where it leaves them open or states ones that are not yours:
    edgeq convert sound.tflite --shape input=1,16000 -o fixed.tflite
    """
    from edgeq import convert as converting
    from edgeq.fallback import lacking
    from edgeq.files import write_atomic

    with show.progress("converting") as advance:
        advance(0, 1, converting.converter_of(source).package)
        done = converting.convert(source, batch=batch, shapes=shapes, python=python, log=log)
        advance(1, 1, "checked")
    findings = lacking(done.graph, "xnnpack")
    write_atomic(output, done.data)
    graph = done.graph
    inputs = zip(graph.input_names(), graph.inputs, strict=True)
    outputs = zip(graph.output_names(), graph.outputs, strict=True)
    show.facts(
        [
            ("model", output),
            ("converter", done.converter.package),
            ("size", figures.size(len(done.data))),
            ("operations", len(graph.ops)),
            *(("input", _port(name, graph.tensors[i].shape, graph.tensors[i].dtype)) for name, i in inputs),
            *(("output", _port(name, graph.tensors[i].shape, graph.tensors[i].dtype)) for name, i in outputs),
            ("edgeq runs", f"all but {len(findings)} (edgeq lint {output})" if findings else "every operation"),
        ]
    )


def _port(name: str, shape: tuple[int, ...], dtype: str) -> str:
    return f"{name} {figures.shape(shape)} {dtype}"

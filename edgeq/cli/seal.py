"""`edgeq seal`: a model becomes a bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgeq.cli import figures, show
from edgeq.cli.passphrase import with_passphrase

if TYPE_CHECKING:
    from edgeq.graph import Graph


@click.command()
@click.argument("model", metavar="MODEL")
@click.option("--key", required=True, metavar="K.key", help="The publisher's private key.")
@click.option("--model-id", required=True, metavar="ID", help="The model's name, for example vision/digits.")
@click.option("--version", required=True, type=int, metavar="N", help="The model's version: 1, 2, 3 …")
@click.option("--encrypt/--no-encrypt", default=True, help="Encrypt it [default], or only sign it.")
@click.option("--teacher", metavar="FLOAT", help="The float model that it was made of, for devices to calibrate by.")
@click.option(
    "--remainders/--no-remainders", default=True, help="Leave out what rounding took off the weights, if it is there."
)
@click.option("-o", "--output", required=True, metavar="OUT.eqb", help="Where the bundle goes.")
def seal(
    model: str, key: str, model_id: str, version: int, encrypt: bool, teacher: str | None, remainders: bool, output: str
) -> None:
    """Sign a .tflite model, and encrypt it, for delivery.

    An encrypted bundle opens only on devices that get a grant (edgeq grant). One that is only signed opens for
    everybody, and its payload is the plain model. The model is checked first: what edgeq could not read is not
    sealed.

    Devices that calibrate it come closer to the float model if they know what rounding took off the weights. edgeq quantize
    puts that into its models, in about 2 bits of a weight; with --teacher, it is put into any other: the remainders of its
    weights, or where these do not say it the whole float model. It lies in the .tflite's metadata, which runtimes do not look
    at. --no-remainders seals a model without.
    """
    from edgeq import codebooks, keys, limits
    from edgeq.check import sound
    from edgeq.files import read_limited, write_atomic
    from edgeq.seal import seal as make
    from edgeq.tflite import read, write

    data = read_limited(model, limits.PAYLOAD)
    graph = read(data)
    sound(graph)
    told: list[tuple[str, str]] = []
    if teacher is not None or not remainders:
        graph, told = _taught(graph, None if teacher is None else read_limited(teacher, limits.PAYLOAD), remainders)
        data = write(graph)
        graph = read(data)
    publisher = with_passphrase(key, lambda passphrase: keys.load_publisher(key, passphrase=passphrase))
    # What is only signed stays the plain model, for whoever reads it without edgeq.
    coded = codebooks.coded(data, graph) if encrypt else None
    payload = data if coded is None else coded
    bundle = make(payload, publisher, model_id=model_id, version=version, encrypt=encrypt, coded=coded is not None)
    written = sum(map(len, bundle.pieces()))
    write_atomic(output, bundle.pieces())
    show.facts(
        [
            ("bundle", output),
            ("model", f"{model_id} version {version}, {figures.size(len(data))}"),
            ("protection", "signed and encrypted" if encrypt else "signed, not encrypted"),
            ("size", f"{figures.size(written)} ({written - len(data):+d} bytes)"),
            *told,
            ("signed by", publisher.public.key_id),
        ]
    )


def _taught(graph: Graph, data: bytes | None, remainders: bool) -> tuple[Graph, list[tuple[str, str]]]:
    """The model with what it was made of inside, as small as that goes, and a line on it; without remainders where none are
    wanted."""
    from edgeq.check import sound
    from edgeq.quantize.remainders import size, without
    from edgeq.quantize.taught import taught
    from edgeq.teacher import with_teacher
    from edgeq.tflite import read

    if data is None:
        return without(graph), []
    teacher = sound(read(data))
    small = taught(graph, teacher) if remainders else None
    if small is None and remainders and size(graph):
        small = graph  # in another form than the teacher's, which edgeq quantize knew
    if small is None:
        return with_teacher(without(graph), teacher), [("teacher", f"the whole float model, {figures.size(len(data))}")]
    return small, [("teacher", f"remainders of the weights, {figures.size(size(small))}")]

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
@click.option("--teacher", metavar="FLOAT", help="Put the float model inside, for devices to calibrate by.")
@click.option("-o", "--output", required=True, metavar="OUT.eqb", help="Where the bundle goes.")
def seal(model: str, key: str, model_id: str, version: int, encrypt: bool, teacher: str | None, output: str) -> None:
    """Sign a .tflite model, and encrypt it, for delivery.

    An encrypted bundle opens only on devices that get a grant (edgeq grant). One that is only signed opens for
    everybody, and its payload is the plain model. The model is checked first: what edgeq could not read is not
    sealed.

    With --teacher, the sealed .tflite carries the float model that it was made of in its metadata: it stays a .tflite for
    every runtime, larger by that much, and devices that calibrate it come closer to the float model.
    """
    from edgeq import codebooks, keys, limits
    from edgeq.check import sound
    from edgeq.files import read_limited, write_atomic
    from edgeq.seal import seal as make
    from edgeq.tflite import read

    data = read_limited(model, limits.PAYLOAD)
    graph = read(data)
    sound(graph)
    if teacher is not None:
        data = _with_teacher(graph, read_limited(teacher, limits.PAYLOAD))
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
            ("signed by", publisher.public.key_id),
        ]
    )


def _with_teacher(graph: Graph, data: bytes) -> bytes:
    from edgeq.check import sound
    from edgeq.teacher import with_teacher
    from edgeq.tflite import read, write

    teacher = read(data)
    sound(teacher)
    return write(with_teacher(graph, teacher))

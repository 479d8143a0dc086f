"""`edgeq demo`: the whole way on a small model that comes with edgeq."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeq.cli import figures, show
from edgeq.errors import EdgeqError, TrustError

if TYPE_CHECKING:
    from edgeq.fallback import AnyModel
    from edgeq.keys import PublisherKey
    from edgeq.recipients import Recipient

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Measured:
    """How a model did on the held-out samples: share of right answers, and the median time of one inference in seconds."""

    accuracy: float
    latency: float


@click.command()
@click.option("--keep", metavar="DIR", help="Work in this new directory and keep it [default: a temporary one].")
def demo(keep: str | None) -> None:
    """Show the whole way on a small model.

    A model for handwritten digits is calibrated, quantized, sealed, granted to a fresh device key, loaded and run on
    samples that it has not seen; then three attempts to open the bundle that must fail. With --keep, the directory
    holds everything afterwards: models, samples, keys, the bundle and its grant.
    """
    with _folder(keep) as folder:
        _lay_out(folder)
        _quantize(folder)
        _seal(folder)
        _compare(folder)
        show.result()
        _refusals(folder)
    if keep:
        show.note(f"everything is in {keep}")


@contextmanager
def _folder(keep: str | None) -> Iterator[Path]:
    """The directory to work in; a temporary one is gone afterwards."""
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="edgeq-demo-") as name:
            yield Path(name)
        return
    from edgeq.errors import OutputError

    folder = Path(keep)
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise OutputError(f"{folder}: expected a directory that can be made, found: {error.strerror}") from None
    yield folder


def _lay_out(folder: Path) -> None:
    """Copy the model and the samples that come with edgeq."""
    from edgeq import demo

    for source in (demo.MODEL, demo.CALIBRATION, demo.HELD_OUT):
        shutil.copyfile(source, folder / source.name)


def _quantize(folder: Path) -> None:
    """digits.tflite and calibration.npz → digits_int8.tflite."""
    from edgeq.check import check
    from edgeq.files import read_limited, write_atomic
    from edgeq.limits import PAYLOAD
    from edgeq.quantize import quantize
    from edgeq.samples import Samples
    from edgeq.tflite import read, write

    graph = read(read_limited(folder / "digits.tflite", PAYLOAD))
    check(graph)
    samples = Samples(folder / "calibration.npz")
    with show.progress("calibrating") as advance:
        done = quantize(graph, samples, progress=advance)
    write_atomic(folder / "digits_int8.tflite", write(done.graph))
    show.note(f"quantized on {done.samples} samples, {done.sqnr:.1f} dB SQNR at the output")


def _seal(folder: Path) -> None:
    """Fresh keys for a publisher and a device; digits_int8.tflite → digits.eqb and device.eqg."""
    from edgeq import keys
    from edgeq.files import read_limited, write_atomic
    from edgeq.limits import PAYLOAD
    from edgeq.seal import seal

    publisher = keys.new_publisher(folder / "publisher")
    device = keys.new_device(folder / "device")
    model = read_limited(folder / "digits_int8.tflite", PAYLOAD)
    bundle = seal(model, publisher, model_id="demo/digits", version=1)
    write_atomic(folder / "digits.eqb", bundle.pieces())
    now = datetime.now(timezone.utc)
    _grant(folder, "device.eqg", publisher, device.public, now, now + 90 * DAY)
    show.note("sealed for a fresh device key, to load and calibrate, for 90 days")


def _grant(
    folder: Path, name: str, publisher: PublisherKey, device: Recipient, now: datetime, expires: datetime
) -> None:
    from edgeq import grant
    from edgeq.files import write_atomic
    from edgeq.loader import verify

    verified = verify(folder / "digits.eqb", trust=folder / "publisher.pub")
    issued = grant.issue(verified, publisher, device, ["load", "calibrate"], now=now, expires=expires)
    write_atomic(folder / name, issued)


def _compare(folder: Path) -> None:
    """Run the three models on the held-out samples and show them side by side."""
    from edgeq import load
    from edgeq.samples import Samples

    opened = load(
        folder / "digits.eqb",
        grant=folder / "device.eqg",
        identity=folder / "device.key",
        trust=folder / "publisher.pub",
    )
    rows = []
    for name, file, model in (
        ("float", "digits.tflite", load(folder / "digits.tflite")),
        ("int8", "digits_int8.tflite", load(folder / "digits_int8.tflite")),
        ("int8, sealed", "digits.eqb", opened),
    ):
        with model:
            measured = _measure(model, folder / "held_out.npz")
        size = figures.size((folder / file).stat().st_size)
        rows.append([name, size, figures.percent(measured.accuracy), figures.duration(measured.latency)])
    count = len(Samples(folder / "held_out.npz")["y"])
    show.table(["model", "size", "accuracy", "latency"], rows, title=f"{count} held-out digits, one at a time")


def _measure(model: AnyModel, samples: Path) -> Measured:
    import statistics
    from time import perf_counter

    import numpy as np

    from edgeq.metrics import top_k
    from edgeq.samples import Samples

    held_out = Samples(samples)
    model(held_out["x"][:1])  # the first call may compile
    scores, times = [], []
    for k in range(len(held_out["x"])):
        x = held_out["x"][k : k + 1]
        start = perf_counter()
        scores.append(model(x))
        times.append(perf_counter() - start)
    return Measured(top_k(np.concatenate(scores), held_out["y"]), statistics.median(times))


def _refusals(folder: Path) -> None:
    """Three ways to open the bundle that must fail, and how they do."""
    attempts: tuple[tuple[str, Callable[[Path], dict[str, str]]], ...] = (
        ("one byte flipped", _flipped),
        ("another device", _other_device),
        ("an expired grant", _expired),
    )
    rows = [[name, *_refused(name, folder, **prepare(folder))] for name, prepare in attempts]
    show.table(["attempt", "refused with", "because"], rows, title="and three that must not open")


def _flipped(folder: Path) -> dict[str, str]:
    from edgeq.files import read_limited, write_atomic
    from edgeq.limits import PAYLOAD

    data = bytearray(read_limited(folder / "digits.eqb", PAYLOAD))
    data[len(data) // 2] ^= 1
    write_atomic(folder / "flipped.eqb", data)
    return {"bundle": "flipped.eqb"}


def _other_device(folder: Path) -> dict[str, str]:
    from edgeq import keys

    keys.new_device(folder / "other")
    return {"identity": "other.key"}


def _expired(folder: Path) -> dict[str, str]:
    from edgeq import keys

    then = datetime.now(timezone.utc) - 2 * DAY
    publisher = keys.load_publisher(folder / "publisher.key")
    _grant(folder, "expired.eqg", publisher, keys.load_device_public(folder / "device.pub"), then, then + DAY)
    return {"grant": "expired.eqg"}


def _refused(
    name: str, folder: Path, bundle: str = "digits.eqb", grant: str = "device.eqg", identity: str = "device.key"
) -> tuple[str, str]:
    """Try to load these files; the type and text of the error that came."""
    from edgeq import load

    try:
        load(folder / bundle, grant=folder / grant, identity=folder / identity, trust=folder / "publisher.pub").close()
    except TrustError as error:
        return type(error).__name__, str(error)
    raise EdgeqError(f"the bundle opened with {name}, which must not happen: please report it")

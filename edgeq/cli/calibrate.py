"""`edgeq calibrate`: a quantized model is tuned where it runs, on samples that never leave."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import click

from edgeq.cli import figures, models, show
from edgeq.cli.models import Access
from edgeq.errors import InputError, NoGrantError

if TYPE_CHECKING:
    from edgeq.changes import Changes
    from edgeq.checkpoint import Checkpoint
    from edgeq.graph import Graph
    from edgeq.opening import Opened
    from edgeq.quantize import Recalibrated
    from edgeq.quantize.observation import Budget, Observation
    from edgeq.recipients import Identity

OVERLAY = ".eqo"
PREVIOUS = ".previous"
"""Behind an overlay's name: the overlay before it."""


@dataclass(frozen=True)
class Share:
    """Statistics that may leave: into which file, masked for whom (None: nobody), with what ε (None: no noise)."""

    path: str
    owner: str | None
    epsilon: float | None


@click.command()
@click.argument("model", metavar="MODEL")
@click.option(
    "-d",
    "--data",
    metavar="DATA",
    help="Samples from where the model runs: NPZ or NPY, a folder of WAV, PNG, JPEG or NPY files, - for raw frames on "
    "standard input, FILE.py:function.",
)
@click.option("-o", "--output", required=True, metavar="OUT", help="OUT.eqo: an overlay; else a plain .tflite.")
@click.option("--teacher", metavar="FLOAT", help="The float model to hold it against, if none travels in the model.")
@click.option(
    "--samples", type=click.IntRange(0), help="Look at so many, 0: all; 512 by default, of large models as few as 24."
)
@click.option("--minutes", type=click.FloatRange(0, min_open=True), help="Begin no sample later than that.")
@click.option("--memory", type=click.IntRange(1), default=8, show_default=True, help="MiB of samples to keep at most.")
@click.option("--keep-io", is_flag=True, help="The inputs keep their scale: what feeds the model gives it integers.")
@models.intake_options
@click.option("--statistics", metavar="FILE", help="How far values reached, to leave the device masked or with noise.")
@click.option("--statistics-for", "owner", metavar="OWNER.pub", help="FILE.eqm: masked, for whoever may read the sum.")
@click.option("--epsilon", type=float, metavar="E", help="With noise: E-differential privacy for each sample (OpenDP).")
@click.option("--rollback", is_flag=True, help="Put the overlay before OUT.eqo back, or none if there was none.")
@models.access_options
def calibrate(
    model: str,
    data: str | None,
    output: str,
    teacher: str | None,
    samples: int | None,
    minutes: float | None,
    memory: int,
    keep_io: bool,
    source: Any,
    statistics: str | None,
    owner: str | None,
    epsilon: float | None,
    rollback: bool,
    access: Access,
) -> None:
    """Tune a quantized model on local samples.

    Activations get new ranges, and with them new scales (C and d of the transform), and biases new values; the weights stay
    as they are. Every fourth sample is held back: what does not bring the model clearly closer to the float model on those
    is not kept, and with labels in y what gets fewer of them right is not kept either.

    OUT.eqo is an overlay: signed by this device and readable by it alone, bound to this very model, which stays as it was;
    commands that run models take it as --overlay. The one before is kept in OUT.eqo.previous, and an interrupted run goes on
    where it was. A bundle must be granted for calibrate. Any other OUT becomes a plain .tflite with the changes inside, for
    which a bundle must be granted for calibrate and export.

    --statistics writes counts of how far each tensor's values reached (docs/calibration.md says what they reveal), only
    masked for an owner (--statistics-for), who can read sums, with noise (--epsilon), or both.
    """
    if rollback:
        _rollback(output, access)
        return
    if data is None:
        raise click.UsageError("Missing option '-d' / '--data'.")
    share = None if statistics is None else Share(statistics, owner, epsilon)
    if share is None and (owner is not None or epsilon is not None):
        raise click.UsageError("--statistics-for and --epsilon need --statistics FILE.")
    if share is not None and owner is None and epsilon is None:
        raise click.UsageError("--statistics leave the device masked (--statistics-for) or with noise (--epsilon).")
    from edgeq import bytecode

    try:
        budget = bytecode.begin(lambda: _budget(samples, minutes, memory))
        _check(output, share)
        to = _to_overlay if output.endswith(OVERLAY) else _to_plain
        to(model, data, output, teacher, budget, keep_io, source, share, access)
    finally:
        bytecode.end()


def _budget(samples: int | None, minutes: float | None, memory: int) -> Budget:
    from edgeq.quantize.observation import Budget

    seconds = None if minutes is None else 60.0 * minutes
    if samples is None:
        return Budget(seconds=seconds, kept_bytes=memory << 20)
    return Budget(samples, seconds, memory << 20, math.inf)


def _check(output: str, share: Share | None) -> None:
    """See that what comes out can be written as asked, before samples are looked at for it."""
    from edgeq.files import check_place

    check_place(output)
    if share is None:
        return
    from edgeq.keys import load_recipient
    from edgeq.quantize.statistics import check_epsilon

    check_place(share.path)
    if share.owner is not None:
        load_recipient(share.owner)
    if share.epsilon is not None:
        check_epsilon(share.epsilon)


def _to_plain(
    model: str, data: str, output: str, teacher: str | None, budget: Budget, keep_io: bool, source: Any,
    share: Share | None, access: Access,
) -> None:  # fmt: skip
    import hashlib

    from edgeq.cli.made import finish
    from edgeq.tflite import write

    graph = models.exported_graph(model, access, f" (-o FILE{OVERLAY} needs calibrate alone)")
    done, _ = _recalibrated(graph, None, data, teacher, budget, keep_io, source, None)
    _shared(graph, done, share, hashlib.sha256(write(graph)).hexdigest())
    finish(done, output)


def _to_overlay(
    model: str, data: str, output: str, teacher: str | None, budget: Budget, keep_io: bool, source: Any,
    share: Share | None, access: Access,
) -> None:  # fmt: skip
    from edgeq import changes, opening, overlay
    from edgeq.check import sound
    from edgeq.checkpoint import Checkpoint
    from edgeq.intake import state
    from edgeq.tflite import read

    if access.identity is None:
        raise NoGrantError(f"{output}: an overlay is signed by this device: its key is expected (--identity)")
    identity = models.open_identity(access.identity)
    found = opening.open_bytes(
        model, grant=access.grant, identity=identity, trust=access.trust, state=access.state, operation=("calibrate",)
    )
    graph = sound(read(found.data))
    deployed = _deployed(graph, found, output, identity)
    asked = [data, state(data), str(budget.most(graph)), str(keep_io), str(source), str(teacher)]
    purpose = "\n".join([found.base.payload_sha256, *asked])
    checkpoint = Checkpoint(output, identity, purpose.encode())
    done, begun = _recalibrated(graph, deployed, data, teacher, budget, keep_io, source, checkpoint)
    if begun:
        show.note(f"went on after {begun} samples, where an earlier run was interrupted")
    _shared(graph, done, share, found.base.payload_sha256)
    _say(graph, done)
    if done.changed:
        made = changes.difference(graph, done.graph, done.samples, _baseline(done))
        content = changes.to_bytes(made)
        sealed = overlay.make(content, identity, found.base, now=datetime.now(timezone.utc))
        _logged(access, identity, "accepted", found.base.payload_sha256, sealed)
        _replace(output, sealed)
        _written(output, graph, made)
    else:
        _logged(access, identity, "refused", found.base.payload_sha256, _there(output))
        show.note(f"{output} was {'left as it was' if os.path.lexists(output) else 'not written'}")
    checkpoint.remove()


def _recalibrated(
    graph: Graph,
    deployed: Graph | None,
    data: str,
    teacher: str | None,
    budget: Budget,
    keep_io: bool,
    source: Any,
    checkpoint: Checkpoint | None,
) -> tuple[Recalibrated, int]:
    """The result, and how many samples an earlier run had looked at."""
    from edgeq import intake
    from edgeq.quantize import observation, recalibrate
    from edgeq.trim import LARGE, keep_apart, keep_free, one_arena

    _no_core()
    if sum(t.data.nbytes for t in graph.tensors if t.data is not None) > LARGE:
        keep_apart()
        one_arena()
        keep_free()
    models.say_of_frames(data, graph, source)
    local = intake.take(data, graph, seconds=budget.seconds, **source)
    models.say_of_reach(graph, local)
    begun = None
    if checkpoint is not None and (earlier := checkpoint.read()) is not None:
        begun = observation.from_bytes(earlier)
    with _watching(graph, checkpoint) as (advance, saved):
        done = recalibrate(
            graph,
            local.samples,
            advance,
            keep_io=keep_io,
            teacher=_teacher(graph, teacher),
            labels=local.labels,
            budget=budget,
            deployed=deployed,
            begun=begun,
            saved=saved,
        )
    return done, 0 if begun is None else begun.consumed


def _no_core() -> None:
    """From here on this process holds samples: should it crash, no core of it is written."""
    try:
        import resource
    except ImportError:  # not a Unix: there are no cores
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def _teacher(graph: Graph, path: str | None) -> Graph | None:
    """The float model named, or the one that travels in the model, if there is one."""
    from edgeq.check import sound
    from edgeq.files import read_limited
    from edgeq.limits import PAYLOAD
    from edgeq.teacher import teacher_of
    from edgeq.tflite import read

    if path is None:
        return teacher_of(graph)
    return sound(read(read_limited(path, PAYLOAD)))


def _deployed(graph: Graph, found: Opened, output: str, identity: Identity) -> Graph | None:
    """The model under the overlay that is there now, None where there is none for this model."""
    from edgeq import changes, opening
    from edgeq.errors import TrustError

    if not os.path.lexists(output):
        return None
    try:
        content = opening.overlay_content(output, found.base, identity=identity)
        return changes.apply(graph, changes.from_bytes(content))
    except TrustError as error:
        show.note(f"{output}: {error}; it will be replaced if something better is found")
        return None


def _baseline(done: Recalibrated) -> dict[str, Any] | None:
    """What the samples that were kept look like through the new model, for edgeq.drift."""
    from edgeq.drift.baseline import to_arrays
    from edgeq.drift.model import baseline_of

    found = baseline_of(done.graph, [*done.observed.judge.inputs, *done.observed.derive.inputs])
    return None if found is None else to_arrays(found)


@contextmanager
def _watching(
    graph: Graph, checkpoint: Checkpoint | None
) -> Iterator[tuple[show.Advance, Callable[[Observation], None]]]:
    """A progress bar; where a terminal shows it, with what is clipped layer by layer; and checkpoints."""
    from edgeq.quantize import observation

    live = sys.stderr.isatty()
    last = [0.0]  # when the terminal was told last

    with show.progress("calibrating") as advance:

        def saved(seen: Observation) -> None:
            if checkpoint is not None:
                checkpoint.write_when_due(lambda: observation.to_bytes(seen))
            if live and time.monotonic() - last[0] > 0.5:
                clipped = observation.clipped(graph, seen.histograms)
                over = sorted(((share, i) for i, share in clipped.items() if share > 0), reverse=True)[:3]
                worst = (
                    ", ".join(f"{show.tensor(graph.tensors[i].name, 24)} {share:.1%}" for share, i in over) or "nothing"
                )
                advance(seen.consumed, what=f"calibrating; clipped: {worst}")
                last[0] = time.monotonic()

        def say(done: int, total: int, what: str) -> None:
            if not live or what != "calibrating" or time.monotonic() - last[0] > 0.4:
                advance(done, total, what if what != "calibrating" else "")

        yield say, saved  # type: ignore[misc]


def _say(graph: Graph, done: Recalibrated) -> None:
    """A row per operation: how much wider its range became, what was clipped before, how close it is now.

    No scale, zero point or bias: what is shown is often logged, and of a sealed model those are secrets.
    """
    from edgeq.feed import quantmod_of
    from edgeq.quantize.observation import clipped

    beyond = clipped(graph, done.observed.histograms)
    rows: list[Sequence[object]] = []
    for layer in done.layers:
        i = graph.ops[layer.index].outputs[0]
        q = quantmod_of(graph.tensors[i])
        rows.append(
            [
                layer.index,
                layer.code,
                "" if q is None or layer.scale is None else f"×{layer.scale / float(q.scale):.2f}",
                f"{100 * beyond[i]:.2f}" if i in beyond else "",
                "" if layer.sqnr is None else f"{layer.sqnr:.1f}",
            ]
        )
    show.table(["#", "operation", "range", "clipped before %", "SQNR dB"], rows)
    show.result()
    show.facts(
        [
            ("held back", f"noise per signal {100 * done.error_before:.3g} % → {100 * done.error_after:.3g} %"),
            *(("" if n else "steps", step) for n, step in enumerate(done.steps)),
        ]
    )


def _written(output: str, graph: Graph, made: Changes) -> None:
    show.facts(
        [
            ("overlay", f"{output}, {figures.size(os.path.getsize(output))}"),
            ("samples", made.samples),
            ("changed", f"{len(made.tensors)} scales, biases of {len(made.constants)} layers, no weights"),
            *(
                ("input", f"{name}: its scale is now {made.tensors[i][0]:.6g}; real numbers need no change")
                for name, i in zip(graph.input_names(), graph.inputs, strict=True)
                if i in made.tensors
            ),
        ]
    )


def _shared(graph: Graph, done: Recalibrated, share: Share | None, payload: str) -> None:
    """Write the statistics of the samples that were kept, masked, with noise, or both; nothing of them else."""
    if share is None:
        return
    from edgeq import masking, strict
    from edgeq.files import write_atomic
    from edgeq.quantize import statistics

    found = statistics.reaches(graph, [*done.observed.derive.inputs, *done.observed.judge.inputs])
    counts = found.counts if share.epsilon is None else statistics.with_noise(found, share.epsilon)
    noise = [] if share.epsilon is None else [
        ("epsilon", f"{share.epsilon:g} for each sample"),
        ("noise", f"discrete Laplace of scale {statistics.scale(found, share.epsilon):.6g} on every count"),
        ("clipping", f"2 counts of a sample for each of {len(found.tensors)} tensors: sensitivity {found.sensitivity}"),
    ]  # fmt: skip
    if share.owner is not None:
        masked = masking.mask(counts, share.owner)
        write_atomic(share.path, masked.to_bytes())
        noise.append(("masked for", masked.recipient))
    else:
        said = {
            "format": "edgeq-statistics/1",
            "payload_sha256": payload,
            "unit": "sample",
            "epsilon": f"{share.epsilon:g}",
            "mechanism": "discrete laplace",
            "scale": f"{statistics.scale(found, share.epsilon or 1.0):.9g}",
            "sensitivity_l1": found.sensitivity,
            "clipping": "one count for the least and one for the greatest value of a sample in each tensor; "
            f"values beyond 2^{statistics.OCTAVES} ranges count as those",
            "tensors": list(found.tensors),
            "counts": counts.tolist(),
        }
        write_atomic(share.path, strict.canonical(said))
    show.facts([("statistics", share.path), *noise])


def _replace(output: str, data: bytes) -> None:
    """Put a new overlay in place of the old one, which is kept: at every moment a whole one is there."""
    from edgeq.files import PRIVATE, read_limited, write_atomic
    from edgeq.limits import OVERLAY as LIMIT

    if os.path.lexists(output):
        write_atomic(f"{output}{PREVIOUS}", read_limited(output, LIMIT), mode=PRIVATE)
    write_atomic(output, data, mode=PRIVATE)


def _there(path: str) -> bytes | None:
    """The overlay in a file, None where there is none."""
    from edgeq.files import read_limited
    from edgeq.limits import OVERLAY as LIMIT

    return read_limited(path, LIMIT) if os.path.lexists(path) else None


def _logged(
    access: Access, identity: Identity | None, outcome: str, payload: str | None, overlay: bytes | None
) -> None:
    """Write the outcome into the device's audit log, where there is one; before anything is replaced."""
    import hashlib
    from pathlib import Path

    if access.state is None:
        return
    if identity is None:
        raise InputError("--state needs --identity: a device's state is read with the device's key")
    from edgeq.device import Store

    store = Store(Path(access.state), identity)
    digest = None if overlay is None else hashlib.sha256(overlay).hexdigest()
    store.calibrated(outcome, payload, digest, now=datetime.now(timezone.utc))


def _rollback(output: str, access: Access) -> None:
    from edgeq.files import PRIVATE, write_atomic

    if not output.endswith(OVERLAY):
        raise InputError(f"{output}: expected an overlay (FILE{OVERLAY}) to roll back")
    if not os.path.lexists(output):
        raise InputError(f"{output}: there is no such overlay to roll back")
    previous = f"{output}{PREVIOUS}"
    before = _there(previous)
    identity = models.open_identity(access.identity) if access.state and access.identity else None
    _logged(access, identity, "rollback", None, before)
    if before is not None:
        write_atomic(output, before, mode=PRIVATE)
        os.unlink(previous)
        show.note(f"{output} is the overlay before again")
    else:
        os.unlink(output)
        show.note(f"{output} is gone: the model is as it was sealed")

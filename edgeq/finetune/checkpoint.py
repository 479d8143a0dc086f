"""Where a training run stands, on disk: an NPZ file, whole or not there, that only the same run takes up again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edgeq.errors import InputError
from edgeq.files import PathLike
from edgeq.finetune.adam import Adam
from edgeq.finetune.goal import Figure
from edgeq.graph import Array
from edgeq.records import dataclass, field
from edgeq.samples import Samples, write_npz


@dataclass(frozen=True, eq=False)
class Standing:
    """A run after `epoch` epochs. now, best_point: parameters; history: the start's figure and those since; best: which of
    them; sound: what that one counts for; rate: that it learns at; begun: the epoch since which that falls; mean: of
    the parameters, of late; around: parameters from which weights that keep all codes may not go far."""

    epoch: int
    now: Mapping[str, Array]
    adam: Adam
    best: int
    best_point: Mapping[str, Array]
    sound: Figure
    history: tuple[Figure, ...] = field(default_factory=tuple)
    rate: float = 1.0
    begun: int = 0
    mean: Mapping[str, Array] = field(default_factory=dict)
    around: Mapping[str, Array] = field(default_factory=dict)


def digest(*parts: bytes | str) -> str:
    """What tells one run from another."""
    h = hashlib.sha256()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        h.update(len(raw).to_bytes(8, "little") + raw)
    return h.hexdigest()


def save(path: PathLike, run: str, at: Standing) -> None:
    """Write it. run: the digest of what it belongs to."""
    arrays: dict[str, Array] = {
        "run": np.frombuffer(bytes.fromhex(run), np.uint8),
        "counts": np.array([at.epoch, at.best, at.adam.step, at.begun], np.int64),
        "rate": np.array([at.rate]),
        "sound": np.array([at.sound.wrong, at.sound.distance]),
        "history": np.array([(f.wrong, f.distance, f.nearer) for f in at.history], np.float64).reshape(-1, 3),
    }
    for kind, point in (("now", at.now), ("best", at.best_point), ("mean", at.mean), ("around", at.around)):
        arrays |= {f"{kind}/{k}": np.asarray(v) for k, v in point.items()}
    for kind, moments in (("first", at.adam.first), ("second", at.adam.second)):
        arrays |= {f"{kind}/{k}": np.asarray(v) for k, v in moments.items()}
    write_npz(path, arrays)


def load(path: PathLike, run: str) -> Standing | None:
    """The standing of this run, None where there is none. Raises InputError for another run's, or a damaged file."""
    if not Path(path).exists():
        return None
    arrays = Samples(path)
    if "run" not in arrays or bytes(np.asarray(arrays["run"], np.uint8)).hex() != run:
        raise InputError(
            f"{path}: expected a checkpoint of this model, data and options, found another run's: remove it to start anew"
        )

    def group(kind: str) -> dict[str, Array]:
        return {name[len(kind) + 1 :]: np.array(arrays[name]) for name in arrays if name.startswith(f"{kind}/")}

    epoch, best, step, begun = (int(n) for n in arrays["counts"])
    history = tuple(Figure(*(float(v) for v in row)) for row in arrays["history"])
    adam, rate = Adam(step, group("first"), group("second")), float(np.ravel(arrays["rate"])[0])
    sound = Figure(*(float(v) for v in arrays["sound"]))
    return Standing(
        epoch, group("now"), adam, best, group("best"), sound, history, rate, begun, group("mean"), group("around")
    )

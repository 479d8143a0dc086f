"""The garbage collector while a process starts (edgeq/lasting.py)."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

from edgeq import samples
from edgeq.cli import main, models
from edgeq.lasting import Lasting
from edgeq.tflite import write
from tests.engine_models import dense


class Cycle:
    def __init__(self) -> None:
        self.own = self


@pytest.fixture(autouse=True)
def collecting():
    """As a process begins, and again when the test is over."""
    gc.unfreeze()
    gc.enable()
    yield
    gc.unfreeze()
    gc.enable()


def test_nothing_is_collected_meanwhile_nor_behind() -> None:
    """However much is made in between, the collector does not look at it, nor at once when it may."""
    seen: list[object] = []
    gc.callbacks.append(lambda phase, info: seen.append(info))
    try:
        with Lasting():
            made = [[] for _ in range(10 * gc.get_threshold()[0])]
        some = [[] for _ in range(gc.get_threshold()[0] // 2)]
    finally:
        gc.callbacks.pop()
    assert not seen
    assert gc.isenabled()
    assert made
    assert some


def test_garbage_is_still_found() -> None:
    """What became garbage before, and what does so behind, is collected."""
    before = weakref.ref(Cycle())
    with Lasting():
        kept = Cycle()
        inside = weakref.ref(kept)
    del kept
    gc.collect()
    assert before() is None
    assert inside() is None


@pytest.mark.parametrize("error", [None, KeyError])
def test_collecting_that_is_off_stays_off(error) -> None:
    """Who has turned collecting off, or frozen objects, finds it as it was; an error passes through."""
    gc.disable()
    try:
        with Lasting():
            if error:
                raise error
    except KeyError:
        assert error
    assert not gc.isenabled()


def test_frozen_objects_stay_frozen() -> None:
    """Objects that an application froze, as servers do before they fork, are not thawed."""
    gc.freeze()
    frozen = gc.get_freeze_count()
    with Lasting():
        pass
    assert gc.get_freeze_count() >= frozen > 0
    assert gc.isenabled()


def test_it_ends_once() -> None:
    """Who says that it is over collects from then on, and who turns collecting off behind it finds it off."""
    with Lasting() as start:
        start.end()
        assert gc.isenabled()
        gc.disable()
    assert not gc.isenabled()


def test_commands_collect_once_they_have_their_model(tmp_path, monkeypatch) -> None:
    """A command that loads a model collects nothing before it has it, and garbage from then on, also where it fails."""
    seen = []

    def look(function):
        return lambda *given: (seen.append(gc.isenabled()), function(*given))[1]

    monkeypatch.setattr(samples, "Samples", look(samples.Samples))
    monkeypatch.setattr(models, "reshaped", look(models.reshaped))
    (tmp_path / "m.tflite").write_bytes(write(dense("float32", k=8)))
    np.savez(tmp_path / "x.npz", x=np.zeros((3, 8), np.float32))
    line = ["run", str(tmp_path / "m.tflite"), "-o", str(tmp_path / "y.npz"), "-i"]
    assert main([*line, str(tmp_path / "x.npz")]) == 0
    assert (seen, gc.isenabled()) == ([False, True], True)
    assert main([*line, str(tmp_path / "missing.npz")]) == 1
    assert gc.isenabled()

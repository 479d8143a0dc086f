"""The garbage collector while a process starts (edgeq/lasting.py)."""

from __future__ import annotations

import gc
import weakref

import pytest

from edgeq.lasting import Lasting


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

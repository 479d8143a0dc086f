"""Data classes of edgeq.records beside the standard library's: the same answers."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any, ClassVar

import numpy as np
import pytest

from edgeq import records


def _classes(m: Any) -> tuple[type, ...]:
    """The same six classes, made by either module."""

    @m.dataclass(frozen=True)
    class Plain:
        a: int
        values: tuple[int, ...] = (1, 2)
        kept: dict[str, int] = m.field(default_factory=dict, repr=False)
        KIND: ClassVar[str] = "plain"

    @m.dataclass(frozen=True)
    class Derived(Plain):
        b: str = "b"
        size: int = m.field(init=False, compare=False)

        def __post_init__(self) -> None:
            object.__setattr__(self, "size", len(self.values))

    @m.dataclass(frozen=True, eq=False)
    class Identical:
        a: int

    @m.dataclass
    class Open:
        a: int
        made: list[int] = m.field(init=False, default_factory=list)

    @m.dataclass(frozen=True, order=True)
    class Ordered:
        a: int
        b: int = m.field(default=0, compare=False)

    @m.dataclass(frozen=True)
    class Empty:
        pass

    return Plain, Derived, Identical, Open, Ordered, Empty


CASES = {
    "positions and defaults": lambda p, d, i, o, r, e: (repr(p(1)), p(1).kept, p(1) == p(1), p(1) == p(2), p.KIND),
    "names": lambda p, d, i, o, r, e: repr(p(values=(), a=3)),
    "a factory makes a new value each time": lambda p, d, i, o, r, e: p(1).kept is p(1).kept,
    "what is derived": lambda p, d, i, o, r, e: (repr(d(1, (5,), {}, "c")), d(1).size, d(1) == d(1), d(1) == p(1)),
    "hash by fields": lambda p, d, i, o, r, e: (hash(r(1)) == hash(r(1, 5)), len({r(1), r(2)}), hash(e()) == hash(e())),
    "identity": lambda p, d, i, o, r, e: (i(1) == i(1), len({i(1), i(1)})),
    "one that may change": lambda p, d, i, o, r, e: (setattr(x := o(1), "a", 4), x.a, x.made, x == o(4), o.__hash__),
    "order": lambda p, d, i, o, r, e: (r(1) < r(2), r(2) <= r(1), r(2) > r(1), r(1, 7) >= r(1), r(1).__lt__(4)),
    "nothing in it": lambda p, d, i, o, r, e: (repr(e()), e() == e()),
    "replaced by the standard library": lambda p, d, i, o, r, e: repr(dataclasses.replace(d(1), values=(1, 2, 3))),
    "fields": lambda p, d, i, o, r, e: [(f.name, f.init, f.repr, f.compare) for f in dataclasses.fields(d)],
    "as a dictionary": lambda p, d, i, o, r, e: dataclasses.asdict(d(1)),
    "is a data class": lambda p, d, i, o, r, e: (dataclasses.is_dataclass(d), dataclasses.is_dataclass(d(1))),
    "patterns": lambda p, d, i, o, r, e: (p.__match_args__, d.__match_args__, o.__match_args__),
    "copied": lambda p, d, i, o, r, e: (copy.copy(d(1)) == d(1), copy.deepcopy(d(1)) == d(1)),
}

FAULTS = {
    "too many": lambda p, d, i, o, r, e: i(1, 2),
    "too few": lambda p, d, i, o, r, e: i(),
    "unknown name": lambda p, d, i, o, r, e: i(1, c=3),
    "given twice": lambda p, d, i, o, r, e: i(1, a=3),
    "a field that is not given": lambda p, d, i, o, r, e: o(1, made=[]),
    "assigned": lambda p, d, i, o, r, e: setattr(p(1), "a", 2),
    "deleted": lambda p, d, i, o, r, e: delattr(p(1), "a"),
    "no hash": lambda p, d, i, o, r, e: hash(o(1)),
    "no order": lambda p, d, i, o, r, e: p(1) < p(2),
    "derived field replaced": lambda p, d, i, o, r, e: dataclasses.replace(d(1), size=2),
}


@pytest.fixture(params=["first objects", "many objects"])
def made(request) -> tuple[type, ...]:
    """The classes of edgeq.records, fresh, or when `__init__` has been compiled."""
    classes = _classes(records)
    if request.param == "many objects":
        for cls in classes:
            slow = cls.__init__
            for _ in range(records._MANY):
                cls(1) if cls.__match_args__ else cls()
            assert cls.__init__ is not slow
    return classes


@pytest.mark.parametrize("case", [pytest.param(c, id=name) for name, c in CASES.items()])
def test_records_answer_as_data_classes_do(case, made) -> None:
    """A record says of itself what a data class of the standard library says."""
    assert case(*made) == case(*_classes(dataclasses))


@pytest.mark.parametrize("case", [pytest.param(c, id=name) for name, c in FAULTS.items()])
def test_records_refuse_what_data_classes_refuse(case, made) -> None:
    """What a data class of the standard library refuses, a record refuses by the same type of error."""
    with pytest.raises(Exception) as expected:  # noqa: PT011 — which one is what is compared
        case(*_classes(dataclasses))
    with pytest.raises(expected.type):
        case(*made)


def test_replace_and_fields() -> None:
    """`replace` and `fields` of edgeq.records need nothing of the standard library's."""
    _, derived, *_ = _classes(records)
    assert repr(records.replace(derived(1), a=2)) == repr(derived(2))
    assert [f.name for f in records.fields(derived)] == ["a", "values", "kept", "b", "size"]
    with pytest.raises(ValueError, match="init=False"):
        records.replace(derived(1), size=1)
    with pytest.raises(TypeError, match="not a record"):
        records.fields(3)


@records.dataclass(frozen=True)
class Portable:
    """For pickle, which wants a class by its name."""

    a: int
    b: str = "b"


def test_pickle() -> None:
    """A record goes through pickle."""
    assert pickle.loads(pickle.dumps(Portable(1, "x"))) == Portable(1, "x")


def test_arrays_are_compared_as_a_tuple_holds_them() -> None:
    """One field that holds an array: the same array is equal without being looked at, as in a tuple."""

    @records.dataclass(frozen=True)
    class One:
        a: np.ndarray

    array = np.zeros(3)
    assert One(array) == One(array)

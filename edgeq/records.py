"""Data classes that cost next to nothing to define: what a process pays for before its first answer.

The standard library writes source text for each data class and compiles it, half a millisecond a class, and a device that starts
defines a hundred. Here the methods are written once and read the fields from a table. `__init__`, which that makes slower, is
compiled for the classes of which there are many. Otherwise these are the standard library's data classes, for type checkers by
name: `dataclasses.fields` and `dataclasses.replace` know them. What it has and nothing here needs is missing: slots, keyword-only
fields, InitVar, weak references to order by.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

__all__ = ["dataclass", "field", "fields", "replace"]

if TYPE_CHECKING:
    from dataclasses import dataclass, field, fields, replace
else:
    _MISSING = object()
    _MANY = 128
    """Objects after which compiling `__init__` has paid for itself: it takes as long as so many slow calls."""

    class Field:
        """One field as a class body describes it."""

        default = default_factory = _MISSING
        init = repr = compare = True
        hash = None
        name = type = ""

    def field(*, default=_MISSING, default_factory=_MISSING, init=True, repr=True, hash=None, compare=True):
        """A field with more to say than a default; see dataclasses.field."""
        made = Field()
        made.default, made.default_factory, made.init = default, default_factory, init
        made.repr, made.hash, made.compare = repr, hash, compare
        return made

    def dataclass(cls=None, /, *, frozen=False, eq=True, order=False):
        """Make a class a record; see dataclasses.dataclass."""
        if cls is None:
            return lambda cls: _process(cls, frozen, eq, order)
        return _process(cls, frozen, eq, order)

    def fields(of):
        """The fields of a record or its class: `name`, `default` and what else was said of each."""
        return tuple(_own(of).values())

    def replace(record, /, **changes):
        """A copy with other values in some fields."""
        found, values = _own(record), record.__dict__
        if not record.__records_made__:  # all are given
            there = values if values.keys() == found.keys() else {name: getattr(record, name) for name in found}
            return record.__class__(**{**there, **changes})
        for f in found.values():
            if not f.init:
                if f.name in changes:
                    raise ValueError(f"field {f.name} is declared with init=False, it cannot be specified")
            elif f.name not in changes:
                changes[f.name] = getattr(record, f.name)
        return record.__class__(**changes)

    def _own(of):
        """Fields by name."""
        try:
            return of.__records_fields__
        except AttributeError:
            raise TypeError(f"{of!r} is not a record") from None

    # --- making a class -----------------------------------------------------------------------------------------------

    def _process(cls, frozen, eq, order):
        found, constants, more = {}, {}, False
        for base in reversed(cls.__mro__[1:]):
            for name, f in base.__dict__.get("__records_fields__", {}).items():
                found[name], more = f, more or len(f.__dict__) > 3
        body = cls.__dict__
        for name, kind in body.get("__annotations__", {}).items():
            if str(kind).startswith(("ClassVar", "typing.ClassVar")):
                continue
            f = body.get(name, _MISSING)
            if isinstance(f, Field):
                more = True
                if f.default is _MISSING:
                    delattr(cls, name)
                else:
                    setattr(cls, name, f.default)
            else:
                default, f = f, Field()
                if default is not _MISSING:
                    f.default = default
            f.name, f.type = name, kind
            found[name] = f
        constants = {name: f.default for name, f in found.items() if f.default is not _MISSING}
        cls.__records_fields__ = found
        cls.__records_made__ = any(not f.init for f in found.values())
        cls.__dataclass_fields__ = _Fields()
        cls.__match_args__ = tuple(name for name, f in found.items() if f.init) if more else tuple(found)
        if "__init__" not in body:
            cls.__init__ = _initializer(cls, found, constants)
        if "__repr__" not in body:
            cls.__repr__ = _repr
        if eq:
            compared = _getter([n for n, f in found.items() if f.compare] if more else cls.__match_args__)
            if "__eq__" not in body:
                cls.__eq__ = _equal(compared)
            if "__hash__" not in body or body["__hash__"] is None:
                hashed = compared
                if more:
                    hashed = _getter([n for n, f in found.items() if (f.compare if f.hash is None else f.hash)])
                cls.__hash__ = (lambda self: hash(hashed(self))) if frozen else None
            if order:
                _order(cls, compared)
        if frozen:
            cls.__setattr__, cls.__delattr__ = _refuse_set, _refuse_delete
        return cls

    def _getter(names):
        """A function from a record to the tuple of these fields' values."""
        if len(names) > 1:
            return attrgetter(*names)
        return lambda record: tuple(getattr(record, n) for n in names)

    def _equal(compared):
        def equal(self, other):
            if other.__class__ is self.__class__:
                return compared(self) == compared(other)
            return NotImplemented

        return equal

    def _order(cls, compared):
        import operator

        def comparison(name):
            compare = getattr(operator, name)

            def method(self, other):
                if other.__class__ is self.__class__:
                    return compare(compared(self), compared(other))
                return NotImplemented

            return method

        for name in ("__lt__", "__le__", "__gt__", "__ge__"):
            setattr(cls, name, comparison(name))

    def _repr(self):
        shown = ", ".join(f"{n}={getattr(self, n)!r}" for n, f in _own(self).items() if f.repr)
        return f"{self.__class__.__qualname__}({shown})"

    def _refuse_set(self, name, value):
        from dataclasses import FrozenInstanceError

        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def _refuse_delete(self, name):
        from dataclasses import FrozenInstanceError

        raise FrozenInstanceError(f"cannot delete field {name!r}")

    # --- __init__ -----------------------------------------------------------------------------------------------------

    def _initializer(cls, found, constants):
        """`__init__` that reads the fields from a table, and makes way for a compiled one when there are many objects."""
        names = cls.__match_args__
        most, count, needed = len(names), len(found), found.keys() - constants.keys()
        factories = [(n, f.default_factory) for n, f in found.items() if f.default_factory is not _MISSING]
        simple = most == len(found) and not factories
        least = most - len(constants) if simple else most + 1  # fields without a default come first
        after = getattr(cls, "__post_init__", None)
        calls = 0

        def init(self, *given, **named):
            nonlocal calls
            calls += 1
            if calls == _MANY and cls.__dict__.get("__init__") is init:
                cls.__init__ = _compiled(cls, found)
            values = self.__dict__
            if not named and least <= len(given) <= most:
                if len(given) < most:
                    values.update(constants)
                values.update(zip(names, given))  # noqa: B905 — fewer values than names may be given
            else:
                values.update(constants)
                values.update(zip(names, given))  # noqa: B905
                values.update(named)
                for name, make in factories:
                    if name not in values:
                        values[name] = make()
                if given or not simple or len(values) != count or not named.keys() >= needed:
                    _check(cls, names, values, given, named)
            if after is not None:
                after(self)

        return init

    def _check(cls, names, values, given, named):
        """Raise TypeError unless every field has one value, and nothing else has any; `values` is what `__init__` made of it."""
        positions = names[: len(given)]
        if len(given) > len(names):
            raise TypeError(f"{cls.__qualname__}() takes {len(names)} fields, {len(given)} were given")
        if odd := sorted(named.keys() - set(names) or named.keys() & set(positions)):
            raise TypeError(f"{cls.__qualname__}() has no field {odd[0]!r}, or it was given twice")
        for name in names:
            if name not in values:
                raise TypeError(f"{cls.__qualname__}() misses the field {name!r}")

    def _compiled(cls, found):
        """The same as source text."""
        parameters, lines, known = [], ["__values = self.__dict__"], {"MISSING": _MISSING}
        for number, (name, f) in enumerate(found.items()):
            known[f"d{number}"] = f.default if f.default_factory is _MISSING else f.default_factory
            if f.default_factory is not _MISSING:
                made = f"d{number}()"
                value = f"{made} if {name} is MISSING else {name}" if f.init else made
                parameters.append(f"{name}=MISSING")
            elif f.default is not _MISSING:
                value = name if f.init else f"d{number}"
                parameters.append(f"{name}=d{number}")
            else:
                value = name if f.init else ""
                parameters.append(name)
            if not f.init:
                parameters.pop()
            if value:
                lines.append(f"__values[{name!r}] = {value}")
        if hasattr(cls, "__post_init__"):
            lines.append("self.__post_init__()")
        text = f"def __init__(self, {', '.join(parameters)}):\n " + "\n ".join(lines)
        exec(text, known)
        return known["__init__"]

    # --- for the standard library ---------------------------------------------------------------------------------------

    class _Fields:
        """`__dataclass_fields__` of a record: made when somebody looks, from a data class with the same fields."""

        def __get__(self, record, cls):
            import dataclasses

            described = []
            for f in cls.__records_fields__.values():
                more = {n: getattr(f, n) for n in ("init", "repr", "hash", "compare")}
                for n in ("default", "default_factory"):
                    if getattr(f, n) is not _MISSING:
                        more[n] = getattr(f, n)
                described.append((f.name, f.type, dataclasses.field(**more)))
            cls.__dataclass_fields__ = dataclasses.make_dataclass(cls.__name__, described).__dataclass_fields__
            return cls.__dataclass_fields__

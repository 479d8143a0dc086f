"""Plans that are kept from start to start: the same model again, for whoever may open it, and for nobody else."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from engine_models import cases
from tflite_models import int8_cnn
from trusted import NOW, content_key, device, granted, new_device, publisher

import edgeq
from edgeq import limits, resume, seal, shelf
from edgeq.bundle import Bundle
from edgeq.engine import Model
from edgeq.errors import EdgeqError, GrantDeviceError, InputError
from edgeq.graph import Graph
from edgeq.records import replace
from edgeq.shelf import HEAD, MAGIC
from edgeq.targets.closure import closure
from edgeq.targets.wheel import package_files
from edgeq.tflite import write

X = np.arange(128, dtype=np.int8).reshape(1, 8, 8, 2)


class Device:
    """A sealed model, its grant, and a folder for plans."""

    def __init__(self, folder: Path, graph: Graph) -> None:
        self.folder, self.path, self.plans = folder, folder / "m.eqb", folder / "plans"
        self.source: Bundle = seal.seal(write(graph), publisher(), model_id="acme/m", version=1)
        self.path.write_bytes(self.source.to_bytes())
        self.grant = granted(self.source, now=NOW.replace(year=2025))

    def load(self, **options: object) -> Model:
        found = edgeq.load(
            self.path, grant=self.grant, identity=device(), trust=publisher().public, backend="native", **options
        )
        assert isinstance(found, Model)
        return found

    def entry(self) -> Path:
        (found,) = self.plans.iterdir()
        return found


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Device:
    """A device that keeps plans."""
    monkeypatch.setenv("EDGEQ_PLANS", str(tmp_path / "plans"))
    return Device(tmp_path, int8_cnn())


@pytest.fixture
def planning(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Grows with every plan that is made."""
    from edgeq.plan import build, make_plan

    made: list[int] = []

    def counted(*args: object, **options: object) -> object:
        made.append(1)
        return make_plan(*args, **options)

    monkeypatch.setattr(build, "make_plan", counted)
    return made


def test_the_second_start_plans_nothing(at: Device, planning: list[int]) -> None:
    """A kept plan computes what the first one did, for every kind of call."""
    first = at.load()
    assert planning == [1]
    second = at.load()
    assert planning == [1]
    assert (second.inputs, second.outputs) == (first.inputs, first.outputs)
    real = X.astype(np.float32) / 7
    for x in (X, real, np.concatenate([X, X + 1, X - 3])):
        assert np.array_equal(second(x), first(x))
        assert np.array_equal(second(x, dequantize=True), first(x, dequantize=True))
    assert planning == [1]
    for _ in range(2):  # several threads have a plan of their own
        assert np.array_equal(at.load(threads=2)(X), first(X))
    assert planning == [1, 1]


@pytest.mark.parametrize("name", [n for n in cases() if n.endswith(("int8", "int16", "float32"))][::7])
def test_every_kind_of_plan_is_kept(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Convolutions, tables, sums and products of every type compute from kept plans what they compute from new ones."""
    monkeypatch.setenv("EDGEQ_PLANS", str(tmp_path / "plans"))
    at = Device(tmp_path, cases()[name]())
    with at.load() as first, at.load() as second:
        assert second._plan is None
        rng = np.random.default_rng(0)
        x = {p.name: (rng.normal(size=p.shape) * 20).astype(p.dtype) for p in first.inputs}
        assert np.array_equal(second(x), first(x))


def test_graph_and_plan_are_there_when_asked_for(at: Device, planning: list[int]) -> None:
    """A resumed model reads its graph and makes its whole plan for who looks at them, with no parameters outside its memory."""
    first, second = at.load(), at.load()
    assert second.graph.input_names() == first.graph.input_names()
    assert planning == [1]
    assert second.plan.instructions == first.plan.instructions
    assert planning == [1, 1]
    assert not second.plan.constants.any()
    assert np.array_equal(second(X), first(X))


def test_a_closed_model_is_wiped(at: Device) -> None:
    """Closing a resumed model wipes its file and its parameters; it is not read again."""
    at.load()
    model = at.load()
    memory, constants = model._memory, model.program.constants
    assert memory is not None
    assert constants.any()
    model.close()
    assert not constants.any()
    assert not any(bytes(b).strip(b"\0") for b in memory._buffers)
    with pytest.raises(InputError, match="closed"):
        _ = model.graph
    with pytest.raises(InputError, match="closed"):
        model(X)


# --- entries that are not taken -----------------------------------------------------------------------------------------


def flipped(at: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


DAMAGED: dict[str, Callable[[bytes], bytes]] = {
    "another kind of file": flipped(0),
    "another salt": flipped(len(MAGIC)),
    "a larger size": flipped(HEAD - 1),
    "a huge size": lambda data: data[: HEAD - 8] + b"\xff" * 8 + data[HEAD:],
    "no size": lambda data: data[: HEAD - 8] + bytes(8) + data[HEAD:],
    "a bit of the first chunk": flipped(HEAD + 5),
    "a bit of the last tag": flipped(-1),
    "cut short": lambda data: data[:-1],
    "head alone": lambda data: data[:HEAD],
    "empty": lambda data: b"",
    "longer": lambda data: data + b"\0",
    "zeros": lambda data: bytes(len(data)),
}


@pytest.mark.parametrize("how", DAMAGED)
def test_a_damaged_entry_is_made_again(how: str, at: Device, planning: list[int]) -> None:
    """An entry that is not whole is not used, and the next start has a whole one."""
    expected = at.load()(X)
    entry = at.entry()
    entry.write_bytes(DAMAGED[how](entry.read_bytes()))
    assert np.array_equal(at.load()(X), expected)
    assert planning == [1, 1]
    assert np.array_equal(at.load()(X), expected)
    assert planning == [1, 1]


def test_an_entry_of_another_bundle_does_not_open(at: Device, tmp_path: Path, planning: list[int]) -> None:
    """Under the name that it should have, another bundle's entry is refused: its key is another."""
    at.load()
    (tmp_path / "b").mkdir()
    other = Device(tmp_path / "b", int8_cnn())
    before = set(at.plans.iterdir())
    other.load()
    (mine,) = before
    (theirs,) = set(at.plans.iterdir()) - before
    theirs.write_bytes(mine.read_bytes())
    other.load()
    assert planning == [1, 1, 1]


@pytest.mark.parametrize("what", ["NumPy", "a module", "the kernels", "the rounding"])
def test_an_entry_of_something_else_is_not_looked_at(
    what: str, at: Device, planning: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a plan depends on is in its label: other versions, modules, kernels and roundings plan anew."""
    at.load()
    options = {}
    if what == "NumPy":
        monkeypatch.setattr(resume.np, "__version__", "9.9")
    elif what == "a module":
        monkeypatch.setattr(resume, "_modules", lambda: iter(["plan/build.py 1 2"]))
    elif what == "the kernels":
        machine = replace(resume.get(), kernels="0" * 64)
        monkeypatch.setattr(resume, "get", lambda: machine)
    else:
        options["rounding"] = "tflite"
    at.load(**options)
    assert planning == [1, 1]
    assert len(list(at.plans.iterdir())) == 2


def test_the_label_names_every_module_that_plans() -> None:
    """Whatever reading, checking and planning import of the package is in the label, or says nothing about plans."""
    sources = package_files()
    roots = [f"edgeq/{m}.py" for m in ("plan/build", "plan/stored", "tflite/reader", "check", "packed", "ports")]
    roots += [name for name in sources if name.startswith("edgeq/plan/lower/")]
    kernels = ("edgeq/kernels/",)  # their digest is in the label
    named = {f"edgeq/{m}.py" for m in resume.MODULES}
    named |= {
        f"edgeq/{m}.py"
        for m in ("__init__", "bytecode", "digest", "errors", "files", "folded", "gathered", "lasting", "refusals")
    }
    inside = tuple(f"edgeq/{f}/" for f in resume.FOLDERS) + kernels
    assert {name for name in closure(sources, roots) if not name.startswith(inside)} <= named


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="files that belong to nobody")
def test_an_entry_that_others_can_write_is_not_read(at: Device, planning: list[int]) -> None:
    """What another user may have written is planned anew; entries themselves are their owner's alone."""
    at.load()
    assert at.entry().stat().st_mode & 0o777 == 0o600
    assert at.plans.stat().st_mode & 0o777 == 0o700
    at.entry().chmod(0o666)
    at.load()
    assert planning == [1, 1]
    assert at.entry().stat().st_mode & 0o777 == 0o600


# --- what is asked before ---------------------------------------------------------------------------------------------------


def test_a_kept_plan_opens_for_nobody_else(at: Device) -> None:
    """With a plan there, a bundle that was changed and a device without a grant are refused as without one."""
    at.load()
    with pytest.raises(GrantDeviceError):
        edgeq.load(at.path, grant=at.grant, identity=new_device(), trust=publisher().public)
    data = bytearray(at.path.read_bytes())
    data[-1] ^= 1
    at.path.write_bytes(data)
    with pytest.raises(EdgeqError):
        at.load()


def test_nothing_plain_is_kept(at: Device) -> None:
    """An entry holds no run of the parameters, packed or not, no name of a tensor, and not the key."""
    model = at.load()
    data = at.entry().read_bytes()
    packed = model.program.constants.tobytes()
    assert any(packed)
    needles = [packed[i : i + 16] for i in range(0, len(packed) - 16, 16) if len(set(packed[i : i + 16])) > 4]
    needles += [write(int8_cnn())[i : i + 16] for i in range(0, 4000, 16)]
    needles += [model.inputs[0].name.encode(), content_key(at.source).reveal()]
    for needle in needles:
        assert len(set(needle)) <= 4 or needle not in data
    first = at.entry().read_bytes()
    at.entry().unlink()
    at.load()
    assert at.entry().read_bytes()[HEAD:] != first[HEAD:]  # another salt, another key


# --- where nothing is kept --------------------------------------------------------------------------------------------------


def test_nothing_is_kept_where_it_is_not_wanted(at: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """With EDGEQ_PLANS=off nothing is written or read."""
    monkeypatch.setenv("EDGEQ_PLANS", "off")
    at.load()
    assert not at.plans.exists()


def test_a_folder_that_cannot_be_written_costs_nothing_but_time(at: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model loads where its plan cannot be kept."""
    (at.folder / "file").write_bytes(b"")
    monkeypatch.setenv("EDGEQ_PLANS", str(at.folder / "file" / "plans"))
    assert at.load()(X).shape == at.load()(X).shape


@pytest.mark.parametrize("options", [{"drift": True}, {"selfcheck": 9}, {"shapes": (1, 8, 8, 2)}])
def test_other_models_are_planned(options: dict[str, object], at: Device) -> None:
    """Models that look at themselves, or have other shapes, are neither kept nor resumed."""
    name = at.load().inputs[0].name
    if "shapes" in options:
        options = {"shapes": {name: options["shapes"]}}
    before = at.entry().read_bytes()
    assert at.load(**options)._plan is not None
    assert at.entry().read_bytes() == before


def test_what_an_application_brings_along_is_not_kept(at: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where operations are registered, a plan may hold addresses of this process, so none is kept or taken."""
    from edgeq import customs

    monkeypatch.setattr(customs, "_REGISTERED", {})
    edgeq.register_op("Mine", lambda node: None, lambda x, y: None)
    at.load()
    assert not at.plans.exists()


def test_a_bad_option_is_refused_all_the_same(at: Device) -> None:
    """What the first start refuses, a later one refuses in the same words."""
    at.load()
    for options, words in (({"rounding": "no"}, "rounding is 'no'"), ({"threads": 0}, "threads is 0")):
        with pytest.raises(InputError, match=words):
            at.load(**options)


# --- room -----------------------------------------------------------------------------------------------------------------


def kept_as(number: int) -> str:
    return f"{number:040x}"


def put(folder: Path, number: int, days: float, suffix: str = "") -> Path:
    """A file with an entry's name that was written and read so many days ago."""
    path = folder / (kept_as(number) + suffix)
    path.write_bytes(b"x" * 10)
    os.utime(path, (time.time() - 86400 * days,) * 2)
    return path


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_what_was_used_longest_ago_makes_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more entries than the limits allow stay, those that were written or read last."""
    monkeypatch.setattr(limits, "KEPT_PLANS", 3)
    for number in range(1, 6):
        put(tmp_path, number, number)
    os.utime(tmp_path / kept_as(5), (time.time() - 3600, time.time() - 5 * 86400))  # read an hour ago
    shelf._write(str(tmp_path / kept_as(0)), b"x" * 10)
    assert names(tmp_path) == [kept_as(n) for n in (0, 1, 5)]
    monkeypatch.setattr(limits, "KEPT_PLANS_BYTES", 25)
    shelf._write(str(tmp_path / kept_as(6)), b"x" * 10)
    assert names(tmp_path) == [kept_as(n) for n in (0, 6)]


def test_what_nobody_uses_goes(tmp_path: Path) -> None:
    """However few there are, an entry that was not used for long goes when another is written, and half-written ones do."""
    put(tmp_path, 1, limits.KEPT_PLANS_DAYS + 1)
    put(tmp_path, 2, limits.KEPT_PLANS_DAYS - 1)
    put(tmp_path, 3, 0.1, f".{'a' * 16}.tmp")
    put(tmp_path, 3, 0.01, f".{'b' * 16}.tmp")  # somebody may be writing it
    shelf._write(str(tmp_path / kept_as(0)), b"x" * 10)
    assert names(tmp_path) == [kept_as(0), kept_as(2), f"{kept_as(3)}.{'b' * 16}.tmp"]


def test_only_entries_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of other names, links and folders stay, however old and however many: EDGEQ_PLANS may name any folder."""
    monkeypatch.setattr(limits, "KEPT_PLANS", 1)
    for name in ("thesis.odt", "a" * 39, "A" * 40, f"{'a' * 40}.bak"):
        (tmp_path / name).write_bytes(b"precious")
        os.utime(tmp_path / name, (0, 0))
    (tmp_path / kept_as(1)).symlink_to(tmp_path / "thesis.odt")
    (tmp_path / kept_as(2)).mkdir()
    before = names(tmp_path)
    shelf._write(str(tmp_path / kept_as(3)), b"x" * 10)
    assert names(tmp_path) == sorted([*before, kept_as(3)])


def test_processes_that_keep_plans_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three at a time, each writing entries and making room, leave whole entries, no more than allowed, and none fails."""
    code = (
        "import sys; from edgeq import limits, shelf; limits.KEPT_PLANS = 4\n"
        "for n in range(100): shelf._write(f'{sys.argv[1]}/{n % 7:040x}', b'x' * 1000)"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) for _ in range(3)]
    assert [p.wait(timeout=60) for p in running] == [0, 0, 0]
    monkeypatch.setattr(limits, "KEPT_PLANS", 4)
    shelf._write(str(tmp_path / kept_as(9)), b"x" * 1000)
    assert kept_as(9) in names(tmp_path)
    assert len(names(tmp_path)) == 4
    assert {p.stat().st_size for p in tmp_path.iterdir()} == {1000}


def test_a_start_that_writes_nothing_makes_no_room(
    at: Device, planning: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a start that keeps a plan looks at what else is there."""
    looked: list[str] = []
    monkeypatch.setattr(shelf, "_make_room", looked.append)
    for _ in range(3):
        at.load().close()
    assert len(looked) == len(planning) == 1

"""Objects of earlier kernels leave the cache when others are built, and nobody notices."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgeq.errors import MachineError
from edgeq.targets import build, outdated
from edgeq.targets.table import TARGETS
from edgeq.targets.target import Target

DAY = 86400


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a user's objects, in a cache of its own."""
    monkeypatch.setenv("EDGEQ_CACHE", str(tmp_path))
    (tmp_path / "targets").mkdir()
    return tmp_path / "targets"


def put(cache: Path, number: int, days: float, *names: str) -> Path:
    """A folder of objects that were built so many days ago and not loaded since."""
    folder = cache / f"{number:032x}"
    folder.mkdir()
    when = (time.time() - days * DAY,) * 2
    for name in names or ("rpi4.so", "rpi4.json", "x86-64-v3.so", "x86-64-v3.json"):
        (folder / name).write_bytes(b"an object")
        os.utime(folder / name, when)
    os.utime(folder, when)
    return folder


def numbers(cache: Path) -> list[int]:
    return sorted(int(p.name, 16) for p in cache.iterdir())


def test_those_used_last_stay(cache: Path) -> None:
    """Of many old folders as many stay as are kept, beside the one that was built into; reading is using."""
    for n in range(20):
        put(cache, n, 2 + n)
    os.utime(cache / f"{19:032x}" / "rpi4.so", (time.time() - 2 * 3600, time.time() - 21 * DAY))
    removed = outdated.prune(put(cache, 99, 0))
    assert numbers(cache) == [0, 1, 19, 99]
    assert len(removed) == 17


def test_one_that_another_process_is_removing(cache: Path) -> None:
    """A folder that is being emptied just now takes the place of none that stays."""
    for n in range(5):
        put(cache, n, 2 + n)
    for name in ("rpi4.json", "rpi4.so", "x86-64-v3.json"):
        (cache / f"{4:032x}" / name).unlink()
    (cache / f"{7:032x}").mkdir()
    outdated.prune(put(cache, 99, 0))
    assert numbers(cache) == [0, 1, 2, 7, 99]


def test_what_was_used_lately_stays(cache: Path) -> None:
    """However many there are, what was used within a day is left to whoever uses it."""
    for n in range(20):
        put(cache, n, 0.9)
    assert outdated.prune(put(cache, 99, 0)) == []


def test_only_the_caches_own_are_touched(cache: Path, tmp_path: Path) -> None:
    """Folders of other names, links, and files of other names with the folders they are in stay, whatever their age."""
    for n in range(outdated.KEPT):
        put(cache, n, 5)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "rpi4.so").write_bytes(b"precious")
    (cache / f"{50:032x}").symlink_to(elsewhere)
    (cache / "notes").mkdir()
    (cache / "notes" / "rpi4.so").write_bytes(b"")
    (cache / "0.so").write_bytes(b"")
    own = put(cache, 60, 900, "rpi4.so", "rpi4.json", "thesis.odt", f".edgeq-{'a' * 16}.tmp")
    built = put(cache, 99, 0)
    before = {p.name for p in cache.iterdir()}
    assert outdated.prune(built) == []
    assert {p.name for p in cache.iterdir()} == before
    assert (elsewhere / "rpi4.so").exists()
    assert [p.name for p in own.iterdir()] == ["thesis.odt"]


def test_a_folder_elsewhere_has_no_neighbours(cache: Path, tmp_path: Path) -> None:
    """Building into a folder outside of the cache removes nothing beside it."""
    for n in range(20):
        put(cache, n, 5 + n)
    for built in (tmp_path / "objects", tmp_path / ("a" * 32), tmp_path / "nowhere" / ("b" * 32)):
        assert outdated.prune(built) == []
    assert len(numbers(cache)) == 20


def test_processes_that_prune_at_once(cache: Path, tmp_path: Path) -> None:
    """Three at a time remove every old folder, each once, and none of them fails."""
    for n in range(100):
        put(cache, n, 2 + n)
    built = put(cache, 999, 0)
    code = "import sys; from pathlib import Path; from edgeq.targets.outdated import prune; print(len(prune(Path(sys.argv[1]))))"
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(built)], stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    removed = [int(p.communicate(timeout=60)[0]) for p in running]
    assert [p.returncode for p in running] == [0, 0, 0]
    assert numbers(cache) == [*range(outdated.KEPT), 999]
    assert sum(removed) == 100 - outdated.KEPT


def test_building_makes_room(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what is built makes room: not what is there already, and not what fails."""
    for n in range(9):
        put(cache, n, 2 + n)
    built, failure = cache / ("f" * 32), [""]

    def compiled(target: Target, folder: Path, progress: build.Progress) -> str:
        (folder / f"{target.name}.so").write_bytes(b"an object")
        return failure[0]

    monkeypatch.setattr(build.link, "linker", lambda: ["ld.lld"])
    monkeypatch.setattr(build, "_in_a_process", compiled)
    monkeypatch.setattr(build, "is_built", lambda target, folder: True)
    build.build([TARGETS["rpi4"]], built, lambda *_: None)
    monkeypatch.setattr(build, "is_built", lambda target, folder: False)
    failure[0] = "no space left"
    with pytest.raises(MachineError, match="no space left"):
        build.build([TARGETS["rpi4"]], built, lambda *_: None)
    assert len(numbers(cache)) == 10
    failure[0] = ""
    assert build.build([TARGETS["rpi4"]], built, lambda *_: None) == ["rpi4"]
    assert numbers(cache) == [0, 1, 2, int("f" * 32, 16)]

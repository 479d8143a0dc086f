"""Old objects leave the cache, and nobody notices."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgeq import leftovers, machine

DAY = 24 * 3600


def put(folder: Path, isa: str, number: int, days: float, *suffixes: str) -> list[Path]:
    """Files of one object, last used so many days ago."""
    made = []
    for suffix in suffixes or (".o", ".lock"):
        path = folder / f"machine-{isa}-{number:032x}{suffix}"
        path.write_bytes(b"an object")
        os.utime(path, (time.time() - days * DAY,) * 2)
        made.append(path)
    return made


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_newest_of_each_instruction_set_stay(tmp_path: Path) -> None:
    """Of sixty old objects as many stay as are kept, the last used ones, with their locks; other sets do not count."""
    for i in range(60):
        put(tmp_path, "avx2", i, 2 + i)
    other = put(tmp_path, "sse42", 7, 900)
    removed = leftovers.prune(tmp_path)
    assert len(removed) == 2 * (60 - leftovers.KEPT)
    assert names(tmp_path) == {p.name for p in other} | {
        f"machine-avx2-{i:032x}{suffix}" for i in range(leftovers.KEPT) for suffix in (".o", ".lock")
    }


def test_what_was_used_lately_stays(tmp_path: Path) -> None:
    """However many there are, an object that was used within a day is left to whoever uses it."""
    for i in range(40):
        put(tmp_path, "avx2", i, 0.9)
    assert leftovers.prune(tmp_path) == []


def test_only_files_of_the_caches_own_are_touched(tmp_path: Path) -> None:
    """Folders, links and files of other names stay, whatever their age; a lock without an object goes."""
    for i in range(leftovers.KEPT):
        put(tmp_path, "avx2", i, 5)
    (tmp_path / f"machine-avx2-{'a' * 32}.o").mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"precious")
    (tmp_path / f"machine-avx2-{'b' * 32}.o").symlink_to(elsewhere)
    for name in ("machine-avx2-1.o", f"machine-avx2-{'c' * 32}.o.bak", f"plan-{'d' * 32}.o"):
        (tmp_path / name).write_bytes(b"")
        os.utime(tmp_path / name, (0, 0))
    before = names(tmp_path)
    (alone,) = put(tmp_path, "avx2", 99, 5, ".lock")
    assert leftovers.prune(tmp_path) == [alone.name]
    assert names(tmp_path) == before


def test_a_lock_that_is_held_stays(tmp_path: Path) -> None:
    """A process that builds keeps its lock, however old the file is."""
    fcntl = pytest.importorskip("fcntl")
    (lock,) = put(tmp_path, "avx2", 1, 5, ".lock")
    with open(lock, "rb") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        assert leftovers.prune(tmp_path) == []
    assert leftovers.prune(tmp_path) == [lock.name]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """No folder, nothing to do."""
    assert leftovers.prune(tmp_path / "nowhere") == []


def test_use_is_remembered(tmp_path: Path) -> None:
    """An object that is used becomes the newest; one that was used a moment ago is not written to again."""
    (old,), (new,) = put(tmp_path, "avx2", 1, 50, ".o"), put(tmp_path, "avx2", 2, 0.001, ".o")
    told = new.stat().st_mtime_ns
    for path in (old, new, tmp_path / "gone.o"):
        leftovers.used(path)
    assert time.time() - old.stat().st_mtime < 60
    assert new.stat().st_mtime_ns == told


def test_processes_that_prune_at_once(tmp_path: Path) -> None:
    """Three at a time remove every old file once, and none of them fails."""
    for i in range(200):
        put(tmp_path, "avx2", i, 2 + i)
    code = (
        "import sys; from pathlib import Path; from edgeq.leftovers import prune; print(len(prune(Path(sys.argv[1]))))"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    removed = [int(p.communicate(timeout=60)[0]) for p in running]
    assert [p.returncode for p in running] == [0, 0, 0]
    assert len(names(tmp_path)) == 2 * leftovers.KEPT
    assert sum(removed) == 2 * (200 - leftovers.KEPT)


def test_building_removes_what_is_left_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new object makes room, and loading one from the cache says that it is in use."""
    body = machine._read_cached(machine.cache_file(machine.host())) or machine.build(machine.host(), lambda *_: None)
    monkeypatch.setenv("EDGEQ_CACHE", str(tmp_path))
    path, isa = machine.cache_file(machine.host()), machine.host().isa.name
    for i in range(20):
        put(tmp_path, isa, i, 2 + i)
    monkeypatch.setattr(machine, "build", lambda on, progress: body)
    assert machine._load_or_build(lambda *_: None).source == "compiled"
    objects = {p.name for p in tmp_path.glob("*.o")}
    assert objects == {path.name} | {f"machine-{isa}-{i:032x}.o" for i in range(leftovers.KEPT - 1)}
    os.utime(path, (0, 0))
    assert machine._load_or_build(lambda *_: None).source == "cache"
    assert time.time() - path.stat().st_mtime < 60

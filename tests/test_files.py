"""Whole files: read under a limit through one descriptor, written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgeq.errors import InputError, OutputError
from edgeq.files import PRIVATE, check_place, read_limited, remove_leftovers, write_atomic


def missing(folder: Path) -> Path:
    return folder / "missing"


def pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe")
    return folder / "pipe"


def device(folder: Path) -> Path:
    return Path("/dev/null")


def large(folder: Path) -> Path:
    (folder / "large").write_bytes(bytes(11))
    return folder / "large"


def folder_itself(folder: Path) -> Path:
    return folder


def nul_in_name(folder: Path) -> Path:
    return folder / "a\0b"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (missing, "there is no such file"),
        (folder_itself, "found a directory"),
        (pipe, "found a named pipe"),
        (device, "found a device"),
        (large, "has 11 bytes, the limit here is 10"),
        (nul_in_name, "cannot be read"),
    ],
)
def test_read_refuses(tmp_path: Path, make: Callable[[Path], Path], says: str) -> None:
    """Anything but a regular file within the limit is an InputError that says what was found, and never a wait."""
    with pytest.raises(InputError, match=says):
        read_limited(make(tmp_path), 10)


def test_read_at_the_limit(tmp_path: Path) -> None:
    """A file of exactly `limit` bytes is read whole."""
    (tmp_path / "file").write_bytes(b"0123456789")
    assert read_limited(tmp_path / "file", 10) == b"0123456789"


def test_write_new_and_again(tmp_path: Path) -> None:
    """Bytes and pieces alike become the file's whole content, and nothing else is left in the folder."""
    path = tmp_path / "out"
    write_atomic(path, b"first version")
    write_atomic(path, (piece for piece in (b"se", b"", b"cond")))
    assert path.read_bytes() == b"second"
    assert os.listdir(tmp_path) == ["out"]


def test_private_mode(tmp_path: Path) -> None:
    """A private file is readable by its owner alone, whatever it replaces."""
    path = tmp_path / "secret"
    path.write_bytes(b"old")
    path.chmod(0o666)
    write_atomic(path, b"new", mode=PRIVATE)
    assert path.stat().st_mode & 0o777 == 0o600


def test_write_through_a_link(tmp_path: Path) -> None:
    """Writing to a symbolic link replaces the file it points to and keeps the link."""
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    write_atomic(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


class Stop(BaseException):
    """Stands for an interrupt."""


def interrupted() -> Iterator[bytes]:
    yield b"half"
    raise Stop


@pytest.mark.parametrize("failing", ["data", "fsync", "replace"])
def test_failure_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    """An interrupt or a full disk at any step leaves the old file whole and nothing beside it."""
    path = tmp_path / "out"
    path.write_bytes(b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    if failing == "data":
        with pytest.raises(Stop):
            write_atomic(path, interrupted())
    else:
        monkeypatch.setattr(os, failing, full)
        with pytest.raises(OutputError, match="No space left on device"):
            write_atomic(path, b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize(("name", "says"), [("no/such/out", "No such file"), (".", "found a directory")])
def test_write_refuses(tmp_path: Path, name: str, says: str) -> None:
    """A target that cannot be a regular file is an OutputError."""
    with pytest.raises(OutputError, match=says):
        write_atomic(tmp_path / name, b"data")


def test_write_refuses_a_device() -> None:
    """A device is never renamed away."""
    with pytest.raises(OutputError, match="found a device"):
        write_atomic("/dev/null", b"data")


@pytest.mark.parametrize("links", [True, False], ids=["with hard links", "without hard links"])
def test_write_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    """Without `replace`, a file gets its name once; a second one is refused and leaves the first whole."""

    def no_links(*_: object) -> None:
        raise OSError(1, "Operation not permitted")  # what FAT says

    if not links:
        monkeypatch.setattr(os, "link", no_links)
    write_atomic(tmp_path / "out", b"first", replace=False)
    with pytest.raises(OutputError, match="there is a file already"):
        write_atomic(tmp_path / "out", b"second", replace=False)
    assert (tmp_path / "out").read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("none/file", "cannot be written: No such file or directory"),
        ("file/file", "cannot be written: Not a directory"),
        ("folder", "expected a regular file, found a directory"),
    ],
)
def test_places_without_room(tmp_path: Path, place: str, says: str) -> None:
    """Where a result could not be put is said before the work, in the words of the writing itself."""
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    for ask in (check_place, lambda path: write_atomic(path, b"")):
        with pytest.raises(OutputError, match=says):
            ask(tmp_path / place)


def test_leftovers_go_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A leftover that cannot be removed, or gets its name meanwhile, keeps no other from going."""
    for name in "012":
        (tmp_path / f".edgeq-{name:0>16}.tmp").write_bytes(b"half")
    unlink, names = os.unlink, []

    def gone(path: Path) -> None:
        names.append(path)
        if len(names) == 1:
            raise FileNotFoundError(path)
        unlink(path)

    with monkeypatch.context() as m:
        m.setattr(os, "unlink", gone)
        remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == names[:1]


def test_places_with_room(tmp_path: Path) -> None:
    """A new file, one that is there and one behind a link are places for a result, and asking makes nothing."""
    (tmp_path / "there").write_bytes(b"old")
    (tmp_path / "link").symlink_to("there")
    for name in ("new", "there", "link"):
        check_place(tmp_path / name)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "there"]

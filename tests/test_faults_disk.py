"""The writing commands on real disks that are full or read-only: a small tmpfs, where this process may mount one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_faults import COMMANDS, check, laid_out, run, snapshot

__all__ = ["laid_out"]

BALLAST = "ballast"
ROOM = (0, 4096, 12288)
"""Bytes that are free when a command begins."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """An empty file system of 1 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    if sys.platform != "linux" or os.getuid() != 0:
        pytest.skip("only root mounts a tmpfs")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(place)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("no tmpfs can be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def lay_out(source: Path, disk: Path) -> None:
    """What the commands read and replace, and nothing else."""
    for path in disk.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copytree(source, disk, dirs_exist_ok=True)


def fill(disk: Path, room: int) -> None:
    """Take all but `room` bytes of the disk."""
    found = os.statvfs(disk)
    (disk / BALLAST).write_bytes(bytes(max(0, found.f_bavail * found.f_bsize - room)))


def test_full_disk(disk: Path, laid_out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk a command says so in one line or succeeds, old files stay, new ones are whole, and nothing lies about."""
    monkeypatch.chdir(disk)
    refused = 0
    for room in ROOM:
        for name, line in COMMANDS.items():
            lay_out(laid_out, disk)
            before = snapshot()
            fill(disk, room)
            status = run(line)
            (disk / BALLAST).unlink()
            assert status in (0, 1), (name, room)
            refused += status
            check(before)
            assert not list(disk.glob("**/.edgeq-*")) or status == 0, name
    assert refused > len(COMMANDS)


def test_read_only_disk(disk: Path, laid_out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a read-only disk every writing command is refused, and all is as it was."""
    lay_out(laid_out, disk)
    monkeypatch.chdir(disk)
    before = snapshot()
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    for name, line in COMMANDS.items():
        assert run(line) == 1, name
    assert snapshot() == before

"""Every command that writes, killed at each of its disk calls, and on disks that refuse: old files or new ones, whole."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import BytesIO, StringIO
from pathlib import Path

import numpy as np
import pytest
from faults import at_call, killed_at_every_call
from tflite_models import int8_cnn

from edgeq import audit, bundle, grant, keys, manifest, masked, oms, pem, root, state, status
from edgeq.cli import main
from edgeq.tflite import write

LEFTOVER = re.compile(r"\.edgeq-[0-9a-f]{16}\.tmp")

COMMANDS = {
    "keys publisher": "keys new publisher fresh",
    "keys device": "keys new device fresh",
    "keys signer": "keys new signer fresh",
    "seal": "seal m.tflite --key acme.key --model-id acme/m --version 2 -o m.eqb",
    "grant": "grant m.eqb --key acme.key --to pi.pub --max-loads 9 -o pi.eqg",
    "unseal": "unseal m.eqb --grant pi.eqg --identity pi.key --trust acme.pub --state state -o out.tflite",
    "unpack": "unpack m.eqb -o m",
    "pack": "pack m.dir -o m.eqb",
    "device init": "device init --identity pi.key --state fresh --root root-1.json",
    "device reset": "device reset --identity pi.key --state state --yes",
    "status issue": "status issue --key acme.key --from status.json --expires 99d -o status.json",
    "status revoke": "status revoke status.json --key acme.key --grant pi.eqg",
    "status set-minimum": "status set-minimum status.json --key acme.key --model-id acme/m --version 1",
    "status apply": "status apply status.json --trust acme.pub --identity pi.key --state state",
    "root init": "root init --owner ada.pub --threshold 1 -o root-1.json",
    "root rotate": "root rotate root-1.json -o root-2.json",
    "root add-key": "root add-key draft.json acme.pub --role publisher --models * --until 9d",
    "root sign": "root sign draft.json --key ada.key",
    "root apply": "root apply root-1.json --identity pi.key --state state",
    "mask": "mask x.npy --to pi.pub --identity pi.key --state state -o x.eqm",
    "sum": "sum x.eqm y.eqm -o x.eqm",
    "unmask": "unmask x.eqm --identity pi.key -o x.npy",
    "audit sign": "audit sign --identity pi.key --state state",
}
"""Everything of the trust side that writes a file, by its name."""


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that the commands read and replace; not to be changed."""
    folder = tmp_path_factory.mktemp("faults")
    lay_out(folder)
    return folder


def lay_out(folder: Path) -> None:
    """Put all that the commands read and replace into a folder."""
    (folder / "m.tflite").write_bytes(write(int8_cnn()))
    np.save(folder / "x.npy", np.arange(5))
    before = os.getcwd()
    os.chdir(folder)
    try:
        for line in (
            "keys new publisher acme", "keys new device pi", "keys new signer ada",
            "seal m.tflite --key acme.key --model-id acme/m --version 1 -o m.eqb",
            "grant m.eqb --key acme.key --to pi.pub --allow export,load -o pi.eqg",
            "unpack m.eqb -o m.dir",
            "device init --identity pi.key --state state",
            "status issue --key acme.key --expires 90d -o status.json",
            "root init --owner ada.pub --threshold 1 -o draft.json",
            "root init --owner ada.pub --threshold 1 -o root-1.json",
            "root sign root-1.json --key ada.key",
            "mask x.npy --to pi.pub -o x.eqm",
            "mask x.npy --to pi.pub -o y.eqm",
        ):  # fmt: skip
            assert run(line) == 0, line
    finally:
        os.chdir(before)


def run(line: str) -> int:
    """The exit status of a command, whose output nobody sees."""
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        return main(line.split(" "))


def whole(path: Path) -> None:
    """A file is what its name says, from beginning to end."""
    device = keys.load_device("pi.key")
    readers: dict[str, Callable[[bytes], object]] = {
        r".*\.(key|pub)": lambda data: pem._blocks(data, "key"),
        r".*\.eqb": bundle.parse,
        r".*\.eqg": grant.unverified,
        r"state\.json": lambda data: state.read(data, state.mac_key(device), device.public.key_id),
        r"status.*\.json": status.unverified,
        r"(root-.*|draft)\.json": root.parse,
        r"audit-.*\.jsonl": lambda data: [audit.parse(line) for line in data.splitlines()],
        r".*\.eqm": masked.parse,
        r".*\.npy": lambda data: np.load(BytesIO(data)),
        r".*\.tflite|payload\.bin": lambda data: data.index(b"TFL3") if path.suffix == ".tflite" else None,
        r"manifest\.json": manifest.parse,
        r"model\.sig": oms.unverified_digests,
    }
    (read,) = (read for pattern, read in readers.items() if re.fullmatch(pattern, path.name))
    read(path.read_bytes())


def check(before: dict[Path, bytes]) -> None:
    """What was there is there, as it was or replaced by a whole file; what is new is whole."""
    for path in before:
        moved = list(Path("state").glob(f"replaced-*/{path.name}")) if path.parts[0] == "state" else []
        assert path.exists() or moved, path
    for path in (path for path in Path().rglob("*") if path.is_file()):
        if not any(LEFTOVER.fullmatch(part) for part in path.parts) and before.get(path) != path.read_bytes():
            whole(path)


def snapshot() -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}


@pytest.fixture
def here(laid_out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of the folder, as the present one."""
    shutil.copytree(laid_out, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("line", COMMANDS.values(), ids=COMMANDS)
def test_killed_at_every_disk_call(line: str, laid_out: Path, tmp_path: Path) -> None:
    """A command that is killed at any of its disk calls leaves every file old or new, and whole; then it works."""
    before = snapshot()

    def check_and_restore(_: int) -> None:
        check(before)
        for path in sorted(Path().iterdir()):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.copytree(laid_out, tmp_path, dirs_exist_ok=True)

    def work() -> None:
        assert run(line) == 0

    assert killed_at_every_call(work, check_and_restore) >= 3


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("reason", [errno.ENOSPC, errno.EIO, errno.EROFS], ids=errno.errorcode.get)
@pytest.mark.parametrize("line", COMMANDS.values(), ids=COMMANDS)
def test_disks_that_refuse(line: str, reason: int, laid_out: Path, tmp_path: Path) -> None:
    """On a disk that is full, broken or read-only, at whichever call, a command says so, or succeeds, and loses nothing."""
    before = snapshot()
    for number in range(1000):
        with at_call(number, lambda: _fail(reason)) as count:
            status = run(line)
        if count() <= number:
            assert status == 0
            break
        check(before)
        for path in sorted(Path().iterdir()):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.copytree(laid_out, tmp_path, dirs_exist_ok=True)
    assert number >= 3


def _fail(reason: int) -> None:
    raise OSError(reason, os.strerror(reason))

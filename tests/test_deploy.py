"""Deploying over ssh to an sshd on loopback: what arrives, and what a break, a full disk, a wrong key leave behind."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq import machine
from edgeq.cli import main
from edgeq.deploy import address, agent, selfcheck
from edgeq.deploy.ssh import agent_source
from edgeq.errors import InputError
from tests import sshd
from tests.arm.debian import UnavailableError
from tests.arm.fetch import get

ANOTHER_KEY = "[127.0.0.1]:{port} ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAabCc0Zq0bHIZFJcqVFqDkbnLuJY0dOLwL1sTgPbQ0Z\n"


@dataclass(frozen=True)
class Site:
    """A publisher's folder with sealed versions 1 and 2 of the demo's model, and a device that answers."""

    folder: Path
    server: sshd.Sshd

    @property
    def there(self) -> Path:
        """The folder on the device."""
        return self.server.home / "edgeq"

    def current(self) -> str | None:
        """The id of the release in use."""
        link = self.there / "current"
        return Path(os.readlink(link)).name if link.is_symlink() else None

    def deploy(self, *arguments: str, config: str | None = None) -> int:
        """The exit status of `edgeq deploy … device`."""
        return main(["deploy", *arguments, "device", "--ssh-config", config or self.server.config(), "--pub", "pi.pub"])

    def version(self, number: int, *arguments: str, config: str | None = None) -> int:
        """The same with this version of the bundle, and its grant."""
        return self.deploy(
            f"v{number}.eqb", "--trust", "publisher.pub", "--grant", f"v{number}.eqg", *arguments, config=config
        )

    def grant(self, number: int, *arguments: str) -> None:
        """Grant a version to the device."""
        assert (
            main(
                [
                    "grant",
                    f"v{number}.eqb",
                    "--key",
                    "publisher.key",
                    "--to",
                    "pi.pub",
                    "-o",
                    f"v{number}.eqg",
                    *arguments,
                ]
            )
            == 0
        )


@pytest.fixture
def site(tmp_path: Path, demo_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A fresh device, and both versions."""
    with publishing(tmp_path, demo_folder, monkeypatch) as made:
        yield made


@contextmanager
def publishing(folder: Path, demo: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Iterator[Site]:
    """A publisher's folder, which is then the current one, and a device as `sshd.running` makes it with `options`."""
    try:
        get("sshd")
    except UnavailableError as error:
        pytest.skip(f"OpenSSH's server cannot be had: {error}")
    if shutil.which("ssh") is None:
        pytest.skip("OpenSSH's client is not installed")
    here = folder / "publisher"
    shutil.copytree(demo, here)
    monkeypatch.chdir(here)
    for number in ("1", "2"):
        given = ["digits_int8.tflite", "--key", "publisher.key", "--model-id", "demo/digits", "--version", number]
        assert main(["seal", *given, "-o", f"v{number}.eqb"]) == 0
    with sshd.running(folder / "device", **options) as server:
        yield Site(here, server)


def pad(path: str, size: int, name: str = "pad") -> str:
    """A wheel of about `size` bytes that do not compress."""
    wheel = f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr(f"{path}/data.bin", np.random.default_rng(0).bytes(size))
        file.writestr(f"{name}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    return wheel


def test_from_nothing_to_running_and_back(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """Preparing brings the device's key, a granted bundle runs there, the second copy sends nothing, rollback goes back."""
    assert site.deploy() == 0
    assert "the device is prepared: edgeq grant" in capsys.readouterr().err
    assert (site.folder / "pi.pub").read_bytes() == (site.there / "device.pub").read_bytes()
    assert (site.there / "device.key").stat().st_mode & 0o077 == 0
    site.grant(1)
    site.grant(2)
    capsys.readouterr()

    assert site.version(1) == 0
    first = site.current()
    out = capsys.readouterr().out
    assert "self-check  opened in" in out
    assert f"release     {first}, in {site.there}/current" in out
    environment = dict(line.split("=", 1) for line in (site.there / "current/env").read_text().splitlines())
    assert Path(environment["EDGEQ_BUNDLE"]).read_bytes() == (site.folder / "v1.eqb").read_bytes()
    assert environment["EDGEQ_IDENTITY"] == str(site.there / "device.key")
    assert _started(environment) == "nothing planned"

    assert site.version(1) == 0
    assert "nothing, all of it was there" in capsys.readouterr().out
    assert site.version(2) == 0
    second = site.current()
    assert second != first
    assert f"{first}, edgeq deploy --rollback" in capsys.readouterr().out

    assert site.deploy("--rollback") == 0
    assert site.current() == first
    assert site.deploy("--rollback") == 0
    assert site.current() == second


APP = """
import os, sys
import edgeq
opened = {name: os.environ.get(f"EDGEQ_{name.upper()}") for name in ("grant", "identity", "trust", "state")}
model = edgeq.load(os.environ["EDGEQ_BUNDLE"], **opened)
print("planned" if "edgeq.plan.build" in sys.modules else "nothing planned")
"""
"""docs/deploy.md's."""


def _started(environment: dict[str, str]) -> str:
    """What an app says at its first start in a release's environment, with a home of its own."""
    home = {"HOME": environment["EDGEQ_PLANS"] + "/nowhere", "EDGEQ_CACHE": str(machine.cache_folder())}
    line = [sys.executable, "-c", APP]
    return subprocess.run(
        line, env={**os.environ, **environment, **home}, capture_output=True, text=True
    ).stdout.strip()


def test_with_a_state_there_is_no_way_back(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """A device that remembers versions refuses an older one in the self-check, and goes on with what it has."""
    assert site.deploy("--state") == 0
    site.grant(1, "--max-loads", "5", "--expires", "9d")
    site.grant(2)
    assert site.version(1) == 0
    assert site.version(2) == 0
    second = site.current()
    capsys.readouterr()
    assert site.deploy("--rollback") == 1
    assert "the self-check failed, nothing was switched: " in (said := capsys.readouterr().err)
    assert "RollbackError" in said
    assert site.current() == second
    assert (
        main(["device", "show", "--state", str(site.there / "state"), "--identity", str(site.there / "device.key")])
        == 0
    )
    assert "demo/digits        2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("known", "extra", "reason"),
    [
        (ANOTHER_KEY, "", "is not the one that is known"),
        ("", "", "is not known here"),
        ("", " StrictHostKeyChecking no\n", "is not known here"),
        ("", " StrictHostKeyChecking accept-new\n", "is not known here"),
    ],
    ids=["another key", "no key", "checking turned off", "checking made lax"],
)  # fmt: skip
def test_a_host_key_that_is_not_known(
    known: str, extra: str, reason: str, site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is sent to a host whose key is not the known one, whatever the configuration says."""
    assert site.deploy(config=site.server.config("bad", known=known, extra=extra)) == 1
    assert reason in capsys.readouterr().err
    assert not site.there.exists()
    assert not (site.folder / "pi.pub").exists()


def test_a_copy_that_breaks_is_continued(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """A connection that breaks leaves the release in use, and the next deployment sends only the rest."""
    assert site.deploy() == 0
    site.grant(1)
    assert site.version(1) == 0
    first = site.current()
    size, wheel = 6_000_000, pad("pad", 6_000_000)
    site.grant(2)
    assert site.version(2, "--wheel", wheel, config=site.server.cut_after(3_000_000)) == 1
    assert "cannot be reached, or the connection broke" in capsys.readouterr().err
    assert site.current() == first
    assert not (site.there / "sites").exists()
    (part,) = (site.there / "parts").iterdir()
    for _ in range(100):  # the device may still be writing what it got
        if part.stat().st_size > 500_000:
            break
        time.sleep(0.1)
    assert 500_000 < part.stat().st_size < 3_000_000
    assert site.version(2, "--wheel", wheel, "--json") == 0
    copied = json.loads(capsys.readouterr().out.split("expires  never\n")[-1])["copied"]
    assert copied.endswith("MB")
    assert float(copied.split()[0]) < (size - 500_000) / 1e6 + 0.2
    assert (Path(os.readlink(site.there / "current")).name) != first
    assert not list((site.there / "parts").iterdir())


def test_a_full_disk(
    tmp_path: Path, demo_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where a file cannot be written whole, it is removed, the release in use stays, and the message says the disk is full."""
    with publishing(tmp_path, demo_folder, monkeypatch, file_size=200_000) as site:
        assert site.deploy() == 0
        site.grant(1)
        assert site.version(1) == 0
        first = site.current()
        assert site.version(1, "--wheel", pad("pad", 1_000_000)) == 1
        assert "disk is full" in capsys.readouterr().err
        assert site.current() == first
        assert not list((site.there / "parts").iterdir())
        assert site.version(1) == 0


def test_a_disk_without_room(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """On a small file system the copy is refused before it begins, with what is needed and what is there."""
    site.there.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", site.there], capture_output=True, check=False
    ).returncode:
        pytest.skip("a small file system can only be mounted by root")
    try:
        assert site.deploy() == 0
        site.grant(1)
        assert site.version(1) == 0
        first = site.current()
        assert site.version(1, "--wheel", pad("pad", 3_000_000)) == 1
        assert "the device's disk is full: expected" in capsys.readouterr().err
        assert site.current() == first
    finally:
        subprocess.run(["umount", site.there], check=True)


def test_what_does_not_fit_is_refused_before_it_is_copied(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """Another device's grant, an altered bundle, a missing trust, another processor's wheel, another device's key."""
    assert site.deploy() == 0
    site.grant(1)
    shutil.copy("digits_int8.tflite", "numpy-2.0-cp311-cp311-manylinux_2_17_s390x.whl")
    altered = bytearray(Path("v1.eqb").read_bytes())
    altered[-1] ^= 1
    Path("altered.eqb").write_bytes(altered)
    capsys.readouterr()
    trust = ("--trust", "publisher.pub")
    for arguments, reason in [
        (("digits.eqb", *trust, "--grant", "device.eqg"), "the grant is for device"),
        (("altered.eqb", *trust, "--grant", "v1.eqg"), "payload.bin"),
        (("v2.eqb", *trust, "--grant", "v1.eqg"), "the grant"),
        (("v1.eqb", "--grant", "v1.eqg"), "expected --trust"),
        (("digits_int8.tflite", *trust), "a plain model"),
        (("v1.eqb", *trust, "--wheel", "numpy-2.0-cp311-cp311-manylinux_2_17_s390x.whl"), "s390x, the device is"),
        (("v1.eqb", *trust, "--wheel", "v1.eqb"), "expected a wheel"),
        (("v1.eqb", *trust, "--python", "python9"), "there is no python9 on the device"),
        (("--rollback",), "there is no release to go back to"),
    ]:
        assert site.deploy(*arguments) == 1, arguments
        assert reason in capsys.readouterr().err, arguments
    assert not list((site.there / "objects").iterdir()) if (site.there / "objects").exists() else True
    (site.there / "device.key").unlink()
    (site.there / "device.pub").unlink()
    assert site.version(1) == 1
    assert "pi.pub: the device has another key" in capsys.readouterr().err


def test_a_wheel_that_reaches_out_of_its_folder(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """A file in a wheel whose name leads elsewhere is refused, and nothing of the wheel stays."""
    assert site.deploy("--wheel", pad("../../bin", 10)) == 1
    assert "would lie outside" in capsys.readouterr().err
    assert os.listdir(site.there / "sites") == []
    Path("bad-1.0-py3-none-any.whl").write_bytes(b"no zip")
    assert site.deploy("--wheel", "bad-1.0-py3-none-any.whl") == 1
    assert "is not a wheel" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("pi@gate", ("pi@gate", "gate", "edgeq")),
        ("gate", ("gate", "gate", "edgeq")),
        ("pi@gate:apps/door", ("pi@gate", "gate", "apps/door")),
        ("pi@gate:/srv/door/", ("pi@gate", "gate", "/srv/door")),
        ("pi@gate:~/door", ("pi@gate", "gate", "door")),
        ("pi@[fd00::7]:door", ("pi@fd00::7", "fd00::7", "door")),
        *((bad, None) for bad in ("", "-oProxyCommand=x", "a b", "pi@-x", "@gate")),
        *((bad, None) for bad in ("pi@gate:..", "pi@gate:a/../b", "pi@gate:/", "x:a\nb")),
    ],
)  # fmt: skip
def test_addresses(text: str, found: tuple[str, str, str] | None) -> None:
    """USER@HOST[:DIR] is read as written; what ssh could take for an option, and folders that lead up, are refused."""
    if found is None:
        with pytest.raises(InputError):
            address.parse(text)
    else:
        read = address.parse(text)
        assert (read.destination, read.host, read.folder) == found


def test_what_is_sent_speaks_the_same_language() -> None:
    """The agent runs on Python 3.7, and both programs answer behind the same mark."""
    ast.parse(agent_source(), feature_version=(3, 7))
    assert agent.MARK == selfcheck.MARK

"""The boundary of the command line: what each kind of failure looks like from outside."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys

import click
import pytest

from edgeq.cli import app, main, show
from edgeq.cli.app import COMMANDS
from edgeq.errors import InputError


def _command(monkeypatch: pytest.MonkeyPatch, body) -> None:
    monkeypatch.setattr(type(app), "get_command", lambda *_: click.Command("fail", callback=body))


def _raise(error: BaseException):
    def body() -> None:
        raise error

    return body


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        pytest.param(InputError("x: expected 3, found 4"), 1, "edgeq: error: x: expected 3, found 4\n", id="refused"),
        pytest.param(InputError("two\nlines"), 1, "edgeq: error: two lines\n", id="an error stays one line"),
        pytest.param(
            OSError(errno.ENOSPC, "No space left on device", "out"), 1, "edgeq: error: out: No space left on device\n",
            id="full disk",
        ),
        pytest.param(MemoryError(), 1, "edgeq: error: out of memory\n", id="memory"),
        pytest.param(KeyboardInterrupt(), 130, "edgeq: interrupted\n", id="Ctrl-C"),
        pytest.param(click.Abort(), 130, "edgeq: interrupted\n", id="Ctrl-C at a prompt"),
    ],
)  # fmt: skip
def test_failures_are_one_line_and_a_status(monkeypatch, capsys, error, status, text) -> None:
    """Each kind of failure gives one line on stderr, nothing on stdout, and its exit status."""
    _command(monkeypatch, _raise(error))
    assert main(["fail"]) == status
    assert capsys.readouterr() == ("", text)


def test_unexpected_exceptions_ask_for_a_report(monkeypatch, capsys) -> None:
    """A bug shows its type and place in one line, and never its message, which may hold anything."""
    _command(monkeypatch, _raise(ValueError("the secret")))
    assert main(["fail"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("edgeq: internal error: ValueError at ")
    assert "please report it" in err
    assert "secret" not in err
    assert err.count("\n") == 1


def test_traceback_on_request(monkeypatch, capsys) -> None:
    """EDGEQ_TRACEBACK=1 shows the traceback, and only then."""
    _command(monkeypatch, _raise(InputError("no")))
    monkeypatch.setenv("EDGEQ_TRACEBACK", "1")
    assert main(["fail"]) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["nope"], "No such command 'nope'", id="unknown command"),
        pytest.param(["verify"], "Missing argument", id="missing argument"),
        pytest.param(
            ["run", "m.tflite", "-i", "a", "-o", "b", "--rounding", "up"], "is not one of", id="unknown choice"
        ),
        pytest.param(
            ["run", "m.tflite", "-i", "a", "-o", "b", "--threads", "0"], "0 is not in the range", id="no threads"
        ),
        pytest.param([], "Usage: edgeq", id="no command"),
    ],
)
def test_wrong_usage_exits_2(capsys, arguments, said) -> None:
    """Wrong usage is told on stderr with exit status 2."""
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err


def test_help_lists_every_command(capsys) -> None:
    """`edgeq --help` names each command with a summary."""
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    for group in COMMANDS.values():
        for name in group:
            line = next(line for line in shown.splitlines() if line.strip().startswith(name + " "))
            assert len(line.split(maxsplit=1)[1]) > 10


@pytest.mark.parametrize("name", [name for group in COMMANDS.values() for name in group])
def test_each_command_has_help(capsys, name) -> None:
    """Each command explains itself and every option that it has."""
    assert main([name, "--help"]) == 0
    assert f"Usage: edgeq {name}" in capsys.readouterr().out


def test_version(capsys) -> None:
    """`edgeq --version` prints the package's version."""
    from edgeq import __version__

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"edgeq {__version__}\n"


def test_a_closed_pipe_is_no_traceback() -> None:
    """A reader that goes away ends the command quietly, with a status other than 0."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-m", "edgeq", "--help"], stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert done.returncode == 1
    assert done.stderr == b""


def test_a_real_interrupt_exits_130() -> None:
    """SIGINT ends the process with status 130 and one line."""
    code = (
        "import os, signal, sys, click; from edgeq.cli import app, main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's job in the background ignores it\n"
        "stop = click.Command('stop', callback=lambda: os.kill(os.getpid(), signal.SIGINT))\n"
        "type(app).get_command = lambda *_: stop\n"
        "sys.exit(main(['stop']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (128 + signal.SIGINT, "", "edgeq: interrupted\n")


def test_completion_script(monkeypatch, capsys) -> None:
    """The shell's completion protocol is answered."""
    monkeypatch.setenv("_EDGEQ_COMPLETE", "bash_source")
    assert main([]) == 0
    assert "_EDGEQ_COMPLETE=bash_complete" in capsys.readouterr().out


def test_a_terminal_without_signs_gets_escapes(demo_folder) -> None:
    """Where stdout cannot say ×, the command still finishes."""
    done = subprocess.run(
        [sys.executable, "-m", "edgeq", "inspect", "digits.tflite"],
        cwd=demo_folder, env={**os.environ, "PYTHONIOENCODING": "iso8859-5"}, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert b"1\\xd78\\xd78\\xd71" in done.stdout


def test_json_has_no_nan(capsys) -> None:
    """What JSON cannot say becomes null."""
    show.as_json({"a": [float("nan"), 1.5], "b": float("inf")})
    assert json.loads(capsys.readouterr().out) == {"a": [None, 1.5], "b": None}

"""The table of commands, and the boundary where errors become text and an exit status."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from io import TextIOWrapper
from types import TracebackType

import click

from edgeq import __version__
from edgeq.cli import show
from edgeq.errors import EdgeqError
from edgeq.lasting import Lasting

COMMANDS: dict[str, dict[str, str]] = {
    "Models": {
        "inspect": "edgeq.cli.inspect:inspect",
        "lint": "edgeq.cli.lint:lint",
        "convert": "edgeq.cli.convert:convert",
        "quantize": "edgeq.cli.quantize:quantize",
        "calibrate": "edgeq.cli.calibrate:calibrate",
        "tune": "edgeq.cli.tune:tune",
        "finetune": "edgeq.cli.finetune:finetune",
        "report": "edgeq.cli.report:report",
        "run": "edgeq.cli.run:run",
        "eval": "edgeq.cli.evaluate:evaluate",
        "bench": "edgeq.cli.bench:bench",
        "monitor": "edgeq.cli.monitor:monitor",
    },
    "Trust": {
        "keys": "edgeq.cli.keys:keys",
        "seal": "edgeq.cli.seal:seal",
        "grant": "edgeq.cli.grant:grant",
        "verify": "edgeq.cli.verify:verify",
        "unseal": "edgeq.cli.unseal:unseal",
        "device": "edgeq.cli.device:device",
        "status": "edgeq.cli.status:status",
        "root": "edgeq.cli.root:root",
        "audit": "edgeq.cli.audit:audit",
        "mask": "edgeq.cli.mask:mask",
        "sum": "edgeq.cli.mask:add",
        "unmask": "edgeq.cli.mask:unmask",
        "unpack": "edgeq.cli.pack:unpack",
        "pack": "edgeq.cli.pack:pack",
    },
    "Devices": {
        "deploy": "edgeq.cli.deploy:deploy",
    },
    "More": {
        "demo": "edgeq.cli.demo:demo",
        "doctor": "edgeq.cli.doctor:doctor",
        "targets": "edgeq.cli.targets:targets",
        "transform": "edgeq.cli.transform:transform",
    },
}
"""Heading → command → where it lives."""

STARTING = frozenset({"run", "eval", "bench", "monitor"})
"""Commands that load one model (edgeq.cli.models.open_model): until they have it, no garbage is collected."""

INTERRUPTED = 130
"""Exit status after Ctrl-C: 128 + SIGINT, as shells expect."""


class App(click.Group):
    """A group whose commands are imported when they are called, listed under headings."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command, in the order of the table."""
        return [name for group in COMMANDS.values() for name in group]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name, imported now."""
        for group in COMMANDS.values():
            if cmd_name in group:
                module, attribute = group[cmd_name].split(":")
                if find_spec(module) is None:
                    raise click.ClickException(
                        f"{cmd_name!r} is not part of this installation, which is a device's; use it where all of edgeq is"
                    )
                command = getattr(import_module(module), attribute)
                assert isinstance(command, click.Command)
                return command
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands below their headings."""
        for heading, group in COMMANDS.items():
            there = [n for n, place in group.items() if find_spec(place.split(":")[0])]
            if not there:
                continue
            with formatter.section(heading):
                found = ((name, self.get_command(ctx, name)) for name in there)
                formatter.write_dl([(name, c.get_short_help_str(90)) for name, c in found if c is not None])


@click.group(
    cls=App,
    no_args_is_help=False,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
@click.version_option(__version__, prog_name="edgeq", message="%(prog)s %(version)s")
@click.pass_context
def app(ctx: click.Context) -> None:
    """Quantize, calibrate, seal and run .tflite models on edge devices, bit for bit equal to TFLite."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(2)
    if ctx.invoked_subcommand in STARTING:
        ctx.obj = ctx.with_resource(Lasting())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0 done, 1 refused or failed, 2 used wrongly, 130 interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that has no × or µ is no reason to fail
    try:
        if completion := os.environ.get("_EDGEQ_COMPLETE"):
            from click.shell_completion import shell_complete

            return shell_complete(app, {}, "edgeq", "_EDGEQ_COMPLETE", completion)
        args = list(sys.argv[1:] if arguments is None else arguments)
        with app.make_context("edgeq", args) as ctx:
            app.invoke(ctx)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)
    except click.exceptions.Exit as stop:
        return int(stop.exit_code)
    except click.Abort:
        return _fail("interrupted", INTERRUPTED)
    except click.ClickException as error:
        if isinstance(error, click.UsageError) and error.ctx is not None:
            click.echo(error.ctx.get_usage(), err=True)
        return _fail(f"error: {error.format_message()}", error.exit_code)
    except BrokenPipeError:
        # The reader went away (`edgeq inspect m.tflite | head`): nobody is left to tell, but the work was cut short.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except EdgeqError as error:
        _traceback()
        return _fail(f"error: {error}")
    except MemoryError:
        _traceback()
        return _fail("error: out of memory")
    except OSError as error:
        _traceback()
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"error: {where}{error.strerror or error}")
    except Exception as error:
        # The message of an exception nobody planned may hold anything, so only its type and place are shown.
        _traceback()
        return _fail(
            f"internal error: {type(error).__name__} at {_place(error.__traceback__)}; please report it, with the "
            "command and the output under EDGEQ_TRACEBACK=1"
        )
    return 0


def _fail(message: str, status: int = 1) -> int:
    """Say it in one line on stderr."""
    show.note(" ".join(message.split("\n")))
    return status


def _traceback() -> None:
    if os.environ.get("EDGEQ_TRACEBACK") == "1":
        import traceback

        traceback.print_exc()


def _place(trace: TracebackType | None) -> str:
    """File and line of the innermost frame inside the package, as package/module.py:line."""
    place = "an unknown place"
    while trace is not None:
        path = trace.tb_frame.f_code.co_filename.replace(os.sep, "/")
        if "/edgeq/" in path or "/kernels/" in path or "/targets/" in path:
            place = "/".join(path.rsplit("/", 2)[-2:]) + f":{trace.tb_lineno}"
        trace = trace.tb_next
    return place

"""The command line: `edgeq COMMAND …`, one small module per group of commands.

Rules: results go to stdout and everything else to stderr; a command either finishes or exits with a status other than 0;
heavy parts (NumPy, Numba, rich) are imported inside the command that needs them, so that `edgeq verify` starts fast.
"""

from edgeq import late

late.begin()

from edgeq.cli.app import app, main  # noqa: E402

__all__ = ["app", "main"]

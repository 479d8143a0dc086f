"""What a start makes lasts as long as the process: the garbage collector need not look through it a dozen times.

A pause alone gains nothing, since the first collection behind it looks through everything that was made meanwhile. So what is
there at its end goes to the oldest generation unseen (`gc.freeze` and `gc.unfreeze` move lists, not objects), where a process has
what it keeps. Garbage is found there too, at the next full collection.
"""

from __future__ import annotations

import gc


class Lasting:
    """A context without collections, at whose end everything is old. Where collecting is off it stays off; where an application
    has frozen objects they stay so."""

    def __enter__(self) -> None:
        self._collects = gc.isenabled()
        gc.disable()

    def __exit__(self, *raised: object) -> None:
        if self._collects:
            if gc.get_freeze_count() == 0:
                gc.freeze()
                gc.unfreeze()
            gc.enable()

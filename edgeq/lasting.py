"""What a start makes lasts as long as the process: the garbage collector need not look through it a dozen times.

A pause alone gains nothing, since the first collection behind it looks through everything that was made meanwhile. So what is
there at its end goes to the oldest generation unseen (`gc.freeze` and `gc.unfreeze` move lists, not objects), where a process has
what it keeps. Garbage is found there too, at the next full collection.
"""

from __future__ import annotations

import gc


class Lasting:
    """A context without collections, at whose end, or at `end` before it, everything is old. Where collecting is off it stays
    off; where an application has frozen objects they stay so."""

    _collects = False

    def __enter__(self) -> Lasting:
        self._collects = gc.isenabled()
        gc.disable()
        return self

    def __exit__(self, *raised: object) -> None:
        self.end()

    def end(self) -> None:
        """Collect again; nothing if that has been said."""
        if self._collects:
            self._collects = False
            if gc.get_freeze_count() == 0:
                gc.freeze()
                gc.unfreeze()
            gc.enable()

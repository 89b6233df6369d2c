"""How far a call of a pool is: a function of the program's, a bar of tqdm's, or a line.

progress=True        tqdm if it is installed; else a line on standard error, if that is a terminal,
                     and nothing where there is none
progress=callable    it is called with (done, total); total is None where nobody knows
"""

from __future__ import annotations

import sys
from time import monotonic

from .pump import report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["shown"]

LINE_S = 0.1  # between two changes of the line


def shown(wish: Any, total: int | None) -> Callable[[int | None], None] | None:
    """What is to be called with how much is done, and with None at the end; None: nothing is."""
    if wish is None or wish is False:
        return None
    if callable(wish):
        return _Shown(_Told(wish, total))
    if wish is not True:
        raise TypeError(f"progress must be True, False or callable, not {wish!r}")
    try:
        from tqdm import tqdm  # type: ignore[import-untyped, import-not-found, unused-ignore]
    except ImportError:
        stream = sys.stderr
        return _Shown(_Line(stream, total)) if stream is not None and stream.isatty() else None
    return _Shown(_Bar(tqdm(total=total)))


class _Shown:
    """Shows it until that raises, which is reported once: the results come all the same."""

    def __init__(self, show: Callable[[int | None], None]) -> None:
        self._show: Callable[[int | None], None] | None = show

    def __call__(self, done: int | None) -> None:
        if self._show is None:
            return
        try:
            self._show(done)
        except Exception as error:
            self._show = None
            error.add_note(
                "leveret: raised by what shows the progress of a call, which goes on without it"
            )
            report()


class _Told:
    """Tells a function of the program's."""

    def __init__(self, function: Callable[[int, int | None], object], total: int | None) -> None:
        self._function, self._total = function, total

    def __call__(self, done: int | None) -> None:
        if done is not None:
            self._function(done, self._total)


class _Bar:
    """One of tqdm's."""

    def __init__(self, bar: Any) -> None:
        self._bar = bar

    def __call__(self, done: int | None) -> None:
        if done is None:
            self._bar.close()
        else:
            self._bar.update(done - self._bar.n)


class _Line:
    """A line that is written over."""

    def __init__(self, stream: Any, total: int | None) -> None:
        self._stream, self._total = stream, total
        self._began = self._written = monotonic()
        self._done = 0

    def __call__(self, done: int | None) -> None:
        now = monotonic()
        if done is not None:
            self._done = done
            if now - self._written < LINE_S and done != self._total:
                return
        self._written = now
        share = f" of {self._total}, {self._done * 100 // self._total} %" if self._total else ""
        end = "\n" if done is None else ""
        self._stream.write(f"\r{self._done}{share}, {now - self._began:.1f} s{end}")
        self._stream.flush()

"""What workers have claimed and not begun: it is taken back from who is held up by a slow task.

    look()         by the clock, while there are tasks: who stands at the same task as the last time
                   has the rest taken back
    take_back()    board.revoke() -> numbers that no worker has -> put again, for whoever is free
    rescue()       the same for those that somebody was interrupted with

Any thread may take back. All of it may be interrupted, by Ctrl-C or for want of memory, between any
two lines: a number that no worker has is the board's to tell, or among the revoked, from the call
that takes it back until it is put again under another one, or nobody waits for it any more.
"""

from __future__ import annotations

from math import inf
from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from . import _core
    from .crew import Crew

__all__ = ["Claims", "claimed", "has_claimed"]

HELD_S, HELD_MOST_S = 0.02, 1.0  # between two looks at what is claimed and not begun


def claimed(row: _core.Row) -> list[int]:
    """The numbers of what a worker has claimed and not finished."""
    return [at & 0xFFFFFFFF for at in range(row.first, row.first + row.claimed)]


def has_claimed(row: _core.Row, number: int) -> bool:
    """Whether a task is one of these."""
    return (number - row.first) & 0xFFFFFFFF < row.claimed


class Claims:
    """The claims of a crew's workers."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._next = inf  # when we look again; inf: nobody has to
        self._pause = HELD_S
        self._firsts: dict[int, int] = {}  # row: the first number of its claim, when we looked
        self._finished = 0  # all tasks, by then
        self._revoked: dict[int, None] = {}  # numbers that no worker has

    def look_soon(self) -> None:
        """Tasks are put: somebody may claim several, and be held up by the first."""
        if self._next == inf:
            self._pause = HELD_S
            self._next = monotonic() + HELD_S
            self._crew.ring_at(self._next)

    def look(self, now: float) -> float:
        """Take back what is held up by a task that takes long; when to look again.

        Claims of many are made by who is quick, and tells of it: as long as nothing moves, we look
        less and less often.
        """
        if now < self._next:
            return self._next
        firsts, finished = self._see()
        before, moves = self._firsts, bool(firsts) or finished != self._finished
        goes_on = bool(firsts) or self._crew.board.waiting() > 0
        self._pause = HELD_S if moves else min(self._pause * 2, HELD_MOST_S)
        self._next = now + self._pause if goes_on else inf
        self._firsts, self._finished = firsts, finished
        for row, first in firsts.items():
            if before.get(row) == first:
                self.take_back(row)
        if self._next == inf and self._crew.board.waiting() > 0:
            self.look_soon()  # somebody has put what we have not seen, while there was to be a look
        return self._next

    def _see(self) -> tuple[dict[int, int], int]:
        """By row, where claims of several begin; how many tasks all have finished."""
        firsts, finished = {}, 0
        for member in self._crew.members():
            if seen := self._crew.board.look(member.row):
                finished += seen.finished
                if seen.claimed > 1:
                    firsts[member.row] = seen.first
        return firsts, finished

    def take_back(self, row: int) -> None:
        """What a worker has claimed and not begun is for others. Any thread may do this."""
        try:
            self._crew.board.revoke(row)
            self.rescue()
        except BaseException:
            self._crew.hurry()
            raise

    def rescue(self) -> None:
        """Put again what no worker has. The board keeps it until it is among the revoked."""
        self._crew.board.revoked(self._revoked)
        for number in list(self._revoked):
            self._crew.put_again(number)
            self._revoked.pop(number, None)

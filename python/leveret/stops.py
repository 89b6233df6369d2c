"""What is stopped: tasks that were cancelled while they ran, or that ran for too long.

    stop_struck()  a task whose number was struck out is interrupted, or kept from beginning
    look()         by the clock: what is over its limit is stopped, and its job told; who still
                   runs a second later what it was told to stop is doomed, so that it begins
                   nothing else, and then killed: for that task, and for no other one. Where tasks
                   with limits wait, who was stopped by a signal, and runs none, is killed, too:
                   another one takes its place

A worker is told by SIGINT with an order (leveret.worker). Each signal is counted in its order, so
that one that comes late is known for what it is: nobody is interrupted by it, whatever runs then.
"""

from __future__ import annotations

import threading
from math import inf
from time import monotonic

from . import worker
from .claims import has_claimed
from .pump import described

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from . import _core
    from .crew import Crew, Member

__all__ = ["Stops"]

GRACE_S = 1.0  # from the interrupt of a task to the end of its worker


class _Stop:
    """A task that is to end."""

    def __init__(self, row: int, why: int) -> None:
        self.row, self.why = row, why
        self.told = False  # the worker; not before the task runs
        self.until = monotonic() + GRACE_S


class Stops:
    """What a crew stops."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._stopping: dict[int, _Stop] = {}  # by number
        self._telling = threading.RLock()

    def stop_struck(self, number: int) -> None:
        """Stop a task that was claimed, and whose number was struck out: nobody wants its result.

        It is interrupted; if that does not end it in GRACE_S, its worker is killed. Any thread may
        do this, again and again.
        """
        for member in self._crew.members():
            seen = self._crew.board.look(member.row)
            if seen is not None and has_claimed(seen, number):
                self._interrupt(number, worker.CANCEL, seen, member)

    def _interrupt(self, number: int, why: int, seen: _core.Row, member: Member) -> None:
        """Interrupt a task that runs; one that does not shall not begin.

        A worker has one order, with its signal: that for another task is not to take its place.
        """
        stop = self._stopping.setdefault(number, _Stop(member.row, why))
        self._crew.ring_at(stop.until)
        self._crew.want_thread()
        if seen.running == number:
            with self._telling:  # the pump, and who cancels it, may both have come here
                if not stop.told:
                    self._crew.board.order(member.row, number, why)
                    stop.told = True
        else:
            self._crew.claims.take_back(member.row)

    # --- by the pump ---------------------------------------------------------------------------

    def look(self, now: float) -> float:
        """Kill who does not stop, and stop what is late; when to look again."""
        return min(self._kill(now), self._look_at_limits(now))

    def _kill(self, now: float) -> float:
        """Kill who still runs what it was told to stop."""
        again = inf
        for number, stop in list(self._stopping.items()):
            seen, member = self._crew.board.look(stop.row), self._crew.member(stop.row)
            if seen is None or member is None or not (seen.doomed or has_claimed(seen, number)):
                self._stopping.pop(number, None)
            elif seen.doomed:  # who doomed it was interrupted
                self._kill_for(number, member)
            elif not stop.told and (seen.running == number or stop.until <= now):
                # It has begun since; or who stopped it was interrupted, and it is not taken back.
                stop.until = now + GRACE_S
                self._interrupt(number, stop.why, seen, member)
                again = min(again, stop.until)
            elif stop.until <= now:
                self._kill_for(number, member)
            else:
                again = min(again, stop.until)
        return again

    def _kill_for(self, number: int, member: Member) -> None:
        """Kill a worker, if it runs that task; or did when it was doomed for it.

        Who is interrupted in here does it all again.
        """
        if self._crew.board.doom(member.row, number):
            member.kill()
        self._stopping.pop(number, None)

    def _look_at_limits(self, now: float) -> float:
        """Stop what runs for too long. What does not run yet has all of its time before it."""
        timed = self._crew.timed()
        again = min((now + job.timeout for job in timed), default=inf)
        for member in self._crew.members() if timed else ():
            seen = self._crew.board.look(member.row)
            if seen is None:
                continue
            if seen.running is None:
                self._end_stopped(member, seen)
                continue
            found = self._crew.board.find(seen.running)
            limit = None if found is None else found[0].limit_of(found[1])
            if found is None or limit is None:
                continue
            if seen.since + limit <= now:
                self._stop_late(member, seen, *found)
            else:
                again = min(again, seen.since + limit)
        return again

    def _end_stopped(self, member: Member, seen: _core.Row) -> None:
        """End a worker that runs nothing, and would not for as long as it is stopped.

        Its row is looked at again behind that: so it has begun nothing, unless somebody has it
        continue at this very moment.
        """
        waits = seen.claimed or self._crew.board.waiting()
        if waits and _is_stopped(seen.pid) and self._crew.board.look(member.row) == seen:
            member.kill()

    def _stop_late(self, member: Member, seen: _core.Row, job: Any, place: int) -> None:
        """It is interrupted first: the result is taken by nobody but the pump, after this.

        So it can be done again from its beginning, until the number is struck out.
        """
        from . import faults

        number: Any = seen.running  # it is there: the caller has found its job
        late = faults.late(described(job, place), job.limit_of(place), seen.pid)
        if has_claimed(seen, number):
            self._interrupt(number, worker.TIMEOUT, seen, member)
        self._crew.fail_task(number, job, place, late)


def _is_stopped(pid: int) -> bool:
    """Whether a process was stopped, by a signal or a debugger: proc_pid_stat(5)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return stat.read().rpartition(b")")[2].split()[0] in (b"T", b"t")
    except OSError:  # it is over
        return False

"""The workers of a pool or an executor, and all that their owner does about them.

    submit()     a task on the board; workers claim it, run it, put a result; the pump tells its job
    a death      the worker is buried; what it ran has WorkerDied for a result, or is run again;
                 what it had claimed and not begun is put again; another one starts in its place
    a limit      the task is interrupted, its job told; a second later the worker is killed
    close()      the workers end when all jobs are over
    terminate()  they are ended

Deaths and limits are looked after by the pump (leveret.pump), with the pump in its hands. Births
and the end are under the mutex, so that nobody is born after the end.
"""

from __future__ import annotations

import contextlib
import copy
import os
from math import inf
from multiprocessing.process import current_process
from time import monotonic

from . import _core, worker
from .limits import check_arguments
from .process import bind
from .pump import TOLD, UNDECODED, Condition, Pump
from .reduction import ByValue, goes_by_name, is_of_prompt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

__all__ = ["Crew", "again", "described", "not_ours"]

GRACE_S = 1.0  # from the interrupt of a task to the end of its worker
END_S = 0.5  # from SIGTERM to SIGKILL, for all workers together
BIRTH_LOOK_S = 0.05  # while a worker is not enlisted, only its process tells of its death
RESTART_S = 1.0  # after a start that failed
HELD_S, HELD_MOST_S = 0.02, 1.0  # between two looks at what is claimed and not begun

# So many workers in a row that end before they have done anything, and the crew gives up: by a
# status of their own; by a signal, within so many seconds.
EARLY_EXITS, EARLY_KILLS, EARLY_S = 3, 20, 1.0

READY = _core.READY  # what an event without a job is; UNFIT otherwise


class _Member:
    """A worker, from its start to its burial."""

    def __init__(self, row: int, process: Any, ready: bool) -> None:
        self.row = row
        self.process = process
        self.ready = ready  # initialised
        self.born = False  # seen enlisted
        self.killed = False  # by us, for a task that could not be stopped
        self.since = monotonic()


def again(error: BaseException) -> BaseException:
    """A copy, to be raised: the frames that it comes through may have the pool, or a task."""
    try:
        copied = copy.copy(error)
    except Exception:  # its class is not made for that
        return error
    copied.__cause__ = error.__cause__
    return copied


def described(job: Any, place: int) -> str:
    """A task in words. A job that is done knows nothing of it any more."""
    try:
        return str(job.describe(place))
    except (AttributeError, LookupError, TypeError):
        return "a task"


def not_ours(pid: int) -> RuntimeError:
    """What a child of process PID is told that uses a pool of its parent's."""
    return RuntimeError(
        f"this pool belongs to process {pid}, which made it; process {os.getpid()} "
        "was forked from it and can neither give it tasks nor wait for them (a task cannot "
        "use the pool that runs it): make another pool here"
    )


def _refuse_while_main_is_imported(context: Any) -> None:
    """Raise what its first start would, before there is a thread: see nursery on those."""
    importing = getattr(current_process(), "_inheriting", False)
    if importing and context.get_start_method() != "fork":
        from multiprocessing import spawn

        vars(spawn)["_check_not_importing_main"]()


class Crew(Pump):
    """The workers, and the board between them and their owner."""

    def __init__(
        self,
        *,
        size: int,
        context: Any,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        most_tasks: int | None = None,
        daemon: bool = True,
        strict: bool = False,
        memory: tuple[int, int] | None = None,
        threads: int | str | None = "share",
        traceback_class: Any,
        rules: str = "pool",
        on_demand: bool = False,
        make: Callable[..., Any] | None = None,
        name: str = "leveret-crew",
    ) -> None:
        """MAKE(target=, args=) makes a process that is not started yet; see worker for RULES."""
        _refuse_while_main_is_imported(context)
        arguments = check_arguments("initargs", initargs)
        super().__init__(_core.Board(size), name)
        self.size, self.strict = size, strict
        self.processes: list[Any] = []
        self.broken: BaseException | None = None
        self.at_end: Callable[[], object] | None = None  # called when the workers are gone
        self.traceback_class = traceback_class
        self._make = make or context.Process
        self._daemon, self._on_demand = daemon, on_demand
        self._pid = os.getpid()
        self._function: tuple[Any, Any] = self, None
        self._members: dict[int, _Member] = {}
        self._early: list[int] = []  # statuses of those that did nothing, one after another
        self._rest = -inf  # until when none is started
        # Tasks to be stopped: number: row, why, whether the worker was told so (not before the task
        # runs), until when it has time.
        self._stopping: dict[int, tuple[int, int, bool, float]] = {}
        self._looking = False  # an alarm is set for looking at claims
        self._pause = HELD_S
        self._claims: dict[int, int] = {}  # row: the first number of its claim, when we looked
        self._finished = 0  # all tasks, by then
        self._gone = Condition(self._is_gone)
        self._faults = worker.Faults.create()
        # Forked workers find all that there was when they were forked.
        self._forks = context.get_start_method() == "fork"
        self._orders = worker.Orders(
            initializer, arguments, most_tasks, size, memory, threads, rules, self._faults
        )
        if not on_demand:
            self.start_all()

    # --- tasks ---------------------------------------------------------------------------------

    def function(self, function: Callable[..., Any]) -> Any:
        """FUNCTION for the board. One that is pickled by name is remembered."""
        if function is self._function[0]:
            return self._function[1]
        by_value = not self._forks and is_of_prompt(function)
        sent: Any = ByValue(function) if by_value else function
        encoded = _core.Function(sent)
        if not by_value and goes_by_name(function):
            self._function = function, encoded
        return encoded

    @property
    def jobs(self) -> set[Any]:
        """Those that are not over."""
        return self._jobs

    def is_ours(self) -> bool:
        """Whether this process made the crew."""
        return os.getpid() == self._pid

    def check_owner(self) -> None:
        """Raise if this is not the process that made the crew."""
        if os.getpid() != self._pid:
            raise not_ours(self._pid)

    def check(self) -> None:
        """Raise what is to be said of this crew instead of taking a task."""
        self.check_owner()
        if self.broken is not None:
            raise again(self.broken)

    def submit(self, function: Any, kind: int, argument: Any, job: Any, place: int = 0) -> Any:
        """Put a task, whose result JOB gets; its number, or None if it could not be encoded."""
        self._admit(job)
        try:
            return self.board.put(function, kind, argument, job, place)
        except Exception as error:
            self._fail_here(job, place, error)
            return None

    def submit_many(
        self, function: Any, kind: int, arguments: Any, job: Any, place: int = 0
    ) -> None:
        """Put a task for each of the ARGUMENTS, with places from PLACE on."""
        self._admit(job)
        try:
            for at, error in self.board.put_many(function, kind, arguments, job, place):
                self._fail_here(job, at, error)
        except Exception as error:  # nobody knows how far it came
            job.give_up(error)
            self.poke(job)

    def fail_at_once(self, job: Any, error: BaseException, place: int = 0) -> None:
        """What is wrong with JOB is known before there is a task."""
        self._admit(job)
        self._fail_here(job, place, error)

    def _fail_here(self, job: Any, place: int, error: BaseException) -> None:
        """Tell JOB from a thread that is not the pump; callbacks are the crew's thread's."""
        if job.attention == TOLD:
            self._events.append((job, place, UNDECODED, error))
            self.board.interrupt()
        else:
            job.fail(place, error)
            self.poke(job)

    def _admit(self, job: Any) -> None:
        """Note JOB before its first task is there, and see to it that it is attended to."""
        self.check()
        if self._on_demand and len(self._members) < self.size:
            self._grow()
        if job in self._jobs:
            self._look_soon()
            return
        self._jobs.add(job)
        try:
            self._attend_to(job)
            self._look_soon()
        except BaseException:
            self._forget(job)
            raise

    def _look_soon(self) -> None:
        """Tasks are put: somebody may claim several, and be held up by the first."""
        if not self._looking:
            self._looking, self._pause = True, HELD_S
            self._ring_at(monotonic() + HELD_S)

    def cancel(self, number: int) -> bool:
        """Whether the task of that NUMBER will not be run: nobody had claimed it."""
        return self.board.cancel(number)

    def stop(self, number: int, why: int = worker.CANCEL) -> bool:
        """Stop a task that was claimed: its result is not wanted any more, whatever it will be.

        It is interrupted; if that does not end it in GRACE_S, its worker is killed.
        False: it has its answer already.
        """
        if not self.board.strike(number):
            return False
        for row, member in list(self._members.items()):
            seen = self.board.look(row)
            if seen is not None and self._has_claimed(seen, number):
                self._interrupt(number, why, seen, member)
                self.want_thread()
        return True

    def _interrupt(self, number: int, why: int, seen: tuple[Any, ...], member: _Member) -> None:
        """Interrupt a task that runs; one that does not shall not begin.

        A worker has one order, with its signal: that for another task is not to take its place.
        """
        runs, until = seen[3] == number, monotonic() + GRACE_S
        self._stopping[number] = member.row, why, runs, until
        if runs:
            self.board.order(member.row, number, why)
            self._signal(member.process, "interrupt")
        else:
            self._take_back(member.row)
        self._ring_at(until)

    @staticmethod
    def _has_claimed(seen: tuple[Any, ...], number: int) -> bool:
        return bool((number - seen[1]) & 0xFFFFFFFF < seen[2])

    @staticmethod
    def _signal(process: Any, what: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # it is over
            getattr(process, what)()

    def revived(self, value: Any, job: Any = None, place: int = 0) -> BaseException:
        """The exception that is told of a task that failed."""
        from . import faults

        if isinstance(value, BaseException):
            # what came of en- or decoding
            return faults.undecodable(value, described(job, place))
        return faults.revive(value, self.traceback_class)

    # --- alarms --------------------------------------------------------------------------------

    def _look_after(self, due: bool) -> None:
        if due:
            self._ring()
        if rows := self.board.over():
            self._bury_all(rows)

    def _ring(self) -> None:
        """Look after all that is done by the clock; each says when to look again."""
        self._alarm = inf
        now = monotonic()
        self._look_at_births(now)
        if self._stopping:
            self._kill_stopping(now)
        if self._timed:
            self._look_at_limits(now)
        if self._looking:
            self._look_at_claims(now)
        if len(self._members) < self.size:
            self._fill()

    def _look_at_limits(self, now: float) -> None:
        """Stop what runs for too long. What does not run yet has all of its time before it."""
        for job in list(self._timed):
            self._alarm = min(self._alarm, now + job.timeout)
        for row in list(self._members):
            seen = self.board.look(row)
            found = None if seen is None or seen[3] is None else self.board.find(seen[3])
            if seen is None or found is None:
                continue
            limit = found[0].limit_of(found[1])
            if limit is None:
                continue
            if seen[4] + limit <= now:
                self._stop_late(seen, *found)
            else:
                self._alarm = min(self._alarm, seen[4] + limit)

    def _stop_late(self, seen: tuple[Any, ...], job: Any, place: int) -> None:
        from . import faults

        if self.stop(seen[3], worker.TIMEOUT):
            job.fail(place, faults.late(described(job, place), job.limit_of(place), seen[0]))
            self._settle(job)

    def _kill_stopping(self, now: float) -> None:
        """Kill who still runs what it was told to stop."""
        for number, (row, why, told, until) in list(self._stopping.items()):
            seen, member = self.board.look(row), self._members.get(row)
            if seen is None or member is None or not self._has_claimed(seen, number):
                del self._stopping[number]
            elif seen[3] == number and not told:
                self._interrupt(number, why, seen, member)  # it has begun since
            elif until <= now:
                del self._stopping[number]
                member.killed = True
                self._signal(member.process, "kill")
            else:
                self._alarm = min(self._alarm, until)

    def _look_at_claims(self, now: float) -> None:
        """Take back what is held up by a task that takes long.

        Claims of many are made by who is quick, and tells of it: as long as nothing moves, we look
        less and less often.
        """
        claims, finished = {}, 0
        for row in list(self._members):
            if seen := self.board.look(row):
                finished += seen[5]
                if seen[2] > 1:
                    claims[row] = seen[1]
        for row, first in claims.items():
            if self._claims.get(row) == first:
                self._take_back(row)
        moves = claims or finished != self._finished
        self._claims, self._finished = claims, finished
        self._pause = HELD_S if moves else min(self._pause * 2, HELD_MOST_S)
        self._looking = bool(claims) or self.board.waiting() > 0
        if self._looking:
            self._alarm = min(self._alarm, now + self._pause)

    def _take_back(self, row: int) -> None:
        """What a worker has claimed and not begun is for others."""
        for number in self.board.revoke(row):
            found = self.board.find(number)
            if found is not None and self.board.strike(number):
                self._put_again(*found)

    # --- births and deaths ---------------------------------------------------------------------

    def start_all(self) -> None:
        """Start workers up to the crew's size; if one cannot be started, end them and raise."""
        try:
            with self._mutex:
                for row in range(self.size):
                    if row not in self._members:
                        self._start(row)
        except BaseException:
            self._ended = True
            for process in self.processes:
                process.terminate()
            for process in self.processes:
                process.join()
            self._faults.close()
            raise

    def _grow(self) -> None:
        """Start one more worker, if there will be tasks for it."""
        with self._mutex:
            if len(self._members) < self.size and self.board.outstanding() >= len(self._members):
                self._start(next(row for row in range(self.size) if row not in self._members))

    def _fill(self) -> None:
        """Start who is missing."""
        for row in range(self.size):
            if row not in self._members and self._needs_workers():
                self._replace(row)

    def _start(self, row: int) -> None:
        """Start the worker of a row that nobody has. Under the mutex."""
        if self._ended or self.broken is not None:
            return
        process = self._make(target=worker.main, args=(self.board, row, self._orders))
        process.daemon = self._daemon
        bind(process)
        process.start()
        if self._ended:  # by the garbage collector, in this thread
            self._signal(process, "kill")
            process.join()
            return
        self._members[row] = _Member(row, process, self._orders.initializer is None)
        self.processes.append(process)
        self._ring_at(monotonic() + BIRTH_LOOK_S)

    def _needs_workers(self) -> bool:
        return not (self._ended or self.broken or (self._closing and not self._jobs))

    def _replace(self, row: int) -> None:
        """Start a worker in a free row, if there is something to do for it; or try again later."""
        if not self._needs_workers():
            return
        if self._on_demand and self.board.outstanding() <= len(self._members):
            return
        if self._rest > monotonic():
            self._ring_at(self._rest)
            return
        try:
            with self._mutex:
                if row not in self._members:
                    self._start(row)
        except Exception as error:
            if self._members:
                self._rest_a_while()
            else:
                self.break_off(error)

    def _rest_a_while(self) -> None:
        self._rest = monotonic() + RESTART_S
        self._ring_at(self._rest)

    def _look_at_births(self, now: float) -> None:
        for member in list(self._members.values()):
            if member.born:
                continue
            if self.board.look(member.row) is not None:
                member.born = True
            elif member.process.exitcode is not None and self.board.look(member.row) is None:
                self._remove(member)
                self._note_early_end(member)
                self._replace(member.row)
            else:
                self._alarm = min(self._alarm, now + BIRTH_LOOK_S)

    def _bury_all(self, rows: list[int]) -> None:
        for row in rows:
            try:
                self.board.settle(row)
            except ValueError:  # it lives, after all
                continue
            while self._fetch():
                pass
            self._tell_jobs()
            if self._events:
                break  # they are the thread's to tell, which will bury then
            self._bury(row)

    def _bury(self, row: int) -> None:
        with self._mutex:  # whoever starts it knows it by then, however soon it has died
            member = self._members.get(row)
        if member is not None:
            member.process.join()  # Ctrl-C may come here: then it is buried the next time
        last = self.board.bury(row)
        if member is None:
            return
        self._remove(member)
        orphans = self._orphans(last)
        if self.broken is None and not self._ended:
            self._judge(member, last, orphans)
            self._replace(row)

    def _remove(self, member: _Member) -> None:
        with self._mutex:
            self._members.pop(member.row, None)
            with contextlib.suppress(ValueError):
                self.processes.remove(member.process)
        if self._waiters:
            self._wake_done()

    def _orphans(self, last: tuple[Any, ...]) -> list[tuple[Any, int, bool]]:
        """(job, place, whether it was running) of what the dead had claimed and not answered."""
        orphans = []
        for number in (at & 0xFFFFFFFF for at in range(last[1], last[1] + last[2])):
            found = self.board.find(number)
            if found is not None and self.board.strike(number):
                orphans.append((*found, number == last[3]))
        return orphans

    def _judge(
        self, member: _Member, last: tuple[Any, ...], orphans: Iterable[tuple[Any, int, bool]]
    ) -> None:
        """Say what becomes of a dead worker's tasks, and of the crew."""
        from_itself = member.killed or (member.process.exitcode == 0 and not orphans)
        if not member.ready:
            self.break_off(self._died(member, "", initializing=True))
        elif self.strict and not from_itself:
            self.break_off(self._died(member, "", strict=True))
        elif last[5] > 0 or orphans or from_itself:
            self._early.clear()
        else:
            self._note_early_end(member)
        for job, place, was_running in orphans:
            if self.broken is not None:
                break  # all jobs have been told
            if was_running:
                self._mourn(member, job, place)
            else:
                self._put_again(job, place)

    def _died(self, member: _Member, task: str, **circumstances: Any) -> BaseException:
        from . import deaths

        return deaths.worker_died(
            member.process.pid,
            member.process.exitcode,
            task,
            self._faults.read(member.row),
            initializer=self._orders.initializer,
            **circumstances,
        )

    def _mourn(self, member: _Member, job: Any, place: int) -> None:
        """A task's worker died while it ran: once more, or that is its result."""
        if job.tries is None:
            job.tries = {}
        tries = job.tries[place] = job.tries.get(place, 0) + 1
        if tries <= job.retries:
            self._put_again(job, place)
        else:
            job.fail(place, self._died(member, described(job, place), tries=tries))
            self._settle(job)

    def _put_again(self, job: Any, place: int) -> None:
        try:
            function, kind, argument = job.argument_of(place)
            number = self.board.put(function, kind, argument, job, place)
        except Exception as error:
            job.fail(place, error)
            self._settle(job)
        else:
            self._look_soon()
            job.moved(place, number)

    def _note_early_end(self, member: _Member) -> None:
        """A worker ended that had done nothing. If all do that, there is no use in more of them."""
        code = member.process.exitcode
        if self.strict:
            self.break_off(self._died(member, "", strict=True))
        elif code >= 0 or monotonic() - member.since <= EARLY_S:
            self._early.append(code)
            exits = sum(code >= 0 for code in self._early)
            if len(self._early) >= EARLY_KILLS or exits >= EARLY_EXITS:
                self._give_up_births(member)

    def _give_up_births(self, member: _Member) -> None:
        """Nobody is born who would do anything; unless somebody does, that is the end."""
        if any(seen and seen[5] for seen in map(self.board.look, list(self._members))):
            self._early.clear()
            self._rest_a_while()
        else:
            self.break_off(self._died(member, "", starts=len(self._early)))

    def _hear(self, row: int, what: int, value: Any) -> None:
        """A worker says that it is initialised, or why not."""
        if what == READY:
            if member := self._members.get(row):
                member.born = member.ready = True
        else:
            from . import deaths

            self.break_off(deaths.unfit(self._orders.initializer, self.revived(value)))

    # --- ends ----------------------------------------------------------------------------------

    def _is_gone(self) -> bool:
        return not self._members or self._ended

    def break_off(self, error: BaseException) -> None:
        """The crew is of no use any more: who waits gets ERROR, and so does who comes later."""
        with self._mutex:
            if self.broken is not None or self._ended:
                return
            self.broken = error
            for process in self.processes:
                self._signal(process, "kill")
        self._give_up(error)
        self.board.interrupt()

    def _give_up(self, error: BaseException) -> None:
        for job in list(self._jobs):
            job.give_up(again(error))
            self._forget(job)
        self._wake_done()

    def close(self) -> None:
        """No more jobs: the workers end when those that there are have been done."""
        self._closing = True
        if self._jobs and not self.broken:
            with contextlib.suppress(RuntimeError):  # no more threads, at the interpreter's exit
                self.want_thread()
        else:
            self.board.close()
        self.board.interrupt()

    def join(self) -> None:
        """Wait until the workers are gone, after close() or terminate()."""
        self.wait_for(self._gone)
        thread = self._thread
        if thread is not None and not self._is_thread():
            thread.join()
        self._finish()

    def terminate(self) -> None:
        """End the workers, whatever they do; who waits is told. Within bounded time."""
        with self._mutex:
            if self._ended:
                return
            self._ended = True
        self._give_up(RuntimeError("the pool was terminated before this was done"))
        self.board.interrupt()
        self._kill_all()
        thread = self._thread
        if thread is not None and not self._is_thread():
            thread.join(END_S)  # a callback may keep it for ever
        self.board.close()
        self._finish()

    def retire(self) -> None:
        """The program has dropped the pool: what has begun is done, as it is there."""
        if self.is_ours():
            if self._jobs and self.broken is None:
                self.close()
            else:
                self.terminate()

    def _finish(self) -> None:
        """Nobody is left. By the thread, and by who joins."""
        with self._mutex:
            self._faults.close()
            at_end, self.at_end = self.at_end, None
        if at_end is not None:
            at_end()

    def _kill_all(self) -> None:
        processes = list(self.processes)
        for process in processes:
            self._signal(process, "terminate")
        deadline = monotonic() + END_S
        for process in processes:
            process.join(max(0.0, deadline - monotonic()))
        for process in processes:
            if process.exitcode is None:
                self._signal(process, "kill")
        for process in processes:
            process.join()
        with self._mutex:
            self._members.clear()

    def send_all(self, what: str) -> None:
        """terminate(), kill() or interrupt() each worker."""
        for process in list(self.processes):
            self._signal(process, what)

    def pids(self) -> dict[int, Any]:
        """The workers' processes by pid."""
        return {process.pid: process for process in list(self.processes)}

"""The workers of a pool or an executor, and all that their owner does about them.

    submit()     a task on the board; workers claim it, run it, put a result; the pump tells its job
    a death      the worker is buried; what it ran has WorkerDied for a result, or is run again;
                 what it had claimed and not begun is put again; another one starts in its place
    close()      the workers end when all jobs are over
    terminate()  they are ended

What is held up by a slow task is taken back by leveret.claims; limits, and what is cancelled while
it runs, are those of leveret.stops. All this is looked after by the pump (leveret.pump), with the
pump in its hands. Births and the end are under the mutex, so that nobody is born after the end.

Ctrl-C may come between any two byte codes of the main thread, which may be the pump. So all that
the pump does can be done again from its beginning, and is, in its next round:

    a number is struck out, and its job to be told why, by one call; so it is put again
    a row is freed last, when nobody waits for the numbers any more that its worker had
"""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Callable, Iterable
from math import inf
from multiprocessing.process import current_process
from time import monotonic

from . import _core, worker
from .claims import Claims, claimed
from .hints import Any
from .limits import check_arguments
from .popen import LOST, give_up_asked, together
from .process import bind
from .pump import ERROR, TOLD, Condition, Pump, described
from .reduction import ByValue, found_by_name, goes_by_name, is_of_prompt
from .stops import Stops

__all__ = ["Crew", "Member", "again", "not_ours"]

END_S = 0.5  # from SIGTERM to SIGKILL, for all workers together
BIRTH_LOOK_S = 0.05  # while a worker is not enlisted, only its process tells of its death
RESTART_S = 1.0  # after a start that failed

# So many workers in a row that end before they have done anything, and the crew gives up: by a
# status of their own; by a signal, within so many seconds.
EARLY_EXITS, EARLY_KILLS, EARLY_S = 3, 20, 1.0

READY = _core.READY  # what an event without a job is; UNFIT otherwise


class Member:
    """A worker, from its start to its burial."""

    def __init__(self, row: int, process: Any, ready: bool) -> None:
        self.row = row
        self.process = process
        self.ready = ready  # initialised
        self.born = False  # seen enlisted
        self.judged = False  # what its death means for the crew is decided
        self.tries = 0  # how many workers have died of what it ran, when it died of it
        self.since = monotonic()

    def kill(self) -> None:
        """Kill it, for a task: it is doomed, and so not blamed for its death."""
        _signal(self.process, "kill")


class _Stranger:
    """The process of a worker whose start was interrupted before it was a member."""

    exitcode = LOST

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def join(self) -> None:
        """It is over, and whose child it is does not matter."""


def _signal(process: Any, what: str) -> None:
    """terminate() or kill() it."""
    with contextlib.suppress(OSError, ValueError):  # it is over
        getattr(process, what)()


def again(error: BaseException) -> BaseException:
    """A copy, to be raised: the frames that it comes through may have the pool, or a task."""
    try:
        copied = copy.copy(error)
    except Exception:  # its class is not made for that
        return error
    copied.__cause__ = error.__cause__
    return copied


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
        start: bool = True,
        make: Callable[..., Any] | None = None,
        name: str = "leveret-crew",
    ) -> None:
        """MAKE(target=, args=) makes a process that is not started yet; see worker for RULES."""
        _refuse_while_main_is_imported(context)
        arguments = check_arguments("initargs", initargs) if initializer is not None else ()
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
        self._members: dict[int, Member] = {}
        self._early: dict[int, int] = {}  # pid: status; those that did nothing, one after another
        self._rest = -inf  # until when none is started
        self.claims, self.stops = Claims(self), Stops(self)
        self._gone = Condition(self._is_gone)
        self._faults = worker.Faults.create()
        # Forked workers find what there was when they were forked: of a prompt's functions, these.
        self._forks = context.get_start_method() == "fork"
        self._found: Any = None if self._forks else ()
        self._orders = worker.Orders(
            initializer, arguments, most_tasks, size, memory, threads, rules, self._faults
        )
        if start and not on_demand:
            self.start_all()

    # --- tasks ---------------------------------------------------------------------------------

    def function(self, function: Callable[..., Any]) -> Any:
        """FUNCTION for the board. One that is pickled by name is remembered."""
        if function is self._function[0]:
            return self._function[1]
        by_value = is_of_prompt(function, self._found or ())
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
        return self.board.is_ours() or os.getpid() == self._pid

    def check_owner(self) -> None:
        """Raise if this is not the process that made the crew."""
        if not self.is_ours():
            raise not_ours(self._pid)

    def check(self) -> None:
        """Raise what is to be said of this crew instead of taking a task."""
        self.check_owner()
        if self.broken is not None:
            raise again(self.broken)

    def submit(self, function: Any, kind: int, argument: Any, job: Any, place: int = 0) -> Any:
        """Put a task, whose result JOB gets; its number, or None if it could not be encoded."""
        try:
            self._admit(job)
            try:
                return self.board.put(function, kind, argument, job, place)
            except Exception as error:
                self._fail_here(job, place, error)
                return None
        except BaseException as error:
            self._withdraw(job, error)
            raise

    def submit_many(
        self, function: Any, kind: int, arguments: Any, job: Any, place: int = 0
    ) -> None:
        """Put a task for each of the ARGUMENTS, with places from PLACE on."""
        try:
            self._admit(job)
            try:
                for at, error in self.board.put_many(function, kind, arguments, job, place):
                    self._fail_here(job, at, error)
            except Exception as error:  # nobody knows how far it came
                job.give_up(error)
                self.poke(job)
        except BaseException as error:
            self._withdraw(job, error)
            raise

    def fail_at_once(self, job: Any, error: BaseException, place: int = 0) -> None:
        """What is wrong with JOB is known before there is a task."""
        try:
            self._admit(job)
            self._fail_here(job, place, error)
        except BaseException as error:
            self._withdraw(job, error)
            raise

    def _withdraw(self, job: Any, error: BaseException) -> None:
        """Who put tasks was interrupted: nobody has JOB, as a rule, or knows how far it came.

        What is on the board is done, and its results are dropped. Who waits is told. (An Exception
        has been dealt with.)
        """
        if not isinstance(error, Exception) and self.is_ours() and job in self._jobs:
            job.give_up(RuntimeError("the call that was to put its tasks was interrupted"))
            self._forget(job)
            self.poke(job)

    def _fail_here(self, job: Any, place: int, error: BaseException) -> None:
        """Tell JOB from a thread that is not the pump; callbacks are the crew's thread's."""
        if job.attention == TOLD:
            self._events.append((job, place, ERROR, error))
            self.board.interrupt()
        else:
            job.fail(place, error)
            self.poke(job)

    def _admit(self, job: Any) -> None:
        """Note JOB before its first task is there, and see to it that it is attended to."""
        if self.broken is not None or not self.board.is_ours():
            self.check()
        if self._on_demand and len(self._members) < self.size:
            self._grow()
        if job in self._jobs:
            self.claims.look_soon()
            return
        self._jobs.add(job)
        try:
            self._attend_to(job)
            self.claims.look_soon()
        except Exception:
            self._forget(job)
            raise

    def tell_soon(self, job: Any, error: BaseException) -> None:
        """Have JOB, of one task, told ERROR by the pump: who was about to was interrupted."""
        self._events.append((job, 0, ERROR, error))
        if job.attention == TOLD:  # the workers may be gone by now, and the thread with them
            with contextlib.suppress(RuntimeError):  # no more threads
                self.want_thread()
        self.hurry()

    def revived(self, value: Any, job: Any = None, place: int = 0) -> BaseException:
        """The exception that is told of a task that failed."""
        from . import faults

        if isinstance(value, BaseException):  # what came of decoding
            return faults.undecodable(value, described(job, place))
        error = faults.revive(value, self.traceback_class)
        if unpickled_by := faults.unpickled_by(value):
            task = described(job, place)
            faults.note(error, f"raised in worker {unpickled_by}, by unpickling the task {task}")
        return error

    # --- alarms --------------------------------------------------------------------------------

    def _look_after(self, due: bool) -> None:
        if due:
            self._ring()
        if rows := self.board.over():
            self._bury_all(rows)

    def _ring(self) -> None:
        """Look after all that is done by the clock; each says when to look again.

        Who sets an alarm has noted before what for: so what is put off here is seen below.
        """
        self._alarm = inf
        now = monotonic()
        if self.broken is not None:
            self._give_up(self.broken)
        self.claims.rescue()
        again = min(self._look_at_births(now), self.stops.look(now), self.claims.look(now))
        if len(self._members) < self.size:
            self._fill()
        self._bring(again)

    # --- for those who look --------------------------------------------------------------------

    def members(self) -> list[Member]:
        """The workers."""
        return list(self._members.values())

    def member(self, row: int) -> Member | None:
        """The worker of that row."""
        return self._members.get(row)

    def timed(self) -> list[Any]:
        """The jobs that have time limits."""
        return list(self._timed)

    def put_again(self, number: int) -> None:
        """Put a task again, under another number, which no worker has, or will run, under this."""
        found = self.board.find(number)
        if found is None:
            return
        job, place = found
        try:
            function, kind, argument = job.argument_of(place)
            self.board.put_again(number, function, kind, argument, job.mover(place))
        except Exception as error:
            self.fail_task(number, job, place, error)
        else:
            self.claims.look_soon()

    # --- births and deaths ---------------------------------------------------------------------

    def start_all(self) -> None:
        """Start workers up to the crew's size; if one cannot be started, end them and raise."""
        try:
            with self._mutex, together():
                for row in range(self.size):
                    if row not in self._members:
                        self._start(row)
        except BaseException:
            self._ended = True
            give_up_asked()
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
        if self._ended or self.broken is not None or self.board.look(row) is not None:
            return  # nobody is needed, or who had the row is not buried yet
        if self._forks:
            self._note_what_it_finds()
        process = self._make(target=worker.main, args=(self.board, row, self._orders))
        process.daemon = self._daemon
        bind(process)
        member = Member(row, process, self._orders.initializer is None)
        started = False
        try:
            process.start()
            started = True
        finally:  # whatever comes after it is there: Ctrl-C, or the end, by the garbage collector
            if started or getattr(process, "pid", None) is not None:
                # No call comes before it is noted: so neither does Ctrl-C.
                self._members[row] = member
                self.processes.append(process)
                self._look_after_birth(member)

    def _note_what_it_finds(self) -> None:
        """Of a prompt's functions those go by name that were there at all forks."""
        found = found_by_name()
        self._found = found if self._found is None else self._found & found
        self._function = self, None  # whose name may stand for something else by now

    def _look_after_birth(self, member: Member) -> None:
        """Nobody is born after the end; of who is, only its process tells until it is enlisted."""
        try:
            if self._ended:
                member.kill()
                member.process.join()
                self._remove(member)
            self.ring_at(monotonic() + BIRTH_LOOK_S)
        except BaseException:
            self.hurry()
            raise

    def _needs_workers(self) -> bool:
        return not (self._ended or self.broken or (self._closing and not self._jobs))

    def _replace(self, row: int) -> None:
        """Start a worker in a free row, if there is something to do for it; or try again later."""
        if not self._needs_workers():
            return
        if self._on_demand and self.board.outstanding() <= len(self._members):
            return
        if self._rest > monotonic():
            self.ring_at(self._rest)
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
        self.ring_at(self._rest)

    def _look_at_births(self, now: float) -> float:
        """Bury who has died before it enlisted; when to look again."""
        again = inf
        for member in self.members():
            if member.born:
                continue
            if self.board.look(member.row) is not None:
                member.born = True
            elif member.process.exitcode is not None and self.board.look(member.row) is None:
                self._note_early_end(member)
                self._remove(member)
                self._replace(member.row)
            else:
                again = now + BIRTH_LOOK_S
        return again

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
            if row in self.board.over():  # a callback may have waited, and buried
                self._bury(row)

    def _bury(self, row: int) -> None:
        """Judge, and free the row: until then who is interrupted does all of it the next time."""
        with self._mutex:  # whoever starts it knows it by then, however soon it has died
            member = self._members.get(row)
        last: Any = self.board.look(row)
        if member is None:  # or this is the second time, and there is nothing to be judged
            member = Member(row, _Stranger(last.pid), True)
            member.judged = True
        member.process.join()
        self._judge(member, last)
        self._faults.clear(row)
        self._remove(member)
        self.board.bury(row)
        self._tell_jobs()
        self._replace(row)

    def _remove(self, member: Member) -> None:
        with self._mutex:
            with contextlib.suppress(ValueError):
                self.processes.remove(member.process)
            self._members.pop(member.row, None)
        if self._waiters:
            self._wake_done()

    def _judge(self, member: Member, last: Any) -> None:
        """Say what becomes of the crew, and of a dead worker's tasks."""
        orphans = [at for at in claimed(last) if self.board.find(at)]
        if not (member.judged or self.broken or self._ended):
            self._judge_crew(member, last, bool(orphans))
        member.judged = True  # with all of its orphans there: the next time some may have a verdict
        for number in orphans:
            if self.broken is not None or self._ended:
                break  # all jobs have been told
            if number == last.running:
                self._mourn(member, number)
            else:
                self.put_again(number)

    def _judge_crew(self, member: Member, last: Any, has_orphans: bool) -> None:
        """A doomed one ends for a task that could not be stopped, be it by itself."""
        is_blameless = last.doomed or (member.process.exitcode == 0 and not has_orphans)
        if not member.ready:
            self.break_off(self._died(member, "", initializing=True))
        elif self.strict and not is_blameless:
            self.break_off(self._died(member, "", strict=True))
        elif last.finished or has_orphans or is_blameless:
            self._early.clear()
        else:
            self._note_early_end(member)

    def _mourn(self, member: Member, number: int) -> None:
        """A task's worker died while it ran: once more, or that is its result."""
        found = self.board.find(number)
        if found is None:
            return
        job, place = found
        tries = job.tries or {}
        member.tries = member.tries or tries.get(place, 0) + 1  # once, however often we come here
        job.tries = {**tries, place: member.tries}
        if member.tries <= job.retries:
            self.put_again(number)
        else:
            died = self._died(member, described(job, place), tries=member.tries)
            self.fail_task(number, job, place, died)

    def _died(self, member: Member, task: str, **circumstances: Any) -> BaseException:
        from . import deaths

        return deaths.worker_died(
            member.process.pid,
            member.process.exitcode,
            task,
            self._faults.read(member.row),
            initializer=self._orders.initializer,
            **circumstances,
        )

    def _note_early_end(self, member: Member) -> None:
        """A worker ended that had done nothing. If all do that, there is no use in more of them."""
        code = member.process.exitcode
        if self.strict:
            self.break_off(self._died(member, "", strict=True))
        elif code >= 0 or monotonic() - member.since <= EARLY_S:
            self._early[member.process.pid] = code
            exits = sum(code >= 0 for code in self._early.values())
            if len(self._early) >= EARLY_KILLS or exits >= EARLY_EXITS:
                self._give_up_births(member)

    def _give_up_births(self, member: Member) -> None:
        """Nobody is born who would do anything; unless somebody does, that is the end."""
        if any(seen and seen.finished for seen in map(self.board.look, list(self._members))):
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

            seen, why = self.board.look(row), self.revived(value)
            self.break_off(deaths.unfit(self._orders.initializer, seen.pid if seen else None, why))

    # --- ends ----------------------------------------------------------------------------------

    def _is_gone(self) -> bool:
        """And all is told: a burial that was interrupted may have no member any more."""
        return self._ended or not (self._members or (self._jobs and self.broken is None))

    def break_off(self, error: BaseException) -> None:
        """The crew is of no use any more: who waits gets ERROR, and so does who comes later."""
        with self._mutex:
            if self._ended:
                return
            if self.broken is None:
                for process in self.processes:
                    _signal(process, "kill")
                self.broken = error
        self._give_up(self.broken)
        self.board.interrupt()

    def _give_up(self, error: BaseException) -> None:
        try:
            for job in list(self._jobs):
                job.give_up(again(error))
                if job.over:  # or it is the thread's, to tell who waits
                    self._forget(job)
            self._wake_done()
        except BaseException:
            self.hurry()
            raise

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
        if self._is_thread():
            raise RuntimeError("cannot wait in a callback for the end of who calls it")
        self.wait_for(self._gone)
        thread = self._thread
        if thread is not None:
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
            for job in list(self._jobs):
                job.cut_short()
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
            _signal(process, "terminate")
        deadline = monotonic() + END_S
        for process in processes:
            process.join(max(0.0, deadline - monotonic()))
        for process in processes:
            if process.exitcode is None:
                _signal(process, "kill")
        for process in processes:
            process.join()
        with self._mutex:
            self._members.clear()

    def send_all(self, what: str) -> None:
        """terminate(), kill() or interrupt() each worker."""
        for process in list(self.processes):
            _signal(process, what)

    def pids(self) -> dict[int, Any]:
        """The workers' processes by pid."""
        return {process.pid: process for process in list(self.processes)}

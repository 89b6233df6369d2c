"""Who waits for results takes them: the pump of a crew.

    wait_for(job)   the thread that waits is the pump until its job is done; one thread at a time,
                    the others sleep, and the next one follows when it leaves
    the thread      started with the first job that goes on though nobody waits. It sleeps until a
                    worker is over or an alarm is near; for jobs that want to be told it is the pump

What the pump does is a round: results are taken and the jobs told of them; then what a subclass
does about workers that are over, and by the clock.

    pumping    held by the pump; by the same thread again if it waits in a callback
    events     what is to be told; what is taken from the board stands on the way to it in `fetched`
    waiters    threads that sleep; whoever changes what they wait for wakes them
    others     sets and lists that are changed by single calls, which other threads see as a whole
"""

from __future__ import annotations

import contextlib
import itertools
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from math import inf
from time import monotonic, sleep

from . import _core
from .hints import Any

__all__ = [
    "ALONE",
    "ERROR",
    "TOLD",
    "VALUE",
    "WATCHED",
    "Condition",
    "Failure",
    "Job",
    "Many",
    "Pump",
    "chunks",
    "described",
    "note_yes",
    "report",
]

# Who attends to a job: whoever waits for it; the thread, if a worker dies or a limit is near; the
# thread, to each of its results.
ALONE, WATCHED, TOLD = 0, 1, 2

# What an event with a job is; otherwise its task failed. ERROR: with what is told as it is.
VALUE, ERROR = _core.VALUE, -1

MEMORY_S = 0.05  # before what failed for want of memory is done again

_names = itertools.count(1)


class Job:
    """Who waits for results. A subclass of this, or of this and Batch, for each kind of call."""

    done = False  # nobody needs to wait for it any more
    attention = ALONE
    timeout: float | None = None  # for each of its tasks
    retries = 0
    tries: dict[int, int] | None = None  # place: how many workers have died of it

    @property
    def over(self) -> bool:
        """Whether it has, and will have, nothing on the board any more."""
        return self.done

    def argument_of(self, place: int) -> tuple[Any, int, Any]:
        """(function, kind, argument) of a task that has no answer yet: it may be put again."""
        raise NotImplementedError

    def describe(self, place: int) -> str:
        """The task in words, for errors."""
        raise NotImplementedError

    def limit_of(self, place: int) -> float | None:
        """How many seconds a task may take."""
        return self.timeout

    def mover(self, place: int) -> Callable[[int], object] | None:
        """What notes the number of a task that is put again: no Python code (Board.put_again)."""
        return None

    def deliver(self, place: int, value: Any) -> None:
        """A task returned. Who is interrupted in here by Ctrl-C calls again, with the same."""
        raise NotImplementedError

    def fail(self, place: int, error: BaseException) -> object:
        """A task failed. As above."""
        raise NotImplementedError

    def give_up(self, error: BaseException) -> None:
        """No more results will come."""
        raise NotImplementedError

    def cut_short(self) -> None:
        """The pool was dropped: nobody can wait for more than what was begun."""

    # What an executor's has besides: its tasks can be cancelled.

    def numbers(self) -> list[tuple[int, int]]:
        """(place, number) of what is on the board."""
        raise NotImplementedError

    def cancel_place(self, place: int) -> None:
        """Cancel a task if nobody has claimed it."""
        raise NotImplementedError


class Many(Job):
    """Who waits for the results of many calls of one function, or of chunks of such calls."""

    called: Any  # the program's function
    kind: int

    @property
    def chunked(self) -> bool:
        """Whether a task is several calls."""
        return self.kind in (_core.CHUNK, _core.STARCHUNK)

    def finish(self) -> None:
        """Of a batch: what its results are is noted, in C; all of them, or it asked to be told."""
        raise NotImplementedError

    def task_at(self, place: int) -> Any:
        """What is called with; LookupError: that task has its answer."""
        raise NotImplementedError

    def describe(self, place: int) -> str:
        """The call, or the chunk, in words; or a LookupError."""
        from . import faults

        task = self.task_at(place)
        if self.chunked:
            return faults.describe_chunk(self.called, task)
        return faults.describe(self.called, task if self.kind == _core.STAR else (task,))

    def limit_of(self, place: int) -> float | None:
        """A chunk has the time of all of its items."""
        if self.timeout is None or not self.chunked:
            return self.timeout
        try:
            return self.timeout * len(self.task_at(place))
        except LookupError:
            return None  # it has been answered just now


class Failure:
    """Stands for a result where there is an exception."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


def chunks(iterator: Iterator[Any], size: int) -> Iterator[list[Any]]:
    """Lists of SIZE items; what comes before an exception in less than a list is lost."""
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk


def described(job: Any, place: int) -> str:
    """A task in words. A job that is done knows nothing of it any more."""
    try:
        return str(job.describe(place))
    except (AttributeError, LookupError, TypeError):
        return "a task"


def note_yes(who: Any, name: str, ask: Callable[[int], bool], number: int) -> None:
    """Set that attribute of WHO if the answer is yes: no byte code runs between the two.

    Ctrl-C, which comes between byte codes, would lose the answer, that is given once.
    """
    all(map(setattr, (who,), (name,), filter(None, map(ask, (number,)))))


def report() -> None:
    """Report what a function of the program's raised as that is done for any thread."""
    hook: Any = threading.excepthook
    hook(threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread())))


class Condition:
    """Something to wait for that is no job."""

    def __init__(self, holds: Callable[[], bool]) -> None:
        self._holds = holds

    @property
    def done(self) -> bool:
        return self._holds()


class Verdict:
    """An error that a task is to have, if nobody has its answer yet: an event, and its number.

    It is among the events before the board is asked, so nothing that comes in between can lose the
    task. Whoever wants it asks, and the pump once more: the board says yes to one of them.
    """

    __slots__ = ("_ask", "_error", "_number", "_place", "is_ours", "job")

    def __init__(
        self, ask: Callable[[int], bool], number: int, job: Any, place: int, error: BaseException
    ) -> None:
        self._ask, self._number = ask, number
        self.job, self._place, self._error = job, place, error
        self.is_ours = False  # the number was struck out for this

    def decide(self) -> None:
        """Ask."""
        note_yes(self, "is_ours", self._ask, self._number)

    def tell(self) -> None:
        """Who is interrupted in here calls again."""
        self.decide()
        if self.is_ours:
            self.job.fail(self._place, self._error)


class _Waiter:
    """A thread that waits until its job is done, or for the pump."""

    def __init__(self, job: Any) -> None:
        self.job = job
        self._lock = threading.Lock()
        self._lock.acquire()

    def sleep(self, timeout: float | None) -> None:
        self._lock.acquire(True, -1 if timeout is None else max(0.0, timeout))

    def wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # it is awake
            self._lock.release()


class Pump:
    """Takes results from a board and tells jobs of them."""

    _thread_pumps = False

    def __init__(self, board: _core.Board, name: str) -> None:
        self.board = board
        self._name = f"{name}-{next(_names)}"
        self._pumping = threading.RLock()
        self._mutex = threading.RLock()  # births and ends: of the thread, in a subclass of workers
        self._waiters: list[_Waiter] = []
        self._taken = board.take
        self._fetched: Any = ()  # taken from the board, and not all of it among the events
        self._events: deque[Any] = deque()  # to be told
        self._jobs: set[Any] = set()  # those that are not over
        self._told: set[Any] = set()  # of them: those that the thread is the pump for
        self._timed: set[Any] = set()  # of them: those with time limits
        self._alarm = inf  # when the pump has something to do, results or not
        self._bringing = threading.RLock()  # the alarm forward; only the pump puts it off
        self._closing = self._ended = False
        self._thread: threading.Thread | None = None
        self._calm = Condition(self._is_calm)

    # --- what a subclass does ------------------------------------------------------------------

    def _look_after(self, due: bool) -> None:
        """Workers are over, or the alarm is due."""
        raise NotImplementedError

    def _hear(self, row: int, what: int, value: Any) -> None:
        """A worker says something that is no result."""
        raise NotImplementedError

    def revived(self, value: Any, job: Any = None, place: int = 0) -> BaseException:
        """The exception that is told of a task that failed."""
        raise NotImplementedError

    def _is_gone(self) -> bool:
        """Whether there are no workers any more."""
        raise NotImplementedError

    def _finish(self) -> None:
        """There are no workers any more, and never will be."""
        raise NotImplementedError

    # --- jobs ----------------------------------------------------------------------------------

    def _attend_to(self, job: Any) -> None:
        """See to it that somebody does what JOB needs."""
        if self._ended:
            raise RuntimeError("the pool was terminated")
        if job.timeout is not None:
            self._timed.add(job)
            self.ring_at(monotonic() + job.timeout)
        if job.attention and self._thread is None:
            self.want_thread()
        if job.attention == TOLD:
            self._told.add(job)
            if not self._thread_pumps:
                self.board.interrupt()

    def _forget(self, job: Any) -> None:
        self._jobs.discard(job)
        self._told.discard(job)
        self._timed.discard(job)

    def _settle(self, job: Any) -> None:
        """JOB was told something."""
        if job.over:
            self._forget(job)
        if self._waiters:
            self._wake_done()

    def poke(self, job: Any) -> None:
        """JOB was changed by who is not the pump: who waits for it looks again."""
        self._settle(job)
        self.board.interrupt()

    # --- waiting -------------------------------------------------------------------------------

    def wait_for(self, job: Any, timeout: float | None = None) -> bool:
        """Wait until JOB is done, at most TIMEOUT seconds; whether it is."""
        deadline = inf if timeout is None else monotonic() + timeout
        while not job.done:
            self._take_turn(job, deadline)
            if deadline != inf and monotonic() >= deadline:
                break
        return bool(job.done)

    def pump_once(self) -> None:
        """Take what is there, without waiting; or leave it to who does so anyway."""
        self._take_turn(None, inf, once=True)

    def _take_turn(self, job: Any, deadline: float, once: bool = False) -> None:
        """Be the pump until JOB is done, or ONCE; or sleep until it is, or the pump might be ours.

        Without a job there is no waiting. Wherever Ctrl-C comes, the pump is free then, and the
        next one is woken: none comes between the call in here and the release, and what it keeps
        from being done behind that is done again.
        """
        mine = [False]
        try:
            if not (self._try_pump(mine) if job is None else self._get_pump(job, deadline, mine)):
                return
            if once:
                self._round()
            else:
                self._pump(job, deadline)
        finally:
            try:
                if job is not None and not mine[0]:
                    self._acquire(mine)  # if it is free: we may have been woken for it, and leave
                self._release(mine)
            except BaseException:
                self._release(mine)
                self._pass_on()
                raise

    def _try_pump(self, mine: list[bool]) -> bool:
        """Whether the pump is MINE, as is noted there. It is the thread's when it wants it."""
        if self._thread_wants_pump and threading.current_thread() is not self._thread:
            return False
        self._acquire(mine)
        return mine[0]

    def _acquire(self, mine: list[bool]) -> None:
        """Get the pump if it is free; no byte code runs between that and the note.

        Who is interrupted in there would keep it for ever.
        """
        all(map(mine.__setitem__, (0,), filter(None, map(self._pumping.acquire, (False,)))))

    def _release(self, mine: list[bool]) -> None:
        """Give the pump back, if it is MINE, and wake the next one. The same holds here."""
        if mine[0]:
            release: Callable[[], Any] = self._pumping.release
            all(map(mine.__setitem__, (0,), itertools.starmap(release, ((),))))
            self._pass_on()

    def _get_pump(self, job: Any, deadline: float, mine: list[bool]) -> bool:
        """Sleep until JOB is done, or the pump is free: then it is ours. False: look again."""
        if self._try_pump(mine):
            return True
        waiter = _Waiter(job)
        try:
            self._waiters.append(waiter)
            # It may have become free before we were among the waiters.
            if not self._try_pump(mine) and not job.done:
                waiter.sleep(None if deadline == inf else deadline - monotonic())
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
        return mine[0]

    def _pass_on(self) -> None:
        for waiter in self._waiters[:1]:
            waiter.wake()

    def _wake_done(self) -> None:
        for waiter in self._waiters[:]:
            if waiter.job.done:
                waiter.wake()

    def _pump(self, job: Any, deadline: float) -> None:
        """Be the pump until JOB is done; or it is too late, or the thread wants to be it."""
        self._round()
        while not job.done and (not self._thread_wants_pump or self._is_thread()):
            patience = None
            if (until := min(deadline, self._alarm)) != inf:
                now = monotonic()
                if deadline <= now:
                    return
                patience = max(0.0, until - now)
            self.board.wait(patience)
            self._round()

    def _round(self) -> None:
        """What the pump does when something has come, or is due."""
        try:
            self._fetch()
            self._tell_jobs()
            due = self._alarm != inf and monotonic() >= self._alarm
            if self.board.over() or due:
                self._look_after(due)
            if self._closing and not self._jobs:
                self.board.close()
        except BaseException:
            self._wake_done()
            self.hurry()
            raise

    def hurry(self) -> None:
        """Something is to be done now, or again: by whoever is the pump next, or the thread."""
        self._bring(-inf)
        self.board.interrupt()

    def _fetch(self) -> bool:
        """Take results; whether there was any.

        Where memory is short some of them are among the events, and next time all of them, those
        for the second time: who is told the same twice ignores it.
        """
        if not self._fetched:
            # No byte code runs between the two, and nothing is allocated: it would be lost.
            all(map(setattr, (self,), ("_fetched",), itertools.starmap(self._taken, ((),))))
        if not self._fetched:
            return False
        self._events.extend(self._fetched)
        self._fetched = ()
        return True

    def fail_task(
        self,
        number: int,
        job: Any,
        place: int,
        error: BaseException,
        ask: Callable[[int], bool] | None = None,
    ) -> None:
        """Strike a number out, unless somebody has, and have its job told ERROR by the pump.

        ASK the board to cancel() in place of to strike(): only if nobody has claimed the task.
        """
        try:
            self.note_verdict(number, job, place, error, ask or self.board.strike)
        finally:
            self.hurry()

    def note_verdict(
        self,
        number: int,
        job: Any,
        place: int,
        error: BaseException,
        ask: Callable[[int], bool],
    ) -> None:
        """As above, by a pump who is told later to hurry()."""
        verdict = Verdict(ask, number, job, place, error)
        self._events.append(verdict)
        verdict.decide()

    def _tell_jobs(self) -> None:
        """Tell the jobs what was fetched."""
        if not self._events:
            return
        if self._thread is not None and self._is_thread():
            self._tell_all_once()
        else:
            self._tell_all()
        if self._waiters:
            self._wake_done()

    def _tell_all(self) -> None:
        """An event is dropped when it was told: Ctrl-C may come in between.

        Callbacks are the thread's: as soon as it is wanted, it goes on here.
        """
        events = self._events
        while events and not (self._told and self._thread_wants_pump):
            event = events[0]
            self._tell(event)
            if events and events[0] is event:
                events.popleft()

    def _tell_all_once(self) -> None:
        """The thread is not interrupted; but callbacks may wait in it, which tells the rest."""
        events = self._events
        while events:
            event = events.popleft()
            try:
                self._tell(event)
            except MemoryError:
                events.appendleft(event)  # where it has just been: that needs no memory
                raise

    def _tell(self, event: Any) -> None:
        if type(event) is Verdict:
            event.tell()
            self._settle(event.job)
            return
        if type(event) is not tuple:
            event.finish()
            if event.over:  # not one that only asked to be told how far it is
                self._forget(event)
            return
        job, place, what, value = event
        if job is None:
            self._hear(place, what, value)
            return
        if what == VALUE:
            job.deliver(place, value)
        elif what == ERROR:
            job.fail(place, value)
        else:
            job.fail(place, self.revived(value, job, place))
        if job.over:
            self._forget(job)

    def ring_at(self, when: float) -> None:
        """Something is due then; who waits for longer starts anew. Any thread may say so."""
        if self._bring(when):
            self.board.interrupt()

    def _bring(self, when: float) -> bool:
        """Have the alarm by then at the latest; whether it was later. Of two, the earlier stays."""
        with self._bringing:
            is_later = self._alarm > when
            if is_later:
                self._alarm = when
        return is_later

    # --- the thread ----------------------------------------------------------------------------

    def want_thread(self) -> None:
        """Have the thread: jobs are to go on though nobody waits."""
        if self._thread is None:
            with self._mutex:
                if self._thread is None and not self._ended:
                    thread = threading.Thread(target=self._attend, name=self._name, daemon=True)
                    self._thread = thread  # before it looks whether it is that
                    try:
                        thread.start()
                    except BaseException:
                        self._thread = None
                        self._pass_on()  # who left the pump to it has it back
                        raise

    def _is_thread(self) -> bool:
        return threading.current_thread() is self._thread

    @property
    def _thread_wants_pump(self) -> bool:
        return bool(self._told or self._closing) and self._thread is not None

    def _attend(self) -> None:
        with self._mutex:
            self._thread = self._thread or threading.current_thread()  # its start was interrupted
        if not self._is_thread():
            return
        try:
            while not (self._ended or (self._closing and self._is_gone())):
                try:
                    self._attend_once()
                except MemoryError:  # nothing is lost by it, and others may let go of theirs
                    sleep(MEMORY_S)
            self._tell_last()
        finally:
            self._thread = None
            self._pass_on()
            # Left to us since we looked; or we end for what a callback has raised.
            if not self._ended and (self._events or (self._told and not self._is_gone())):
                with contextlib.suppress(RuntimeError):  # no more threads
                    self.want_thread()
            if self._is_gone():
                self._finish()

    def _attend_once(self) -> None:
        if self._told or self._closing:
            self._attend_as_pump()
        else:
            self._attend_as_watch()

    def _tell_last(self) -> None:
        """What was left to the thread while there was nothing else to do any more."""
        if self._events and not self._ended:
            self.board.interrupt()
            with self._pumping:
                self._tell_jobs()

    def _attend_as_pump(self) -> None:
        """Be the pump as long as there is a job that wants to be told, or the crew is closing."""
        self._pumping.acquire()
        self._thread_pumps = True
        try:
            self._pump(Condition(self._is_idle), inf)
        finally:
            self._thread_pumps = False
            self._pumping.release()
            self._pass_on()

    def _is_idle(self) -> bool:
        return self._ended or not (self._told or self._closing) or self._is_gone()

    def _attend_as_watch(self) -> None:
        """Sleep until a worker is over or something is due; who is the pump has been woken, too."""
        patience = None if self._alarm == inf else max(0.0, self._alarm - monotonic())
        self.board.watch(patience)
        if not self._is_calm():
            self._take_turn(self._calm, inf, once=True)

    def _is_calm(self) -> bool:
        if self._ended or self._told or self._closing:
            return True
        return not self.board.over() and self._alarm > monotonic()

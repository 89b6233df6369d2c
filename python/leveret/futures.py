"""The future of a task: a standard Future whose result is fetched by whoever asks for it.

    f.result(), f.exception()     the thread that calls takes results for the crew until its own is
                                  there: no other thread, no switch
    f.done(), f.running()         take what is there, without waiting
    f.add_done_callback(), concurrent.futures.wait(), as_completed(), asyncio
                                  somebody wants to be told: the crew's thread takes the results
    nobody has f any more         the same, so that what the task holds is let go

What a future needs only for those who want to be told (its condition, waiters and callbacks) is
made when the first of them comes.

To tell who sleeps in wait() or as_completed() takes many steps of the standard library's, of which
none can be done again. So where Ctrl-C may come, in the main thread, they are not begun: the crew's
thread is left a note, and does that. Callbacks are called by who cancels, as they are there.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import operator
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import _base
from concurrent.futures import process as std

from . import _core, deaths, faults
from .claims import has_claimed
from .crew import Crew
from .hints import Any
from .pump import ERROR, TOLD, VALUE, WATCHED, Condition, Job, described, note_yes, report

__all__ = ["ABRUPT_END", "Call", "RemoteTraceback", "Staff", "TaskFuture", "with_cause"]

RemoteTraceback: Any = vars(std)["_RemoteTraceback"]

# States; their stub leaves out what they are.
PENDING: Any = _base.PENDING
FINISHED: Any = _base.FINISHED
CANCELLED = (_base.CANCELLED, _base.CANCELLED_AND_NOTIFIED)
FINAL = (FINISHED, *CANCELLED)

ABRUPT_END = (
    "A process in the process pool was terminated abruptly while the future was running or pending."
)
HEED_S = 0.4  # how long an interrupted worker has to come to its end

# Between a future that finishes and somebody who is the first to ask for its condition: held for a
# few instructions. A finalizer that runs among them may ask the same of another future.
_first = threading.RLock()


class Staff(Crew):
    """A crew whose jobs may say later that they want to be told, or that nobody has them."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.drop = self.board.drop

    def tell(self, job: Any) -> None:
        """JOB wants to be told of its results as they come, from now on."""
        job.attention = TOLD
        if not self._ended and self.is_ours():  # otherwise it is, or will be, given up
            self._attend_to(job)
        if job.over:
            self._forget(job)

    def _attend_as_watch(self) -> None:
        """Jobs that were dropped are the thread's; who drops one ends its sleep, or the next."""
        for job in self.board.dropped():
            job.tell()
        if not self._told:
            super()._attend_as_watch()

    def let_go_on(self, job: Any) -> None:
        """JOB has its answer: those who wait for it go on, and the workers may end.

        Its callbacks are not called yet, and may wait for that end.
        """
        self._forget(job)
        if self._waiters:
            self._wake_done()

    def has_thread(self) -> bool:
        """Whether the thread tells what it is left; it is started for that, if it can be."""
        if not self._ended and self.is_ours():
            with contextlib.suppress(RuntimeError):  # no more threads, at the interpreter's exit
                self.want_thread()
        return self.is_ours() and not self._ended and self._thread is not None

    def leave_to_thread(self, job: Any, what: int, value: Any) -> None:
        """Have the thread, and nobody else, tell JOB. Who is interrupted in here calls again.

        The thread wants the pump as long as that job is not over.
        """
        job.attention = TOLD
        self._jobs.add(job)
        self._told.add(job)
        self._events.append((job, 0, what, value))
        self.want_thread()  # it looks at the events when it ends
        self.hurry()

    def is_claimed(self, number: int) -> bool:
        """Whether a worker has the task of that NUMBER, or had it last."""
        rows = map(self.board.look, list(self._members))
        return any(seen is not None and has_claimed(seen, number) for seen in rows)

    def cancel_waiting(self, spared: int = 0) -> None:
        """Cancel what nobody has claimed, but for the first SPARED tasks of those."""
        tasks = [(at, job, place) for job in list(self.jobs) for place, at in job.numbers()]
        for number, job, place in sorted(tasks, key=operator.itemgetter(0)):
            if spared <= 0:
                job.cancel_place(place)
            elif not self.is_claimed(number):
                spared -= 1

    def free(self) -> int:
        """How many workers have nothing to do, or are being born."""
        rows = map(self.board.look, list(self._members))
        return sum(
            row is None or row.running is None or not self.board.find(row.running) for row in rows
        )

    def give_up(self, error: BaseException) -> None:
        """Tell all jobs that nothing will come of them; the workers are left to the caller."""
        with self._mutex:
            if self._ended:
                return
            self.broken = self.broken or error
        self._give_up(self.broken)

    def close(self) -> None:
        """No more jobs. In a forked child nothing: the board is the parent's."""
        if self.is_ours():
            super().close()

    def join(self) -> None:
        """Wait until the workers are gone."""
        if self.is_ours():
            super().join()

    def pump_once(self) -> None:
        """Take what is there, without waiting."""
        if self.is_ours():
            super().pump_once()

    def is_over(self) -> bool:
        """Whether it was closed, and nobody works any more."""
        return (self._closing or self._ended) and self._is_gone()

    def await_end(self, timeout: float | None) -> None:
        """Wait until it is closed, by somebody else, and over."""
        if self.wait_for(Condition(self.is_over), timeout):
            self.join()

    def break_off(self, error: BaseException) -> None:
        """Of a death that breaks it, everybody is told in the standard library's words."""
        if self.strict and isinstance(error, deaths.WorkerDied):
            error = with_cause(deaths.WorkerDied(ABRUPT_END, *error.args[1:]))
        super().break_off(error)

    def end_soon(self) -> None:
        """After Ctrl-C: what waits is cancelled, and what runs is interrupted; then it is ended.

        From a terminal the workers have had the signal as well. Who has not gets it now.
        """
        if not self.is_ours():
            return
        self.cancel_waiting()
        self.close()
        if not self.wait_for(self._gone, HEED_S):
            self.send_all("interrupt")
        if not self.wait_for(self._gone, HEED_S):
            self.terminate()
        self.join()

    def revived(self, value: Any, job: Any = None, place: int = 0) -> BaseException:
        """A result that cannot be decoded is as lost as one whose worker died."""
        if job is None or not isinstance(value, BaseException):
            return super().revived(value, job, place)
        lost = std.BrokenProcessPool(
            f"the result of {described(job, place)} could not be unpickled: "
            f"{type(value).__qualname__}: {value}"
        )
        lost.__cause__ = value
        return lost


class Call(weakref.ref, Job):  # type: ignore[type-arg]
    """A task as the crew knows it: a reference to its future that does not keep it.

    When nobody has the future any more, the crew's thread is told (Board.drop) and takes the
    result. A future with a callback is kept, by this, until that was called.
    """

    __slots__ = ("call", "cancelled", "done", "function", "number", "staff")

    attention = WATCHED
    kept: TaskFuture | None = None
    stops = False  # whether Future.cancel() stops it while it runs
    left = False  # to the crew's thread, to tell who waits

    # Two calls are never the same, whatever becomes of their futures.
    __hash__ = object.__hash__
    __eq__ = object.__eq__

    def __new__(cls, future: TaskFuture, staff: Staff, *_: Any) -> Call:
        return weakref.ref.__new__(cls, future, staff.drop)

    def __init__(
        self, future: TaskFuture, staff: Staff, call: tuple[Any, Any, Any], rules: Any
    ) -> None:
        """CALL is (function, args, kwargs)."""
        self.staff = staff  # the reference is made, and takes no arguments here
        self.call: tuple[Any, Any, Any] | None = call
        self.function: Any = None  # encoded
        self.number: int | None = None  # on the board; None: it could not be put there
        self.done = self.cancelled = False  # to note it later needs no memory
        if rules.is_special:
            self.timeout, self.retries = rules.timeout, rules.retries
            self.stops = rules.stop_running
        future._call = self

    def submit(self) -> bool:
        """Put the task on the board; False: its future says why that is not possible."""
        function, kind, argument = self.argument_of(0)
        try:
            function = self.function = self.staff.function(function)
        except Exception as error:
            self.fail(0, error)
            return False
        try:
            number = self.staff.submit(function, kind, argument, self)
        except BaseException:  # nothing has come of it
            self._let_go(self())
            raise
        if self.number is None:  # it may have moved already: its worker has died
            self.number = number
        return number is not None

    def argument_of(self, place: int) -> tuple[Any, int, Any]:
        """(function, kind, argument) for the board."""
        if self.call is None:
            raise RuntimeError("the task has its answer already")
        function, args, kwargs = self.call
        if kwargs:
            return self.function or function, _core.APPLY, (args, kwargs)
        return self.function or function, _core.STAR, args

    def describe(self, place: int) -> str:
        return "a task" if self.call is None else faults.describe(*self.call)

    def mover(self, place: int) -> Callable[[int], object]:
        return functools.partial(setattr, self, "number")

    def tell(self) -> None:
        """Have the crew's thread take the result."""
        if self.attention != TOLD and not self.done:
            self.staff.tell(self)

    def is_claimed(self) -> bool:
        """Whether a worker has the task."""
        return self.number is not None and self.staff.is_claimed(self.number)

    @property
    def over(self) -> bool:
        return self.done and not self.left

    def cancel(self, stop: bool) -> bool:
        """Cancel it if nobody has claimed it, or else STOP it; whether that was done now."""
        try:
            if self.cancelled or not self._strike(stop):
                return False
            self._be_cancelled()
            self.staff.poke(self)
        except BaseException:
            if self.cancelled:
                self.staff.tell_soon(self, _base.CancelledError())
            raise
        return True

    def _strike(self, stop: bool) -> bool:
        """Whether nobody waits for the task any more, and not because it has its answer.

        Any number of threads at once, without a lock. The board says yes to one of those who ask
        for a number. From there until that is noted the GIL is kept: what is let go with the number
        is held here, too, so no finalizer runs. Who was told no looks at the note after that, and
        so sees that of another one's yes. In a forked child the board refuses.
        """
        while not (self.done or self.cancelled) and (number := self.number) is not None:
            note_yes(self, "cancelled", self.staff.board.cancel, number)
            if stop:
                note_yes(self, "cancelled", self.staff.board.strike, number)
            if stop and self.cancelled:
                self.staff.stops.stop_struck(number)
            if number == self.number:  # otherwise it was put again meanwhile
                break
        return self.cancelled

    def _be_cancelled(self) -> None:
        """Ctrl-C may come at any place in here: then this is called again."""
        future = self()
        if future is None or future._cancel():
            self._let_go(future)
        else:
            self._leave(ERROR, _base.CancelledError())

    def numbers(self) -> list[tuple[int, int]]:
        """(place, number) of what is on the board."""
        return [] if self.number is None else [(0, self.number)]

    def cancel_place(self, place: int) -> None:
        """Cancel it if nobody has claimed it."""
        self.cancel(False)

    # --- the answer ----------------------------------------------------------------------------

    def deliver(self, place: int, value: Any) -> None:
        self._answer(value, None)

    def fail(self, place: int, error: BaseException) -> None:
        if not self.cancelled:
            self._answer(None, with_cause(error))
            return
        if self.stops and self.number is not None:  # who cancelled it was interrupted before that
            self.staff.stops.stop_struck(self.number)
        self._be_cancelled()

    def give_up(self, error: BaseException) -> None:
        self.fail(0, error)

    def _answer(self, result: Any, error: BaseException | None) -> None:
        """Ctrl-C may come at any place in here: then this is called again."""
        future = self()
        if future is None or future._finish(result, error):
            self._let_go(future)
        elif error is None:
            self._leave(VALUE, result)
        else:
            self._leave(ERROR, error)

    def _leave(self, what: int, value: Any) -> None:
        """Have the crew's thread say so, to somebody who waits."""
        self.left = True
        self.staff.leave_to_thread(self, what, value)

    def _let_go(self, future: TaskFuture | None) -> None:
        """It is over: nothing of the task is held any more, nor this by the future."""
        self.left, self.done = False, True
        self.call = self.function = None
        if future is not None:
            future._call = None
            if (waiters := vars(future).get("_waiters")) is not None:
                waiters._call = None
        if self.kept is not None:
            self.kept = None


def with_cause(error: BaseException) -> BaseException:
    """ERROR; of a dead worker, with the cause that the standard library gives."""
    if isinstance(error, deaths.WorkerDied) and error.__cause__ is None:
        ended = f"Process {error.pid} terminated abruptly with exit code {error.exitcode}"
        error.__cause__ = RemoteTraceback(f"\n'''\n{ended}'''")
    return error


class _Waiters(list):  # type: ignore[type-arg]
    """Those that concurrent.futures.wait() and as_completed() have wait for a future."""

    def __init__(self, call: Call | None) -> None:
        super().__init__()
        self._call = call

    def append(self, waiter: Any) -> None:
        super().append(waiter)
        if self._call is not None:
            self._call.tell()


class TaskFuture(_base.Future):  # type: ignore[type-arg]
    """The result of a task that is, or was, on the board."""

    _state = PENDING
    _result: Any = None
    _exception: BaseException | None = None

    _call: Call | None = None  # None: it is over
    _lock: Any  # the condition's; Ctrl-C comes into the condition's own `with`
    _condition: threading.Condition
    _waiters: list[Any]
    _done_callbacks: list[Callable[[Any], object]]
    _uncalled: Iterator[Callable[[Any], object]]  # of those

    def __init__(self) -> None:
        """What a standard future has is made when it is needed."""

    def __getattr__(self, name: str) -> Any:
        """Make what is needed for those who want to be told."""
        if name not in ("_condition", "_lock", "_waiters", "_done_callbacks", "_uncalled"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        with _first:
            made = vars(self)
            if "_condition" not in made:
                made["_waiters"], made["_done_callbacks"] = _Waiters(self._call), []
                made["_uncalled"] = iter(made["_done_callbacks"])
                made["_lock"] = lock = threading.RLock()
                made["_condition"] = threading.Condition(lock)
            return made[name]

    def __repr__(self) -> str:
        running = self.running()  # which takes what is there
        text = super().__repr__()
        return text.replace(" state=pending", " state=running") if running else text

    # --- by those who want to know -------------------------------------------------------------

    def result(self, timeout: float | None = None) -> Any:
        """Return what the task returned, or raise what it raised."""
        self._await(timeout)
        if self._exception is not None:
            try:
                raise self._exception
            finally:
                del self  # which the traceback of the exception would hold
        return self._result

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return what the task raised, or None."""
        self._await(timeout)
        return self._exception

    def _await(self, timeout: float | None) -> None:
        """Wait until there is a result, or raise why there is none."""
        call = self._call
        if call is not None and self._state == PENDING:
            call.staff.check_owner()
            call.staff.wait_for(call, timeout)
        if self._state in CANCELLED:
            raise _base.CancelledError
        if self._state != FINISHED:
            raise TimeoutError

    def done(self) -> bool:
        """Whether it was cancelled, or its task is over."""
        call = self._call
        if call is not None and self._state == PENDING:
            call.staff.pump_once()
        return self._state in FINAL

    def running(self) -> bool:
        """Whether a worker has begun the task, or has it among those that it does next."""
        if self.done():
            return False
        call = self._call
        return call is not None and call.is_claimed()

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._state in CANCELLED

    def add_done_callback(self, fn: Callable[[_base.Future[Any]], object]) -> None:
        """Have FN called with this future when it is done; now if it is."""
        call = self._call
        if call is not None:
            call.kept = self
        super().add_done_callback(fn)
        if call is not None:
            call.tell()
            if call.done:
                call.kept = None

    # --- by those who know ---------------------------------------------------------------------

    def cancel(self) -> bool:
        """Cancel it, if no worker has begun the task; with stop_running=True even then."""
        call = self._call
        if call is None:
            return self.cancelled()
        return call.cancel(call.stops) or call.cancelled

    def _cancel(self) -> bool:
        """Any thread; who was interrupted in here calls again. Nothing is done a second time.

        False: who waits is not told, and the crew's thread shall call this.
        """
        with self._lock:
            if self._state == PENDING:
                self._state = _base.CANCELLED
        self._call_back()
        with self._lock:
            if self._state == _base.CANCELLED:
                if self._is_for_thread():
                    return False
                self._state = _base.CANCELLED_AND_NOTIFIED
                self._tell("add_cancelled")
        return True

    def _finish(self, result: Any, error: BaseException | None) -> bool:
        """The task is over. As above."""
        with _first:
            if "_condition" not in vars(self):  # nobody wants to be told
                if self._state == PENDING:
                    self._result, self._exception, self._state = result, error, FINISHED
                return True
        with self._lock:
            if self._state == PENDING:
                if self._is_for_thread():
                    return False
                self._result, self._exception, self._state = result, error, FINISHED
                self._tell("add_result" if error is None else "add_exception")
        self._call_back()
        return True

    def _call_back(self) -> None:
        try:
            self._invoke_callbacks()
        except BaseException:  # sys.exit() in a callback, say: it ends nobody's thread
            if threading.current_thread() is threading.main_thread():
                raise
            report()

    def _is_for_thread(self) -> bool:
        """Whether somebody is to be told, and Ctrl-C may come in between. Under the lock."""
        call = self._call
        is_main = threading.current_thread() is threading.main_thread()
        return bool(is_main and self._waiters and call is not None and call.staff.has_thread())

    def _tell(self, what: str) -> None:
        """Tell who waits. Under the lock, with the state that they look at."""
        for waiter in self._waiters:
            getattr(waiter, what)(self)

    def _invoke_callbacks(self) -> None:
        """Who waits for the result goes on before callbacks run, and whatever they do."""
        if call := self._call:
            call.done = True
            call.staff.let_go_on(call)
        turns: Any = map(functools.partial, self._uncalled, itertools.repeat(self))
        while operator.length_hint(self._uncalled):
            try:
                # No byte code runs between the next one's turn and its call: Ctrl-C would lose it.
                # max(), of one, hands on whatever the call raises, StopIteration, too.
                max(itertools.islice(turns, 1), key=operator.call, default=None)
            except Exception:
                _base.LOGGER.exception("exception calling callback for %r", self)
        self._done_callbacks.clear()  # none is added any more


def _forked() -> None:
    """In a forked child: other threads, of which one may have held it, are not here."""
    global _first  # noqa: PLW0603
    _first = threading.RLock()


os.register_at_fork(after_in_child=_forked)

"""ProcessPoolExecutor: the standard one, over a crew of workers and their board.

    submit()   a TaskFuture (leveret.futures); its task is on the board when submit() returns
    map()      no futures: an iterator over the results (leveret.mapped)
    workers    started as tasks come (all at once where they are forked, as in the standard
               library), not daemons; a worker's death costs the task that it ran
    options()  the same workers, under other rules: executor.options(timeout=3).submit(...)

    executor --- owns ---> staff <--- need --- futures, iterators
        '-- is dropped, or shut down: the staff closes; what is under way is finished first

At the interpreter's exit all staffs are closed, and waited for.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import _base
from concurrent.futures import process as std
from time import monotonic

from . import _core, cpus
from .context import adopted, default_context
from .crew import not_ours
from .futures import ABRUPT_END, Call, RemoteTraceback, Staff, TaskFuture
from .hints import Any, Never
from .limits import Rules, check_memory, check_threads
from .mapped import MapResults, map_tasks
from .reduction import portable
from .worker import runner_of

__all__ = ["ProcessPoolExecutor"]

SHUT = "cannot schedule new futures after shutdown"
EXITING = "cannot schedule new futures after interpreter shutdown"
BROKEN = "A child process terminated abruptly, the process pool is not usable anymore"

# Not in the standard module's stub.
_chain: Any = vars(std)["_chain_from_iterable_of_lists"]

# Staffs that somebody needs: the interpreter does not exit before they are done.
_staffs: weakref.WeakSet[Staff] = weakref.WeakSet()
_exit_began = threading.Event()


def _at_exit() -> None:
    """Finish what was submitted, as threads are joined; not what Ctrl-C has ended."""
    _exit_began.set()
    staffs = list(_staffs)
    if _is_interrupted():
        for staff in staffs:
            staff.end_soon()
    for staff in staffs:
        staff.close()
    for staff in staffs:
        staff.join()


def _is_interrupted() -> bool:
    """Whether the program ends because of a KeyboardInterrupt that nobody caught."""
    return isinstance(getattr(sys, "last_value", None), KeyboardInterrupt) and not hasattr(
        sys, "ps1"
    )


def _is_ctrl_c(error: BaseException | None) -> bool:
    """Whether Ctrl-C is why a block is left: a KeyboardInterrupt, or what asyncio makes of it.

    asyncio.run() cancels the main task; or it was left by a KeyboardInterrupt, and cancels what
    there is, which is the context of each such cancellation then.
    """
    cancelled = getattr(sys.modules.get("asyncio"), "CancelledError", ())
    if isinstance(error, cancelled) and _is_runner_interrupted():
        return True
    while isinstance(error, cancelled):
        error = error.__context__
    return isinstance(error, KeyboardInterrupt)


def _is_runner_interrupted() -> bool:
    """Whether asyncio.run() will end in a KeyboardInterrupt, unless the program survives it."""
    handler: Any = signal.getsignal(signal.SIGINT)
    if (runner := runner_of(handler)) is None or not runner._interrupt_count:
        return False
    return bool(handler.keywords["main_task"].cancelling())


vars(threading)["_register_atexit"](_at_exit)
os.register_at_fork(after_in_child=_staffs.clear)


class _Initializer:
    """The program's initializer, which tells the log of the worker when it fails."""

    def __init__(self, function: Callable[..., object]) -> None:
        self._function = function
        self.__qualname__ = getattr(function, "__qualname__", type(function).__qualname__)

    def __reduce__(self) -> tuple[Any, ...]:
        return _Initializer, (portable(self._function),)

    def __call__(self, *args: Any) -> None:
        try:
            self._function(*args)
        except BaseException as error:
            _core.let_go(error)
            _base.LOGGER.critical("Exception in initializer:", exc_info=True)
            raise


class _Manager:
    """Stands for the standard executor's thread and queue: they are over when the workers are."""

    def __init__(self, staff: Staff) -> None:
        self._staff = staff

    def is_alive(self) -> bool:
        return not self._staff.is_over()

    def join(self, timeout: float | None = None) -> None:
        """Wait until the executor was shut down, its tasks are done and its workers are over."""
        self._staff.await_end(timeout)

    join_thread = join


class ProcessPoolExecutor(std.ProcessPoolExecutor):
    """Runs calls in worker processes, and gives futures for them."""

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: Any = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
        timeout: float | None = None,
        retries: int = 0,
        stop_running: bool = False,
        strict: bool = False,
        max_memory_per_child: int | tuple[int, int] | None = None,
        threads: int | str | None = "share",
    ) -> None:
        """As the standard one, and:

        timeout              seconds that a task may take; then it is stopped: TaskTimeout
        retries              how many times a task whose worker died is run again
        stop_running         Future.cancel() stops a task that runs, too
        strict               a worker's death breaks the executor, as in the standard library
        max_memory_per_child, threads   as those of leveret.Pool
        """
        if max_workers is None:
            max_workers = cpus.usable()
        elif not isinstance(max_workers, int):
            raise TypeError(f"max_workers must be an integer, not {max_workers!r}")
        elif max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        if mp_context is not None and not hasattr(mp_context, "get_start_method"):
            raise TypeError(f"mp_context must be what get_context() returns, not {mp_context!r}")
        self._max_workers = max_workers
        self._mp_context: Any = mp_context or _context_for(max_tasks_per_child)
        self._check_most_tasks(max_tasks_per_child)
        self._max_tasks_per_child = max_tasks_per_child
        self._initializer: Any = initializer
        self._initargs = initargs
        self._rules = Rules(timeout, retries, stop_running)
        self._strict = strict
        self._memory, self._blas_threads = (
            check_memory(max_memory_per_child),
            check_threads(threads),
        )
        self._staff: Staff | None = None
        self._hired_by: int | None = None
        self._shutdown_lock: Any = threading.RLock()
        self._shutdown_thread = self._force_shutting_down = False

    @property
    def _forks(self) -> bool:
        return bool(self._mp_context.get_start_method(allow_none=False) == "fork")

    def _check_most_tasks(self, most: int | None) -> None:
        if most is None:
            return
        if not isinstance(most, int):
            raise TypeError("max_tasks_per_child must be an integer")
        if most <= 0:
            raise ValueError("max_tasks_per_child must be >= 1")
        if self._forks:
            raise ValueError(
                "max_tasks_per_child is incompatible with the 'fork' multiprocessing start method; "
                "supply a different mp_context."
            )

    # --- tasks ---------------------------------------------------------------------------------

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Have fn(*args, **kwargs) called in a worker; returns its future."""
        return self._submit(self._rules, fn, args, kwargs)

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
        **unknown: Never,
    ) -> Iterator[Any]:
        """As map(fn, *iterables), in workers. All items are put at once, or BUFFERSIZE at a time.

        TimeoutError in the iterator if a result is not there TIMEOUT seconds after this call.
        """
        _refuse(unknown)
        if getattr(self.submit, "__func__", None) is not ProcessPoolExecutor.submit:
            extra = {} if buffersize is None else {"buffersize": buffersize}
            return super().map(fn, *iterables, timeout=timeout, chunksize=chunksize, **extra)
        return self._map(self._rules, fn, iterables, timeout, chunksize, buffersize)

    def options(self, *, timeout: Any = ..., retries: Any = ..., stop_running: Any = ...) -> _View:
        """The same workers, for tasks under other rules: those that an executor is made with.

        executor.options(timeout=3).submit(work, 7)
        """
        return _View(self, self._rules.changed(timeout, retries, stop_running))

    def _submit(
        self, rules: Rules, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> TaskFuture:
        future = TaskFuture()
        call = Call(future, self._ready_staff(), (fn, args, kwargs), rules)
        if not call.submit() and self._shutdown_thread:
            raise RuntimeError(SHUT)  # it was shut down meanwhile
        return future

    def _map(
        self,
        rules: Rules,
        fn: Callable[..., Any],
        iterables: tuple[Iterable[Any], ...],
        timeout: float | None,
        chunksize: int,
        buffersize: int | None,
    ) -> Iterator[Any]:
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None and not isinstance(buffersize, int):
            raise TypeError("buffersize must be an integer or None")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        end = None if timeout is None else timeout + monotonic()
        kind, tasks = map_tasks(iterables, chunksize)
        first = list(itertools.islice(tasks, 1))
        if not first:
            nothing: Iterator[Any] = _chain(())  # a generator, as there
            return nothing
        results = MapResults(self._ready_staff(), fn, kind, rules)
        iterator = results.iterate(None if buffersize is None else (weakref.ref(self), tasks), end)
        for task in itertools.islice(itertools.chain(first, tasks), buffersize):
            results.add(task)
        return iterator if chunksize == 1 else _chain(iterator)

    def _ready_staff(self) -> Staff:
        """The staff, made when it is first needed; or what there is to be said instead."""
        staff = self._staff
        if staff is not None and staff.broken is not None:
            raise self._broken_error(staff.broken)
        if self._shutdown_thread:
            raise RuntimeError(SHUT)
        if _exit_began.is_set():
            raise RuntimeError(EXITING)
        return staff or self._make_staff()

    def _make_staff(self) -> Staff:
        with self._shutdown_lock:
            if self._staff is None:
                # Workers that are forked here find no staff; they shall not make one.
                if self._hired_by not in (None, os.getpid()):
                    raise not_ours(self._hired_by)
                self._hired_by = os.getpid()
                staff = Staff(
                    size=min(self._max_workers, _core.ROWS_MAX),
                    context=adopted(self._mp_context),
                    initializer=self._initializer and _Initializer(self._initializer),
                    initargs=self._initargs,
                    most_tasks=self._max_tasks_per_child,
                    daemon=False,
                    strict=self._strict,
                    memory=self._memory,
                    threads=self._blas_threads,
                    traceback_class=RemoteTraceback,
                    rules="executor",
                    on_demand=not self._forks,
                    start=False,
                    name="leveret-executor",
                )
                _staffs.add(staff)
                dropped = weakref.finalize(self, staff.close)
                dropped.atexit = False
                staff.at_end = dropped.detach  # its errors' tracebacks may lead to us
                self._start(staff)
                return staff
            return self._staff

    def _start(self, staff: Staff) -> None:
        """Who is interrupted in here has no staff, and no workers; the next submit() makes both."""
        try:
            if self._forks:
                staff.start_all()
            self._staff = staff
        except BaseException:
            staff.terminate()
            raise

    def _broken_error(self, error: BaseException) -> BaseException:
        broken = std.BrokenProcessPool(self._broken)
        broken.__cause__ = error
        return broken

    # --- ends ----------------------------------------------------------------------------------

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more tasks. The workers end when those that there are have been done.

        WAIT until they have; CANCEL_FUTURES of tasks that nobody has begun.
        """
        with self._shutdown_lock:
            self._shutdown_thread = True
            staff = self._staff
        if staff is None:
            return
        if cancel_futures:  # in the standard library some are with the workers already
            staff.pump_once()
            staff.cancel_waiting(spared=staff.free())
        staff.close()
        if wait and not self._force_shutting_down:
            staff.join()

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if self._staff is not None and _is_ctrl_c(error):
            self._shutdown_thread = True
            self._staff.end_soon()
        self.shutdown(wait=True)

    def terminate_workers(self) -> None:
        """End the workers by SIGTERM, and fail what they have not done."""
        self._force_shutdown(operation="terminate")

    def kill_workers(self) -> None:
        """End the workers by SIGKILL, and fail what they have not done."""
        self._force_shutdown(operation="kill")

    def _force_shutdown(self, operation: str) -> None:
        if operation not in ("terminate", "kill"):
            raise ValueError(f"Unsupported operation: {operation!r}")
        self._force_shutting_down = True
        self.shutdown(wait=False, cancel_futures=True)
        if self._staff is not None:
            self._staff.give_up(_ended_by(operation, self._staff.pids()))
            self._staff.send_all(operation)

    # --- what programs read of the standard executor -------------------------------------------

    @property
    def _processes(self) -> dict[int, Any] | None:  # type: ignore[override]
        """The workers by pid."""
        if self._shutdown_thread:
            return None
        return {} if self._staff is None else self._staff.pids()

    @property
    def _broken(self) -> str | bool:  # type: ignore[override]
        """Why it takes no tasks any more; False if it does."""
        if self._staff is None or self._staff.broken is None:
            return False
        return BROKEN if self._strict or self._force_shutting_down else str(self._staff.broken)

    @property
    def _executor_manager_thread(self) -> _Manager | None:  # type: ignore[override]
        if self._staff is None or self._shutdown_thread:
            return None
        return _Manager(self._staff)

    @property
    def _call_queue(self) -> _Manager | None:
        return self._executor_manager_thread


def _context_for(most_tasks: int | None) -> Any:
    """The context of an executor that was given none."""
    return default_context.get_context(None if most_tasks is None else "spawn")


def _ended_by(operation: str, workers: Iterable[int]) -> BaseException:
    """What tasks are told, with the cause: there, the exit codes of workers that are over by then.

    Who waits is told before the workers are ended, so it is the signal here.
    """
    name = signal.SIGKILL.name if operation == "kill" else signal.SIGTERM.name
    ended = [f"Process {pid} was sent {name} by {operation}_workers()" for pid in workers]
    error = std.BrokenProcessPool(ABRUPT_END)
    if ended:
        error.__cause__ = RemoteTraceback("\n'''\n" + "\n".join(ended) + "'''")
    return error


def _refuse(unknown: dict[str, Any]) -> None:
    """Raise for what map() takes no argument for; rules for tasks have their own place."""
    for name in unknown:
        hint = ""
        if name in ("retries", "stop_running"):
            hint = f"; it is a rule for tasks: executor.options({name}=...).map(...)"
        if name == "progress":
            hint = "; that of leveret.Pool has it"
        raise TypeError(f"map() got an unexpected keyword argument {name!r}{hint}")


class _View(_base.Executor):
    """An executor's workers, for tasks under rules of their own."""

    def __init__(self, executor: ProcessPoolExecutor, rules: Rules) -> None:
        self._executor, self._rules = executor, rules

    def __repr__(self) -> str:
        return f"<tasks of {self._executor!r} under {self._rules!r}>"

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """As the executor's."""
        return self._executor._submit(self._rules, fn, args, kwargs)

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
        **unknown: Never,
    ) -> Iterator[Any]:
        """As the executor's."""
        _refuse(unknown)
        return self._executor._map(self._rules, fn, iterables, timeout, chunksize, buffersize)

    def options(self, *, timeout: Any = ..., retries: Any = ..., stop_running: Any = ...) -> _View:
        """The same workers, under these rules with others among them."""
        return _View(self._executor, self._rules.changed(timeout, retries, stop_running))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """The executor's."""
        self._executor.shutdown(wait, cancel_futures=cancel_futures)

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        return self._executor.__exit__(kind, error, traceback)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._executor, name)

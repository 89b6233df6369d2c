"""Pool: worker processes for functions over many arguments.

    map, starmap, apply        the calling thread takes the results itself
    ..._async                  an object that has the result when it is there (leveret.jobs)
    imap, imap_unordered       results as they come; the input is read as they are taken
               |
             Crew  ---  the workers, and the board between them and us (leveret.crew)

It is a standard pool for isinstance(), and in what it promises. A subclass with queues of its own
(`_setup_queues`), such as joblib's, has pickling of its own: it gets the standard library's pool,
with workers that are ours.
"""

from __future__ import annotations

import abc
import functools
import warnings
import weakref
from collections.abc import Callable, Iterable, Mapping
from multiprocessing import util
from multiprocessing.pool import ThreadPool

from . import _core, cpus, progress
from .context import adopted, default_context
from .crew import Crew
from .hints import Any, NoReturn
from .jobs import (
    WHOLE,
    ApplyResult,
    IMapIterator,
    IMapUnorderedIterator,
    MapResult,
    OrderedStream,
    Stream,
)
from .limits import Rules, check_arguments, check_keywords, check_memory, check_threads
from .pump import ALONE, WATCHED

TYPE_CHECKING = False
if TYPE_CHECKING:
    std: Any  # its stub leaves out what we use of it
else:
    from multiprocessing import pool as std

__all__ = ["Pool", "ThreadPool"]

INIT, RUN, CLOSE, TERMINATE = "INIT", "RUN", "CLOSE", "TERMINATE"

# Before install() replaces it.
Standard: Any = std.Pool


def _of_crew(method: Any) -> Any:
    """METHOD for pools with a crew; for others the standard one of that name."""
    name = method.__name__

    @functools.wraps(method)
    def chosen(self: Any, *args: Any, **kwargs: Any) -> Any:
        if getattr(self, "_crew", None) is None:  # a standard ThreadPool has none
            return getattr(Standard, name)(self, *args, **kwargs)
        return method(self, *args, **kwargs)

    return chosen


def _given(timeout: Any, retries: Any) -> dict[str, Any]:
    """The limits that a call was given, for a standard pool to refuse."""
    limits = {"timeout": timeout, "retries": retries}
    return {name: limit for name, limit in limits.items() if limit is not ...}


class Pool(Standard, metaclass=abc.ABCMeta):  # type: ignore[misc]
    """A pool of worker processes."""

    _crew: Any = None

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: Any = None,
        *,
        timeout: float | None = None,
        retries: int = 0,
        strict: bool = False,
        max_memory_per_child: int | tuple[int, int] | None = None,
        threads: int | str | None = "share",
    ) -> None:
        """Start PROCESSES workers: by default as many as processors may be used.

        Each calls initializer(*initargs) before its first task; where that fails the pool is
        broken. After MAXTASKSPERCHILD tasks (a chunk is one) another worker takes its place. A task
        whose worker dies raises WorkerDied.

        timeout              seconds that a task may take; then it is stopped: TaskTimeout
        retries              how many times a task whose worker died is run again
        strict               a worker's death breaks the pool
        max_memory_per_child  bytes of its own that a worker may have after a task, else another one
                             takes its place; twice as much it does not get (or: a pair of both)
        threads              of BLAS and OpenMP in a worker: its "share" of the processors, a
                             number, or None: as they like
        """
        self._pool: list[Any] = []
        self._state = INIT
        if type(self)._setup_queues is not Standard._setup_queues:
            context = context or default_context.get_context()
            Standard.__init__(self, processes, initializer, initargs, maxtasksperchild, context)
            return
        self._ctx = adopted(context) if context else default_context.get_context()
        self._processes = _check_processes(processes)
        _check_start(maxtasksperchild, initializer)
        self._maxtasksperchild = maxtasksperchild
        self._initializer, self._initargs = initializer, initargs
        self._rules = Rules(timeout, retries)
        self._start(
            strict=strict,
            memory=check_memory(max_memory_per_child),
            threads=check_threads(threads),
        )

    def _start(self, **options: Any) -> None:
        crew = Crew(
            size=self._processes,
            context=self._ctx,
            initializer=self._initializer,
            initargs=self._initargs,
            most_tasks=self._maxtasksperchild,
            traceback_class=std.RemoteTraceback,
            make=functools.partial(_make_worker, self.Process, self._ctx),
            name="leveret-pool",
            **options,
        )
        self._crew = crew
        self._pool = crew.processes
        # At the interpreter's exit; and when the program has dropped the pool.
        self._terminate = util.Finalize(None, crew.terminate, exitpriority=15)
        dropped = weakref.finalize(self, crew.retire)
        dropped.atexit = False
        crew.at_end = functools.partial(_forget, self._terminate, dropped)
        self._state = RUN

    def __del__(self, _warn: Any = warnings.warn) -> None:
        crew = self.__dict__.get("_crew")
        if self.__dict__.get("_state") == RUN and (crew is None or crew.is_ours()):
            _warn(f"unclosed running multiprocessing pool {self!r}", ResourceWarning, source=self)
            if notifier := self.__dict__.get("_change_notifier"):
                notifier.put(None)

    @_of_crew
    def _repopulate_pool(self) -> None:
        self._crew.pump_once()

    @property
    def _cache(self) -> Any:
        """The jobs that are not over; of a standard pool, what it keeps of them."""
        return self.__dict__["_cache"] if self._crew is None else self._crew.jobs

    @_cache.setter
    def _cache(self, value: Any) -> None:
        self.__dict__["_cache"] = value

    def _check_running(self) -> None:
        if self._crew is not None:
            self._crew.check_owner()
        if self._state != RUN:
            raise ValueError("Pool not running")

    # --- one task ------------------------------------------------------------------------------

    @_of_crew
    def apply(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},
        *,
        timeout: Any = ...,
        retries: Any = ...,
    ) -> Any:
        """Call func(*args, **kwds) in a worker, and return what it returns."""
        return self._apply(func, args, kwds, timeout, retries).get()

    def apply_async(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        *,
        timeout: Any = ...,
        retries: Any = ...,
    ) -> ApplyResult:
        """The same without waiting: returns the result to be."""
        if self._crew is None:  # as _of_crew() does, which repacks what this hot call is given
            put: Any = Standard.apply_async
            limits = _given(timeout, retries)
            result: ApplyResult = put(self, func, args, kwds, callback, error_callback, **limits)
            return result
        return self._apply(func, args, kwds, timeout, retries, WATCHED, callback, error_callback)

    def _apply(
        self,
        func: Any,
        args: Any,
        kwds: Any,
        timeout: Any,
        retries: Any,
        attention: int = ALONE,
        callback: Any = None,
        error_callback: Any = None,
    ) -> ApplyResult:
        if self._state != RUN:  # whose it is the crew asks itself
            self._check_running()
        crew, rules = self._crew, self._rules
        if timeout is not ... or retries is not ...:
            rules = rules.changed(timeout, retries)
        job = ApplyResult(crew, func, rules, attention, callback, error_callback)
        try:
            job.arguments = args if type(args) is tuple else check_arguments("args", args)
            if kwds or type(kwds) is not dict:
                job.keywords = check_keywords(kwds) or None
            function = crew.function(func)
        except Exception as error:
            crew.fail_at_once(job, error)
        else:
            kind, argument = job.task()
            crew.submit(function, kind, argument, job)
        return job

    # --- many tasks ----------------------------------------------------------------------------

    @_of_crew
    def map(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        *,
        timeout: Any = ...,
        retries: Any = ...,
        progress: Any = None,
    ) -> list[Any]:
        """Call func(item) for each item, in the workers; the results, in order.

        Without chunksize each item is a task, and workers take as many at a time as is good; where
        there are very many, and none has limits, a task is a small share of them.

        timeout, retries     of these tasks, instead of the pool's
        progress             True: a bar of tqdm's if it is installed, else a line on a terminal;
                             or what is to be called with (done, total), as results come, several
                             at a time. What that raises is reported once, and nothing else
        """
        results: list[Any]
        results = self._map(func, iterable, False, chunksize, timeout, retries, progress).get()
        return results

    @_of_crew
    def starmap(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        *,
        timeout: Any = ...,
        retries: Any = ...,
        progress: Any = None,
    ) -> list[Any]:
        """Call func(*item) for each item; the rest is as in map()."""
        results: list[Any]
        results = self._map(func, iterable, True, chunksize, timeout, retries, progress).get()
        return results

    @_of_crew
    def map_async(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        *,
        timeout: Any = ...,
        retries: Any = ...,
    ) -> MapResult:
        """map() without waiting: returns the result to be."""
        attended = WATCHED, callback, error_callback
        return self._map(func, iterable, False, chunksize, timeout, retries, None, *attended)

    @_of_crew
    def starmap_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        *,
        timeout: Any = ...,
        retries: Any = ...,
    ) -> MapResult:
        """starmap() without waiting: returns the result to be."""
        attended = WATCHED, callback, error_callback
        return self._map(func, iterable, True, chunksize, timeout, retries, None, *attended)

    def _map(
        self,
        func: Any,
        iterable: Any,
        star: bool,
        chunksize: int | None,
        timeout: Any,
        retries: Any,
        wish: Any,
        attention: int = ALONE,
        callback: Any = None,
        error_callback: Any = None,
    ) -> MapResult:
        self._check_running()
        _check_chunksize(chunksize)
        crew = self._crew
        rules = self._rules.changed(timeout, retries)
        items, failed = _listed(iterable)
        shown = progress.shown(wish, len(items))
        callbacks = callback, error_callback
        options = star, chunksize, rules, attention, *callbacks, shown
        job = MapResult(crew, func, items, *options)
        if failed is not None:
            crew.fail_at_once(job, failed, WHOLE)
        else:
            job.start()
        return job

    # --- results as they come ------------------------------------------------------------------

    @_of_crew
    def imap(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int = 1,
        *,
        buffersize: int | None = None,
        timeout: Any = ...,
        retries: Any = ...,
        progress: Any = None,
    ) -> Any:
        """Call func(item) for each item; an iterator over the results, in order.

        At most BUFFERSIZE items are read beyond those whose results were taken, in whole chunks,
        one at least; by default a bound that grows with how quickly results are taken. The total
        that progress tells is None if the iterable has no len(); the rest is as in map().
        """
        options = chunksize, buffersize, timeout, retries, progress
        return self._stream(OrderedStream, IMapIterator, func, iterable, *options)

    @_of_crew
    def imap_unordered(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int = 1,
        *,
        buffersize: int | None = None,
        timeout: Any = ...,
        retries: Any = ...,
        progress: Any = None,
    ) -> Any:
        """The same with the results in the order in which they come."""
        options = chunksize, buffersize, timeout, retries, progress
        return self._stream(Stream, IMapUnorderedIterator, func, iterable, *options)

    def _stream(
        self,
        kind: type[Stream],
        facade: type[IMapIterator],
        func: Any,
        iterable: Any,
        chunksize: int,
        buffersize: int | None,
        timeout: Any,
        retries: Any,
        wish: Any,
    ) -> Any:
        self._check_running()
        _check_chunksize(chunksize)
        if buffersize is not None and (not isinstance(buffersize, int) or buffersize < 1):
            raise ValueError(f"buffersize must be a positive int or None, not {buffersize!r}")
        crew = self._crew
        total = len(iterable) if hasattr(iterable, "__len__") else None
        rules = self._rules.changed(timeout, retries)
        shown = progress.shown(wish, total)
        stream = kind(crew, func, iterable, chunksize, buffersize, rules)
        results = facade(self, stream, None if chunksize > 1 else shown)
        return results if chunksize == 1 else _flat(results, shown)

    # --- ends ----------------------------------------------------------------------------------

    def __reduce__(self) -> NoReturn:
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")

    @_of_crew
    def close(self) -> None:
        """No more tasks: the workers end when what there is has been done."""
        self._crew.check_owner()
        if self._state == RUN:
            self._state = CLOSE
            self._crew.close()

    @_of_crew
    def terminate(self) -> None:
        """End the workers at once, whatever they do."""
        self._crew.check_owner()
        self._state = TERMINATE
        self._terminate()

    @_of_crew
    def join(self) -> None:
        """Wait until the workers have ended; close() or terminate() comes first."""
        self._crew.check_owner()
        if self._state == RUN:
            raise ValueError("Pool is still running")
        if self._state not in (CLOSE, TERMINATE):
            raise ValueError("In unknown state")
        for job in list(self._crew.jobs):
            if isinstance(job, Stream):
                job.lift_bound()
        self._crew.join()


Pool.register(ThreadPool)


def _forget(at_exit: Any, dropped: Any) -> None:
    """A crew is at its end: nobody needs to end it."""
    at_exit.cancel()
    dropped.detach()


def _make_worker(process: Any, context: Any, **arguments: Any) -> Any:
    worker = process(context, **arguments)
    worker.name = worker.name.replace("Process", "PoolWorker")
    return worker


def _flat(results: Any, shown: Any) -> Any:
    """The items of chunks."""
    try:
        for count, item in enumerate((item for chunk in results for item in chunk), 1):
            if shown is not None:
                shown(count)
            yield item
    finally:
        if shown is not None:
            shown(None)


def _listed(iterable: Any) -> tuple[Any, Exception | None]:
    """The items of an iterable; what that raises is for the result if its length is known."""
    if type(iterable) in (list, tuple):
        return iterable, None
    if not hasattr(iterable, "__len__"):
        return list(iterable), None
    try:
        return list(iterable), None
    except Exception as error:
        return [None], error


# Arguments.


def _check_processes(processes: int | None) -> int:
    if processes is None:
        return cpus.usable()
    if processes < 1:
        raise ValueError("Number of processes must be at least 1")
    if processes > _core.ROWS_MAX:
        raise ValueError(f"Number of processes must be at most {_core.ROWS_MAX}")
    return processes


def _check_start(maxtasksperchild: Any, initializer: Any) -> None:
    if maxtasksperchild is not None and (
        not isinstance(maxtasksperchild, int) or maxtasksperchild <= 0
    ):
        raise ValueError("maxtasksperchild must be a positive int or None")
    if initializer is not None and not callable(initializer):
        raise TypeError("initializer must be a callable")


def _check_chunksize(chunksize: Any) -> None:
    if chunksize is not None and chunksize < 1:
        raise ValueError(f"Chunksize must be 1+, not {chunksize!r}")


def __getattr__(name: str) -> Any:
    return getattr(std, name)

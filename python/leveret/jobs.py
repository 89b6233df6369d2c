"""What waits for a pool's results: the objects that the methods of a pool return.

    ApplyResult    one task
    MapResult      a batch of tasks; it is done when all of them are
    IMapIterator   the program's side of a stream; IMapUnorderedIterator: in the order of arrival
    Stream         tasks that are read from an iterable as results are consumed

        iterable --> tasks on the board, and results that nobody has taken yet --> next()
                     together at most BOUND

What cannot block (a list, a range) is read where the results are taken from; any other iterable by
a thread of its own, as it is the standard library's way: it may wait for the very results.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import threading
from collections.abc import Callable, Iterable, Sequence
from math import inf
from time import monotonic

from . import _core
from .crew import Crew
from .hints import Any
from .limits import Rules
from .pump import ALONE, TOLD, WATCHED, Condition, Failure, Job, Many, chunks, report

TYPE_CHECKING = False
if TYPE_CHECKING:
    std: Any  # its stub leaves out what we use of it
else:
    from multiprocessing import pool as std

__all__ = [
    "WHOLE",
    "ApplyResult",
    "IMapIterator",
    "IMapUnorderedIterator",
    "MapResult",
    "OrderedStream",
    "Stream",
]

APPLY = _core.APPLY
ITEM, CHUNK = _core.ITEM, _core.CHUNK
STAR, STARCHUNK = _core.STAR, _core.STARCHUNK

NOTHING = object()
WHOLE = -1  # no place, but all of a job

# Iterating over these runs no code of anybody's, and waits for nothing.
PLAIN = (list, tuple, range, str, bytes, dict, set, frozenset, collections.deque)

CHUNK_LEAST, CHUNK_MOST = 32, 512
CHUNKS_PER_WORKER = 256

BOUND_LEAST, BOUND_MOST = 64, 1 << 16
BOUND_PER_WORKER = 8
BOUND_S = 0.01  # a bound that is used up in less is too small

# Their own classes are replaced by install(), and these are made from them before.
_ApplyResult: Any = std.ApplyResult
_MapResult: Any = std.MapResult
_IMapIterator: Any = std.IMapIterator
_IMapUnorderedIterator: Any = std.IMapUnorderedIterator


class Result(Job):
    """What the results of apply_async() and map_async() have in common."""

    _crew: Crew
    _callback: Callable[[Any], object] | None = None
    _error_callback: Callable[[BaseException], object] | None = None
    _success = False
    _value: Any = None
    _telling = False

    def _begin(self, crew: Crew, callback: Any, error_callback: Any, rules: Rules) -> None:
        self._crew = crew
        if rules.is_special:
            self.timeout, self.retries = rules.timeout, rules.retries
        if callback is not None or error_callback is not None:
            self._callback, self._error_callback = callback, error_callback
            self.attention = TOLD

    def ready(self) -> bool:
        """Whether it is done."""
        if not self.done:
            self._crew.check_owner()
            self._crew.pump_once()
        return self.done

    def successful(self) -> bool:
        """Whether it is done and raised nothing."""
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return self._success

    def wait(self, timeout: float | None = None) -> None:
        """Wait until it is done, at most TIMEOUT seconds."""
        if not self.done:
            self._crew.check_owner()
            self._crew.wait_for(self, timeout)

    def get(self, timeout: float | None = None) -> Any:
        """Return what it returned, or raise what it raised, waiting at most TIMEOUT seconds."""
        if not (self.done or self._telling):
            self.wait(timeout)
            if not self.done:
                raise std.TimeoutError
        if self._success:
            return self._value
        raise self._value

    def _finish(self, success: bool, value: Any, callback: Any) -> None:
        """Be done: as in the standard library, once the callback has been called."""
        self._success, self._value = success, value
        if callback is not None:
            self._telling = True
            call_back(callback, value)
        self.done = True
        if self.attention == TOLD:
            self._callback = self._error_callback = None

    def give_up(self, error: BaseException) -> None:
        """No result will come. A program that terminates its pool is not called back."""
        if not self.done:
            broken = self._crew.broken is not None
            self._finish(False, error, self._error_callback if broken else None)


class Showing:
    """Who may have been asked to show how far it is, to the end, whatever that is."""

    _progress: Callable[[int | None], object] | None = None

    def _end_progress(self) -> None:
        progress, self._progress = self._progress, None
        if progress is not None:
            progress(None)


def call_back(callback: Callable[[Any], object], value: Any) -> None:
    """Call the program back; what it raises is reported as for any thread, and the pool goes on."""
    try:
        callback(value)
    except BaseException:
        report()


class ApplyResult(Result, _ApplyResult):  # type: ignore[misc]
    """The result of apply_async()."""

    arguments: Any = ()
    keywords: Any = None  # or those that there are

    def __init__(
        self,
        crew: Crew,
        function: Callable[..., Any],
        rules: Rules,
        attention: int = ALONE,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> None:
        self.attention = attention
        self._function: Any = function
        self._begin(crew, callback, error_callback, rules)

    def task(self) -> tuple[int, Any]:
        """The call for the board. Few have keywords: what is not there is not sent."""
        if self.keywords:
            return APPLY, (self.arguments, self.keywords)
        return STAR, self.arguments

    def argument_of(self, place: int) -> tuple[Any, int, Any]:
        """The task, to be put again."""
        return self._crew.function(self._function), *self.task()

    def describe(self, place: int) -> str:
        """The call, in words."""
        from . import faults

        return faults.describe(self._function, self.arguments, self.keywords or {})

    def deliver(self, place: int, value: Any) -> None:
        """The task returned VALUE."""
        if not self.done:
            self._finish(True, value, self._callback)
            self.arguments = self.keywords = None

    def fail(self, place: int, error: BaseException) -> None:
        """The task raised ERROR, or could not be run."""
        if not self.done:
            self._finish(False, error, self._error_callback)
            self.arguments = self.keywords = None


def _chunksize(items: int, workers: int) -> int:
    """How many of so many items are one task, where nobody has said and no item has a limit.

    One, as long as there are not so many that what a task costs is what counts. A chunk is at most
    a 256th of what a worker has to do: all that the workers can be apart at the end.
    """
    size = items // (CHUNKS_PER_WORKER * workers)
    return min(size, CHUNK_MOST) if size >= CHUNK_LEAST else 1


class MapResult(Showing, Result, Many, _core.Batch, _MapResult):  # type: ignore[misc]
    """The result of map_async() and starmap_async()."""

    def __init__(
        self,
        crew: Crew,
        function: Callable[..., Any],
        items: Sequence[Any],
        star: bool,
        chunksize: int | None,
        rules: Rules,
        attention: int = ALONE,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        progress: Callable[[int | None], object] | None = None,
    ) -> None:
        if chunksize is None and not rules.is_special and progress is None:
            chunksize = _chunksize(len(items), crew.size)
        chunked = chunksize is not None and chunksize > 1
        self.kind = (STARCHUNK if star else CHUNK) if chunked else (STAR if star else ITEM)
        self.tasks = list(chunks(iter(items), chunksize or 1)) if chunked else items
        self.attention = attention
        self.called = function
        self._size, self._total = chunksize or 1, len(items)
        self._progress = progress
        self._begin(crew, callback, error_callback, rules)
        _core.Batch.__init__(self, len(self.tasks))
        if progress is not None:
            self.notify = True
        if not self.tasks:
            self._finish(True, [], None)

    @property
    def _number_left(self) -> int:  # of tasks: what programs read that show how far it is
        return self.left

    def start(self) -> None:
        """Put the tasks."""
        if self.tasks:
            try:
                function = self._crew.function(self.called)
            except Exception as error:
                self._crew.fail_at_once(self, error, WHOLE)
            else:
                self._crew.submit_many(function, self.kind, self.tasks, self)

    def argument_of(self, place: int) -> tuple[Any, int, Any]:
        """The task at that place, to be put again."""
        return self._crew.function(self.called), self.kind, self.tasks[place]

    def task_at(self, place: int) -> Any:
        """What is called with."""
        return self.tasks[place]

    def fail(self, place: int, error: BaseException) -> None:  # type: ignore[override]
        """The task at that place could not be run, or the WHOLE."""
        if self.done:
            return
        if place == WHOLE:
            self._end_progress()
            self.failures.append((place, error))
            self.left = 0
        if self.left == 0 or _core.Batch.fail(self, place, error):
            self.finish()

    def finish(self) -> None:
        """Results have come; when it was the last one, we are done."""
        if self.done:
            return
        if self._progress is not None:
            count = (len(self.results) - self.left) * self._size
            self._progress(min(count, self._total) if self.left else self._total)
        if self.left > 0:
            return
        if self.failures:
            self._finish(False, self._first_error(), self._error_callback)
        else:
            self._finish(True, self._all_results(), self._callback)
        self.tasks = ()

    def _first_error(self) -> BaseException:
        """What fail() was told is a result, too, and told as it is."""
        place, value = self.failures[0]
        if place == WHOLE or self.results[place] is value:
            return value  # type: ignore[no-any-return]
        return self._crew.revived(value, self, place)

    def _all_results(self) -> list[Any]:
        if not self.chunked:
            return self.results
        return list(itertools.chain.from_iterable(self.results))

    def _finish(self, success: bool, value: Any, callback: Any) -> None:
        self._end_progress()
        super()._finish(success, value, callback)


# Streams.


class Stream(Many):
    """Tasks from an iterable; their results in the order of arrival.

    asked        how many tasks were read and put; by whoever reads
    arguments    by place: of those that have no result yet
    items        results that nobody has taken yet
    hungry       the reader has stopped for want of room, and is told by eat()
    dropped      nobody takes results any more; what the input still has is done all the same
    """

    attention = WATCHED
    asked = 0
    hungry = False
    dropped = False
    ended = False  # the input
    error: BaseException | None = None  # the input's; it is told at the end

    def __init__(
        self,
        crew: Crew,
        function: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int,
        buffersize: int | None,
        rules: Rules,
    ) -> None:
        self._crew, self.called = crew, function
        self.kind = CHUNK if chunksize > 1 else ITEM
        self.timeout, self.retries = rules.timeout, rules.retries
        self.arguments: dict[int, Any] = {}
        self.items: Any = self._new_items()
        self._reading = threading.Lock()
        self._room = threading.Event()
        self._grows = buffersize is None
        least = BOUND_PER_WORKER * crew.size
        self._bound: float = max(BOUND_LEAST, least) if buffersize is None else buffersize
        if not self._grows and self.chunked:
            self._bound = max(1, self._bound // chunksize)
        self._since = monotonic()
        self._open(iterable, chunksize)

    def _new_items(self) -> Any:
        return collections.deque()

    def _open(self, iterable: Iterable[Any], chunksize: int) -> None:
        """Begin to read."""
        try:
            self._function = self._crew.function(self.called)
            iterator = iter(iterable)
        except Exception as error:
            self._end(error)
            return
        self._tasks = chunks(iterator, chunksize) if self.chunked else iterator
        if type(iterable) in PLAIN:
            self._thread = None
            self._fill()
        else:
            self._thread = threading.Thread(target=self._feed, name="leveret-imap", daemon=True)
            self._thread.start()

    # --- the reader ----------------------------------------------------------------------------

    def _free(self) -> float:
        return self._bound - len(self.arguments) - len(self.items)

    def _fill(self) -> None:
        """Read as much as there is room for."""
        free = self._free()
        tasks: list[Any] = []
        error = None
        try:
            tasks.extend(itertools.islice(self._tasks, None if free == inf else int(free)))
        except Exception as raised:
            error = raised
        if tasks:
            first = self.asked
            self.asked += len(tasks)
            self.arguments.update(zip(range(first, self.asked), tasks, strict=True))
            self._crew.submit_many(self._function, self.kind, tasks, self, first)
        if error is not None or len(tasks) < free:
            self._end(error)
        else:
            self.hungry = True

    def _feed(self) -> None:
        """Read, in a thread of our own, and put what was read at once: the next may take long."""
        error = None
        try:
            while self._await_room():
                task = next(self._tasks)
                place = self.asked
                self.arguments[place] = task
                self.asked = place + 1
                self._crew.submit(self._function, self.kind, task, self, place)
        except StopIteration:
            pass
        except BaseException as raised:
            error = raised
        self._end(error)

    def _await_room(self) -> bool:
        """Wait until there is room; False: nobody wants more."""
        while not self.ended and self._free() < 1:
            self._room.clear()
            self.hungry = True  # before we look again: eat() looks at it after it has taken
            if self.dropped:
                self._crew.wait_for(Condition(self._has_room))
            elif not self._has_room():
                self._room.wait()
            self.hungry = False
        return not self.ended

    def _has_room(self) -> bool:
        return self.ended or self._free() >= (self._bound / 2 if self._grows else 1)

    def _end(self, error: BaseException | None) -> None:
        if not self.ended:
            self.error = error
            self.ended = True
        self.hungry = False
        self._tasks = iter(())
        self._crew.poke(self)

    def eat(self) -> None:
        """A result was taken, and the reader is hungry."""
        if not self._has_room() or not self._reading.acquire(False):
            return
        try:
            self._grow()
            if self._thread is None:
                self._fill()
            else:
                self.hungry = False
                self._room.set()
        finally:
            self._reading.release()

    def _grow(self) -> None:
        now = monotonic()
        if self._grows and now - self._since < BOUND_S and self._bound < BOUND_MOST:
            self._bound *= 2
        self._since = now

    def lift_bound(self) -> None:
        """Read all: somebody waits until everything is done, and takes no results meanwhile."""
        self._bound, self._grows = inf, False
        if self.hungry:
            self.eat()

    def abandon(self) -> None:
        """Nobody will take results any more.

        What the program gave is done, as in the standard library: by the thread that reads, or, of
        a list, at the latest when somebody waits for all. With a bound of its own, no more is read.
        """
        self.dropped = True
        self.items.clear()
        if not self._grows:
            self.cut_short()
        self._room.set()

    def cut_short(self) -> None:
        """If nobody takes results, nor waits for all: read no more."""
        if self.dropped and not self.ended:
            self._end(None)
            self._room.set()

    # --- the crew ------------------------------------------------------------------------------

    @property
    def done(self) -> bool:  # type: ignore[override]
        """Whether there is something for next() to say."""
        return bool(self.items) or (self.ended and not self.arguments)

    @property
    def over(self) -> bool:
        """Whether there will be nothing on the board any more."""
        return self.ended and not self.arguments

    def deliver(self, place: int, value: Any) -> None:
        """A result has come. The items first: who sees neither believes that it was the last."""
        if place in self.arguments:
            if not self.dropped:
                self.items += (value,)  # no call: Ctrl-C comes after the next one, not in between
            self.arguments.pop(place, None)

    def fail(self, place: int, error: BaseException) -> None:
        """A task failed."""
        self.deliver(place, Failure(error))

    def give_up(self, error: BaseException) -> None:
        """No more results will come."""
        if not self.over:
            self.error = error
            self.ended = True
            self.arguments.clear()
            self._room.set()

    def argument_of(self, place: int) -> tuple[Any, int, Any]:
        """The task at that place, to be put again."""
        return self._function, self.kind, self.arguments[place]

    def task_at(self, place: int) -> Any:
        """What is called with."""
        return self.arguments[place]

    # --- the consumer --------------------------------------------------------------------------

    def pop(self) -> Any:
        """The next result; IndexError or KeyError: not there yet."""
        return self.items.popleft()

    def await_next(self, timeout: float | None) -> Any:
        """The next result, waiting for it; StopIteration at the end."""
        deadline = None if timeout is None else monotonic() + timeout
        while True:
            self._crew.check_owner()
            left = None if deadline is None else max(0.0, deadline - monotonic())
            if not self._crew.wait_for(self, left):
                raise std.TimeoutError
            with contextlib.suppress(LookupError):
                return self.pop()
            if self.over and not self.items:
                return self._last()

    def _last(self) -> Any:
        error, self.error = self.error, None
        if error is None:
            raise StopIteration
        return Failure(error)


class OrderedStream(Stream):
    """Tasks from an iterable; their results in the same order."""

    _next = 0

    def _new_items(self) -> Any:
        return {}

    @property
    def done(self) -> bool:  # type: ignore[override]
        """Whether there is something for next() to say."""
        return self._next in self.items or (self.ended and not self.arguments)

    def deliver(self, place: int, value: Any) -> None:
        """A result has come."""
        if place in self.arguments:
            if not self.dropped:
                self.items[place] = value
            self.arguments.pop(place, None)

    def pop(self) -> Any:
        """The next result; KeyError: not there yet. Who pops it, and nobody else, moves on."""
        value = self.items.pop(self._next)
        self._next += 1
        return value


class IMapIterator(Showing, _IMapIterator):  # type: ignore[misc]
    """The results of imap()."""

    def __init__(self, pool: Any, stream: Stream, progress: Any = None) -> None:
        self._pool, self._stream, self._progress = pool, stream, progress
        self._count = 0

    def __iter__(self) -> IMapIterator:
        return self

    def next(self, timeout: float | None = None) -> Any:
        """The next result, waiting at most TIMEOUT seconds."""
        stream = self._stream
        try:
            value = stream.pop()
        except LookupError:
            value = NOTHING
        if value is NOTHING:
            value = self._await(timeout)
        if stream.hungry:
            stream.eat()
        if self._progress is not None:
            self._count += 1
            self._progress(self._count)
        if type(value) is Failure:
            try:
                raise value.error
            finally:
                value = None  # or it, the error and this frame would be a cycle, with the results
        return value

    __next__ = next

    def _await(self, timeout: float | None) -> Any:
        try:
            return self._stream.await_next(timeout)
        except StopIteration:
            self._pool = None
            self._end_progress()
            raise

    def __del__(self) -> None:
        if stream := self.__dict__.get("_stream"):
            stream.abandon()
            self._end_progress()


class IMapUnorderedIterator(IMapIterator, _IMapUnorderedIterator):  # type: ignore[misc]
    """The results of imap_unordered()."""

"""What is behind an executor's map(): its tasks, and their results until somebody takes them.

    map() --- add() ---> tasks on the board ---> answers by place ---> the iterator
      '-- with a buffersize only so many; one more for each result that is taken

Who drops the iterator in the middle cancels the rest; who never began with it does not, as in the
standard library.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from time import monotonic

from . import _core
from .crew import again
from .futures import Staff, with_cause
from .hints import Any
from .limits import Rules
from .pump import WATCHED, Failure, Many, chunks

__all__ = ["MapResults", "map_tasks"]


class MapResults(Many):
    """The results of a map(), by place, until its iterator comes to them."""

    attention = WATCHED

    def __init__(self, staff: Staff, function: Callable[..., Any], kind: int, rules: Rules) -> None:
        self._staff = staff
        self.kind, self.called = kind, function
        self._function = _encoded(staff, function)
        self._tasks: dict[int, Any] = {}  # arguments of those without an answer
        self._numbers: dict[int, int] = {}  # of the same
        self._answers: dict[int, Any] = {}  # those that the iterator has not come to
        self._awaited = self._count = 0
        self._iterator: weakref.ref[Any] | None = None
        self._stops = rules.stop_running
        self.timeout, self.retries = rules.timeout, rules.retries

    @property
    def done(self) -> bool:  # type: ignore[override]
        """Whether what the iterator waits for is there."""
        return self._awaited in self._answers

    @property
    def over(self) -> bool:
        return not self._tasks

    def argument_of(self, place: int) -> tuple[Any, int, Any]:
        return self._function, self.kind, self._tasks[place]

    def task_at(self, place: int) -> Any:
        return self._tasks[place]

    def mover(self, place: int) -> Callable[[int], object]:
        return functools.partial(self._numbers.__setitem__, place)

    # --- by the crew ---------------------------------------------------------------------------

    def deliver(self, place: int, value: Any) -> None:
        if place in self._tasks:  # it is told for the first time
            self._answers[place] = value
            self._numbers.pop(place, None)
            self._tasks.pop(place, None)

    def fail(self, place: int, error: BaseException) -> None:
        number = self._numbers.get(place)
        if self._stops and number is not None and isinstance(error, CancelledError):
            self._staff.stops.stop_struck(number)
        self.deliver(place, Failure(with_cause(error)))

    def give_up(self, error: BaseException) -> None:
        for place in list(self._tasks):
            self.fail(place, again(error))

    def numbers(self) -> list[tuple[int, int]]:
        """(place, number) of what is on the board."""
        return list(self._numbers.items())

    def cancel_place(self, place: int) -> None:
        """Cancel that task if nobody has claimed it; the iterator is told by the pump."""
        number = self._numbers.get(place)
        if number is not None:
            self._staff.fail_task(number, self, place, CancelledError(), self._staff.board.cancel)

    # --- by the iterator -----------------------------------------------------------------------

    def add(self, argument: Any) -> None:
        """Put one more task."""
        place, self._count = self._count, self._count + 1
        try:
            self._tasks[place] = argument
            if isinstance(self._function, BaseException):
                self.fail(place, again(self._function))
            else:
                self._put(place, argument)
        except BaseException:  # nobody will take that result, if there is one
            self._tasks.pop(place, None)
            self._staff.poke(self)
            raise

    def _put(self, place: int, argument: Any) -> None:
        number = self._staff.submit(self._function, self.kind, argument, self, place)
        if number is not None and place in self._tasks:
            self._numbers.setdefault(place, number)

    def iterate(self, rest: tuple[Any, Iterator[Any]] | None, end: float | None) -> Iterator[Any]:
        """All results in their order.

        REST: a reference to the executor, and tasks of which one is put for each result taken.
        """
        iterator = self._iterate(rest, end)
        self._iterator = weakref.ref(iterator, self._dropped)
        return iterator

    def _iterate(self, rest: tuple[Any, Iterator[Any]] | None, end: float | None) -> Iterator[Any]:
        try:
            while self._awaited < self._count:
                if rest is not None:
                    self._add_one_of(*rest)
                yield self._next(end)
        finally:
            self._cancel()

    def _add_one_of(self, executor: Callable[[], Any], tasks: Iterator[Any]) -> None:
        if owner := executor():
            for task in itertools.islice(tasks, 1):
                owner._ready_staff()
                self.add(task)

    def _next(self, end: float | None) -> Any:
        if not self.done:
            self._staff.wait_for(self, None if end is None else end - monotonic())
        if not self.done:
            raise TimeoutError
        answer = self._answers.pop(self._awaited)
        self._awaited += 1
        if type(answer) is Failure:
            try:
                raise answer.error
            finally:
                del answer, self
        return answer

    def _cancel(self) -> None:
        """Nobody wants the rest. What Ctrl-C leaves of it is done, for nobody.

        In a forked child, whose collector may close the iterator, nothing is.
        """
        staff, asks = self._staff, [self._staff.board.cancel]
        if not staff.is_ours():
            return
        if self._stops:
            asks.append(staff.board.strike)
        try:
            for (place, number), ask in itertools.product(self.numbers(), asks):
                staff.note_verdict(number, self, place, CancelledError(), ask)
        finally:
            staff.hurry()

    def _dropped(self, _: object) -> None:
        """Nobody will take the results any more; the tasks go on, as in the standard library."""
        if not self.over:
            with contextlib.suppress(RuntimeError):  # no more threads, at the interpreter's exit
                self._staff.tell(self)


def _encoded(staff: Staff, function: Callable[..., Any]) -> Any:
    """FUNCTION for the board; or why it cannot be sent, which its tasks are told."""
    try:
        return staff.function(function)
    except Exception as error:
        return error


def map_tasks(iterables: tuple[Iterable[Any], ...], chunksize: int) -> tuple[int, Iterator[Any]]:
    """What kind of tasks a map() has, and their arguments."""
    if len(iterables) == 1:
        items, kinds = iter(*iterables), (_core.ITEM, _core.CHUNK)
    else:
        items, kinds = zip(*iterables), (_core.STAR, _core.STARCHUNK)  # noqa: B905 - as map()
    return (kinds[0], items) if chunksize == 1 else (kinds[1], chunks(items, chunksize))

"""For tests of boards: functions for their tasks, what works on them, and what is told of it.

Most tests have the owner work, too, once the board is closed: `alone()`. Where processes are
wanted, workers are bare forks, as `forked.py` makes them, or leveret's processes.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import leveret
from forked import PATIENCE_S
from leveret._core import (
    Batch,
    Board,
    Function,
)

MIB = 1 << 20


def square(x: Any) -> Any:
    return x * x


def add(x: Any, y: Any, *, z: Any = 0) -> Any:
    return x + y + z


def concatenate(x: Any, y: Any) -> Any:
    return x + y


def same(x: Any) -> Any:
    return x


def boom(x: Any) -> Any:
    raise ValueError(f"boom {x}")


def fail(error: BaseException) -> Any:
    return type(error).__name__, str(error)


def unsendable(error: BaseException, value: Any) -> Any:
    return "unsendable", type(error).__name__, str(error), type(value).__name__


def work(board: Board, row: int = 0, workers: int = 1, **kwargs: Any) -> str:
    """What a worker does."""
    board.enlist(row)
    board.ready(os.getpid())
    return board.work(fail, unsendable, workers=workers, **kwargs)


def alone(board: Board) -> list[Any]:
    """This process is the worker: it does all that there is. What is told of it."""
    board.close()
    board.enlist(0)
    assert board.work(fail, unsendable) == "closed"
    return told(board)


def told(board: Board) -> list[Any]:
    events = board.take()
    while more := board.take():
        events += more
    return events


def one(function: Callable[..., Any], kind: int, argument: Any) -> Any:
    """(what, value) of one task."""
    board, job = Board(1), object()
    board.put(Function(function), kind, argument, job, 7)
    [event] = alone(board)
    assert event[:2] == (job, 7)
    return event[2:]


@contextlib.contextmanager
def workers(board: Board, count: int, method: str = "fork", **kwargs: Any) -> Iterator[list[Any]]:
    """Workers in rows 0.., until the board is closed and empty; and they are buried."""
    context = leveret.get_context(method)
    processes = [
        context.Process(target=work, args=(board, row, count), kwargs=kwargs)
        for row in range(count)
    ]
    for process in processes:
        process.start()
    try:
        yield processes
    finally:
        board.close()
        for process in processes:
            process.join(PATIENCE_S)
            process.kill()
            process.join()
            process.close()


def results_of(board: Board, count: int) -> list[Any]:
    """Wait for as many events of tasks; those of rows are left out."""
    found: list[Any] = []
    while len(found) < count:
        assert board.wait(PATIENCE_S)
        found += [event for event in board.take() if event[0] is not None]
    return found


def finished(board: Board, batch: Batch) -> Any:
    while batch.left:
        assert board.wait(PATIENCE_S)
        board.take()
    return batch.results


def interrupt_it(x: Any) -> None:
    raise KeyboardInterrupt(x)


hook: list[Callable[[], Any]] = []


@contextlib.contextmanager
def calling(function: Callable[[], Any]) -> Iterator[None]:
    """What call_hook() does in this process."""
    hook.append(function)
    try:
        yield
    finally:
        hook.clear()


def call_hook(_: Any) -> Any:
    return hook[-1]()


class Mine(Batch):
    """A class of a program's."""

    def __init__(self, count: int, name: str) -> None:
        super().__init__(count)
        self.name = name


class Calling:
    """Calls hooks when it is pickled and when it is unpickled."""

    hooks: tuple[Callable[[], object], Callable[[], object]] = (int, int)

    def __reduce__(self) -> Any:
        self.hooks[0]()
        return called, ()


def called() -> str:
    Calling.hooks[1]()
    return "called"


def make_calling(x: int) -> Any:
    return Calling() if x % 7 == 0 else x


class Interrupting:
    """Raises when it is unpickled; by no eval(), for that changes how the interpreter ends."""

    def __reduce__(self) -> Any:
        return interrupt_it, (0,)


class Tracked:
    """Something that is counted while it lives, here."""

    alive = 0

    def __init__(self, *payload: Any) -> None:
        self.payload = payload
        Tracked.alive += 1

    def __del__(self) -> None:
        Tracked.alive -= 1

    def __reduce__(self) -> Any:
        return Tracked, self.payload

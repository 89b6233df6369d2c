"""Board, Function and Batch: tasks to workers and results back, and what goes wrong on the way.

Most tests have the owner work, too, once the board is closed: `alone()`. Where processes are
wanted, workers are bare forks, as `forked.py` makes them, or leveret's processes.
"""

import contextlib
import functools
import gc
import importlib.util
import itertools
import os
import pickle
import random
import resource
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import leveret
import pytest
from forked import Child, Thread, in_child, say, until
from leveret import _core
from leveret._core import (
    APPLY,
    CHUNK,
    FAILED,
    ITEM,
    READY,
    STAR,
    STARCHUNK,
    UNDECODED,
    UNFIT,
    VALUE,
    Batch,
    Board,
    Function,
)

MIB = 1 << 20
PATIENCE_S = 20.0
KILLS = int(os.environ.get("LEVERET_KILLS", "20"))

methods = pytest.mark.parametrize("method", ["fork", "warm", "spawn"])


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


# What is done with a task


def test_kinds() -> None:
    assert one(square, ITEM, 5) == (VALUE, 25)
    assert one(add, STAR, (1, 2)) == (VALUE, 3)
    assert one(add, STAR, [1, 2]) == (VALUE, 3)
    assert one(add, APPLY, ((1, 2), {"z": 3})) == (VALUE, 6)
    assert one(square, CHUNK, [1, 2, 3]) == (VALUE, [1, 4, 9])
    assert one(square, CHUNK, ()) == (VALUE, [])
    assert one(add, STARCHUNK, [(1, 2), (3, 4)]) == (VALUE, [3, 7])
    assert one(boom, ITEM, 5) == (FAILED, ("ValueError", "boom 5"))
    assert one(boom, CHUNK, [1, 2]) == (FAILED, ("ValueError", "boom 1"))
    for kind, argument in [(STAR, 5), (APPLY, 5), (APPLY, (1, 2)), (CHUNK, 5), (STARCHUNK, [5])]:
        what, (name, _) = one(add, kind, argument)
        assert (what, name) == (FAILED, "TypeError")


@methods
def test_workers_of_each_start_method(method: str) -> None:
    board, batch = Board(3), Batch(100)
    with workers(board, 2, method):
        assert board.put_many(Function(square), ITEM, range(100), batch) == []
        assert finished(board, batch) == [x * x for x in range(100)]
    assert batch.failures == [] and board.outstanding() == 0 == board.waiting()


def test_large_arguments_and_results() -> None:
    board = Board(2)
    samples = [
        random.randbytes(3 * MIB),
        bytearray(5 * MIB),
        "\u1234" * MIB,
        list(range(100_000)),
        {n: str(n) for n in range(20_000)},
        bytes(8192),
        *(bytes(n) for n in range(8100, 8200, 7)),
        *(bytes(n) for n in range(900, 1100, 7)),
    ]
    with workers(board, 2):
        batch = Batch(len(samples))
        assert board.put_many(Function(same), ITEM, samples, batch) == []
        assert finished(board, batch) == samples
        assert batch.failures == []


class Buffered:
    """Its buffer travels by itself."""

    def __init__(self, memory: Any) -> None:
        self.memory = memory

    def __reduce_ex__(self, protocol: Any) -> Any:
        return Buffered, (pickle.PickleBuffer(self.memory),)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Buffered) and bytes(self.memory) == bytes(other.memory)

    __hash__ = None  # type: ignore[assignment]


def reversed_memory(x: Buffered) -> Buffered:
    return Buffered(bytes(x.memory)[::-1])


def test_buffers_travel_with_tasks_and_results() -> None:
    data = random.randbytes(3 * MIB)
    board = Board(1)
    with workers(board, 1):
        board.put(Function(reversed_memory), ITEM, Buffered(data), "job")
        [(job, place, what, value)] = results_of(board, 1)
        assert (job, place, what) == ("job", 0, VALUE)
        assert value == Buffered(data[::-1])
        del value


def lock_it(lock: Any) -> bool:
    with lock:
        return lock.locked()


def test_shared_objects_in_arguments_functions_and_results() -> None:
    board, lock = Board(1), leveret.Lock()
    with workers(board, 1, "warm"):
        jobs = {
            board.put(Function(lock_it), ITEM, lock, "argument"): True,
            board.put(
                Function(functools.partial(lock_it, lock)), APPLY, ((), {}), "function"
            ): True,
        }
        assert [event[2:] for event in results_of(board, len(jobs))] == [(VALUE, True)] * 2
        board.put(Function(same), ITEM, [lock, b"x" * MIB], "result")
        [(_, _, _, (there, _))] = results_of(board, 1)
        with lock:
            assert there.locked()


def test_large_functions_are_sent_once() -> None:
    board, batch = Board(1), Batch(50)
    large = Function(functools.partial(concatenate, b"x" * 100_000))
    with workers(board, 1):
        board.put_many(large, ITEM, [b"y"] * 50, batch)
        del large  # who waits keeps it
        gc.collect()
        assert finished(board, batch) == [b"x" * 100_000 + b"y"] * 50


class Counter:
    """What it counts is its own."""

    def __init__(self, padding: bytes = b"") -> None:
        self.count, self.padding = 0, padding

    def __call__(self, _: Any) -> int:
        self.count += 1
        return self.count


@pytest.mark.parametrize("padding", [b"", bytes(5000)], ids=["small", "large"])
def test_what_a_function_keeps_in_itself_lasts_for_one_function(padding: bytes) -> None:
    board, batch = Board(1), Batch(40)
    functions = [Function(Counter(padding)) for _ in range(20)]
    for place, function in enumerate(functions + functions):
        board.put(function, ITEM, None, batch, place)
    alone(board)
    assert batch.results[:20] == [1] * 20
    # eight are remembered, those behind them are decoded anew
    assert set(batch.results[20:]) == {1}
    board, batch = Board(1), Batch(10)
    board.put_many(functions[0], ITEM, [None] * 10, batch)
    alone(board)
    assert batch.results == list(range(1, 11))


class Holding:
    """A function that holds much."""

    def __init__(self) -> None:
        self.held = Tracked(bytes(5000))

    def __call__(self, _: Any) -> int:
        return Tracked.alive


def test_a_large_function_goes_when_there_is_nothing_to_do() -> None:
    def watch() -> None:
        for alive in (1, 0):
            until(lambda: Tracked.alive == alive)  # noqa: B023 - it is called at once
        say("!")

    def watched(board: Board) -> None:
        threading.Thread(target=watch).start()
        work(board)

    board, function = Board(1), Function(Holding())
    gc.collect()
    board.put(function, ITEM, 0, "job")
    with Child(watched, board) as child:
        assert results_of(board, 1) == [("job", 0, VALUE, 1)]
        assert child.heard() == "!"
        board.put(function, ITEM, 0, "again")
        assert results_of(board, 1) == [("again", 0, VALUE, 1)]
        board.close()
        child.result()


def send_by_cloudpickle() -> Any:
    base = 5
    function = one(same, ITEM, lambda: base)[1]
    return one(lambda x: x + base, CHUNK, [1, 2]), function()


def test_a_function_that_cloudpickle_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(os.path.join(sys.prefix, "cloudpickle"))
    if importlib.util.find_spec("cloudpickle") is None:
        pytest.skip("it is not installed")
    assert in_child(send_by_cloudpickle) == ((VALUE, [6, 7]), 5)


# What cannot be sent


class Unpicklable:
    def __reduce__(self) -> Any:
        raise LookupError("not me")


class Undecodable:
    def __init__(self, code: str = "1 // 0") -> None:
        self.code = code

    def __reduce__(self) -> Any:
        return eval, (self.code,)


def make_unpicklable(_: Any) -> Any:
    return Unpicklable()


def make_undecodable(_: Any) -> Any:
    return Undecodable()


def test_a_function_that_cannot_be_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    with pytest.raises((AttributeError, pickle.PicklingError), match="lambda"):
        Function(lambda: 0)
    with pytest.raises(LookupError, match="not me"):
        Function(functools.partial(same, Unpicklable()))


def test_arguments_that_cannot_be_sent() -> None:
    board, batch = Board(1), Batch(6)
    with pytest.raises(LookupError, match="not me"):
        board.put(Function(square), ITEM, Unpicklable(), "job")
    assert board.outstanding() == 0 == board.waiting()
    failures = board.put_many(
        Function(square), ITEM, [1, Unpicklable(), 2, b"", Unpicklable()], batch, place=1
    )
    assert [place for place, _ in failures] == [2, 5]
    assert {type(error) for _, error in failures} == {LookupError}
    assert board.outstanding() == 3 == board.waiting()
    assert alone(board) == []
    assert batch.results == [None, 1, None, 4, None, None]
    assert [(place, what) for place, what in batch.failures] == [
        (4, ("TypeError", "can't multiply sequence by non-int of type 'bytes'"))
    ]
    assert batch.left == 3


def test_an_interrupt_while_arguments_are_sent_comes_out() -> None:
    class Interrupting:
        def __reduce__(self) -> Any:
            raise KeyboardInterrupt

    board, batch = Board(1), Batch(3)
    with pytest.raises(KeyboardInterrupt):
        board.put_many(Function(square), ITEM, [1, Interrupting(), 2], batch)
    assert board.outstanding() == 1


def test_a_board_that_is_closed_while_arguments_are_sent() -> None:
    """Each of them is put or told of."""
    board, batch = Board(1), Batch(4)
    Calling.hooks = (board.close, int)
    try:
        failures = board.put_many(Function(square), ITEM, [3, Calling(), 2, 1], batch)
    finally:
        Calling.hooks = (int, int)
    assert [place for place, _ in failures] == [1, 2, 3]
    assert {str(error) for _, error in failures} == {"cannot put a task: the board is closed"}
    assert alone(board) == [] and batch.results[0] == 9 and batch.left == 3


def put_without_memory() -> Any:
    limit_files()
    board, batch = Board(1), Batch(3)
    with pytest.raises(MemoryError, match="cannot put a message into shared memory"):
        board.put(Function(same), ITEM, bytes(600 * MIB), "job")
    failures = board.put_many(Function(same), ITEM, [1, bytes(600 * MIB), 3], batch)
    assert [(place, type(error)) for place, error in failures] == [(1, MemoryError)]
    alone(board)
    return batch.results, batch.left


def limit_files() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, MIB))


def test_an_argument_that_there_is_no_memory_for() -> None:
    assert in_child(put_without_memory) == ([1, None, 3], 1)


def work_without_memory(board: Board) -> str:
    limit_files()
    return work(board)


def test_a_result_that_there_is_no_memory_for() -> None:
    board, batch = Board(1), Batch(3)
    board.put_many(Function(bytes), ITEM, [3, 600 * MIB, 4], batch)
    with Child(work_without_memory, board) as child:
        assert finished(board, batch) == [bytes(3), None, bytes(4)]
        board.close()
        assert child.result() == "closed"
    [(place, (how, name, _, kind))] = batch.failures
    assert (place, how, name, kind) == (1, "unsendable", "MemoryError", "bytes")


def test_results_that_cannot_be_sent() -> None:
    assert one(make_unpicklable, ITEM, 0) == (
        FAILED,
        ("unsendable", "LookupError", "not me", "Unpicklable"),
    )


def test_arguments_and_results_that_cannot_be_decoded() -> None:
    what, (name, _) = one(same, ITEM, Undecodable())
    assert (what, name) == (FAILED, "ZeroDivisionError")
    what, error = one(make_undecodable, ITEM, 0)
    assert what == UNDECODED and type(error) is ZeroDivisionError
    board, batch = Board(1), Batch(3)
    board.put_many(Function(make_undecodable), ITEM, range(3), batch)
    alone(board)
    assert [place for place, _ in batch.failures] == [0, 1, 2] and batch.left == 0
    assert {type(error) for _, error in batch.failures} == {ZeroDivisionError}


def test_what_cannot_be_decoded_may_be_told_apart() -> None:
    """From what the task raises; there is one place for the function, and one for the argument."""
    board = Board(1)
    for place, (function, argument) in enumerate(
        [(same, Undecodable()), (boom, 1), (Undecodable(), 1), (make_unpicklable, 1)]
    ):
        board.put(Function(function), ITEM, argument, told, place)
    board.close()
    board.enlist(0)
    board.work(fail, unsendable, undecodable=lambda error: ("undecodable", type(error).__name__))
    assert [event[3][0] for event in board.take()] == [
        "undecodable",
        "ValueError",
        "undecodable",
        "unsendable",
    ]


def test_jobs_that_nobody_has_any_more() -> None:
    board, jobs = Board(1), [object(), object()]
    assert board.dropped() == []
    for job in jobs:
        board.drop(job)
    assert board.wait(PATIENCE_S) is False  # it was interrupted, as is the next one that watches
    assert board.watch(PATIENCE_S) is False
    with Child(drop_there, board) as child:
        assert child.result() == 2
    assert board.dropped() == jobs
    assert board.dropped() == []


def drop_there(board: Board) -> int:
    """In a forked child, which has what was dropped before: nothing is noted, nobody woken."""
    board.drop("of the child")
    return len(board.dropped())


def test_a_weak_reference_drops_a_job() -> None:
    """No byte code runs in between, which an exception of a signal handler could end."""
    board, held = Board(1), Tracked()
    watch = Thread(board.watch, PATIENCE_S)
    reference = weakref.ref(held, board.drop)
    del held
    assert watch.result() is False
    assert board.dropped() == [reference]


def test_a_function_that_cannot_be_decoded() -> None:
    what, value = one(Undecodable(), ITEM, 0)
    assert (what, value[0]) == (FAILED, "ZeroDivisionError")


def test_a_large_function_that_is_gone() -> None:
    """Its tasks were given up."""
    board = Board(1)
    number = board.put(Function(functools.partial(concatenate, bytes(5000))), ITEM, b"", "job")
    assert board.strike(number)
    gc.collect()
    assert alone(board) == []


# What a task raises


def exit_it(x: Any) -> None:
    sys.exit(x)


def interrupt_it(x: Any) -> None:
    raise KeyboardInterrupt(x)


def test_whatever_a_task_raises_is_its_own() -> None:
    assert one(exit_it, ITEM, 3) == (FAILED, ("SystemExit", "3"))
    assert one(interrupt_it, ITEM, 3) == (FAILED, ("KeyboardInterrupt", "3"))


def test_what_fail_raises_comes_out_of_work() -> None:
    board = Board(1)
    number = board.put(Function(boom), ITEM, 0, "job")
    board.put(Function(boom), ITEM, 1, "job")
    board.enlist(0)

    def broken(_: Any) -> Any:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        board.work(broken, unsendable)
    with pytest.raises(RuntimeError, match="it has to end"):
        board.work(fail, unsendable)
    assert board.running() is None
    assert board.look(0)[1:4] == (number, 1, number)  # type: ignore[index]


def test_a_task_that_is_told_of_does_not_run_any_more() -> None:
    """A signal handler that asks while fail() runs is to leave it alone."""
    board, running = Board(1), []

    def asking(*_: Any) -> Any:
        running.append(board.running())

    for function in (boom, make_unpicklable):
        board.put(Function(function), ITEM, 0, "job")
    board.close()
    board.enlist(0)
    assert board.work(asking, asking) == "closed"
    assert running == [None, None]
    assert told(board) == [("job", 0, FAILED, None)] * 2


def kill_me() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Killing:
    def __reduce__(self) -> Any:
        return kill_me, ()


def make_killing(_: Any) -> Any:
    return KillingWhenPickled()


class KillingWhenPickled:
    def __reduce__(self) -> Any:
        kill_me()


@pytest.mark.parametrize("way", ["argument", "function", "result"])
def test_a_death_while_something_is_decoded_or_encoded_is_the_tasks(way: str) -> None:
    board = Board(1)
    function = {"argument": same, "function": Killing(), "result": make_killing}[way]
    board.put(Function(square), ITEM, 3, "first")
    number = board.put(Function(function), ITEM, Killing() if way == "argument" else 0, "job")
    with Child(work, board) as child:
        assert results_of(board, 1) == [("first", 0, VALUE, 9)]
        assert board.watch(PATIENCE_S)
        os.waitpid(child.pid, 0)
        child._over = True
    board.settle(0)
    assert told(board) == []
    assert board.bury(0)[1:4] == (number, 1, number)


def test_work_within_a_task_is_refused() -> None:
    board = Board(1)
    board.put(Function(call), ITEM, 0, "job")
    with calling(lambda: board.work(fail, unsendable)):
        [(_, _, what, (name, text))] = alone(board)
    assert (what, name) == (FAILED, "RuntimeError") and "works on this board already" in text


hook: list[Callable[[], Any]] = []


@contextlib.contextmanager
def calling(function: Callable[[], Any]) -> Iterator[None]:
    """What call() does in this process."""
    hook.append(function)
    try:
        yield
    finally:
        hook.clear()


def call(_: Any) -> Any:
    return hook[-1]()


# Who is told


def test_a_batch_is_told_of_once() -> None:
    board, batch = Board(1), Batch(100)
    board.put_many(Function(square), ITEM, range(100), batch)
    assert alone(board) == [batch]
    assert batch.left == 0


class Mine(Batch):
    """A class of a program's."""

    def __init__(self, count: int, name: str) -> None:
        super().__init__(count)
        self.name = name


def test_a_batch_that_wants_to_be_told_of_each() -> None:
    board, batch = Board(1), Mine(3, "mine")
    batch.notify = True
    numbers = [board.put(Function(square), ITEM, n, batch, n) for n in range(3)]
    board.enlist(0)
    for number in numbers:
        assert board.work(fail, unsendable, most=1) == "enough"
        assert board.find(number) == (batch, number)
        assert board.take() == [batch]
        assert board.find(number) is None
    assert batch.results == [0, 1, 4] and batch.name == "mine"
    batch, more = Mine(3, "next"), Mine(3, "more")
    batch.notify = True
    for place in range(3):
        board.put(Function(square), ITEM, place, batch, place)
        board.put(Function(square), ITEM, place, more, place)
    assert board.work(fail, unsendable, most=6) == "enough"
    assert board.take() == [batch, more]  # each once, whatever has come


def test_places_that_a_batch_does_not_have() -> None:
    board, batch = Board(1), Batch(3)
    for place in (-1, 3, sys.maxsize // 4):
        with pytest.raises(IndexError, match="a batch of 3 has no 1 places from"):
            board.put(Function(square), ITEM, 1, batch, place)
    for place in (sys.maxsize, -sys.maxsize, 1 << 80):
        with pytest.raises(OverflowError):
            board.put(Function(square), ITEM, 1, "job", place)
    for count, place in [(4, 0), (2, 2), (1, -1)]:
        with pytest.raises(IndexError):
            board.put_many(Function(square), ITEM, range(count), batch, place)
    assert board.outstanding() == 0
    with pytest.raises(RuntimeError, match="__init__"):
        board.put(Function(square), ITEM, 1, Batch.__new__(Batch))
    with pytest.raises(ValueError):
        Batch(-1)
    with pytest.raises(ValueError, match="made once"):
        batch.__init__(3)  # type: ignore[misc]


def test_a_batch_whose_list_was_cut() -> None:
    board, batch = Board(1), Batch(3)
    board.put_many(Function(square), ITEM, range(3), batch)
    batch.results.clear()
    assert alone(board) == [batch]
    assert batch.results == [] and batch.left == 0


def test_numbers_and_whose_they_are() -> None:
    """Against a model: a dict."""
    chooser = random.Random(5)
    function, board, model = Function(square), Board(1), {}
    batches = [Batch(2000) for _ in range(2)]
    jobs: list[Any] = ["a", "b", *batches]
    for _ in range(3000):
        job = chooser.choice(jobs)
        place = chooser.randrange(1000)
        if chooser.random() < 0.05:
            count = chooser.choice([0, 1, 63, 64, 65, 130, 1000])
            first = board.put(function, ITEM, 0, "first", 0) + 1
            model[first - 1] = ("first", 0)
            assert board.put_many(function, ITEM, [0] * count, job, place) == []
            model |= {first + n: (job, place + n) for n in range(count)}
        elif chooser.random() < 0.3:
            model[board.put(function, ITEM, 0, job, place)] = (job, place)
        elif model:
            number = chooser.choice(list(model)) if chooser.random() < 0.5 else min(model)
            assert board.strike(number)
            del model[number]
            assert not board.strike(number) and board.find(number) is None
        if model and chooser.random() < 0.1:
            while model and len(model) > 200:
                number = chooser.choice(list(model)) if chooser.random() < 0.2 else min(model)
                assert board.strike(number)
                del model[number]
        assert board.outstanding() == len(model)
        if model:
            number = chooser.choice(list(model))
            assert board.find(number) == model[number]
            assert board.find(max(model) + 1) is None
    for number, whose in model.items():
        assert board.find(number) == whose
        assert board.strike(number)
    assert board.outstanding() == 0


def test_a_job_is_kept_as_long_as_a_number_is_its_own() -> None:
    board, function = Board(1), Function(square)

    class Job:
        pass

    jobs = [Job() for _ in range(100)]
    alive = [weakref.ref(job) for job in jobs]
    numbers = [board.put(function, ITEM, 0, job) for job in jobs]
    del jobs
    assert all(ref() for ref in alive)
    for place in random.Random(6).sample(range(100), 100):
        assert alive[place]()
        board.strike(numbers[place])
        assert not alive[place]()


def test_a_job_that_puts_when_it_is_let_go() -> None:
    board, function, put = Board(1), Function(square), []

    class Job:
        def __del__(self) -> None:
            put.append(board.put(function, ITEM, 0, "next"))
            told(board)

    numbers = [board.put(function, ITEM, 0, Job()) for _ in range(100)]
    for number in numbers:
        assert board.strike(number)
    assert [board.find(number) for number in put] == [("next", 0)] * 100
    assert alone(board) == [("next", 0, VALUE, 0)] * 100


# Code that runs meanwhile


class Calling:
    """Calls hooks when it is pickled and when it is unpickled."""

    hooks: tuple[Callable[[], object], Callable[[], object]] = (int, int)

    def __reduce__(self) -> Any:
        self.hooks[0]()
        return called, ()


def called() -> str:
    Calling.hooks[1]()
    return "called"


def test_code_of_an_argument_that_calls_the_board() -> None:
    board, function = Board(1), Function(same)
    inner: list[Any] = []

    def pickled() -> None:
        inner.append(board.put(function, ITEM, len(inner), "inner", len(inner)))

    def unpickled() -> None:
        inner.append(board.take())

    Calling.hooks = (pickled, unpickled)
    batch = Batch(5)
    try:
        assert board.put_many(function, ITEM, [0, 1, Calling(), 3, 4], batch) == []
        board.close()
        board.enlist(0)
        assert board.work(fail, unsendable) == "closed"
        events = told(board)
    finally:
        Calling.hooks = (int, int)
    assert batch.results == [0, 1, "called", 3, 4]
    assert events.count(batch) + inner[-1].count(batch) == 1
    told_of = [event for event in events + inner[-1] if event is not batch]
    assert told_of == [("inner", 0, VALUE, 0)]


def test_a_result_whose_code_takes() -> None:
    board, batch = Board(1), Batch(300)
    nested: list[Any] = []
    Calling.hooks = (int, lambda: nested.append(board.take()))
    try:
        for place in range(300):
            board.put(Function(make_calling), ITEM, place, batch, place)
        assert alone(board).count(batch) + sum(e.count(batch) for e in nested) == 1
    finally:
        Calling.hooks = (int, int)
    assert batch.results == ["called" if n % 7 == 0 else n for n in range(300)]


def make_calling(x: int) -> Any:
    return Calling() if x % 7 == 0 else x


def test_a_result_whose_code_strikes_it_out() -> None:
    board = Board(1)
    number = board.put(Function(make_calling), ITEM, 0, "job")
    Calling.hooks = (int, lambda: board.strike(number))
    try:
        assert alone(board) == []
    finally:
        Calling.hooks = (int, int)


def test_a_signal_handler_that_raises_while_results_are_decoded() -> None:
    """Nothing is lost, and nothing told twice. Who raised is seen by decoding again."""
    board, batch = Board(1), Batch(3)
    jobs = ["a", "b"]
    interrupts = itertools.chain([True, False, False, True], itertools.repeat(False))

    def interrupt() -> None:
        if next(interrupts):
            raise KeyboardInterrupt

    Calling.hooks = (int, interrupt)
    try:
        function = Function(make_calling)
        board.put(function, ITEM, 1, "a")
        board.put_many(function, ITEM, [0, 1, 7], batch)
        board.put(function, ITEM, 2, "b")
        board.close()
        board.enlist(0)
        board.work(fail, unsendable)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                board.take()
            assert board.wait(0)
        events = told(board)
    finally:
        Calling.hooks = (int, int)
    assert [e for e in events if e is not batch] == [("a", 0, VALUE, 1), ("b", 0, VALUE, 2)]
    assert events.count(batch) == 1 and batch.results == ["called", 1, "called"]
    assert jobs == ["a", "b"] and not board.wait(0)


def test_a_result_that_interrupts_whenever_it_is_decoded() -> None:
    board = Board(1)
    board.put(Function(make_interrupting), ITEM, 0, "job")
    board.put(Function(square), ITEM, 3, "next")
    board.close()
    board.enlist(0)
    board.work(fail, unsendable)
    [(_, _, what, error), event] = board.take()
    assert what == UNDECODED and type(error) is KeyboardInterrupt
    assert event == ("next", 0, VALUE, 9)


class Interrupting:
    """Raises when it is unpickled; by no eval(), for that changes how the interpreter ends."""

    def __reduce__(self) -> Any:
        return interrupt_it, (0,)


def make_interrupting(_: Any) -> Any:
    return Interrupting()


def test_memory_that_is_short_while_results_are_taken() -> None:
    """Whatever allocation fails, each result is told once."""
    testcapi = pytest.importorskip("_testcapi")
    function, late = Function(same), 0
    for late in range(60):
        board, batch = Board(1), Batch(70)
        board.put(function, ITEM, 1.5, "a", 5)
        board.put_many(function, ITEM, [str(n) for n in range(70)], batch)
        board.put(Function(boom), ITEM, 7, "b")
        board.close()
        board.enlist(0)
        board.work(fail, unsendable)
        events: Any = None
        testcapi.set_nomemory(late, late + 1)
        try:
            events = board.take()
        except MemoryError:
            pass
        finally:
            testcapi.remove_mem_hooks()
        events = (events or []) + told(board)
        undecoded = [e for e in events if e is not batch and e[2] == UNDECODED]
        assert [e[:2] for e in events if e is not batch] == [("a", 5), ("b", 0)]
        assert events.count(batch) >= 1 and batch.left == 0
        assert len(undecoded) + len(batch.failures) <= 1
        assert board.outstanding() == 0


def test_memory_that_is_short_while_tasks_are_put() -> None:
    testcapi = pytest.importorskip("_testcapi")
    function, arguments = Function(same), [*range(70), bytes(2000)]
    for late in range(60):
        board, batch, failures, raised = Board(1), Batch(71), [], False
        testcapi.set_nomemory(late, late + 1)
        try:
            failures = board.put_many(function, ITEM, arguments, batch)
        except MemoryError:
            raised = True
        finally:
            testcapi.remove_mem_hooks()
        assert board.outstanding() == board.waiting()
        assert board.outstanding() + len(failures) == 71 or raised
        alone(board)
        assert batch.left == len(failures) or raised


def test_threads_that_put_and_take_at_once() -> None:
    board, function = Board(2), Function(same)
    batches = [Batch(2000) for _ in range(3)]
    arguments = [bytes(MIB + 1) if n % 1000 == 7 else n for n in range(2000)]

    def put(batch: Batch) -> None:
        for begin in range(0, 2000, 200):
            board.put_many(function, ITEM, arguments[begin : begin + 100], batch, begin)
            for place in range(begin + 100, begin + 200):
                board.put(function, ITEM, arguments[place], batch, place)

    def take() -> None:
        while any(batch.left for batch in batches):
            assert board.wait(PATIENCE_S) or not any(batch.left for batch in batches)
            board.take()
        board.interrupt()

    with workers(board, 2):
        threads = [Thread(put, batch) for batch in batches] + [Thread(take) for _ in range(2)]
        for thread in threads:
            thread.result()
    for batch in batches:
        assert batch.results == arguments and batch.failures == []
    assert board.outstanding() == 0


# Workers


def test_ready_and_unfit() -> None:
    board = Board(4)
    with pytest.raises(RuntimeError, match="enlist"):
        board.ready(1)
    board.enlist(2)
    board.ready({"pid": 5})
    board.unfit([b"x" * 10_000])
    assert told(board) == [
        (None, 2, READY, {"pid": 5}),
        (None, 2, UNFIT, [b"x" * 10_000]),
    ]
    assert board.look(2)[5] == 0  # type: ignore[index]


def test_rows() -> None:
    board = Board(2)
    assert board.look(0) is None and board.over() == []
    for call in (board.look, board.is_over, board.settle, board.bury, board.enlist):
        with pytest.raises(IndexError, match="no row 2 on a board of 2"):
            call(2)
        with pytest.raises((OverflowError, TypeError)):
            call(-1)
    with pytest.raises(ValueError, match="nobody has row 1"):
        board.bury(1)
    board.enlist(1)
    with pytest.raises(ValueError, match="is a worker of this board already"):
        board.enlist(0)
    with pytest.raises(ValueError, match="row 1 has a worker"):
        in_child(board.enlist, 1)
    with pytest.raises(ValueError, match="the worker of row 1 lives"):
        board.bury(1)
    with pytest.raises(ValueError, match="the worker of row 1 lives"):
        board.settle(1)
    for rows in (0, _core.ROWS_MAX + 1):
        with pytest.raises(ValueError, match="a board has 1 to"):
            Board(rows)


def hold(board: Board, row: int) -> None:
    """Enlist, run a task that says so, and never end it."""
    board.enlist(row)
    board.work(fail, unsendable)


def say_and_wait(x: Any) -> None:
    say(x)
    threading.Event().wait()


def test_a_row_tells_what_its_worker_does_and_did() -> None:
    board = Board(2)
    before = time.monotonic()
    board.put(Function(square), ITEM, 1, "a")
    number = board.put(Function(say_and_wait), ITEM, "!", "b")
    with Child(hold, board, 1) as child:
        assert child.heard() == "!"
        looked = board.look(1)
        assert looked is not None
        assert looked[0] == child.pid
        assert looked[3] == number and looked[1] <= number < looked[1] + looked[2]
        assert before < looked[4] < time.monotonic()
        assert looked[5:] == (1, 0)
        board.order(1, number, 3)
        assert board.look(1)[6] == 3 << 32 | number  # type: ignore[index]
        assert not board.is_over(1) and not board.watch(0)
    assert board.watch(PATIENCE_S) and board.wait(PATIENCE_S)
    assert board.is_over(1) and board.over() == [1]
    board.settle(1)
    assert board.take() == [("a", 0, VALUE, 1)]
    buried = board.bury(1)
    assert buried[1:4] == looked[1:4] and board.look(1) is None
    assert board.find(number) == ("b", 0) and board.strike(number)


def test_most_and_between() -> None:
    board, batch = Board(1), Batch(10)
    board.put_many(Function(square), ITEM, range(10), batch)
    board.enlist(0)
    assert board.work(fail, unsendable, most=3) == "enough"
    assert board.waiting() == 7
    answers = iter([False, 0, [1]])
    assert board.work(fail, unsendable, between=lambda: next(answers)) == "between"
    assert board.waiting() == 4
    with pytest.raises(StopIteration):
        board.work(fail, unsendable, between=lambda: next(answers))
    assert board.waiting() == 3
    board.close()
    assert board.work(fail, unsendable) == "closed"
    assert board.take() == [batch]
    with pytest.raises(ValueError, match="the board is closed"):
        board.put(Function(square), ITEM, 1, "job")
    with pytest.raises(ValueError, match="the board is closed"):
        board.put_many(Function(square), ITEM, [1], "job")
    for kwargs in ({"most": -1}, {"workers": 0}, {"workers": 1 << 20}):
        with pytest.raises(ValueError, match="most is at least 0"):
            board.work(fail, unsendable, **kwargs)


def test_cancelled_tasks_are_not_run() -> None:
    board, function, ran = Board(1), Function(call), []
    numbers = [board.put(function, ITEM, n, n) for n in range(4)]
    numbers.append(board.put(function, ITEM, bytes(MIB), 4))
    assert board.cancel(numbers[1]) and board.cancel(numbers[3]) and board.cancel(numbers[4])
    assert not board.cancel(99)
    assert board.outstanding() == 2
    with calling(lambda: ran.append(board.running())):
        assert alone(board) == [(n, 0, VALUE, None) for n in (0, 2)]
    assert ran == [numbers[0], numbers[2]]
    assert board.look(0)[5] == 2  # type: ignore[index]
    assert not board.cancel(numbers[0])


def test_orders_and_what_runs() -> None:
    board = Board(1)
    board.close()
    assert board.ordered() == (0, 0) and board.running() is None
    board = Board(1)
    board.order(0, 5, 2)
    number = board.put(Function(call), ITEM, 0, "job")
    with calling(lambda: (board.running(), board.ordered(), in_child(board.running))):
        [(_, _, _, value)] = alone(board)
    assert value == (number, (5, 2), None)
    assert board.running() is None


# Memory


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


def count_alive(_: Any) -> int:
    return Tracked.alive


def test_nothing_of_a_task_is_kept_when_it_is_done() -> None:
    board, batch = Board(1), Batch(6)
    counts: list[int] = []
    for place, (function, kind, argument) in enumerate(
        [
            (same, ITEM, Tracked()),
            (boom, ITEM, Tracked(bytes(2 * MIB))),
            (same, CHUNK, [Tracked(), Tracked()]),
            (same, STAR, (Tracked(),)),
            (same, APPLY, ((Tracked(),), {})),
            (square, ITEM, 5),
        ]
    ):
        board.put(Function(function), kind, argument, batch, place)
        del argument
    gc.collect()
    assert Tracked.alive == 0
    board.close()
    board.enlist(0)
    board.work(fail, unsendable, between=lambda: counts.append(Tracked.alive))
    assert counts == [0] * 6
    assert board.take() == [batch]


def test_items_of_a_chunk_go_one_by_one() -> None:
    board, batch = Board(1), Batch(1)
    board.put(Function(count_alive), CHUNK, [Tracked() for _ in range(4)], batch)
    alone(board)
    assert batch.results == [[4, 3, 2, 1]]


def test_a_board_in_a_circle_is_collected() -> None:
    def circle() -> Any:
        board, batch = Board(1), Mine(3, "mine")
        batch.board = board  # type: ignore[attr-defined]
        board.put_many(Function(functools.partial(same, bytes(5000))), ITEM, [bytes(MIB)], batch)
        return weakref.ref(batch)

    before = _core.session_stats()["objects"]
    ref = circle()
    assert _core.session_stats()["objects"] == before + 3
    gc.collect()
    assert ref() is None
    assert _core.session_stats()["objects"] == before


def test_results_and_events_that_nobody_took_go_with_the_board() -> None:
    board, batch = Board(1), Batch(2)
    interrupts = iter([True])

    def interrupt() -> None:
        if next(interrupts, False):
            raise KeyboardInterrupt

    before = _core.session_stats()["objects"]
    board.put_many(Function(same), ITEM, [bytes(MIB), 1], batch)
    board.put(Function(make_calling), ITEM, 0, board)
    board.put(Function(same), ITEM, bytes(MIB), "job")
    board.close()
    board.enlist(0)
    board.work(fail, unsendable)
    Calling.hooks = (int, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            board.take()
    finally:
        Calling.hooks = (int, int)
    del board
    gc.collect()
    assert _core.session_stats()["objects"] == before - 1


def test_references() -> None:
    board, batch, argument = Board(1), Batch(100), object()
    function = Function(square)
    before = sys.getrefcount(argument), sys.getrefcount(function), sys.getrefcount(batch)
    board.put_many(function, ITEM, range(100), batch)
    failures = board.put_many(function, ITEM, [argument], "job")
    alone(board)
    del failures
    gc.collect()
    after = sys.getrefcount(argument), sys.getrefcount(function), sys.getrefcount(batch)
    assert after == before


# Waiting


def test_waits_end_with_a_timeout() -> None:
    board = Board(1)
    begin = time.monotonic()
    assert not board.wait(0.05) and not board.watch(0.05)
    assert time.monotonic() - begin >= 0.1
    assert not board.wait(0) and not board.watch(0)
    for wrong in ("x", float("nan")):
        with pytest.raises((TypeError, ValueError)):
            board.wait(wrong)  # type: ignore[arg-type]


def test_an_interrupt_ends_waits_of_all_threads() -> None:
    board = Board(1)
    threads = [Thread(board.wait, None), Thread(board.watch, None)]
    for thread in threads:
        thread.asleep()
    board.interrupt()
    assert [thread.result() for thread in threads] == [False, False]


def test_an_interrupt_that_is_early_ends_the_next_wait() -> None:
    board = Board(1)
    board.interrupt()
    assert not board.wait(None)


def test_a_signal_handler_runs_while_it_waits() -> None:
    board = Board(1)

    def handler(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, handler)
    try:
        for call in (board.wait, board.watch):
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(KeyboardInterrupt):
                call(PATIENCE_S)
    finally:
        signal.signal(signal.SIGALRM, before)


def wait_for_a_signal(_: Any) -> None:
    say("!")
    threading.Event().wait()


def idle(board: Board) -> str:
    board.enlist(0)
    try:
        return board.work(fail, unsendable)
    except KeyboardInterrupt:
        return "interrupted"


def test_an_interrupt_in_a_task_is_the_tasks() -> None:
    board = Board(1)
    board.put(Function(wait_for_a_signal), ITEM, 0, "job")
    with Child(idle, board) as child:
        assert child.heard() == "!"
        child.signal(signal.SIGINT)
        assert results_of(board, 1) == [("job", 0, FAILED, ("KeyboardInterrupt", ""))]
        child.asleep()
        child.signal(signal.SIGINT)
        assert child.result() == "interrupted"


# Processes that are not the owner, and the owner's end


def test_others_than_the_owner_are_told_so() -> None:
    board = Board(1)
    function = Function(square)
    board.put(function, ITEM, 1, "job")
    text = f"this board belongs to process {os.getpid()}"
    for call in (
        lambda: board.put(function, ITEM, 1, "job"),
        lambda: board.put_many(function, ITEM, [1], "job"),
        board.take,
        lambda: board.wait(0),
        lambda: board.watch(0),
        lambda: board.cancel(0),
        lambda: board.bury(0),
    ):
        with pytest.raises(RuntimeError, match=text):
            in_child(call)
    assert board.outstanding() == 1


def own_and_die(answers: Any) -> None:
    board = Board(2)
    child = Child(idle_telling, board, answers, 0)
    busy = Child(idle_telling, board, answers, 1)
    assert child.heard() == busy.heard() == "."
    child.asleep()
    for _ in range(1000):
        board.put(Function(same), ITEM, 0, "job")
    os._exit(0)


def idle_telling(board: Board, answers: Any, row: int) -> None:
    import ctypes

    ctypes.CDLL(None).prctl(1, 0)  # it is to notice by itself
    board.enlist(row)
    say()
    answers.put(board.work(fail, unsendable))


def test_workers_notice_that_the_owner_is_gone() -> None:
    answers = leveret.Queue()
    with Child(own_and_die, answers) as owner:
        os.waitpid(owner.pid, 0)
        owner._over = True
        assert [answers.get(timeout=PATIENCE_S) for _ in range(2)] == ["closed"] * 2


def work_in_step(boards: list[Board], rounds: Any, row: int) -> set[str]:
    """Work on each board when the other one begins to."""
    answers = set()
    for number, board in enumerate(boards, 1):
        board.enlist(row)
        rounds[row] = number
        while rounds[1 - row] < number:
            pass
        answers.add(board.work(fail, unsendable))
    return answers


def test_a_large_task_that_another_one_has_taken() -> None:
    """Two see it and one has it: the other finds nothing, as if it had looked a little later."""
    boards, function = [Board(2) for _ in range(300)], Function(len)
    for board in boards:
        board.put(function, ITEM, bytes(10_000), "job")
        board.close()
    rounds = leveret.RawArray("i", 2)
    with (
        Child(work_in_step, boards, rounds, 0) as one,
        Child(work_in_step, boards, rounds, 1) as other,
    ):
        assert one.result() == other.result() == {"closed"}


def never() -> bool:
    return False


def work_one_by_one(board: Board) -> None:
    board.enlist(0)
    board.work(fail, unsendable, between=never)


def keep_going(pid: int) -> None:
    """Let a stopped process go on, now and then."""
    while True:
        time.sleep(2.0)
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("what", ["revoke", "cancel"])
def test_a_worker_that_is_stopped_as_it_claims_holds_up_one_thread(what: str) -> None:
    """Sooner or later it is stopped with the mutex."""
    board, function = Board(1), Function(len)
    number = board.put(function, ITEM, "", "job")
    with Child(work_one_by_one, board) as child, Child(keep_going, child.pid):
        for _ in range(1000):
            board.take()
            board.put_many(function, ITEM, [""] * 2000, "job")
            child.signal(signal.SIGSTOP)
            os.waitpid(child.pid, os.WUNTRACED)
            before = time.monotonic()
            thread = Thread(getattr(board, what), 0 if what == "revoke" else number)
            thread._thread.join(0.05)
            waits = thread._thread.is_alive()
            child.signal(signal.SIGCONT)
            assert time.monotonic() - before < 1.0, "all threads were held up"
            thread.result()
            if waits:
                break
        assert waits


# Deaths


def maybe_die(x: int) -> int:
    if x % 97 == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return x * x


class Crew:
    """What a pool does with workers that die: every task is told of once."""

    def __init__(self, size: int) -> None:
        self.board, self.size = Board(size), size
        self.children: list[Child | None] = [None] * size
        self.died: list[int] = []
        self.again: list[int] = []
        for row in range(size):
            self.start(row)

    def start(self, row: int) -> None:
        self.children[row] = Child(work, self.board, row, self.size)
        until(lambda: self.board.look(row) is not None)

    def bury(self, row: int) -> None:
        child = self.children[row]
        assert child is not None
        with child:
            pass
        self.board.settle(row)
        self.board.take()
        _, first, count, running, *_ = self.board.bury(row)
        for number in range(first, first + count):
            whose = self.board.find(number)
            if whose is None:
                continue
            (self.died if number == running else self.again).append(whose[1])
            assert self.board.strike(number)
        self.start(row)

    def bury_all(self) -> None:
        for row in self.board.over():
            self.bury(row)

    def kill(self, row: int) -> None:
        child = self.children[row]
        assert child is not None
        child.kill()

    def end(self) -> None:
        self.bury_all()
        self.board.close()
        for child in self.children:
            assert child is not None
            with child:
                child.result()


@pytest.mark.timeout(120)
def test_workers_that_kill_themselves() -> None:
    crew, count = Crew(2), 1000
    batch = Batch(count)
    function = Function(maybe_die)
    crew.board.put_many(function, ITEM, range(count), batch)
    while batch.left:
        assert crew.board.wait(PATIENCE_S)
        crew.board.take()
        crew.bury_all()
        for place in crew.died:
            batch.results[place] = "died"
        batch.left -= len(crew.died)
        for place in crew.again:
            crew.board.put(function, ITEM, place, batch, place)
        crew.died, crew.again = [], []
    crew.end()
    assert batch.results == ["died" if x % 97 == 5 else x * x for x in range(count)]
    assert crew.board.outstanding() == 0


def slowly_same(x: Any) -> Any:
    if x == 5:
        time.sleep(0.001)  # claims are small
    return x


@pytest.mark.timeout(60 + 5 * KILLS)
def test_workers_killed_at_random() -> None:
    """Whatever they were about: what they had claimed is done by others, and all is told once."""
    seed = int(os.environ.get("LEVERET_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"seed {seed}")
    chooser = random.Random(seed)
    crew, function, ran, count = Crew(2), Function(slowly_same), 0, 300
    for kill in range(KILLS):
        kinds = [6, bytes(2000), bytes(10_000), *[5] * chooser.randrange(2)]
        arguments = [chooser.choice(kinds) for _ in range(count)]
        batch, at, victim = Batch(count), chooser.randrange(count), chooser.randrange(2)
        crew.board.put_many(function, ITEM, arguments, batch)
        while batch.left:
            if batch.left <= count - at:
                crew.kill(victim)
                at = count
            assert crew.board.wait(PATIENCE_S)
            crew.board.take()
            crew.bury_all()
            for place in crew.died + crew.again:
                crew.board.put(function, ITEM, arguments[place], batch, place)
            ran += len(crew.died)
            crew.died, crew.again = [], []
        assert batch.results == arguments, kill
        assert crew.board.outstanding() == 0 == crew.board.waiting()
    print(f"{ran} tasks ran when their workers were killed")
    crew.end()


# Bad input


def test_arguments_are_checked() -> None:
    board, function = Board(1), Function(square)
    with pytest.raises(TypeError, match="a task is for a Function, not a function"):
        board.put(square, ITEM, 1, "job")  # type: ignore[arg-type]
    for kind in (-1, 5):
        with pytest.raises(ValueError, match="no kind of task"):
            board.put(function, kind, 1, "job")
    with pytest.raises(TypeError, match="takes function, kind"):
        board.put(function, ITEM, 1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected keyword argument 'pace'"):
        board.put(function, ITEM, 1, "job", pace=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="not iterable"):
        board.put_many(function, ITEM, 5, "job")  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="called already"):
        function.__init__(square)  # type: ignore[misc]
    with pytest.raises(RuntimeError, match="__init__"):
        board.put(Function.__new__(Function), ITEM, 1, "job")
    with pytest.raises(RuntimeError, match="__init__"):
        Board.__new__(Board).take()
    assert board.outstanding() == 0


def test_arguments_that_change_while_they_are_put() -> None:
    """Those that are not put are told of, also those that were about to be."""
    for change, failed in [("clear", [1, 2, 3]), ("pop", [1, 2, 3]), ("copy", [])]:
        board, batch = Board(1), Batch(4)
        arguments: list[Any] = [Calling(), 1, 2, 3]
        Calling.hooks = (getattr(arguments, change), lambda: None)
        try:
            failures = board.put_many(Function(same), ITEM, arguments, batch)
        finally:
            Calling.hooks = (int, int)
        assert [place for place, _ in failures] == failed
        assert {type(error) for _, error in failures} <= {RuntimeError}
        assert board.outstanding() == 4 - len(failed) == board.waiting()

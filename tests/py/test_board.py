"""Board, Function and Batch: tasks to workers and results back."""

import functools
import gc
import importlib.util
import os
import pickle
import random
import signal
import sys
import threading
import time
import weakref
from typing import Any

import leveret
import pytest
from boards import (
    MIB,
    Calling,
    Mine,
    Tracked,
    add,
    alone,
    boom,
    call_hook,
    calling,
    concatenate,
    fail,
    finished,
    one,
    results_of,
    same,
    square,
    told,
    unsendable,
    work,
    workers,
)
from forked import PATIENCE_S, Child, Thread, in_child, say, until
from leveret import _core
from leveret._core import (
    APPLY,
    CHUNK,
    FAILED,
    ITEM,
    READY,
    STAR,
    STARCHUNK,
    UNFIT,
    VALUE,
    Batch,
    Board,
    Function,
)

methods = pytest.mark.parametrize("method", ["fork", "warm", "spawn"])


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


# Who is told


def test_a_batch_is_told_of_once() -> None:
    board, batch = Board(1), Batch(100)
    board.put_many(Function(square), ITEM, range(100), batch)
    assert alone(board) == [batch]
    assert batch.left == 0


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
    assert board.look(2).finished == 0  # type: ignore[union-attr]


def test_rows() -> None:
    board = Board(2)
    assert board.look(0) is None and board.over() == []
    for call in (board.look, board.settle, board.bury, board.enlist):
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
    signal.signal(signal.SIGINT, signal.SIG_IGN)
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
        assert looked.pid == child.pid
        assert looked.running == number and looked.first <= number < looked.first + looked.claimed
        assert before < looked.since < time.monotonic()
        assert looked[5:] == (1, 0, False)
        board.order(1, number, 3)
        assert board.look(1).order == (1 << 2 | 3) << 32 | number  # type: ignore[union-attr]
        assert board.over() == [] and not board.watch(0)
    assert board.watch(PATIENCE_S) and board.wait(PATIENCE_S)
    assert board.over() == [1]
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
    board, function, ran = Board(1), Function(call_hook), []
    numbers = [board.put(function, ITEM, n, n) for n in range(4)]
    numbers.append(board.put(function, ITEM, bytes(MIB), 4))
    assert board.cancel(numbers[1]) and board.cancel(numbers[3]) and board.cancel(numbers[4])
    assert not board.cancel(numbers[1]) and not board.strike(numbers[1])  # it was this one's
    assert not board.cancel(99)
    assert board.outstanding() == 2
    with calling(lambda: ran.append(board.running())):
        assert alone(board) == [(n, 0, VALUE, None) for n in (0, 2)]
    assert ran == [numbers[0], numbers[2]]
    assert board.look(0).finished == 2  # type: ignore[union-attr]
    assert not board.cancel(numbers[0])


def test_a_task_that_is_put_again_has_one_number() -> None:
    board, function, batch, moves = Board(2), Function(square), Batch(3), list[int]()
    board.put_many(function, ITEM, [1, 2, 3], batch)
    board.enlist(0)
    assert board.put_again(1, function, ITEM, 2, moves.append)
    assert board.find(1) is None and board.find(moves[0]) == (batch, 1)
    assert not board.put_again(1, function, ITEM, 2, moves.append)  # nobody waits for that one
    assert board.put_again(moves[0], function, ITEM, bytes(MIB), None)  # with a block
    assert len(moves) == 1 and board.outstanding() == 3
    assert board.waiting() == 5 and board.strike(moves[0] + 1)
    with pytest.raises(TypeError):
        board.put_again(0, square, ITEM, 1, None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="kind"):
        board.put_again(0, function, 99, 1, None)
    with pytest.raises(TypeError):
        board.put_again(0, function, ITEM, 1, 5)  # type: ignore[arg-type]
    assert board.outstanding() == 2


@pytest.mark.parametrize("interrupted", [False, True])
def test_what_nobody_waits_for_any_more_is_not_put_again(interrupted: bool) -> None:
    """Encoding runs code: it may strike the number out, or be interrupted."""
    board, function = Board(1), Function(square)
    number = board.put(function, ITEM, 1, "job")

    class Argument:
        def __reduce__(self) -> Any:
            if interrupted:
                raise KeyboardInterrupt
            board.strike(number)
            return int, ()

    if interrupted:
        with pytest.raises(KeyboardInterrupt):
            board.put_again(number, function, ITEM, Argument(), None)
        assert board.find(number) == ("job", 0)
    else:
        assert not board.put_again(number, function, ITEM, Argument(), None)
        assert board.outstanding() == 0
    assert board.waiting() == 1


def test_a_failure_that_is_told_twice_is_counted_once() -> None:
    batch, errors = Batch(3), [ValueError(), ValueError()]
    for error in (errors[0], errors[0], errors[1]):
        batch.fail(1 if error is errors[0] else 2, error)
    assert batch.left == 1 and batch.failures == [(1, errors[0]), (2, errors[1])]
    assert batch.fail(0, errors[1])


def test_orders_and_what_runs() -> None:
    board = Board(1)
    board.close()
    assert board.ordered() == (0, 0, 0) and board.running() is None
    board = Board(1)
    number = board.put(Function(call_hook), ITEM, 0, "job")
    with calling(lambda: (board.running(), board.ordered(), in_child(board.running))):
        [(_, _, _, value)] = alone(board)
    assert value == (number, (0, 0, 0), None)
    assert board.running() is None


def test_each_order_has_its_signal() -> None:
    """Also where who gives it was interrupted, and does it again."""
    board, signals = Board(1), list[tuple[int, int, int]]()
    board.order(0, 5, 1)  # nobody is there
    board.put(Function(call_hook), ITEM, 0, "job")

    def order() -> None:
        for number in (5, 5, 6, 6, 5):
            board.order(0, number, 2)

    before = signal.signal(signal.SIGINT, lambda *_: signals.append(board.ordered()))
    try:
        with calling(order):
            alone(board)
    finally:
        signal.signal(signal.SIGINT, before)
    assert signals == [(5, 2, 1), (6, 2, 2), (5, 2, 3)]
    for why in (0, 4):
        with pytest.raises(ValueError, match=f"why is 1 to 3, not {why}"):
            board.order(0, 5, why)


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
        child.asleep()  # one that comes between its last look and its sleep is heeded behind it
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


def enlist_and_stay(board: Board) -> None:
    board.enlist(0)
    say()
    signal.pause()


def ordered_of_a_new_worker(board: Board) -> Any:
    board.enlist(0)
    return board.ordered()


def test_a_new_worker_has_no_orders_of_the_last_one() -> None:
    """Else its first Ctrl-C would be taken for that of an order, and be lost."""
    board = Board(1)
    with Child(enlist_and_stay, board) as child:
        child.heard()
        board.order(0, 5, 1)
    board.settle(0)
    assert board.bury(0).order != 0
    with Child(ordered_of_a_new_worker, board) as child:
        assert child.result() == (0, 0, 0)


def test_put_many_hears_signals() -> None:
    """Every now and then; its arguments are no Python code. (A list of them takes some 0.1 s.)"""
    count, board = 1_000_000, Board(1)
    arguments, function = list(range(count)), Function(square)

    def interrupt(signo: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGVTALRM, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_VIRTUAL, 0.005)
            board.put_many(function, ITEM, arguments, "job")
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    assert board.outstanding() < count


def test_a_claim_is_a_share_of_half_of_those_that_wait() -> None:
    """So nobody is without work at the end while another one has much of it."""
    board, count, workers = Board(1), 2000, 4
    board.put_many(Function(call_hook), ITEM, range(count), Batch(count))
    board.close()
    board.enlist(0)
    seen: list[tuple[int, int]] = []  # what is left of the claim, what waits
    with calling(lambda: seen.append((board.look(0).claimed, board.waiting()))):
        board.work(fail, unsendable, workers=workers)
    assert len(seen) == count and max(seen)[0] > 1
    assert all(left == 1 or left * 2 * workers <= left + waiting for left, waiting in seen)

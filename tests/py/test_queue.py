"""Queue and JoinableQueue: what ours promise beyond the standard library's, and bad input."""

import copy
import gc
import itertools
import os
import pickle
import queue as queues
import resource
import signal
import subprocess
import sys
import threading
import time
import uuid
import warnings
from collections.abc import Iterator
from typing import Any

import leveret
import pytest
from forked import Child, Thread, in_child, say, until
from leveret import CorruptMessage, LostTaskWarning, _core
from leveret.queues import JoinableQueue, Queue

METHODS = ("fork", "warm", "spawn", "forkserver")
MIB = 1 << 20

methods = pytest.mark.parametrize("method", METHODS)
both = pytest.mark.parametrize("kind", [Queue, JoinableQueue])


class Bad:
    """Cannot be unpickled."""

    def __init__(self, code: str = "1 // 0") -> None:
        self.code = code

    def __reduce__(self) -> Any:
        return eval, (self.code,)


class Unpicklable:
    """Cannot be pickled."""

    def __reduce__(self) -> Any:
        raise LookupError("not me")


class Named(Queue):
    """A class of a user's with an attribute."""

    def __init__(self, name: str) -> None:
        super().__init__(3)
        self.name = name


class Counted(JoinableQueue):
    """A class of a user's with a state of its own."""

    count = 0

    def __getstate__(self) -> Any:
        return super().__getstate__(), self.count

    def __setstate__(self, state: Any) -> None:
        inner, self.count = state
        super().__setstate__(inner)


def drained(queue: Queue) -> list[Any]:
    found = []
    while not queue.empty():
        found.append(queue.get(False))
    return found


# The bound


def put_until_full(queue: Queue, who: int) -> int:
    count = 0
    while True:
        try:
            queue.put((who, count), False)
        except queues.Full:
            return count
        count += 1


def test_four_producers_fill_it_to_its_bound_exactly() -> None:
    for bound in (1, 2, 7, 100):
        queue = Queue(bound)
        children = [Child(put_until_full, queue, who) for who in range(4)]
        counts = [child.result() for child in children]
        for child in children:
            with child:
                pass
        assert sum(counts) == queue.qsize() == bound and queue.full()
        got = drained(queue)
        for who, count in enumerate(counts):
            assert [number for one, number in got if one == who] == list(range(count))


def test_it_never_holds_more_than_its_bound() -> None:
    queue = Queue(3)

    def put_all(who: int) -> None:
        for number in range(200):
            queue.put((who, number))

    producers = [Child(put_all, who) for who in range(4)]
    got, most = [], 0
    for _ in range(800):
        most = max(most, queue.qsize())
        got.append(queue.get(timeout=20))
    for producer in producers:
        with producer:
            producer.result()
    assert most <= 3
    for who in range(4):
        assert [number for one, number in got if one == who] == list(range(200))


def test_processes_and_threads_share_a_queue() -> None:
    queue = Queue(10)

    def put_all(who: str) -> None:
        threads = [Thread(put_some, f"{who}{thread}") for thread in range(2)]
        for thread in threads:
            thread.result()

    def put_some(who: str) -> None:
        for number in range(100):
            queue.put((who, number))

    def get_some() -> list[Any]:
        return [queue.get(timeout=20) for _ in range(100)]

    producers = [Child(put_all, who) for who in "ab"]
    consumer = Child(lambda: get_some() + get_some())
    getters = [Thread(get_some) for _ in range(2)]
    took = [consumer.result(), *(getter.result() for getter in getters)]
    for child in (*producers, consumer):
        with child:
            pass
    everything = list(itertools.chain(*took))
    assert sorted(everything) == sorted(
        (f"{p}{t}", n) for p in "ab" for t in "01" for n in range(100)
    )
    for one in took:
        for who in ("a0", "a1", "b0", "b1"):
            numbers = [number for name, number in one if name == who]
            assert numbers == sorted(numbers)


# Many at once


def test_put_many_and_get_many() -> None:
    queue = Queue()
    assert queue.put_many(range(5000)) == 5000
    assert queue.put_many([]) == 0 and queue.put_many("ab") == 2
    assert queue.get_many(max=1) == [0]
    assert queue.get_many(2) == [1, 2]
    assert queue.get_many() == [*range(3, 5000), "a", "b"]
    begin = time.monotonic()
    with pytest.raises(queues.Empty):
        queue.get_many(timeout=0.1)
    assert time.monotonic() - begin > 0.09


def test_many_of_all_sizes_come_in_order() -> None:
    queue = Queue()
    objects = [bytes([number % 251]) * (number * 997 % 40_000) for number in range(200)]
    objects[100] = {"a": {1, 2}}
    assert queue.put_many(iter(objects)) == 200
    got: list[Any] = []
    while len(got) < 200:
        got += queue.get_many(max=37)
    assert got == objects


def failing(count: int) -> Iterator[int]:
    yield from range(count)
    raise LookupError("half way")


def test_put_many_puts_what_comes_before_an_error_of_the_iterator() -> None:
    queue = Queue()
    for count in (0, 10, 3000):
        with pytest.raises(LookupError, match="half way"):
            queue.put_many(failing(count))
        assert drained(queue) == list(range(count))


def test_put_many_puts_what_comes_before_an_object_that_cannot_be_sent() -> None:
    queue = Queue()
    with pytest.raises(LookupError, match="not me"):
        queue.put_many([1, 2, Unpicklable(), 4])
    assert drained(queue) == [1, 2]


def test_put_many_puts_what_there_is_room_for() -> None:
    queue = Queue(10)
    for arguments in ({"timeout": 0.05}, {"block": False}, {"timeout": -1}):
        with pytest.raises(queues.Full, match="put 10 objects") as full:
            queue.put_many(range(25), **arguments)
        assert full.value.done == 10
        assert drained(queue) == list(range(10))
    queue.put_many(range(10))
    with pytest.raises(queues.Full, match="put 0 objects") as full:
        queue.put_many([1], block=False)
    assert full.value.done == 0


def test_put_many_waits_for_room() -> None:
    queue = Queue(10)
    putter = Thread(queue.put_many, range(1000))
    assert [queue.get(timeout=20) for _ in range(1000)] == list(range(1000))
    assert putter.result() == 1000


@pytest.mark.parametrize("wrong", [0, -1])
def test_get_many_wants_one_at_least(wrong: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Queue().get_many(max=wrong)


def test_many_want_what_they_are_for() -> None:
    queue = Queue()
    for call in ("put_many()", "put_many(1)", "put_many([], 1, 2, 3)", "get_many(1, 2, 3)"):
        with pytest.raises(TypeError):
            eval(f"queue.{call}")
    with pytest.raises(TypeError):
        queue.get_many("all")
    queue.close()
    for call in ("put_many([1])", "get_many()"):
        with pytest.raises(ValueError, match="is closed"):
            eval(f"queue.{call}")


def test_get_many_loses_nothing_when_some_cannot_be_unpickled() -> None:
    queue = Queue()
    queue.put_many([1, Bad(), 2, Bad("[][7]"), 3])
    assert queue.get_many() == [1, 2, 3]
    with pytest.raises(ZeroDivisionError):
        queue.get_many()
    with pytest.raises(IndexError):
        queue.get(False)
    with pytest.raises(queues.Empty):
        queue.get(False)
    queue.put(Bad())
    with pytest.raises(ZeroDivisionError):
        queue.get_many()
    assert queue.empty()


def test_get_many_returns_while_somebody_goes_on_putting() -> None:
    queue = Queue()

    def put_for_ever() -> None:
        while True:
            queue.put_many(range(100))

    with Child(put_for_ever):
        for _ in range(20):
            assert queue.get_many(timeout=20)


def test_getters_of_many_share_what_there_is() -> None:
    queue = Queue()
    big = b"x" * 20_000

    def get_all() -> int:
        count = 0
        while True:
            got = queue.get_many(max=5, timeout=20)
            count += len(got) - (None in got)
            if None in got:
                queue.put_many([None] * 1)
                return count

    getters = [Child(get_all) for _ in range(3)]
    for _ in range(200):
        queue.put_many([big, 1, big])
    queue.put(None)
    assert sum(getter.result() for getter in getters) + len(drained(queue)) - 1 == 600
    for getter in getters:
        with getter:
            pass


# What cannot be sent, or not be received


@both
def test_what_cannot_be_pickled_raises_in_put(kind: Any) -> None:
    queue = kind(2)
    for obj, error in (
        (Unpicklable(), LookupError),
        (threading.Lock(), TypeError),
        ([{"a": Unpicklable()}], LookupError),
        (iter("x").__class__, None),
    ):
        if error is not None:
            with pytest.raises(error):
                queue.put(obj)
    assert queue.empty() and queue.qsize() == 0
    queue.put(None)
    assert queue.get() is None
    if kind is JoinableQueue:
        queue.task_done()
        queue.join()


def test_an_error_may_be_told_to_the_queue() -> None:
    told = []

    class Telling(Queue):
        def _on_queue_feeder_error(self, e: Exception, obj: Any) -> None:
            told.append((type(e), type(obj)))

    queue = Telling()
    queue.put(Unpicklable())
    queue.put(1)
    assert queue.get() == 1 and queue.empty()
    assert told == [(LookupError, Unpicklable)]
    plain = Queue()
    with pytest.raises(LookupError):
        plain._on_queue_feeder_error(LookupError(), None)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("1 // 0", ZeroDivisionError),
        ("int('x')", ValueError),
        ("__import__('no_such_module')", ModuleNotFoundError),
        ("__import__('os').no_such_name", AttributeError),
        ("exit(3)", SystemExit),
    ],
)
def test_what_cannot_be_unpickled_raises_in_get(code: str, error: type[BaseException]) -> None:
    queue = Queue()
    queue.put(Bad(code))
    queue.put("next")
    with pytest.raises(error):
        queue.get()
    assert queue.get() == "next" and queue.empty()


def test_a_class_that_is_gone_raises_in_get(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules[__name__]
    monkeypatch.setattr(module, "Gone", type("Gone", (), {"__module__": __name__}), raising=False)
    queue = Queue()
    queue.put(module.Gone())
    queue.put("next")
    monkeypatch.delattr(module, "Gone")
    with pytest.raises(AttributeError, match="Gone"):
        queue.get()
    assert queue.get() == "next"


def test_who_exits_while_it_unpickles_holds_up_nobody() -> None:
    queue = JoinableQueue()
    queue.put(Bad("__import__('os')._exit(0)"))
    queue.put("next")
    with Child(queue.get) as child, pytest.raises(Exception, match="without an answer"):
        child.result()
    assert queue.get(timeout=20) == "next"
    queue.task_done()
    with pytest.warns(LostTaskWarning, match="1 of this queue's objects"):
        queue.join()


# Objects in messages


def test_a_queue_in_a_queue() -> None:
    outer, inner = Queue(), Queue()

    def answer() -> None:
        for _ in range(3):
            outer.get().put("here")

    with Child(answer) as child:
        for _ in range(3):
            outer.put(inner)
            assert inner.get(timeout=20) == "here"
        child.result()


def test_a_queue_in_itself() -> None:
    queue = Queue()
    queue.put([queue, 1])
    again, _ = queue.get()
    again.put("through the other name")
    assert queue.get() == "through the other name"


def test_a_queue_that_is_made_for_a_message_lives_on() -> None:
    queue = Queue()

    def make() -> None:
        fresh = Queue()
        fresh.put("inside")
        queue.put(fresh)

    in_child(make)
    assert queue.get(timeout=20).get(False) == "inside"


def test_queues_that_are_never_got_are_freed() -> None:
    queue = Queue()
    for _ in range(10):
        inner = Queue()
        inner.put_many([b"x" * 50_000, Queue(), leveret.Lock()])
        queue.put(inner)
    del queue, inner


def test_a_lock_in_a_message() -> None:
    queue = Queue()
    lock = leveret.Lock()
    queue.put({"lock": lock, "text": "x" * 10_000})

    def hold() -> None:
        with queue.get()["lock"]:
            say()
            threading.Event().wait()

    with Child(hold) as child:
        child.heard()
        assert not lock.acquire(False)
        child.kill()
    with pytest.warns(leveret.AbandonedLockWarning):
        assert lock.acquire(timeout=20)
    lock.release()


@both
def test_a_pickled_queue_is_the_same_queue(kind: Any) -> None:
    queue = kind(4)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(queue, protocol))
        assert type(again) is kind and again._maxsize == 4
        again.put(protocol)
        assert queue.get() == protocol
    for how in (copy.copy, copy.deepcopy):
        how(queue).put(1)
        assert queue.get() == 1


def test_subclasses_are_pickled_as_there() -> None:
    """What they are, and what they say themselves; other attributes stay."""
    named, counted = Named("jobs"), Counted(5)
    counted.count = 7
    named.put(1), counted.put(2)
    named, counted = pickle.loads(pickle.dumps((named, counted)))
    assert type(named) is Named and not hasattr(named, "name")
    assert named._maxsize == 3 and named.get() == 1
    assert counted.count == 7 and counted.get() == 2
    counted.task_done()
    counted.join()


def test_damaged_pickles_are_refused() -> None:
    queue = Queue()
    state = queue.__getstate__()
    for broken in (b"", b"x" * 48, state[0][:-1], "text"):
        with pytest.raises((ValueError, RuntimeError)):
            Queue.__new__(Queue).__setstate__((broken, 0))
    for wrong in ((), (1,), (1, 2, 3), None, (state[0], "x")):
        with pytest.raises(TypeError):
            Queue.__new__(Queue).__setstate__(wrong)
    lock = leveret.Lock().__getstate__()
    with pytest.raises((ValueError, RuntimeError)):
        Queue.__new__(Queue).__setstate__((lock[0], 0))
    leveret.synchronize.Lock.__new__(leveret.synchronize.Lock).__setstate__(lock)
    again = Queue.__new__(Queue)
    again.__setstate__(state)
    with pytest.raises(RuntimeError, match="called already"):
        again.__setstate__(state)
    with pytest.raises(RuntimeError, match="called already"):
        queue.__init__()


@pytest.mark.parametrize(
    "call", ["put(1)", "get()", "qsize()", "empty()", "full()", "put_many([])", "get_many()"]
)
def test_a_queue_that_was_never_made_says_so(call: str) -> None:
    queue = Queue.__new__(Queue)
    with pytest.raises(RuntimeError, match=r"__init__\(\) was not called"):
        eval(f"queue.{call}")
    assert "Queue object" in repr(queue)


def test_outside_the_session_it_cannot_be_opened() -> None:
    data = pickle.dumps(Queue())
    code = f"import pickle, leveret.queues; pickle.loads({data!r})"
    done = subprocess.run(
        [sys.executable, "-c", code], text=True, capture_output=True, check=False, timeout=30
    )
    assert done.returncode == 1
    assert "RuntimeError: cannot open a queue that was sent here: it belongs to" in done.stderr
    pickle.loads(data)


# Births


def echo(inbox: Any, outbox: Any) -> None:
    for obj in iter(inbox.get, None):
        outbox.put(obj)
        inbox.task_done()
    inbox.task_done()
    outbox.put_many([os.getpid(), inbox])


@methods
def test_any_child_uses_the_queues_that_it_is_given(method: str) -> None:
    context = leveret.get_context(method)
    there, back = context.JoinableQueue(), context.Queue(2)
    process = context.Process(target=echo, args=(there, back))
    process.start()
    for obj in (1, "text", [b"x" * MIB], {"lock": context.Lock()}, there):
        there.put(obj)
        got = back.get(timeout=30)
        assert type(got) is type(obj)
    there.put(None)
    there.join()
    assert back.get(timeout=30) == process.pid
    last = back.get(timeout=30)
    process.join()
    process.close()
    last.put("still")
    assert there.get() == "still"


# What is done


def get_and_stay(queue: JoinableQueue, count: int, done: int) -> None:
    for _ in range(count):
        queue.get()
    for _ in range(done):
        queue.task_done()
    say()
    threading.Event().wait()


def test_join_does_not_wait_for_the_killed() -> None:
    queue = JoinableQueue()
    queue.put_many(range(5))
    with Child(get_and_stay, queue, 4, 1) as child:
        child.heard()
        joiner = Thread(lambda: warned(queue.join))
        joiner.asleep()
        assert queue.get() == 4
        queue.task_done()
        child.kill()
        assert joiner.result() == ["3 of this queue's objects will never be done"]
    assert warned(queue.join) == []  # it was told once


def warned(call: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [str(one.message).partition(":")[0] for one in caught]


def test_the_warning_may_be_an_error() -> None:
    queue = JoinableQueue()
    queue.put(1)
    with Child(get_and_stay, queue, 1, 0) as child:
        child.heard()
        child.kill()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(LostTaskWarning, match="1 of this queue's objects"):
            queue.join()
    queue.join()
    assert issubclass(LostTaskWarning, RuntimeWarning)


def test_a_forked_child_holds_nothing_of_its_parents() -> None:
    queue = JoinableQueue()
    queue.put_many([1, 2])
    queue.get()
    with Child(get_and_stay, queue, 0, 0) as child:
        child.heard()
        child.kill()
    in_child(lambda: None)
    queue.task_done()
    in_child(queue.get)
    assert warned(queue.join) == ["1 of this queue's objects will never be done"]


def test_what_one_got_another_may_call_done() -> None:
    queue = JoinableQueue()
    queue.put(1)
    queue.get()
    in_child(queue.task_done)
    assert warned(queue.join) == []
    with pytest.raises(ValueError, match="too many times"):
        queue.task_done()
    _core.repair()  # while the child counts as a user, our unit keeps the queue


# Signals and forks


class InterruptedByTestError(Exception):
    pass


def interrupt(_signo: int, _frame: Any) -> None:
    raise InterruptedByTestError


@pytest.mark.parametrize("call", ["get()", "put(2)", "put_many([2])", "get_many()", "_poll(None)"])
def test_a_handler_that_raises_ends_the_wait(call: str) -> None:
    queue = Queue(1)
    if "put" in call:
        queue.put(1)

    def wait() -> str:
        signal.signal(signal.SIGUSR1, interrupt)
        say()
        try:
            eval(f"queue.{call}", {"queue": queue})
        except InterruptedByTestError:
            return "interrupted"
        return "not"

    with Child(wait) as child:
        child.heard()
        child.asleep()
        child.signal(signal.SIGUSR1)
        assert child.result() == "interrupted"
    if "put" in call:
        assert queue.get_many() == [1]
    queue.put("on")
    assert queue.get() == "on"


def test_a_handler_that_returns_does_not_end_it() -> None:
    queue = Queue()

    def wait() -> tuple[Any, list[int]]:
        seen: list[int] = []
        signal.signal(signal.SIGUSR1, lambda signo, _frame: (seen.append(signo), say("h"))[0])
        say()
        return queue.get(), seen

    with Child(wait) as child:
        child.heard()
        for _ in range(3):
            child.asleep()
            child.signal(signal.SIGUSR1)
            assert child.heard() == "h"
        queue.put("late")
        assert child.result() == ("late", [signal.SIGUSR1] * 3)


def test_ctrl_c_in_the_middle_of_it_all_leaves_the_queue_whole() -> None:
    queue = Queue(4)

    def work() -> None:
        say()
        number = 0
        while True:
            queue.put((number, b"x" * (number % 3 * 9000)))
            queue.get()
            number += 1

    for pause_s in (0.001, 0.003, 0.01, 0.02):
        with Child(work) as child:
            child.heard()
            time.sleep(pause_s)
            child.signal(signal.SIGINT)
            with pytest.raises(KeyboardInterrupt):
                child.result()
    assert all(len(obj[1]) == obj[0] % 3 * 9000 for obj in drained(queue))
    queue.put("on")
    assert queue.get() == "on"
    _core.session_check()


def test_a_fork_in_the_middle_of_another_threads_get() -> None:
    queue, over = Queue(), threading.Event()

    def use() -> None:
        while not over.is_set():
            queue.put_many([1, b"x" * 20_000])
            queue.get_many(2)

    waiting = Queue()
    waiter = Thread(waiting.get)
    waiter.asleep()
    user = Thread(use)
    for number in range(30):

        def child() -> object:
            mine = Queue()
            mine.put(number)  # noqa: B023
            queue.put(b"y" * 20_000)
            queue.get(timeout=20)
            return mine.get()

        assert in_child(child) == number
    over.set()
    user.result()
    in_child(waiting.put, "woken")
    assert waiter.result() == "woken"
    drained(queue)


# Sizes, and memory


def memory_for(mib: int) -> bool:
    with open("/proc/meminfo") as file:
        free = next(int(line.split()[1]) for line in file if line.startswith("MemAvailable"))
    return free > mib << 10


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mib", [1, 100, 1024])
def test_large_messages(mib: int) -> None:
    if not memory_for(5 * mib + 1024):
        pytest.skip("too little memory")
    queue = Queue()
    size = mib * MIB
    message = bytearray(size)
    message[::4096] = bytes(range(256)) * (size // 4096 // 256)
    queue.put(message)
    queue.put("next")
    got = queue.get()
    assert got == message and type(got) is bytearray
    assert queue.get() == "next"


def test_a_million_messages_are_as_good_as_ten() -> None:
    queue = Queue()
    before = _core.session_stats()["bytes"]
    queue.put_many(range(200_000))
    assert queue.qsize() == 200_000
    used = _core.session_stats()["bytes"] - before
    assert used < 40 * 200_000
    expected = 0
    while not queue.empty():
        got = queue.get_many()
        assert got == list(range(expected, expected + len(got)))
        expected += len(got)
    assert expected == 200_000
    assert _core.session_stats()["bytes"] - before < 200_000


TOO_LARGE = """
import leveret
queue = leveret.Queue()
queue.put("before")
message = bytearray(700 << 20)
for obj in (message, [message, 1], {"a": message}):
    try:
        queue.put(obj)
    except MemoryError as error:
        print("MemoryError", queue.qsize())
    else:
        queue.get_many()
queue.put("after")
print(queue.get(), queue.get(), queue.qsize(), leveret._core.session_stats()["objects"])
leveret._core.session_check()
"""


@pytest.mark.skipif(
    "asan" in os.environ.get("LD_PRELOAD", ""),
    reason="AddressSanitizer reserves 14 TiB of addresses",
)
def test_a_message_that_is_larger_than_memory_is_a_memory_error() -> None:
    command = ["bash", "-c", 'ulimit -v 1200000; exec "$0" -c "$1"', sys.executable, TOO_LARGE]
    done = subprocess.run(command, text=True, capture_output=True, check=False, timeout=50)
    assert done.stdout.split("\n") == [*["MemoryError 1"] * 3, "before after 0 1", ""], done.stderr


def test_no_room_for_files_is_a_memory_error() -> None:
    """`ulimit -f`, and the limit of a container: the arena cannot grow."""
    queue = Queue()

    def put_too_much() -> int:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, MIB))
        queue.put("before")
        with pytest.raises(MemoryError):
            queue.put(bytes(600 * MIB))
        queue.put("after")
        return queue.qsize()

    assert in_child(put_too_much) == 2
    assert drained(queue) == ["before", "after"]


# Looking


def test_poll_waits_without_taking() -> None:
    queue = Queue()
    assert queue._reader.poll() is False and queue._poll(0.01) is False
    waiter = Thread(queue._reader.poll, 20)
    waiter.asleep()
    queue.put(1)
    assert waiter.result() is True
    assert queue.qsize() == 1 and queue.get() == 1


@pytest.mark.parametrize("timeout", [float("inf"), 1e300, 2**80, 1e9])
def test_huge_timeouts_are_no_limit(timeout: float) -> None:
    queue = Queue()
    queue.put(1, timeout=timeout)
    assert queue.get(timeout=timeout) == 1
    getter = Thread(queue.get, True, timeout)
    getter.asleep()
    queue.put(2)
    assert getter.result() == 2


def test_wrong_timeouts() -> None:
    queue = Queue()
    for call in ("put(1, True, X)", "get(timeout=X)", "get_many(timeout=X)", "_poll(X)"):
        with pytest.raises(ValueError, match="not NaN"):
            eval(f"queue.{call}", {"queue": queue, "X": float("nan")})
        for wrong in ("soon", [], 1j):
            with pytest.raises(TypeError):
                eval(f"queue.{call}", {"queue": queue, "X": wrong})
    assert queue.empty()
    queue.put(1)
    assert queue.get(timeout=-5) == 1


def test_a_closed_queue_is_freed_with_what_is_in_it() -> None:
    queue = Queue()
    queue.put_many([1, b"x" * MIB])
    queue.close()
    queue.join_thread()
    del queue


def test_a_queue_may_go_while_another_waits_at_it() -> None:
    queue = Queue()
    with Child(queue.get) as child:
        child.asleep()
        data = pickle.dumps(queue)
        del queue
        gc.collect()
        pickle.loads(data).put("late")
        assert child.result() == "late"


def places_of(wanted: bytes, file: int) -> Iterator[int]:
    """Where it is in a file, whose holes are left holes: to read one through a mapping fills it."""
    end, at = os.fstat(file).st_size, 0
    while at < end:
        try:
            begin = os.lseek(file, at, os.SEEK_DATA)
        except OSError:  # there is nothing more
            return
        at = os.lseek(file, begin, os.SEEK_HOLE)
        data = os.pread(file, at - begin, begin)
        found = data.find(wanted)
        while found >= 0:
            yield begin + found
            found = data.find(wanted, found + 1)


def overwrite(old: bytes, offset: int, new: bytes) -> None:
    """Somebody writes into the arena where it must not: beside the one place where old is."""
    file = os.open(f"/proc/self/fd/{_core.session_fd()}", os.O_RDWR)
    try:
        [at] = places_of(old, file)
        os.pwrite(file, new, at + offset)
    finally:
        os.close(file)


GARBAGE = [b"\xff", b"\xdd\xff\xff\xff", b"\xc2\xff\xff\xff", b"\xe4\xff\xff\xff\xff\xff"]


@pytest.mark.parametrize("garbage", GARBAGE, ids=bytes.hex)
@pytest.mark.parametrize("by_pipe", [False, True])
def test_garbage_in_a_message_is_an_error_of_its_reader(garbage: bytes, by_pipe: bool) -> None:
    needle = f"a message that nobody else has {uuid.uuid4()}"
    queue, (reader, writer) = Queue(), leveret.Pipe(False)
    put, get = (writer.send, reader.recv) if by_pipe else (queue.put, queue.get)
    for message in ("before", needle, "behind"):
        put(message)
    overwrite(_core.encode(needle)[0], 0, garbage)
    assert get() == "before"
    # what does not look like a message of ours recv() takes for the pickle of a send_bytes()
    is_foreign = by_pipe and garbage == b"\xff"
    with pytest.raises(pickle.UnpicklingError if is_foreign else CorruptMessage):
        get()
    assert get() == "behind"
    writer.close()
    reader.close()


def read_past_a_broken_record() -> list[str]:
    queue, errors = Queue(), []
    needle = f"a message that nobody else has {uuid.uuid4()}"
    queue.put(needle)
    overwrite(_core.encode(needle)[0], -8, b"\xff" * 8)  # struct lvri_record_header
    for get in (queue.get, queue.get_many, queue.get_nowait):
        try:
            get()
        except RuntimeError as error:
            errors.append(str(error))
    print(len(errors), *set(errors))
    sys.stdout.flush()
    os._exit(0)


def test_garbage_around_a_message_is_an_error_too() -> None:
    code = "import test_queue; test_queue.read_past_a_broken_record()"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}; {code}"],
        text=True,
        capture_output=True,
        check=False,
        timeout=50,
    )
    assert done.stdout.startswith("3 cannot get from a queue: a structure of the arena is"), done
    assert "end this session's processes" in done.stdout


def test_messages_outlive_whoever_put_them() -> None:
    queue = Queue()

    def put_and_die() -> None:
        queue.put("small")
        queue.put(b"x" * MIB)
        queue.put([leveret.Lock()])
        os.kill(os.getpid(), signal.SIGKILL)

    with Child(put_and_die) as child:
        until(lambda: queue.qsize() == 3)
        child.kill()
    assert queue.get() == "small" and len(queue.get()) == MIB
    with queue.get()[0]:
        pass

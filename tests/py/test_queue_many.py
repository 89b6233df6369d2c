"""put_many() and get_many(): many messages in one call."""

import gc
import pickle
import queue as queues
import signal
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import leveret
import pytest
from forked import Child, Thread, say
from leveret import _core
from leveret.queues import Queue
from queued import STREAM, Bad, Unpicklable, drained, each


@each
def test_put_many_and_get_many(kind: Any) -> None:
    queue = kind()
    assert queue.put_many(range(5000)) == 5000
    assert queue.put_many([]) == 0 and queue.put_many("ab") == 2
    assert queue.get_many(max=1) == [0]
    assert queue.get_many(2) == [1, 2]
    assert queue.get_many() == [*range(3, 5000), "a", "b"]
    begin = time.monotonic()
    with pytest.raises(queues.Empty):
        queue.get_many(timeout=0.1)
    assert time.monotonic() - begin > 0.09


@each
def test_many_of_all_sizes_come_in_order(kind: Any) -> None:
    queue = kind()
    objects = [bytes([number % 251]) * (number * 997 % 40_000) for number in range(200)]
    objects[100] = {"a": {1, 2}}
    putter = Thread(queue.put_many, iter(objects))
    got: list[Any] = []
    while len(got) < 200:
        got += queue.get_many(max=37, timeout=20)
    assert got == objects and putter.result() == 200


def failing(count: int) -> Iterator[int]:
    yield from range(count)
    raise LookupError("half way")


@each
def test_put_many_puts_what_comes_before_an_error_of_the_iterator(kind: Any) -> None:
    queue = kind()
    for count in (0, 10, 3000):
        with pytest.raises(LookupError, match="half way"):
            queue.put_many(failing(count))
        assert drained(queue) == list(range(count))


@each
def test_put_many_puts_what_comes_before_an_object_that_cannot_be_sent(kind: Any) -> None:
    queue = kind()
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


def test_put_many_waits_for_room_in_a_pipe() -> None:
    queue = leveret.SimpleQueue()
    putter = Thread(queue.put_many, STREAM)
    putter.asleep()
    got: list[Any] = []
    while len(got) < len(STREAM):
        got += queue.get_many(max=700, timeout=20)
    assert got == STREAM and putter.result() == len(STREAM)


@each
@pytest.mark.parametrize("wrong", [0, -1])
def test_get_many_wants_one_at_least(kind: Any, wrong: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        kind().get_many(max=wrong)


@each
def test_many_want_what_they_are_for(kind: Any) -> None:
    queue = kind()
    for call in ("put_many()", "put_many(1)", "put_many([], 1, 2, 3)", "get_many(1, 2, 3)"):
        with pytest.raises(TypeError):
            eval(f"queue.{call}")
    with pytest.raises(TypeError):
        queue.get_many("all")
    queue.close()
    for call in ("put_many([1])", "get_many()"):
        with pytest.raises(ValueError if kind is Queue else OSError, match="is closed"):
            eval(f"queue.{call}")


@each
def test_get_many_loses_nothing_when_some_cannot_be_unpickled(kind: Any) -> None:
    queue = kind()
    queue.put_many([1, Bad(), 2, Bad("[][7]"), 3])
    assert queue.get_many() == [1, 2, 3]
    with pytest.raises(ZeroDivisionError):
        queue.get_many()
    with pytest.raises(IndexError):
        queue.get()
    with pytest.raises(queues.Empty):
        queue.get_many(timeout=0)
    queue.put(Bad())
    with pytest.raises(ZeroDivisionError):
        queue.get_many()
    assert queue.empty()


@each
def test_get_many_returns_while_somebody_goes_on_putting(kind: Any) -> None:
    queue = kind()

    def put_for_ever() -> None:
        while True:
            queue.put_many(range(100))

    with Child(put_for_ever):
        for _ in range(20):
            assert queue.get_many(timeout=20)


@each
def test_getters_of_many_share_what_there_is(kind: Any) -> None:
    queue = kind()
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


class Calling:
    """Calls something where it is unpickled, in this process."""

    functions: ClassVar[list[Callable[[], object]]] = []

    def __init__(self, function: Callable[[], object]) -> None:
        self.functions.append(function)

    def __reduce__(self) -> Any:
        return call_one, ()


def call_one() -> object:
    return Calling.functions.pop()()


@each
def test_what_is_owed_is_seen_by_the_collector(kind: Any) -> None:
    def owe() -> weakref.ref[Any]:
        queue = kind()

        def fail() -> None:
            raise LookupError(queue)

        queue.put_many([1, Calling(fail)])
        assert queue.get_many() == [1]
        return weakref.ref(queue)

    reference = owe()
    gc.collect()
    assert reference() is None


# Pipes.


@pytest.mark.parametrize("size", [1, 900, 20_000])
def test_get_many_unpickles_what_was_sent_raw(size: int) -> None:
    queue = leveret.SimpleQueue()
    raw = [b"x" * size, b"y"]
    queue.put(1)
    for obj in raw:
        queue._writer.send_bytes(pickle.dumps(obj))
    queue.put_many([2, b"z" * size])
    assert queue.get_many() == [1, *raw, 2, b"z" * size]
    for nonsense in (b"no pickle", b"", b"no pickle" * size):
        queue._writer.send_bytes(nonsense)
    queue.put(3)
    assert queue.get_many() == [3]
    for error in (pickle.UnpicklingError, EOFError, pickle.UnpicklingError):
        with pytest.raises(error):
            queue.get()
    assert queue.empty()


@pytest.mark.parametrize("sizes", [(10, 10), (10, 20_000), (20_000, 20_000)])
def test_behind_what_was_got_is_the_end(sizes: tuple[int, int]) -> None:
    queue = leveret.SimpleQueue()
    objects = [b"x" * size for size in sizes]
    with Child(queue.put_many, objects) as child:
        assert child.result() == 2
        queue._writer.close()
    assert queue.get_many() == objects
    for timeout in (None, 20, 0):
        with pytest.raises(EOFError):
            queue.get_many(timeout=timeout)


def test_who_only_tries_meets_the_end() -> None:
    queue = leveret.SimpleQueue()

    def hold() -> None:
        say()
        signal.pause()

    with Child(hold) as child:
        child.heard()
        queue._writer.close()
        with pytest.raises(queues.Empty):
            queue.get_many(timeout=0)
        child.kill()
        deadline = time.monotonic() + 20
        with pytest.raises(EOFError):
            while time.monotonic() < deadline:
                try:
                    queue.get_many(timeout=0)
                except queues.Empty:
                    continue


def test_put_many_learns_that_nobody_gets() -> None:
    queue = leveret.SimpleQueue()
    queue._reader.close()
    with pytest.raises(BrokenPipeError):
        queue.put_many([1, 2])
    queue = leveret.SimpleQueue()
    putter = Thread(queue.put_many, STREAM)
    putter.asleep()
    queue._reader.close()
    with pytest.raises(BrokenPipeError):
        putter.result()


def test_an_iterator_may_close_the_pipe() -> None:
    queue = leveret.SimpleQueue()
    again = pickle.loads(pickle.dumps(queue._reader))

    def closing() -> Iterator[object]:
        yield 1
        yield Bad()  # goes by itself, behind what is packed
        queue.close()
        yield 2

    with pytest.raises(OSError, match="handle is closed"):
        queue.put_many(closing())
    assert again.recv() == 1
    again.close()


def test_what_is_unpickled_may_close_the_pipe() -> None:
    queue = leveret.SimpleQueue()
    queue.put_many([1, Calling(queue.close), b"x" * 20_000, 2])
    assert queue.get_many() == [1, None]
    with pytest.raises(OSError, match="handle is closed"):
        queue.get_many()
    _core.session_check()

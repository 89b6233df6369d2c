"""put_many() and get_many(): many messages in one call."""

import queue as queues
import time
from collections.abc import Iterator
from typing import Any

import pytest
from forked import Child, Thread
from leveret.queues import Queue
from queued import Bad, Unpicklable, drained


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

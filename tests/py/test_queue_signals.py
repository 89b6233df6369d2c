"""Queues that are waited for when a signal comes, and that are in use while somebody forks."""

import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import leveret
import pytest
from forked import Child, Thread, in_child, say
from leveret import _core
from leveret.queues import Queue, SimpleQueue
from queued import STREAM, drained


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


def fill(queue: SimpleQueue, handler: Callable[..., None]) -> int:
    signal.signal(signal.SIGUSR1, handler)
    say()
    return queue.put_many(STREAM)


def test_a_handler_that_raises_ends_put_many_in_a_full_pipe() -> None:
    queue = leveret.SimpleQueue()
    with Child(fill, queue, interrupt) as child:
        child.heard()
        child.asleep()
        child.signal(signal.SIGUSR1)
        with pytest.raises(InterruptedByTestError):
            child.result()
    got = drained(queue)
    assert len(got) > 1000 and got == STREAM[: len(got)]
    assert queue.put_many("on") == 2
    assert queue.get_many() == ["o", "n"]


def test_a_handler_that_returns_does_not_end_it_nor_puts_twice() -> None:
    queue = leveret.SimpleQueue()
    with Child(fill, queue, lambda *_: say("h")) as child:
        child.heard()
        got: list[Any] = []
        for _ in range(3):
            child.asleep()
            child.signal(signal.SIGUSR1)
            assert child.heard() == "h"
            got += queue.get_many(max=300)
        while len(got) < len(STREAM):
            got += queue.get_many(timeout=20)
        assert child.result() == len(STREAM)
    assert got == STREAM and queue.empty()


@pytest.mark.parametrize("raises", [True, False])
def test_a_handler_in_get_many_from_a_pipe(raises: bool) -> None:
    queue = leveret.SimpleQueue()

    def wait() -> list[Any]:
        signal.signal(signal.SIGUSR1, interrupt if raises else lambda *_: say("h"))
        say()
        return queue.get_many()

    with Child(wait) as child:
        child.heard()
        child.asleep()
        child.signal(signal.SIGUSR1)
        if raises:
            with pytest.raises(InterruptedByTestError):
                child.result()
        else:
            assert child.heard() == "h"
            child.asleep()
        queue.put("on")
        assert (queue.get_many() if raises else child.result()) == ["on"]


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


def test_ctrl_c_in_the_middle_of_put_many_leaves_what_was_put() -> None:
    for pause_s in (0.001, 0.003, 0.01, 0.02):
        queue = leveret.SimpleQueue()
        with Child(fill, queue, interrupt) as child:
            child.heard()
            time.sleep(pause_s)
            child.signal(signal.SIGINT)
            with pytest.raises(KeyboardInterrupt):
                child.result()
        got = drained(queue)
        assert got == STREAM[: len(got)]
    _core.session_check()


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

"""Queue and JoinableQueue: what ours promise beyond the standard library's, and bad input."""

import gc
import itertools
import os
import pickle
import queue as queues
import signal
import threading
import warnings
from typing import Any

import leveret
import pytest
from forked import Child, Thread, in_child, say, until
from leveret import LostTaskWarning, _core
from leveret.queues import JoinableQueue, Queue
from queued import MIB, drained

METHODS = ("fork", "warm", "spawn", "forkserver")

methods = pytest.mark.parametrize("method", METHODS)


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

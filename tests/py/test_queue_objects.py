"""Queues and locks as messages; queues that are pickled, and copied."""

import copy
import pickle
import subprocess
import sys
import threading
from typing import Any

import leveret
import pytest
from forked import Child, in_child, say
from leveret.queues import JoinableQueue, Queue
from queued import both


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

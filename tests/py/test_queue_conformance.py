"""Our queues beside those of multiprocessing.queues: the same calls, the same outcome.

Where ours are meant to be otherwise, docs/compatibility.md says so, and the tables here do without.
"""

import gc
import multiprocessing.queues
import os
import queue as queues
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.context import BaseContext
from typing import Any

import leveret.queues
import pytest
from beside import OURS, THEIRS, differences, outcome
from forked import Child, Thread, in_child, say

KEPT = THEIRS.RawArray("b", 1)  # the standard library's heap lets go of its file with the last
KINDS = ["Queue", "JoinableQueue"]


@pytest.fixture(params=[THEIRS, OURS], ids=["stdlib", "leveret"])
def mp(request: pytest.FixtureRequest) -> BaseContext:
    return request.param


kinds = pytest.mark.parametrize("kind", KINDS)
all_kinds = pytest.mark.parametrize("kind", [*KINDS, "SimpleQueue"])


QUEUES = """
mp.KIND()
mp.KIND(3)
mp.KIND(maxsize=3)
mp.KIND(-1) | _maxsize
mp.KIND(-2**70) | _maxsize
mp.KIND(0) | _maxsize
mp.KIND(3) | _maxsize
mp.KIND(2**31-1) | _maxsize
mp.KIND(1.5)
type(mp.KIND())(1, ctx=mp) | _maxsize
mp.KIND() | put(1) | get()
mp.KIND() | put(None) | get()
mp.KIND() | put(obj=1) | get()
mp.KIND() | put(obj=1, block=False) | get()
mp.KIND() | put(1, True, 5) | get(True, 5)
mp.KIND() | put(1, block=True, timeout=5) | get(block=True, timeout=5)
mp.KIND() | put(1, timeout=None) | get(timeout=None)
mp.KIND() | put(1, False) | get(timeout=5)
mp.KIND() | put(1, False, 'x') | get(timeout=5)
mp.KIND() | put(1, timeout='x')
mp.KIND() | put_nowait(1) | get(timeout=5)
mp.KIND() | put_nowait(obj=1) | get(timeout=5)
mp.KIND() | put_nowait()
mp.KIND() | put_nowait(1, 2)
mp.KIND() | get_nowait()
mp.KIND() | get_nowait(1)
mp.KIND() | get(False)
mp.KIND() | get(block=False)
mp.KIND() | get(False, 10)
mp.KIND() | get(False, None)
mp.KIND() | get(False, 'x')
mp.KIND() | get(timeout=0)
mp.KIND() | get(timeout=0.01)
mp.KIND() | get(timeout=-1)
mp.KIND() | get(True, -1.5)
mp.KIND() | get(timeout=True)
mp.KIND() | put(1) | _poll(5) | get(timeout=0)
mp.KIND() | put(1) | _poll(5) | get(False)
mp.KIND() | put(1) | _reader.poll(5) | get_nowait()
mp.KIND() | put(1) | get(timeout=1e6)
mp.KIND(1) | put(1) | put(2, False)
mp.KIND(1) | put(1) | put_nowait(2)
mp.KIND(1) | put(1) | put(2, timeout=0)
mp.KIND(1) | put(1) | put(2, timeout=0.01)
mp.KIND(1) | put(1) | put(2, timeout=-3)
mp.KIND(1) | put(1) | put(2, timeout='x')
mp.KIND(1) | put(1) | put(2, False, 5)
mp.KIND(1) | put(1) | full() | qsize() | get() | full() | qsize()
mp.KIND() | full() | empty() | qsize()
mp.KIND() | put(1) | _reader.poll(5) | full() | empty() | qsize()
mp.KIND() | qsize() | put(1) | put(2) | qsize() | get() | qsize()
mp.KIND() | close() | close()
mp.KIND() | close() | put(1)
mp.KIND() | close() | put_nowait(1)
mp.KIND() | close() | get()
mp.KIND() | close() | get(False)
mp.KIND() | close() | get_nowait()
mp.KIND() | close() | qsize()
mp.KIND() | close() | full()
mp.KIND() | close() | empty()
mp.KIND() | put(1) | get() | close() | join_thread() | qsize()
mp.KIND() | put(1) | get() | close() | join_thread() | full()
mp.KIND() | join_thread()
mp.KIND() | put(1) | get() | join_thread()
mp.KIND() | close() | join_thread() | join_thread()
mp.KIND() | cancel_join_thread() | cancel_join_thread()
mp.KIND() | put(1) | cancel_join_thread() | get() | close() | join_thread()
mp.KIND() | _closed | close() | _closed
mp.KIND() | _reader.poll() | _reader.poll(0) | _reader.poll(0.01) | _poll()
mp.KIND() | _reader.closed | _writer.closed
mp.KIND() | _reader.readable | _reader.writable | _writer.readable | _writer.writable
mp.KIND() | put(1) | _reader.poll(5) | _reader.recv()
mp.KIND() | _writer.send(1) | _reader.recv()
mp.KIND() == mp.KIND()
bool(mp.KIND())
len(mp.KIND())
list(mp.KIND())
isinstance(hash(mp.KIND()), int)
mp.KIND().__enter__()
type(mp.KIND()).__name__
type(mp.KIND()).__qualname__
type(mp.KIND()).__module__
isinstance(mp.KIND(), type(mp.Queue()))
repr(mp.KIND())
str(mp.KIND())
__import__('inspect').signature(mp.KIND().put)
__import__('inspect').signature(mp.KIND().get)
__import__('inspect').signature(mp.KIND().close)
mp.KIND() | __setattr__('x', 1) | x
mp.KIND().x
callable(mp.KIND()._on_queue_feeder_error)
"""

JOINABLE = """
mp.JoinableQueue().task_done()
mp.JoinableQueue() | put(1) | get() | task_done() | task_done()
mp.JoinableQueue() | put(1) | put(2) | task_done() | task_done() | join() | task_done()
mp.JoinableQueue() | join()
mp.JoinableQueue() | join() | put(1) | get() | task_done() | join() | join()
mp.JoinableQueue() | put(1) | task_done() | join() | get()
mp.JoinableQueue() | put(1) | get() | close() | task_done() | join()
mp.JoinableQueue() | close() | join()
mp.Queue().task_done()
mp.Queue().join()
"""

SIMPLE = """
mp.SimpleQueue() | _poll() | put(5) | _poll(10) | get() | _poll(0.01) | _poll(timeout=0)
mp.SimpleQueue() | put(1) | put(2) | get() | empty() | get() | empty()
mp.SimpleQueue() | close() | close()
mp.SimpleQueue() | close() | put(1)
mp.SimpleQueue() | close() | get()
mp.SimpleQueue() | close() | empty()
mp.SimpleQueue().get_nowait()
"""

TABLES = {
    "SimpleQueue": SIMPLE,
    "Queue": QUEUES.replace("KIND", "Queue"),
    "JoinableQueue": QUEUES.replace("KIND", "JoinableQueue"),
    "what is done": JOINABLE,
}


@pytest.mark.parametrize("about", TABLES)
def test_each_expression_has_the_same_outcome(about: str) -> None:
    assert differences(TABLES[about].replace("put_nowait()", "put_nowait(*())")) == []


@pytest.mark.parametrize(
    "call",
    [
        *("put()", "put(block=True)", "put(1, 1, 1, 1)", "put(1, foo=1)", "put(1, obj=1)"),
        *("put(obj=1, foo=1)", "get(1, 2, 3)", "get(foo=1)", "get(timeout='x')"),
        *("get(timeout=[])", "join(1)", "join(timeout=1)", "task_done(1)", "qsize(1)", "close(1)"),
    ],
)
def test_wrong_calls_are_type_errors(mp: BaseContext, call: str) -> None:
    assert outcome(f"mp.JoinableQueue() | {call}", mp).startswith("TypeError: ")


@pytest.mark.parametrize("size", ["'a'", "None", "[]"])
def test_a_wrong_maxsize_is_a_type_error(mp: BaseContext, size: str) -> None:
    assert outcome(f"mp.Queue({size})", mp).startswith("TypeError: ")


@pytest.mark.parametrize("size", [2**31, 2**63, 2**70])
def test_a_maxsize_that_cannot_be_is_an_overflow_error(mp: BaseContext, size: int) -> None:
    with pytest.raises(OverflowError):
        mp.Queue(size)


@kinds
def test_a_queue_is_closed_for_one_process_only(mp: BaseContext, kind: str) -> None:
    queue = getattr(mp, kind)()

    def echo() -> object:
        say()
        return queue.get(timeout=10)

    with Child(echo) as child:
        child.heard()
        queue.put("hello")
        queue.close()
        queue.join_thread()
        assert child.result() == "hello"


@kinds
def test_a_child_can_use_what_its_parent_has_closed_before(mp: BaseContext, kind: str) -> None:
    queue = getattr(mp, kind)()
    queue.close()

    def use() -> object:
        queue.put(1)
        return queue.get(timeout=10)

    assert in_child(use) == 1
    with pytest.raises(ValueError, match="is closed"):
        queue.get()


@kinds
def test_overridden_methods_are_called(mp: BaseContext, kind: str) -> None:
    base = type(getattr(mp, kind)())

    class Doubling(base):
        def put(self, obj: Any, block: bool = True, timeout: float | None = None) -> None:
            super().put(obj * 2, block, timeout)

        def get(self, *args: Any, **kwargs: Any) -> Any:
            return super().get(*args, **kwargs) + 1

    queue = Doubling(ctx=mp)
    queue.put(1)
    assert queue._poll(10) and queue.get_nowait() == 3
    queue.put_nowait(obj=5)
    assert queue.get(True, 10) == 11
    queue.close()
    queue.join_thread()


@kinds
def test_classes_can_be_extended(mp: BaseContext, kind: str) -> None:
    base = type(getattr(mp, kind)())

    class Named(base):
        def __init__(self, name: str, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs, ctx=mp)
            self.name = name

        def get_all(self) -> list[Any]:
            found = []
            while self._poll(0.1):
                found.append(self.get())
            return found

    queue = Named("jobs", 5)
    queue.put(1)
    queue.put(2)
    assert queue._poll(10)
    assert queue.get_all() == [1, 2]
    assert queue.name == "jobs" and queue._maxsize == 5 and isinstance(queue, base)
    assert "Named" in repr(queue)
    queue.close()
    queue.join_thread()


class Wrapped:
    """What a program may put around the sides of a queue."""

    def __init__(self, side: Any) -> None:
        self.side = side

    def __getattr__(self, name: str) -> Any:
        if name == "side":
            raise AttributeError(name)
        return getattr(self.side, name)


@kinds
def test_a_subclass_may_wrap_the_sides(mp: BaseContext, kind: str) -> None:
    class Wrapping(type(getattr(mp, kind)())):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(ctx=mp)
            self._reader = Wrapped(self._reader)
            self._writer = Wrapped(self._writer)

    with closing(Wrapping()) as queue:
        queue.put("here")
        assert isinstance(queue._reader, Wrapped) and queue._reader.poll(10)
        assert queue._writer.writable and queue.get() == "here"
        if kind == "JoinableQueue":
            queue.task_done()
        with Child(queue.get) as child:
            queue.put("there")
            assert child.result() == "there"


@kinds
def test_objects_take_attributes_and_weak_references(mp: BaseContext, kind: str) -> None:
    queue = getattr(mp, kind)()
    queue.note = [queue]  # a cycle
    gone = weakref.ref(queue)
    assert gone() is queue
    del queue
    gc.collect()
    assert gone() is None


@contextmanager
def closing(queue: Any) -> Iterator[Any]:
    yield queue
    queue.close()
    queue.join_thread()


def test_a_getter_waits_as_long_as_it_was_told_to(mp: BaseContext) -> None:
    with closing(mp.Queue()) as queue:
        begin = time.monotonic()
        with pytest.raises(queues.Empty):
            queue.get(timeout=0.2)
        assert 0.19 < time.monotonic() - begin < 5


def test_a_putter_waits_as_long_as_it_was_told_to(mp: BaseContext) -> None:
    with closing(mp.Queue(1)) as queue:
        queue.put(1)
        begin = time.monotonic()
        with pytest.raises(queues.Full):
            queue.put(2, timeout=0.2)
        assert 0.19 < time.monotonic() - begin < 5
        assert queue.get() == 1


def test_a_getter_is_woken_by_another_process(mp: BaseContext) -> None:
    with closing(mp.Queue()) as queue, Child(queue.get) as child:
        child.asleep()
        queue.put({"a": (1, 2.5, None)})
        assert child.result() == {"a": (1, 2.5, None)}


def test_a_putter_is_woken_by_another_process(mp: BaseContext) -> None:
    with closing(mp.Queue(1)) as queue:
        queue.put(1)
        putter = Thread(queue.put, 2)
        putter.asleep()
        assert in_child(queue.get) == 1
        putter.result()
        assert queue.get(timeout=10) == 2


def test_messages_of_a_thread_come_in_order(mp: BaseContext) -> None:
    with closing(mp.Queue(7)) as queue:

        def put_all(name: str) -> None:
            for number in range(300):
                queue.put((name, number))

        threads = [Thread(put_all, name) for name in "abc"]
        got = [queue.get(timeout=10) for _ in range(900)]
        for thread in threads:
            thread.result()
    for name in "abc":
        assert [number for who, number in got if who == name] == list(range(300))


def test_what_cannot_be_unpickled_is_raised_in_the_getter(mp: BaseContext) -> None:
    with closing(mp.Queue()) as queue:
        for obj in (Raises(), "next"):
            queue.put(obj)
        with pytest.raises(ZeroDivisionError):
            queue.get(timeout=10)
        assert queue.get(timeout=10) == "next"


class Raises:
    def __reduce__(self) -> Any:
        return eval, ("1 // 0",)


def test_join_waits_for_what_others_do(mp: BaseContext) -> None:
    queue = mp.JoinableQueue()
    done = mp.Event()

    def work() -> None:
        for _ in range(3):
            queue.get()
            time.sleep(0.02)
            if queue.empty():
                done.set()
            queue.task_done()

    with closing(queue):
        for number in range(3):
            queue.put(number)
        with Child(work) as child:
            queue.join()
            assert done.is_set()
            child.result()


def test_join_is_woken_for_all_who_wait(mp: BaseContext) -> None:
    with closing(mp.JoinableQueue()) as queue:
        queue.put(1)
        joiners = [Thread(queue.join) for _ in range(3)]
        for joiner in joiners:
            joiner.asleep()
        assert queue.get() == 1
        queue.task_done()
        for joiner in joiners:
            joiner.result()


def test_a_message_of_a_thread_that_ended_is_there(mp: BaseContext) -> None:
    with closing(mp.Queue()) as queue:
        thread = threading.Thread(target=queue.put, args=(1,))
        thread.start()
        thread.join()
        assert queue.get(timeout=10) == 1


def test_a_child_that_ends_leaves_its_messages(mp: BaseContext) -> None:
    """By the usual way out of a process of multiprocessing; a bare os._exit() loses them there."""
    with closing(mp.Queue()) as queue:
        process = mp.Process(target=queue.put, args=(os.getpid(),))
        process.start()
        assert queue.get(timeout=10) == os.getpid()
        process.join()
        process.close()


@all_kinds
def test_public_names_are_those_of_the_standard_class(kind: str) -> None:
    def public(context: BaseContext) -> set[str]:
        return {name for name in dir(getattr(context, kind)()) if not name.startswith("_")}

    ours, theirs = public(OURS), public(THEIRS)
    assert theirs - ours == set()
    assert ours - theirs == {"put_many", "get_many"}


@all_kinds
def test_ours_can_be_subscripted_on_every_python(kind: str) -> None:
    assert repr(type(getattr(OURS, kind)())[int]).endswith(f"queues.{kind}[int]")


def test_no_thread_is_started_by_ours() -> None:
    before = threading.active_count()
    queue = OURS.Queue()
    queue.put(1)
    assert threading.active_count() == before
    assert queue.get() == 1


def test_modules_have_the_same_names() -> None:
    assert leveret.queues.Empty is queues.Empty and leveret.queues.Full is queues.Full
    for name in multiprocessing.queues.__all__:
        assert name in leveret.queues.__all__
    assert sys.modules["leveret.queues"] is leveret.queues

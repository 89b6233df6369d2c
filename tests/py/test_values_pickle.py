"""Shared values and arrays on their way to other processes: what arrives is the same memory."""

import copy
import ctypes
import os
import pickle
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.reduction import ForkingPickler
from typing import Any

import leveret
import leveret.heap
import leveret.sharedctypes
import pytest
from beside import OURS
from forked import in_thread
from shared import Point, Segment, Side, run

METHODS = ("fork", "spawn", "forkserver", "warm")


def change(value: Any, items: Any, point: Any, raw: Any, text: Any) -> str:
    """In another process: see all of them, and change all of them."""
    with value.get_lock():
        value.value += 1
    items[1] = items[0] + 0.5
    point.x += point.get_obj().x
    raw[-1] = 99
    text.value = text.value.upper()
    return f"{type(value).__name__} {type(items).__name__} {type(point).__name__} {len(raw)}"


SEEN = "Synchronized SynchronizedArray SynchronizedPoint 3"


def some(context: Any) -> tuple[Any, ...]:
    return (
        context.Value("i", 41),
        context.Array("d", [1, 2]),
        context.Value(Point, 21, 1),
        context.RawArray("H", 3),
        context.Array("c", b"abc"),
    )


def check_changed(objects: tuple[Any, ...]) -> None:
    value, items, point, raw, text = objects
    assert (value.value, items[:], point.x, raw[:], text.value) == (
        42,
        [1, 1.5],
        42,
        [0, 0, 99],
        b"ABC",
    )


def take_and_answer(*objects: Any, queue: Any = None, pipe: Any = None) -> None:
    if queue is not None:
        objects = queue.get()
        queue.put(change(*objects))
    elif pipe is not None:
        objects = pipe.recv()
        pipe.send(change(*objects))
    else:
        change(*objects)


@pytest.mark.parametrize("method", METHODS)
def test_they_are_given_to_a_process(method: str) -> None:
    context = leveret.get_context(method)
    objects = some(context)
    process = context.Process(target=take_and_answer, args=objects)
    process.start()
    process.join()
    assert process.exitcode == 0
    check_changed(objects)


@pytest.mark.parametrize("method", METHODS)
def test_they_are_sent_through_a_queue_and_a_pipe(method: str) -> None:
    context = leveret.get_context(method)
    objects, queue = some(context), context.SimpleQueue()
    process = context.Process(target=take_and_answer, kwargs={"queue": queue})
    process.start()
    queue.put(objects)
    process.join()
    assert queue.get() == SEEN
    check_changed(objects)
    queue.close()

    objects, (mine, theirs) = some(context), context.Pipe()
    process = context.Process(target=take_and_answer, kwargs={"pipe": theirs})
    process.start()
    mine.send(objects)
    assert mine.recv() == SEEN
    process.join()
    check_changed(objects)
    mine.close()
    theirs.close()


def given_to_workers(context: Any) -> None:
    with context.Pool(1) as pool:
        objects = some(context)
        assert pool.apply(change, objects) == SEEN
        check_changed(objects)
        pool.close()
        pool.join()
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        objects = some(context)
        assert executor.submit(change, *objects).result() == SEEN
        check_changed(objects)


def made_there() -> Any:
    return leveret.Value("i", 5), leveret.Array("c", b"made")


def what_a_worker_made(context: Any) -> None:
    with context.Pool(1) as pool:
        value, text = pool.apply(made_there)
        pool.close()
        pool.join()
    assert value.value == 5 and text.value == b"made"
    value.value += 1
    assert value.value == 6


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("work", ["given_to_workers", "what_a_worker_made"])
def test_they_go_to_workers_and_come_from_them(work: str, method: str) -> None:
    # in an interpreter of its own: the standard pool ends with a semaphore held for ever
    here = os.path.dirname(__file__)
    run(f"""
import sys
sys.path.insert(0, {here!r})
import leveret, test_values_pickle
test_values_pickle.{work}(leveret.get_context({method!r}))
""")


def through(thing: Any) -> Any:
    return pickle.loads(ForkingPickler.dumps(thing))


def test_a_pickle_is_the_same_memory_and_the_same_lock() -> None:
    value, items, raw = OURS.Value("q", 5), OURS.Array("h", [1, 2]), OURS.RawValue(Point, 1, 2)
    other, more, same = through(value), through(items), through(raw)
    other.value += 1
    more[1] = 9
    same.x = 4
    assert (value.value, items[:], raw.x) == (6, [1, 9], 4)
    assert other.fetch_add(1) == 6 and value.load() == 7
    with value:
        assert not in_thread(other.acquire, False)
    both = through([value, value, value.get_lock(), value.get_obj()])
    assert both[0] is both[1] and both[2] is both[0].get_lock()
    both[3].value += 1
    assert both[0].value == value.value == 8


def test_any_pickler_will_do_for_a_wrapper() -> None:
    for value in (OURS.Value("q", 5), OURS.Value("q", 5, lock=OURS.Lock())):
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
            other = pickle.loads(pickle.dumps(value, protocol))
            other.value += 1
            assert value.value == other.value
    items, point = OURS.Array("c", b"abc"), OURS.Value(Point, 1, 2)
    pickle.loads(pickle.dumps(items)).value = b"xyz"
    pickle.loads(pickle.dumps(point)).x = 9
    assert (items.value, point.x) == (b"xyz", 9)


def test_a_copy_of_a_raw_object_is_a_copy(side: Side) -> None:
    raw = side.mp.RawValue(Point, 1, 2)
    apart = copy.copy(raw)
    apart.x = 5
    assert (raw.x, apart.x) == (1, 5)


def test_a_copy_does_not_travel_as_what_it_was_copied_from() -> None:
    raw = OURS.RawValue(Point, 1, 2)
    apart = copy.copy(raw)
    apart.x = 5
    there = through(apart)
    there.x += 1
    assert (raw.x, apart.x, there.x) == (1, 5, 6)


def test_the_lock_alone_can_make_it_impossible() -> None:
    value = leveret.sharedctypes.synchronized(ctypes.c_int(), threading.Lock())
    with pytest.raises(TypeError, match="lock"):
        ForkingPickler.dumps(value)


def test_a_type_that_was_shared_once_is_still_copied_where_it_is_not() -> None:
    OURS.RawValue("i")
    assert through(ctypes.c_int(5)).value == 5
    there = through([ctypes.c_int(6), OURS.RawValue("i", 7)])
    assert [obj.value for obj in there] == [6, 7]
    point = OURS.RawValue(Segment, 1, 2, (3, 4))
    assert through(point).end.x == 3
    inner = through(point.end)
    inner.x = 9
    assert point.end.x == 3


def test_a_damaged_pickle_is_an_error() -> None:
    memory = leveret.heap.BufferWrapper(4)
    bare = leveret.heap.BufferWrapper.__new__(leveret.heap.BufferWrapper)
    with pytest.raises(TypeError, match="is a tuple"):
        bare.__setstate__(5)
    with pytest.raises(ValueError, match="damaged"):
        bare.__setstate__((b"short", None))
    with pytest.raises((OSError, ValueError, RuntimeError)):
        bare.__setstate__((b"\0" * 40, None))
    with pytest.raises(RuntimeError, match="called already"):
        memory.__setstate__((b"\0" * 40, None))


def test_its_attributes_come_along_with_memory() -> None:
    memory = leveret.heap.BufferWrapper(4)
    memory.name = "mine"
    assert through(memory).name == "mine"

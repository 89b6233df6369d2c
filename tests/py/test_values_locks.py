"""Shared values and arrays under their locks, also when who holds one is killed or interrupted."""

import signal
import threading
import time
import warnings
from typing import Any

import leveret
import leveret.sharedctypes
import pytest
from beside import OURS
from forked import Child, Thread, in_child, in_thread, say
from leveret import AbandonedLockWarning
from shared import AnyLock, Point, Side

# Locks


@pytest.mark.parametrize(
    "use",
    [
        lambda v, a, p: v.value,
        lambda v, a, p: setattr(v, "value", 1),
        lambda v, a, p: a[0],
        lambda v, a, p: a[:],
        lambda v, a, p: a.__setitem__(0, 1),
        lambda v, a, p: a.__setitem__(slice(None), [1, 2]),
        lambda v, a, p: a.__setitem__(slice(None), range(2)),
        lambda v, a, p: next(iter(a)),
        lambda v, a, p: p.x,
        lambda v, a, p: setattr(p, "x", 1),
        lambda v, a, p: v.__enter__(),
    ],
    ids=lambda use: str(use.__code__.co_consts) + str(use.__code__.co_names),
)
@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_whoever_holds_the_lock_keeps_all_others_out(side: Side, kind: str, use: Any) -> None:
    lock = getattr(side.mp, kind)()
    things = (
        side.mp.Value("i", lock=lock),
        side.mp.Array("i", 2, lock=lock),
        side.mp.Value(Point, lock=lock),
    )
    lock.acquire()
    with Child(lambda: (say(), use(*things) and 0)) as child:
        child.heard()
        child.asleep()
        time.sleep(0.02)
        child.asleep()
        lock.release()
        child.result()


@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition"])
def test_counting_under_the_lock_loses_nothing(side: Side, kind: str) -> None:
    counter = side.mp.Value("i", lock=getattr(side.mp, kind)())
    squares = side.mp.Array("q", 2, lock=counter.get_lock())

    def count(reentrant: bool) -> None:
        for _ in range(500):
            with counter.get_lock():
                if reentrant:
                    counter.value += 1
                    squares[1] += 2
                else:
                    counter.get_obj().value += 1
                    squares.get_obj()[1] += 2

    children = [Child(count, kind in ("RLock", "Condition")) for _ in range(3)]
    for child in children:
        with child:
            child.result()
    assert (counter.value, squares[1]) == (1500, 3000)


def test_a_lock_of_threads_does_for_threads(side: Side) -> None:
    counter = side.mp.Value("i", lock=threading.RLock())

    def count() -> None:
        for _ in range(2000):
            with counter:
                counter.value += 1

    threads = [Thread(count) for _ in range(3)]
    for thread in threads:
        thread.result()
    assert counter.value == 6000
    with counter, pytest.raises(AssertionError):
        in_thread(lambda: pytest.fail("it got in") if counter.acquire(False) else exec("assert 0"))


def test_an_error_under_the_lock_releases_it(side: Side) -> None:
    value, items, point = side.mp.Value("i"), side.mp.Array("i", 2), side.mp.Value(Point)
    for wrong in (
        lambda: setattr(value, "value", "x"),
        lambda: items[5],
        lambda: items.__setitem__(5, 1),
        lambda: items.__setitem__(0, "x"),
        lambda: items.__setitem__(slice(None), [1]),
        lambda: items.__setitem__(slice(None), [1, "x"]),
        lambda: items.__delitem__(0),
        lambda: setattr(point, "x", "x"),
    ):
        with pytest.raises(Exception):  # noqa: B017
            wrong()
    for thing in (value, items, point):
        assert in_thread(lambda t=thing: (t.acquire(False), t.release())) == (True, None)


class CountingLock(type(OURS.RLock())):  # type: ignore[misc]
    """One that notices how it is used."""

    def acquire(self, *args: Any, **kwargs: Any) -> bool:
        self.taken = getattr(self, "taken", 0) + 1
        return super().acquire(*args, **kwargs)


def test_a_subclass_of_a_lock_is_asked() -> None:
    lock = CountingLock()
    value, items = OURS.Value("i", lock=lock), OURS.Array("i", 3, lock=lock)
    value.value += 1
    assert items[:] == [0, 0, 0] and items[0] == 0
    assert lock.taken == 4 and value.value == 1


class Failing(AnyLock):
    def acquire(self) -> None:
        raise KeyError("no")


class Sticky(AnyLock):
    def release(self) -> None:
        raise KeyError("stuck")


@pytest.mark.parametrize("lock", [Failing, Sticky])
def test_what_a_lock_raises_comes_out(side: Side, lock: Any) -> None:
    value = side.mp.Value("i", lock=lock())
    with pytest.raises(KeyError):
        _ = value.value
    with pytest.raises(KeyError):
        value.value = 1


def die_with(lock: Any) -> None:
    lock.acquire()
    say()
    threading.Event().wait()


@pytest.mark.parametrize(
    "use",
    [
        lambda v, a: v.value,
        lambda v, a: setattr(v, "value", 7),
        lambda v, a: a[1],
        lambda v, a: a.__setitem__(1, 7),
        lambda v, a: a[::2],
        lambda v, a: a.__setitem__(slice(0, 2), [7, 7]),
        lambda v, a: v.__enter__() and v.__exit__(),
    ],
)
@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_the_next_one_after_the_killed_is_warned_and_goes_on(kind: str, use: Any) -> None:
    lock = getattr(OURS, kind)()
    value, items = OURS.Value("i", 3, lock=lock), OURS.Array("i", 3, lock=lock)

    def leave_abandoned() -> int:
        with Child(die_with, value) as child:
            child.heard()
            child.kill()
            return child.pid

    pid = leave_abandoned()
    with pytest.warns(AbandonedLockWarning, match=f"process {pid} died"):
        use(value, items)
    use(value, items)  # nothing is wrong any more
    assert not lock.abandoned

    leave_abandoned()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            with pytest.raises(AbandonedLockWarning):
                use(value, items)
    with pytest.warns(AbandonedLockWarning):
        use(value, items)


def test_killed_while_they_count_they_cost_at_most_a_warning() -> None:
    """Value and array are whole whenever somebody looks, and nobody waits for the dead."""
    value, items = OURS.Value("q"), OURS.Array("q", 2, lock=False)
    wrapped = leveret.sharedctypes.synchronized(items, value.get_lock())

    def count() -> None:
        say()
        while True:
            with value.get_lock():
                value.value += 0x100000001
                wrapped[:] = [value.value] * 2

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AbandonedLockWarning)
        for turn in range(20):
            with Child(count) as child:
                child.heard()
                time.sleep(0.001 * (turn % 4))
                child.kill()
            number = value.value
            assert number % 0x100000001 == 0
            assert all(abs(number - item) in (0, 0x100000001) for item in wrapped[:])
            wrapped[:] = [number] * 2


def test_items_may_change_while_others_look() -> None:
    items = OURS.Array("i", 1000)

    def change_all() -> None:
        for turn in range(300):
            items[:] = [turn] * 1000

    with Child(change_all) as child:
        for _ in range(300):
            assert len(set(items[:])) == 1
        child.result()


# Signals


def with_handler(handler: Any, use: Any) -> Any:
    signal.signal(signal.SIGUSR1, handler)
    say("w")
    return use()


USES = [
    lambda v, a: v.value,
    lambda v, a: setattr(v, "value", 7) or 7,
    lambda v, a: a[0],
    lambda v, a: a[:][0],
    lambda v, a: a.__setitem__(0, 7) or 7,
    lambda v, a: (v.__enter__(), v.__exit__(), 7)[2],
]


@pytest.mark.parametrize("use", USES)
def test_a_handler_that_returns_lets_the_wait_go_on(use: Any) -> None:
    lock = OURS.Lock()
    value, items = OURS.Value("i", 7, lock=lock), OURS.Array("i", [7], lock=lock)
    lock.acquire()
    with Child(with_handler, lambda *_: say("h"), lambda: use(value, items)) as child:
        assert child.heard() == "w"
        for _ in range(3):
            child.asleep()
            child.signal(signal.SIGUSR1)
            assert child.heard() == "h"
        lock.release()
        assert child.result() == 7


@pytest.mark.parametrize("use", USES)
def test_a_handler_that_raises_ends_the_wait_and_holds_nothing(use: Any) -> None:
    lock = OURS.RLock()
    value, items = OURS.Value("i", 5, lock=lock), OURS.Array("i", [5], lock=lock)

    def refuse(*_: Any) -> None:
        raise InterruptedError("enough")

    lock.acquire()
    with Child(with_handler, refuse, lambda: use(value, items)) as child:
        assert child.heard() == "w"
        child.asleep()
        child.signal(signal.SIGUSR1)
        with pytest.raises(InterruptedError, match="enough"):
            child.result()
    assert (value.value, items[0]) == (5, 5)
    lock.release()
    assert in_child(lambda: value.acquire(False))
    with pytest.warns(AbandonedLockWarning):
        assert value.value == 5


def test_ctrl_c_ends_the_wait() -> None:
    value = OURS.Value("i")
    value.acquire()

    def wait() -> None:
        say()
        _ = value.value

    with Child(wait) as child:
        child.heard()
        child.asleep()
        child.signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            child.result()
    value.release()


def test_other_threads_run_while_one_waits() -> None:
    value = OURS.Value("i")
    with value:
        waiter = Thread(lambda: value.value)
        waiter.asleep()
    assert waiter.result() == 0

"""Lock and RLock: what they do when their holder dies, and where they can be sent."""

import copy
import gc
import os
import pickle
import select
import subprocess
import sys
import threading
import time
import warnings
from multiprocessing import context as std_context
from typing import Any

import pytest
from forked import Child, Thread, in_child, in_thread, say, until
from leveret import AbandonedLockWarning, _core
from leveret.synchronize import Lock, RLock

both = pytest.mark.parametrize("kind", [Lock, RLock])
ways_in = pytest.mark.parametrize(
    "way", ["acquire()", "acquire(False)", "acquire(timeout=5)", "__enter__()"]
)


def hold(lock: Any) -> None:
    lock.acquire()
    say()
    threading.Event().wait()


def abandoned_by_the_killed(lock: Any) -> int:
    """A process dies with the lock; its pid."""
    with Child(hold, lock) as child:
        child.heard()
        child.kill()
        return child.pid


# The holder dies


@both
def test_the_next_one_gets_the_lock_of_the_killed_and_is_warned(kind: Any) -> None:
    lock = kind()
    pid = abandoned_by_the_killed(lock)
    assert lock.abandoned and lock.abandoned_pid == pid
    with pytest.warns(AbandonedLockWarning, match=f"process {pid} died .*{kind.__name__}") as got:
        assert lock.acquire() is True
    assert got[0].filename == __file__
    assert lock.abandoned and lock.abandoned_pid == pid
    assert lock._is_mine()
    lock.release()
    assert not lock.abandoned and lock.abandoned_pid is None
    with lock:
        assert not lock.abandoned


@both
@ways_in
def test_every_way_in_takes_over(kind: Any, way: str) -> None:
    lock = kind()
    abandoned_by_the_killed(lock)
    with pytest.warns(AbandonedLockWarning):
        assert eval(f"lock.{way}") is True
    lock.release()


@both
@ways_in
def test_a_warning_that_is_an_error_gives_the_lock_back_abandoned(kind: Any, way: str) -> None:
    lock = kind()
    pid = abandoned_by_the_killed(lock)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            with pytest.raises(AbandonedLockWarning, match=str(pid)):
                eval(f"lock.{way}")
            assert not lock._is_mine() and not lock.locked()
            assert lock.abandoned and lock.abandoned_pid == pid
        with pytest.raises(AbandonedLockWarning), lock:
            pytest.fail("the lock was given back")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with lock:
            assert lock.abandoned
    assert not lock.abandoned


@both
def test_who_waits_for_the_killed_is_woken_by_the_death(kind: Any) -> None:
    """Not by the core's second look after 100 ms: so the best of a few is far below that."""
    times = []
    for _ in range(5):
        lock = kind()
        with Child(hold, lock) as holder:
            holder.heard()

            def wait(lock: Any = lock) -> float:
                assert lock.acquire(timeout=20)
                return time.monotonic()

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                waiter = Thread(wait)
                waiter.asleep()
                killed = time.monotonic()
                holder.kill()
                times.append(waiter.result() - killed)
    assert min(times) < 0.05


@both
def test_another_process_takes_over_too(kind: Any) -> None:
    lock = kind()

    def wait() -> tuple[str, bool]:
        say()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            lock.acquire()
        return str(caught[0].message), lock.abandoned

    with Child(hold, lock) as holder:
        holder.heard()
        with Child(wait) as waiter:
            waiter.heard()
            waiter.asleep()
            holder.kill()
            text, abandoned = waiter.result()
            assert str(holder.pid) in text and abandoned


@both
def test_a_holder_that_exits_abandons_it_as_well(kind: Any) -> None:
    lock = kind()
    in_child(lock.acquire)
    with pytest.warns(AbandonedLockWarning):
        assert lock.acquire()
    lock.release()


def test_an_rlock_of_the_dead_is_taken_once() -> None:
    lock = RLock()
    with Child(lambda: (lock.acquire(), lock.acquire(), hold(lock))) as child:
        child.heard()
        child.kill()
    with pytest.warns(AbandonedLockWarning):
        lock.acquire()
    assert lock._count() == 1
    lock.release()
    assert in_thread(lock.acquire, False)


@both
def test_many_wait_and_each_is_killed_as_soon_as_it_has_the_lock(kind: Any) -> None:
    lock = kind()

    def take_and_stay() -> None:
        warnings.simplefilter("ignore")
        hold(lock)

    children = {child.says: child for child in [Child(take_and_stay) for _ in range(5)]}
    while children:
        speaking, _, _ = select.select(list(children), [], [], 20)
        assert len(speaking) == 1  # the holder, and nobody else
        with children.pop(speaking[0]):
            pass
    with pytest.warns(AbandonedLockWarning):
        assert lock.acquire(timeout=20)


def test_the_warning_is_a_runtime_warning_that_can_be_pickled() -> None:
    assert issubclass(AbandonedLockWarning, RuntimeWarning)
    again = pickle.loads(pickle.dumps(AbandonedLockWarning("x")))
    assert type(again) is AbandonedLockWarning


# Pickling


@both
def test_two_unpicklings_share_the_state(kind: Any) -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        lock = kind()
        data = pickle.dumps(lock, protocol)
        one, two = pickle.loads(data), pickle.loads(data)
        assert type(one) is kind
        one.acquire()
        assert not in_thread(two.acquire, False)
        assert not in_thread(lock.acquire, False)
        two.release()
        assert in_thread(lock.acquire, False)


@both
@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy])
def test_a_copy_is_the_same_lock(kind: Any, how: Any) -> None:
    lock = kind()
    again = how(lock)
    with lock:
        assert again.locked()
    assert again is not lock


@both
def test_a_lock_can_be_sent_to_a_process_that_is_older(kind: Any) -> None:
    reading, writing = os.pipe()

    def receive() -> tuple[bool, str]:
        lock = pickle.loads(os.read(reading, 4096))
        return lock.acquire(False), repr(lock)

    with Child(receive) as child:
        lock = kind()
        lock.acquire()
        os.write(writing, pickle.dumps(lock))
        got, text = child.result()
    assert not got and "SomeOtherProcess" in text
    os.close(reading)
    os.close(writing)


def make_and_hold() -> bytes:
    lock = Lock()
    lock.acquire()
    return pickle.dumps(lock)


def test_a_lock_made_by_a_child_comes_back() -> None:
    lock = pickle.loads(in_child(make_and_hold))
    with pytest.warns(AbandonedLockWarning):
        lock.acquire()


def test_a_pickle_on_its_way_keeps_the_lock_alive() -> None:
    lock = Lock()
    lock.acquire()
    data = pickle.dumps(lock)
    del lock
    again = pickle.loads(data)
    assert again.locked()
    again.release()
    del again
    with pytest.raises(RuntimeError, match="the object is gone"):
        pickle.loads(data)


class Named(RLock):
    """A class of a user's."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name


class Counted(Lock):
    """A class of a user's with a state of its own."""

    hits = 0

    def __getstate__(self) -> Any:
        return (*super().__getstate__(), self.hits)

    def __setstate__(self, state: Any) -> None:
        *rest, self.hits = state
        super().__setstate__(tuple(rest))


def test_a_subclass_is_pickled_with_its_attributes() -> None:
    lock = Named("gate")
    again = pickle.loads(pickle.dumps(lock))
    assert type(again) is Named and again.name == "gate"
    assert repr(again) == "<Named(None, 0)>"


def test_a_subclass_may_have_a_state_of_its_own() -> None:
    lock = Counted()
    lock.hits = 7
    with lock:
        again = pickle.loads(pickle.dumps(lock))
        assert again.hits == 7 and again.locked()


def test_outside_the_session_it_cannot_be_opened() -> None:
    data = pickle.dumps(Lock())
    code = f"import pickle, leveret.synchronize; pickle.loads({data!r})"
    done = subprocess.run(
        [sys.executable, "-c", code], text=True, capture_output=True, check=False, timeout=30
    )
    assert done.returncode == 1
    assert (
        "RuntimeError: cannot open a lock that was sent here: it belongs to another session"
        in done.stderr
    )
    pickle.loads(data)  # and the reference is still good here


def test_damaged_pickles_are_refused() -> None:
    lock = Lock()
    state = lock.__getstate__()
    for broken in (b"", b"x" * 40, state[0][:-1], "text"):
        with pytest.raises((ValueError, RuntimeError)):
            Lock.__new__(Lock).__setstate__((broken, None))
    for wrong in ((), (1, 2, 3), None):
        with pytest.raises(TypeError):
            Lock.__new__(Lock).__setstate__(wrong)
    Lock.__new__(Lock).__setstate__(state)
    with pytest.raises(RuntimeError, match="called already"):
        lock.__setstate__(state)


class Birth:
    """What the Popen classes of leveret are while they pickle."""

    def __init__(self) -> None:
        self.given: list[bytes] = []

    def give(self, reference: bytes) -> None:
        self.given.append(reference)


def test_a_pickle_for_a_child_that_is_being_born_is_given_to_it() -> None:
    birth, lock = Birth(), Lock()
    std_context.set_spawning_popen(birth)
    try:
        data = pickle.dumps(lock)
    finally:
        std_context.set_spawning_popen(None)
    assert len(birth.given) == 1 and birth.given[0] in data
    del lock  # no reference travels: the lock is gone
    with pytest.raises(RuntimeError, match="the object is gone"):
        pickle.loads(data)


# Use


@both
def test_an_object_that_was_never_initialised_says_so(kind: Any) -> None:
    lock = kind.__new__(kind)
    for call in ("acquire()", "release()", "__enter__()", "locked()", "abandoned", "_is_mine()"):
        with pytest.raises(RuntimeError, match=rf"{kind.__name__}.__init__\(\) was not called"):
            eval(f"lock.{call}")
    assert "unknown" in repr(lock)
    with pytest.raises(RuntimeError, match="was not called"):
        pickle.dumps(lock)


@both
def test_an_object_is_initialised_once(kind: Any) -> None:
    with pytest.raises(RuntimeError, match="called already"):
        kind().__init__()


@both
def test_wrong_arguments_are_refused(kind: Any) -> None:
    with pytest.raises(TypeError):
        kind(1)
    with pytest.raises(TypeError):
        kind(colour="red")
    with pytest.raises(ValueError, match="NaN"):
        kind().acquire(timeout=float("nan"))

    class Neither:
        def __bool__(self) -> bool:
            raise KeyError

    with pytest.raises(KeyError):
        kind().acquire(Neither())


def test_the_base_class_makes_no_objects() -> None:
    with pytest.raises(TypeError):
        _core.SemLock()
    assert issubclass(Lock, _core.SemLock)


@both
def test_a_lock_in_a_cycle_is_freed(kind: Any) -> None:
    before = _core.session_stats()["objects"]

    class Mine(kind):
        pass

    for cls in (kind, Mine):
        lock = cls()
        lock.itself = lock
    del lock
    gc.collect()
    assert _core.session_stats()["objects"] == before


def test_a_hundred_thousand_locks_need_no_descriptor() -> None:
    before = len(os.listdir("/proc/self/fd"))
    locks = [Lock() for _ in range(100_000)]
    assert len(os.listdir("/proc/self/fd")) == before
    with locks[0], locks[-1]:
        pass


def test_the_child_of_a_plain_fork_shares_all_locks() -> None:
    locks = [Lock() for _ in range(5000)]
    last = RLock()

    def use() -> bool:
        for lock in locks:
            lock.acquire()
            lock.release()
        return last.acquire(False)

    assert in_child(use)
    assert not any(lock.locked() for lock in locks)
    with pytest.warns(AbandonedLockWarning):
        last.acquire()
    last.release()
    until(lambda: not last.locked())

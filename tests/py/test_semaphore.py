"""Semaphore and BoundedSemaphore: whose units come back, and where they can be sent."""

import copy
import pickle
import threading
from typing import Any

import pytest
from forked import Child, Thread, in_child, say
from leveret.synchronize import BoundedSemaphore, Semaphore

both = pytest.mark.parametrize("kind", [Semaphore, BoundedSemaphore])


def acquire_and_stay(semaphore: Any) -> None:
    semaphore.acquire()
    say()
    threading.Event().wait()


def enter_and_stay(semaphore: Any) -> None:
    with semaphore:
        say()
        threading.Event().wait()


@pytest.mark.parametrize(
    ("kind", "how", "left"),
    [
        (Semaphore, acquire_and_stay, 1),
        (Semaphore, enter_and_stay, 2),
        (BoundedSemaphore, acquire_and_stay, 2),
        (BoundedSemaphore, enter_and_stay, 2),
    ],
)
def test_units_of_the_killed_come_back_if_they_were_held(kind: Any, how: Any, left: int) -> None:
    semaphore = kind(2)
    with Child(how, semaphore) as child:
        child.heard()
        child.kill()
    for _ in range(left):
        assert semaphore.acquire(timeout=10)
    assert not semaphore.acquire(timeout=0.2)
    for _ in range(left):
        semaphore.release()


def test_who_waits_is_woken_by_the_death_of_the_holder() -> None:
    semaphore = BoundedSemaphore(1)
    with Child(enter_and_stay, semaphore) as holder:
        holder.heard()
        waiter = Thread(semaphore.acquire, True, 20)
        waiter.asleep()
        holder.kill()
        assert waiter.result() is True
    semaphore.release()


def test_a_unit_of_the_dead_may_still_be_released() -> None:
    """Whoever was to release it for the dead one gets no error, and invents no unit."""
    semaphore = BoundedSemaphore(2)
    in_child(semaphore.acquire)
    semaphore.release()
    assert semaphore.get_value() == 2
    with pytest.raises(ValueError, match="semaphore or lock released too many times"):
        semaphore.release()


@both
def test_two_unpicklings_share_the_state(kind: Any) -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        semaphore = kind(3)
        semaphore.acquire()
        semaphore.colour = "red"
        again = pickle.loads(pickle.dumps(semaphore, protocol))
        assert type(again) is kind and again.colour == "red"
        assert repr(again) == repr(semaphore)
        again.release()
        assert semaphore.get_value() == 3
        if kind is BoundedSemaphore:
            with pytest.raises(ValueError):
                again.release()


def test_the_bound_of_nothing_at_all_is_kept_by_a_pickle() -> None:
    again = pickle.loads(pickle.dumps(BoundedSemaphore(0)))
    assert repr(again) == "<BoundedSemaphore(value=0, maxvalue=0)>"
    with pytest.raises(ValueError):
        again.release()


@both
def test_a_copy_is_the_same_semaphore(kind: Any) -> None:
    semaphore = kind(2)
    again = copy.deepcopy(semaphore)
    again.acquire()
    assert semaphore.get_value() == 1
    semaphore.release()


@both
def test_an_object_that_was_never_initialised_says_so(kind: Any) -> None:
    semaphore = kind.__new__(kind)
    for call in ("acquire()", "release()", "__enter__()", "__exit__()", "get_value()"):
        with pytest.raises(RuntimeError, match=rf"{kind.__name__}.__init__\(\) was not called"):
            eval(f"semaphore.{call}")
    assert "value=unknown" in repr(semaphore)
    with pytest.raises(RuntimeError, match="called already"):
        kind(1).__init__(1)


@both
def test_hammering_by_threads_and_processes_loses_no_unit(kind: Any) -> None:
    semaphore = kind(3)

    def hammer() -> None:
        for turn in range(500):
            if turn % 2:
                with semaphore:
                    pass
            else:
                semaphore.acquire()
                semaphore.release()

    with Child(hammer) as one, Child(hammer) as two:
        threads = [Thread(hammer) for _ in range(3)]
        for worker in (one, two, *threads):
            worker.result()
    assert semaphore.get_value() == 3

"""Condition: whom a notification reaches, and what a death does to those who wait."""

import pickle
import re
import threading
import warnings
from typing import Any

import pytest
from forked import Child, Thread, in_child, in_thread, say, until
from leveret import AbandonedLockWarning
from leveret.synchronize import Condition, Event, Lock, RLock, Semaphore


def waiting(condition: Any) -> int:
    found = re.search(r", (\d+)\)>$", repr(condition))
    assert found
    return int(found[1])


def wait(condition: Any) -> bool:
    with condition:
        say()
        return condition.wait(20)


def notify_and_stay(condition: Any) -> None:
    condition.acquire()
    condition.notify()
    say()
    threading.Event().wait()


def test_a_notification_does_not_go_to_the_dead() -> None:
    condition = Condition()
    with Child(wait, condition) as first:
        until(lambda: waiting(condition) == 1)
        with Child(wait, condition) as second:
            until(lambda: waiting(condition) == 2)
            first.kill()
            with condition:
                condition.notify()
            assert second.result() is True
    until(lambda: waiting(condition) == 0)


def test_the_death_of_some_who_wait_leaves_the_others_waiting() -> None:
    condition = Condition()
    with (
        Child(wait, condition) as one,
        Child(wait, condition) as two,
        Child(wait, condition) as three,
        Child(wait, condition) as four,
    ):
        until(lambda: waiting(condition) == 4)
        two.kill()
        three.kill()
        with condition:
            condition.notify_all()
        assert one.result() is True and four.result() is True


def test_notifications_go_to_those_who_waited_longest() -> None:
    condition = Condition()
    order: list[int] = []

    def wait_in_turn(number: int) -> None:
        with condition:
            condition.wait()
            order.append(number)

    threads: list[Thread] = []
    for number in range(4):
        threads.append(Thread(wait_in_turn, number))
        until(lambda: waiting(condition) == len(threads))
    for number in range(4):
        with condition:
            condition.notify()
        threads[number].result()
    assert order == [0, 1, 2, 3]


def test_the_lock_of_a_dead_notifier_is_taken_back_with_a_warning() -> None:
    condition = Condition()

    def wait_and_see() -> tuple[bool, bool, list[type]]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with condition:
                got = condition.wait(20)
                return got, condition._lock.abandoned, [each.category for each in caught]

    with Child(wait_and_see) as waiter:
        until(lambda: waiting(condition) == 1)
        with Child(notify_and_stay, condition) as notifier:
            notifier.heard()
            notifier.kill()
        assert waiter.result() == (True, True, [AbandonedLockWarning])
    with condition:
        pass


def test_if_that_warning_is_an_error_the_lock_is_held_when_it_is_raised() -> None:
    condition = Condition()

    def wait_and_see() -> bool:
        warnings.simplefilter("error")
        with condition:
            with pytest.raises(AbandonedLockWarning):
                condition.wait(20)
            return condition._lock._is_mine()

    with Child(wait_and_see) as waiter:
        until(lambda: waiting(condition) == 1)
        with Child(notify_and_stay, condition) as notifier:
            notifier.heard()
            notifier.kill()
        assert waiter.result() is True


@pytest.mark.parametrize("kind", [Lock, RLock])
def test_a_pickled_condition_and_its_lock_belong_together(kind: Any) -> None:
    condition = Condition(kind())
    condition.colour = "red"
    lock, again = pickle.loads(pickle.dumps((condition._lock, condition)))
    assert again._lock is lock and again.colour == "red"
    with again:
        assert condition._lock.locked()
        assert not in_thread(condition.acquire, False)


def test_a_pickled_condition_reaches_who_waits_on_the_first() -> None:
    condition = Condition()
    with Child(wait, condition) as child:
        child.heard()
        again = pickle.loads(pickle.dumps(condition))
        with again:
            again.notify()
        assert child.result() is True


@pytest.mark.parametrize("kind", [int, threading.Lock, Semaphore, Event])
def test_a_lock_that_is_none_of_ours_is_refused(kind: Any) -> None:
    with pytest.raises(TypeError, match="needs a Lock or RLock of leveret"):
        Condition(kind())


def test_a_lock_that_was_never_initialised_is_refused() -> None:
    with pytest.raises(RuntimeError, match="was not called"):
        Condition(Lock.__new__(Lock))


def test_two_conditions_may_share_a_lock() -> None:
    lock = Lock()
    full, empty = Condition(lock), Condition(lock)
    with Child(wait, full) as child:
        child.heard()
        with empty:
            empty.notify_all()
            assert waiting(full) == 1
            full.notify()
        assert child.result() is True


def test_an_object_that_was_never_initialised_says_so() -> None:
    condition = Condition.__new__(Condition)
    for call in ("acquire()", "release()", "__enter__()", "wait()", "notify()", "_lock"):
        with pytest.raises(RuntimeError, match=r"Condition.__init__\(\) was not called"):
            eval(f"condition.{call}")
    assert repr(condition) == "<Condition(None, unknown)>"
    with pytest.raises(RuntimeError, match="called already"):
        Condition().__init__()


def test_a_predicate_may_raise_or_be_odd() -> None:
    class Odd:
        def __bool__(self) -> bool:
            raise KeyError

    condition = Condition()
    with condition:
        with pytest.raises(KeyError):
            condition.wait_for(Odd)
        with pytest.raises(ZeroDivisionError):
            condition.wait_for(lambda: 1 // 0)
        with pytest.raises(TypeError):
            condition.wait_for(None)
        assert condition._lock._is_mine()


def test_a_wait_for_nobody_ends_in_time_even_in_a_crowd() -> None:
    condition = Condition()

    def give_up() -> bool:
        with condition:
            return condition.wait(0.05)

    threads = [Thread(give_up) for _ in range(8)]
    assert not in_child(give_up)
    assert not any(thread.result() for thread in threads)
    assert waiting(condition) == 0
    assert in_child(condition.acquire, False)

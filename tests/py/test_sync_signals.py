"""Signals during every wait: a handler that returns, one that raises, and Ctrl-C.

Each wait runs in the main thread of a child, where Python runs signal handlers, and says "w" before
it begins; its handler says "h".
"""

import dataclasses
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from forked import Child, Thread, in_thread, say, until
from leveret.synchronize import (
    Barrier,
    BoundedSemaphore,
    Condition,
    Event,
    Lock,
    RLock,
    Semaphore,
)


@dataclasses.dataclass
class Wait:
    """Something to wait for."""

    wait: Callable[[], Any]
    grant: Callable[[], Any]  # lets one waiter through
    timed: Callable[[float], Any]  # wait, for so many seconds in vain
    unchanged: Callable[[], bool]  # nothing is left of a wait that was given up
    done: Callable[[], Any] = lambda: None  # lets go of what was held to make others wait


def for_a_lock(kind: Any) -> Wait:
    lock = kind()
    lock.acquire()
    return Wait(
        lock.acquire,
        lock.release,
        lambda seconds: lock.acquire(timeout=seconds),
        lambda: lock._is_mine() and not in_thread(lock.acquire, False),
    )


def for_with(kind: Any) -> Wait:
    lock = kind()
    lock.acquire()

    def enter() -> bool:
        with lock as got:
            return got

    return Wait(
        enter,
        lock.release,
        lambda seconds: lock.acquire(timeout=seconds),
        lambda: lock._is_mine() and not in_thread(lock.acquire, False),
    )


def for_a_semaphore(kind: Any) -> Wait:
    semaphore = kind(1)
    semaphore.acquire()
    return Wait(
        semaphore.acquire,
        semaphore.release,
        lambda seconds: semaphore.acquire(True, seconds),
        lambda: semaphore.get_value() == 0,
        semaphore.release,
    )


def for_a_condition(kind: Any) -> Wait:
    condition = Condition(kind())

    def wait(seconds: float | None = None) -> bool:
        with condition:
            try:
                return condition.wait(seconds)
            finally:
                assert condition._lock._is_mine()

    def notify() -> None:
        with condition:
            condition.notify()

    return Wait(wait, notify, wait, lambda: repr(condition).endswith(", 0)>"))


def for_a_predicate() -> Wait:
    condition, ready = Condition(), Event()

    def wait_for(seconds: float | None = None) -> bool:
        with condition:
            return condition.wait_for(ready.is_set, seconds)

    def notify() -> None:
        ready.set()
        with condition:
            condition.notify()

    return Wait(wait_for, notify, wait_for, lambda: repr(condition).endswith(", 0)>"))


def for_an_event() -> Wait:
    event = Event()
    return Wait(event.wait, event.set, event.wait, lambda: not event.is_set())


def for_a_barrier() -> Wait:
    barrier = Barrier(2)

    def patiently(seconds: float) -> bool:
        try:
            barrier.wait(seconds)
        except threading.BrokenBarrierError:
            return False
        return True

    return Wait(
        lambda: barrier.wait() >= 0,
        barrier.wait,
        patiently,
        lambda: barrier.n_waiting == 0 and not barrier.broken,
    )


WAITS: dict[str, Callable[[], Wait]] = {
    "lock": lambda: for_a_lock(Lock),
    "rlock": lambda: for_a_lock(RLock),
    "with lock": lambda: for_with(Lock),
    "with rlock": lambda: for_with(RLock),
    "semaphore": lambda: for_a_semaphore(Semaphore),
    "bounded semaphore": lambda: for_a_semaphore(BoundedSemaphore),
    "condition over a lock": lambda: for_a_condition(Lock),
    "condition": lambda: for_a_condition(RLock),
    "wait_for": for_a_predicate,
    "event": for_an_event,
    "barrier": for_a_barrier,
}


every_wait = pytest.mark.parametrize("name", WAITS)


class RungError(Exception):
    """Raised by a handler."""


def handler_that_returns(signo: int, frame: Any) -> None:
    say("h")


def handler_that_raises(signo: int, frame: Any) -> None:
    raise RungError


def begin(what: Wait, handler: Any) -> Any:
    if handler:
        signal.signal(signal.SIGUSR1, handler)
    say("w")
    return what.wait()


def waiting(what: Wait, handler: Any = None) -> Child:
    child = Child(begin, what, handler)
    assert child.heard() == "w"
    child.asleep()
    return child


@every_wait
def test_a_handler_that_returns_does_not_end_the_wait(name: str) -> None:
    what = WAITS[name]()
    with waiting(what, handler_that_returns) as child:
        for _ in range(3):
            child.signal(signal.SIGUSR1)
            assert child.heard() == "h"
            child.asleep()
        what.grant()
        assert child.result() is True


@every_wait
def test_a_handler_that_raises_ends_the_wait(name: str) -> None:
    what = WAITS[name]()
    with waiting(what, handler_that_raises) as child:
        child.signal(signal.SIGUSR1)
        with pytest.raises(RungError):
            child.result()
    assert what.unchanged()
    what.done()


@every_wait
def test_ctrl_c_ends_the_wait(name: str) -> None:
    what = WAITS[name]()
    with waiting(what) as child:
        child.signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            child.result()
    assert what.unchanged()
    what.done()


def wait_in_vain(what: Wait) -> tuple[bool, float]:
    signal.signal(signal.SIGALRM, lambda signo, frame: None)
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
    begin = time.monotonic()
    got = what.timed(0.2)
    return got, time.monotonic() - begin


@every_wait
def test_signals_do_not_make_a_timeout_longer(name: str) -> None:
    what = WAITS[name]()
    with Child(wait_in_vain, what) as child:
        got, seconds = child.result()
    assert got is False
    assert 0.2 <= seconds < 5
    what.done()


def test_a_handler_may_use_the_lock_that_a_wait_has_released() -> None:
    condition = Condition(Lock())

    def use(signo: int, frame: Any) -> None:
        with condition:
            say("h")

    def wait() -> bool:
        signal.signal(signal.SIGUSR1, use)
        with condition:
            say("w")
            return condition.wait(20)

    with Child(wait) as child:
        assert child.heard() == "w"
        with condition:
            pass
        child.signal(signal.SIGUSR1)
        assert child.heard() == "h"
        with condition:
            condition.notify()
        assert child.result() is True


def test_a_notification_that_meets_an_exception_goes_to_the_next() -> None:
    condition = Condition()

    def notify_and_raise(signo: int, frame: Any) -> None:
        with condition:
            condition.notify()  # whoever has waited longest: us
        raise RungError

    def wait_and_be_interrupted() -> None:
        signal.signal(signal.SIGUSR1, notify_and_raise)
        with condition:
            condition.wait(20)

    def wait() -> bool:
        with condition:
            return condition.wait(20)

    with Child(wait_and_be_interrupted) as one:
        until(lambda: repr(condition).endswith(", 1)>"))
        two = Thread(wait)
        until(lambda: repr(condition).endswith(", 2)>"))
        one.signal(signal.SIGUSR1)
        with pytest.raises(RungError):
            one.result()
        assert two.result() is True


def test_one_ctrl_c_waits_for_the_lock_and_the_second_does_not() -> None:
    condition = Condition()

    def wait() -> str:
        condition.acquire()
        say("w")
        try:
            condition.wait(20)
        except KeyboardInterrupt:
            if not condition._lock._is_mine():
                return "not mine"
            condition.release()
            return "mine"
        return "notified"

    for interrupts, state in ((1, "mine"), (2, "not mine")):
        with Child(wait) as child:
            assert child.heard() == "w"
            condition.acquire()
            for _ in range(interrupts + 1):
                child.asleep()
                child.signal(signal.SIGINT)
                until(lambda child=child: not signal_pending(child.pid))
            if state == "mine":
                condition.release()
            assert child.result() == state
            if state != "mine":
                condition.release()


def signal_pending(pid: int) -> bool:
    """Whether SIGINT still waits to be delivered to a process."""
    with open(f"/proc/{pid}/status") as status:
        masks = [line.split()[1] for line in status if line.startswith(("SigPnd", "ShdPnd"))]
    return any(int(mask, 16) & 1 << signal.SIGINT - 1 for mask in masks)


def test_other_threads_wait_on_while_the_main_thread_is_interrupted() -> None:
    event = Event()

    def interrupted() -> bool:
        thread = Thread(event.wait, 20)
        thread.asleep()
        say("w")
        try:
            event.wait(20)
        except KeyboardInterrupt:
            say("k")
        return thread.result()

    with Child(interrupted) as child:
        assert child.heard() == "w"
        child.asleep()
        child.signal(signal.SIGINT)
        assert child.heard() == "k"
        event.set()
        assert child.result() is True

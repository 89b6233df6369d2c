"""The pump: who waits while another thread is it, and who is woken when it is free."""

import threading
import time
from typing import Any

import leveret
import pytest
from executors import Gate
from forked import Thread, until
from leveret import pump
from leveret.executor import ProcessPoolExecutor
from tasks import begin_and_wait, square

pytestmark = [
    # The standard library's, of a fork beside threads: an executor forks when a worker has died.
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]


def test_who_waits_for_the_pump_sleeps(
    executor: ProcessPoolExecutor, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody leaves, or looks: nobody is woken for a pump that is not free."""
    sleeps: list[Any] = []
    sleep = pump._Waiter.sleep

    def counted(waiter: pump._Waiter, timeout: float | None) -> None:
        sleeps.append(waiter)
        sleep(waiter, timeout)

    monkeypatch.setattr(pump._Waiter, "sleep", counted)
    running = gate.occupy(executor)
    staff: Any = executor._staff
    waiters = [Thread(running.result) for _ in range(4)]
    until(lambda: len(staff._waiters) == 3 and len(sleeps) >= 3)
    before = len(sleeps)
    assert executor.submit(square, 3).result() == 9
    assert not running.done()
    executor.submit(time.sleep, 0.3).result()  # while nothing else happens
    assert len(sleeps) - before < 20
    gate.open()
    assert [waiter.result() for waiter in waiters] == [gate.path] * 4


def test_a_thread_that_cannot_be_started_leaves_the_pump_to_who_had_it(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = leveret.get_context("fork").Pool(1)
    begun = gate.folder / "begun"
    waiter = Thread(pool.apply, begin_and_wait, (str(begun), gate.path))
    until(begun.exists)
    start = threading.Thread.start

    def cannot_start(thread: threading.Thread) -> None:
        if thread.name != pool._crew._name:
            start(thread)
            return
        pool._crew.board.interrupt()
        until(lambda: bool(pool._crew._waiters))  # it is the thread's, by now
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", cannot_start)
        pool.close()
    gate.open()
    assert waiter.result() == gate.path
    pool.join()

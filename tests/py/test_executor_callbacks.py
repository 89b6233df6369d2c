"""Callbacks of futures: what they may do and raise, and what goes on whatever they do."""

import concurrent.futures as standard
import gc
import threading
import weakref
from typing import Any

import pytest
from executors import Gate, forking
from forked import PATIENCE_S, Thread, until
from leveret.executor import ProcessPoolExecutor
from tasks import square

pytestmark = [
    # The standard library's, of a fork beside threads: an executor forks when a worker has died.
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]


def test_callbacks(executor: ProcessPoolExecutor, gate: Gate) -> None:
    future = gate.occupy(executor)
    called: list[Any] = []
    for number in range(3):
        future.add_done_callback(lambda f, number=number: called.append((number, f)))
    gate.open()
    until(lambda: len(called) == 3)
    assert called == [(number, future) for number in range(3)]
    future.add_done_callback(called.append)
    assert called[3:] == [future]


def test_a_callback_that_raises(
    executor: ProcessPoolExecutor, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    future = gate.occupy(executor)
    called: list[Any] = []
    future.add_done_callback(lambda _: 1 / 0)
    future.add_done_callback(called.append)
    gate.open()
    until(lambda: called)
    assert sum("exception calling callback" in record.message for record in caplog.records) == 1
    caplog.clear()  # of tracebacks, and what they hold
    assert executor.submit(square, 3).result() == 9


def test_a_callback_waits_for_another_future(executor: ProcessPoolExecutor, gate: Gate) -> None:
    future = gate.occupy(executor)
    got: list[Any] = []
    future.add_done_callback(lambda _: got.append(executor.submit(square, 7).result(PATIENCE_S)))
    gate.open()
    until(lambda: got)
    assert got == [49]


def test_result_does_not_wait_for_callbacks(executor: ProcessPoolExecutor, gate: Gate) -> None:
    """They may wait for what comes after it."""
    future = gate.occupy(executor)
    may_end, ended = threading.Event(), threading.Event()

    def callback(_: object) -> None:
        may_end.wait(PATIENCE_S)
        ended.set()

    future.add_done_callback(callback)
    gate.open()
    assert future.result(PATIENCE_S) == gate.path
    assert not ended.is_set()
    may_end.set()
    assert ended.wait(PATIENCE_S)


def test_a_callback_of_a_future_that_nobody_has(executor: ProcessPoolExecutor, gate: Gate) -> None:
    called: list[Any] = []
    executor.submit(square, 4).add_done_callback(called.append)
    gc.collect()
    until(lambda: called)
    assert called[0].result() == 16
    reference = weakref.ref(called.pop())
    until(lambda: reference() is None)


def stop_iterating(_: object) -> None:
    raise StopIteration


def leave(_: object) -> None:
    raise SystemExit


def test_a_callback_that_raises_what_ends_loops(
    executor: ProcessPoolExecutor, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    future = gate.occupy(executor)
    called: list[Any] = []
    for callback in (stop_iterating, called.append, stop_iterating):
        future.add_done_callback(callback)
    gate.open()
    until(lambda: len(caplog.records) == 2)
    assert called == [future]
    assert all("exception calling callback" in record.message for record in caplog.records)
    caplog.clear()  # of tracebacks, and what they hold


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_callbacks_that_leave_end_no_other_ones(executor: ProcessPoolExecutor, gate: Gate) -> None:
    """Of a future that is cancelled: the first one leaves cancel(), the second the thread."""
    called = threading.Event()
    running = gate.occupy(executor), gate.occupy(executor)
    running[0].add_done_callback(lambda _: called.set())
    waiting = executor.submit(square, 1)
    waiting.add_done_callback(leave)
    waiting.add_done_callback(leave)
    with pytest.raises(SystemExit):
        waiting.cancel()
    until(lambda: executor._staff is not None and not executor._staff._events)
    gate.open()
    assert called.wait(PATIENCE_S)
    assert waiting.cancelled()


def test_a_cancel_whose_callback_shuts_down(gate: Gate) -> None:
    executor = forking(1)
    running = gate.occupy(executor)
    waiting = executor.submit(square, 1)
    over: list[bool] = []

    def shut_down(_: object) -> None:
        gate.open()
        executor.shutdown()
        over.append(running.done())

    waiting.add_done_callback(shut_down)
    assert waiting.cancel()
    assert over == [True]
    assert standard.wait([waiting], PATIENCE_S).done == {waiting}


def test_a_callback_in_the_thread_cannot_wait_for_the_end(
    gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    """As in the standard library, whose thread cannot join itself."""
    executor = forking(1)
    running = gate.occupy(executor)
    running.add_done_callback(lambda _: executor.shutdown())
    gate.open()
    until(lambda: len(caplog.records) == 1)
    assert "cannot wait in a callback" in str(caplog.records[0].exc_info)
    caplog.clear()
    executor.shutdown()
    assert running.done()


def test_a_future_that_was_waited_for_keeps_no_workers(gate: Gate) -> None:
    executor = forking(1)
    future = gate.occupy(executor)
    waiter = Thread(standard.wait, [future])
    until(lambda: bool(future._waiters))
    gate.open()
    waiter.result()
    executor.shutdown()
    staff = weakref.ref(executor._staff)
    del executor
    until(lambda: gc.collect() >= 0 and staff() is None)
    assert future.done()

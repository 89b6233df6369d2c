"""The futures of an executor: results, callbacks, who waits for them, and cancelling."""

import asyncio
import concurrent.futures as standard
import os
import pathlib
import signal
import threading
import time
import traceback
import weakref
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import pytest
from executors import Gate, Holder, forking
from forked import PATIENCE_S, in_thread, until
from leveret import claims
from leveret.executor import ProcessPoolExecutor
from leveret.futures import TaskFuture
from tasks import (
    add,
    begin_and_wait,
    fail,
    insist,
    square,
    touch_and_stay,
    wait_for_file,
    worker_pid,
)

pytestmark = [
    # The standard library's, of a fork beside threads: an executor forks when a worker has died.
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]


# Futures.


def test_done_and_running_without_a_thread_that_waits(
    executor: ProcessPoolExecutor, gate: Gate
) -> None:
    first, second = gate.occupy(executor), gate.occupy(executor)
    waiting = executor.submit(square, 3)
    assert (first.running(), second.running(), waiting.running()) == (True, True, False)
    assert (first.done(), waiting.done()) == (False, False)
    assert "state=running" in repr(first)
    assert "state=pending" in repr(waiting)
    gate.open()
    until(lambda: first.done() and second.done() and waiting.done())
    assert not waiting.running()
    assert "state=finished returned int" in repr(waiting)


def test_result_in_time_or_not(executor: ProcessPoolExecutor, gate: Gate) -> None:
    future = gate.occupy(executor)
    for timeout in (0, 0.01, -1):
        with pytest.raises(TimeoutError):
            future.result(timeout)
        with pytest.raises(TimeoutError):
            future.exception(timeout)
    gate.open()
    assert future.result(PATIENCE_S) == gate.path
    assert future.exception(0) is None


def test_a_discarded_future_lets_go_of_its_arguments(executor: ProcessPoolExecutor) -> None:
    held = [Holder(), Holder()]
    references = [weakref.ref(holder) for holder in held]
    executor.submit(held[0].method)
    executor.submit(add, 1, y=held[1])
    del held[:]
    until(lambda: not any(reference() for reference in references))


@pytest.mark.parametrize("how", ["wait", "as_completed"])
def test_many_are_waited_for_at_once(executor: ProcessPoolExecutor, how: str) -> None:
    futures = [executor.submit(square, x) for x in range(300)]
    if how == "wait":
        assert standard.wait(futures, PATIENCE_S).done == set(futures)
    else:
        assert set(standard.as_completed(futures, PATIENCE_S)) == set(futures)
    assert [future.result(0) for future in futures] == [x * x for x in range(300)]


def test_wait_for_the_first(executor: ProcessPoolExecutor, gate: Gate) -> None:
    blocked = gate.occupy(executor)
    quick, failing = executor.submit(square, 3), executor.submit(fail, 3)
    done, _ = standard.wait([blocked, quick], PATIENCE_S, standard.FIRST_COMPLETED)
    assert done == {quick}
    done, not_done = standard.wait([blocked, failing], PATIENCE_S, standard.FIRST_EXCEPTION)
    assert (done, not_done) == ({failing}, {blocked})
    assert standard.wait([blocked], 0.01).not_done == {blocked}
    with pytest.raises(TimeoutError, match=r"1 \(of 2\) futures unfinished"):
        list(standard.as_completed([blocked, quick], 0.01))
    gate.open()


def test_threads_that_wait_and_threads_that_are_told(executor: ProcessPoolExecutor) -> None:
    """Whoever takes results takes those of all."""
    wrong: list[Any] = []

    def wait_for_each(start: int) -> None:
        for x in range(start, start + 100):
            if executor.submit(square, x).result(PATIENCE_S) != x * x:
                wrong.append(x)

    def be_told(start: int) -> None:
        for x in range(start, start + 100, 10):
            futures = {executor.submit(square, y): y for y in range(x, x + 10)}
            for future in standard.as_completed(futures, PATIENCE_S):
                if future.result(0) != futures[future] ** 2:
                    wrong.append(x)

    threads = [threading.Thread(target=wait_for_each, args=(n * 1000,)) for n in range(3)]
    threads += [threading.Thread(target=be_told, args=(n * 1000,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert not any(thread.is_alive() for thread in threads)
    assert not wrong


def test_one_future_for_many_threads(executor: ProcessPoolExecutor, gate: Gate) -> None:
    future = gate.occupy(executor)
    with standard.ThreadPoolExecutor(8) as threads:
        results = [threads.submit(future.result, PATIENCE_S) for _ in range(8)]
        gate.open()
        assert {result.result(PATIENCE_S) for result in results} == {gate.path}


def test_asyncio(executor: ProcessPoolExecutor) -> None:
    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        calls = [loop.run_in_executor(executor, square, x) for x in range(50)]
        calls.append(asyncio.wrap_future(executor.submit(square, 50)))
        with pytest.raises(ValueError, match="no 1"):
            await loop.run_in_executor(executor, fail, 1)
        return await asyncio.gather(*calls)

    assert asyncio.run(main()) == [x * x for x in range(51)]


def test_tracebacks_do_not_pile_up(gate: Gate) -> None:
    with forking(1, strict=True) as executor:
        futures = [executor.submit(wait_for_file, gate.path) for _ in range(3)]
        until(futures[0].running)
        next(iter(executor._processes.values())).kill()
        for future in futures:
            try:
                future.result(PATIENCE_S)
            except BrokenProcessPool as error:
                frames = traceback.extract_tb(error.__traceback__)
            assert sum(frame.filename == __file__ for frame in frames) == 1


# Cancelling.


def test_cancel_what_waits(executor: ProcessPoolExecutor, gate: Gate, tmp_path: Any) -> None:
    running = [gate.occupy(executor), gate.occupy(executor)]
    waiting = executor.submit(touch_and_stay, str(tmp_path / "ran"))
    called: list[Any] = []
    waiting.add_done_callback(called.append)
    assert waiting.cancel()
    assert waiting.cancel()
    assert called == [waiting]
    assert (waiting.cancelled(), waiting.done(), waiting.running()) == (True, True, False)
    with pytest.raises(standard.CancelledError):
        waiting.result()
    with pytest.raises(standard.CancelledError):
        waiting.exception()
    assert standard.wait([waiting], 0).done == {waiting}
    assert not running[0].cancel()
    gate.open()
    assert executor.submit(square, 3).result() == 9
    assert not (tmp_path / "ran").exists()
    assert [future.result() for future in running] == [gate.path] * 2
    assert not running[0].cancel()


def test_who_waits_is_told_of_a_cancel(executor: ProcessPoolExecutor, gate: Gate) -> None:
    gate.occupy(executor), gate.occupy(executor)
    waiting, also_waiting = executor.submit(square, 3), executor.submit(square, 4)
    with standard.ThreadPoolExecutor(2) as threads:
        by_result = threads.submit(waiting.exception, PATIENCE_S)
        by_wait = threads.submit(standard.wait, [also_waiting], PATIENCE_S)
        until(lambda: len(executor._staff._waiters) == 1 and also_waiting._waiters)
        assert waiting.cancel()
        assert also_waiting.cancel()
        assert isinstance(by_result.exception(PATIENCE_S), standard.CancelledError)
        assert by_wait.result(PATIENCE_S).done == {also_waiting}
    gate.open()


def test_one_of_many_cancels_wins(executor: ProcessPoolExecutor, gate: Gate) -> None:
    gate.occupy(executor), gate.occupy(executor)
    called: list[Any] = []
    futures = [executor.submit(square, x) for x in range(50)]
    for future in futures:
        future.add_done_callback(called.append)
    with standard.ThreadPoolExecutor(4) as threads:
        answers = [threads.submit(future.cancel) for future in futures for _ in range(4)]
    assert all(answer.result() for answer in answers)
    assert sorted(map(id, called)) == sorted(map(id, futures))
    gate.open()


def test_a_cancel_beside_one_that_has_not_told_yet(
    executor: ProcessPoolExecutor, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate.occupy(executor), gate.occupy(executor)
    told: list[TaskFuture] = []
    tell = TaskFuture._cancel

    def tell_late(future: TaskFuture) -> bool:
        told.append(future)
        if len(told) == 1:
            assert in_thread(future.cancel)
        return tell(future)

    monkeypatch.setattr(TaskFuture, "_cancel", tell_late)
    waiting = executor.submit(square, 3)
    assert waiting.cancel()
    assert told == [waiting]
    gate.open()


def test_stop_what_runs(gate: Gate, tmp_path: pathlib.Path) -> None:
    with forking(1, stop_running=True) as executor:
        pid = executor.submit(worker_pid).result()
        begun = tmp_path / "begun"
        future = executor.submit(touch_and_stay, str(begun))
        until(begun.exists)
        assert future.cancel()
        assert future.cancelled()
        with pytest.raises(standard.CancelledError):
            future.result(0)
        assert executor.submit(worker_pid).result(PATIENCE_S) == pid  # it was enough to interrupt


def test_stop_what_insists(tmp_path: pathlib.Path) -> None:
    with forking(1) as executor:
        pid = executor.submit(worker_pid).result()
        begun = tmp_path / "begun"
        future = executor.options(stop_running=True).submit(insist, str(begun))
        until(begun.exists)
        assert future.cancel()
        assert executor.submit(worker_pid).result(PATIENCE_S) != pid


def test_stop_what_runs_and_what_is_behind_it(
    gate: Gate, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that has not come to heed the first order is not to find the second one instead."""
    monkeypatch.setattr(claims, "HELD_S", 60.0)  # nothing is taken back meanwhile
    begun = tmp_path / "begun"
    with forking(1, stop_running=True) as executor:
        pid = executor.submit(worker_pid).result()
        held = gate.occupy(executor)
        futures = [executor.submit(square, 0) for _ in range(100)]
        futures.append(executor.submit(touch_and_stay, str(begun)))
        futures += [executor.submit(square, 0) for _ in range(1000)]
        gate.open()
        until(begun.exists)
        behind = executor._staff.board.look(0).claimed - 1
        assert behind > 0, "the long one was claimed alone"
        os.kill(pid, signal.SIGSTOP)
        assert all(future.cancel() for future in futures[100 : 101 + behind])
        os.kill(pid, signal.SIGCONT)
        assert executor.submit(worker_pid).result(PATIENCE_S) == pid  # it was enough to interrupt
        assert held.result() == gate.path


def test_who_has_finished_what_is_stopped_is_left_alone() -> None:
    """The result has not been taken when its future is cancelled."""
    with forking(1, stop_running=True) as executor:
        pid = executor.submit(worker_pid).result()
        staff = executor._staff
        done = staff.board.look(0).finished
        with staff._pumping:  # nobody takes results
            future = executor.submit(square, 3)
            until(lambda: staff.board.look(0).finished > done)
            assert future.cancel()
        until(lambda: not staff.stops._stopping)
        assert executor.submit(worker_pid).result(PATIENCE_S) == pid


def test_asyncio_stops_what_runs(tmp_path: pathlib.Path) -> None:
    begun = tmp_path / "begun"

    async def main(executor: Any) -> None:
        loop = asyncio.get_running_loop()
        call = loop.run_in_executor(executor, touch_and_stay, str(begun))
        while not begun.exists():
            await asyncio.sleep(0.001)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(call, 0.01)

    with forking(1, stop_running=True) as executor:
        asyncio.run(main(executor))
        assert executor.submit(square, 3).result(PATIENCE_S) == 9


def test_its_text_is_of_now(executor: Any) -> None:
    """Though nobody has looked at it since."""
    future = executor.submit(square, 3)
    until(
        lambda: executor._staff.board.outstanding() == 0 or executor._staff.board.look(0).finished
    )
    assert "state=finished" in repr(future)


def test_what_is_taken_back_is_put_again_at_once(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by the clock: no claims are looked at, and nobody is to be killed for long."""
    monkeypatch.setattr(claims, "HELD_S", 60.0)
    gate, end = Gate(tmp_path), tmp_path / "end"
    with forking(1, stop_running=True) as executor:
        held, futures = gate.claim_behind_a_long_one(executor, end)
        board = executor._staff.board
        assert board.look(0).claimed > 2, "the long one was claimed alone"
        waiting = board.waiting()
        executor._staff.claims.take_back(0)
        assert board.look(0).claimed == 1 and board.waiting() > waiting
        end.touch()
        assert held.result() == gate.path
        assert all(future.result(PATIENCE_S) == 0 for future in futures[101:])


class Weight:
    """An argument that can be seen to go."""


def _nothing_is_due(staff: Any) -> bool:
    return bool(staff._alarm > time.monotonic() + 2 * PATIENCE_S)


def hold_until(begun: str, path: str, weight: Weight) -> None:
    begin_and_wait(begun, path)


def test_a_future_that_is_dropped_while_its_task_runs_is_attended_to(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By nobody else: nothing is due, and nobody waits."""
    monkeypatch.setattr(claims, "HELD_S", 60.0)
    begun, gate, weight = tmp_path / "begun", Gate(tmp_path), Weight()
    reference = weakref.ref(weight)
    with forking(1) as executor:
        staff = executor._ready_staff()
        until(lambda: executor.submit(square, 3).result() == 9 and _nothing_is_due(staff))
        future = executor.submit(hold_until, str(begun), gate.path, weight)
        until(begun.exists)
        del weight, future
        assert reference() is not None
        gate.open()
        until(lambda: reference() is None)

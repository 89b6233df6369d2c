"""ProcessPoolExecutor: what the standard library promises of it, and what it offers besides."""

import asyncio
import concurrent.futures as standard
import contextlib
import gc
import itertools
import logging
import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import leveret
import pytest
from forked import PATIENCE_S, Child, in_thread, until
from leveret import cpus
from leveret.executor import ProcessPoolExecutor
from leveret.futures import TaskFuture
from tasks import (
    Unpicklable,
    add,
    begin_and_wait,
    blas_threads,
    catch_timeout,
    die,
    die_once,
    fail,
    fail_at_three,
    get_initialized,
    give,
    initialize,
    insist,
    is_daemon,
    raise_it,
    refuse,
    square,
    touch_and_stay,
    wait_for_file,
    worker_pid,
)

METHODS = ("fork", "warm", "spawn", "forkserver")

pytestmark = [
    # The standard library's, of a fork beside threads: an executor forks when a worker has died.
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]


def forking(workers: int = 2, **options: Any) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, leveret.get_context("fork"), **options)


@pytest.fixture(params=METHODS)
def any_executor(request: pytest.FixtureRequest) -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(2, leveret.get_context(request.param)) as executor:
        yield executor


@pytest.fixture
def executor() -> Iterator[ProcessPoolExecutor]:
    with forking() as executor:
        yield executor


class Gate:
    """Tasks that run until it is opened."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.path = str(folder / "open")
        self.count = itertools.count()

    def occupy(self, executor: Any) -> Any:
        """Have a worker run one, and wait until it does."""
        begun = self.folder / f"begun-{next(self.count)}"
        future = executor.submit(begin_and_wait, str(begun), self.path)
        until(begun.exists)
        return future

    def open(self) -> None:
        pathlib.Path(self.path).touch()


@pytest.fixture
def gate(tmp_path: pathlib.Path) -> Gate:
    return Gate(tmp_path)


def keywords(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
    return args, kwargs


def gone(pid: int) -> bool:
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state in "ZX"


# As it is there.


def test_all_methods(any_executor: ProcessPoolExecutor) -> None:
    executor = any_executor
    assert executor.submit(add, 1, y=2).result(PATIENCE_S) == 3
    assert list(executor.map(square, range(30))) == [x * x for x in range(30)]
    assert list(executor.map(add, range(9), range(9), chunksize=2)) == list(range(0, 18, 2))
    futures = [executor.submit(square, x) for x in range(9)]
    assert {f.result() for f in standard.as_completed(futures)} == {x * x for x in range(9)}
    with pytest.raises(ValueError, match="no 5"):
        executor.submit(fail, 5).result(PATIENCE_S)
    with pytest.raises(leveret.WorkerDied):
        executor.submit(die, "killed").result(PATIENCE_S)
    assert executor.submit(add, 3, 4).result(PATIENCE_S) == 7


def test_it_is_a_standard_executor(executor: ProcessPoolExecutor) -> None:
    assert leveret.ProcessPoolExecutor is ProcessPoolExecutor
    assert isinstance(executor, standard.ProcessPoolExecutor)
    assert isinstance(executor, standard.Executor)
    future = executor.submit(square, 2)
    assert type(future) is TaskFuture
    assert isinstance(future, standard.Future)
    assert future.result() == 4


def test_submit_passes_every_keyword_on(executor: ProcessPoolExecutor) -> None:
    names = ("self", "fn", "timeout", "retries", "function", "rules")
    given = dict.fromkeys(names, 1)
    assert executor.submit(keywords, 1, **given).result() == ((1,), given)
    assert executor.options(retries=1).submit(keywords, **given).result() == ((), given)
    with pytest.raises(TypeError):
        executor.submit(fn=keywords)  # type: ignore[call-arg]


def test_exceptions_have_their_traceback(executor: ProcessPoolExecutor) -> None:
    future = executor.submit(fail, 5)
    error = future.exception()
    assert type(error) is ValueError
    assert type(error.__cause__).__name__ == "_RemoteTraceback"
    assert 'raise ValueError(f"no {x}")' in str(error.__cause__)
    assert future.done()
    with pytest.raises(ValueError, match="no 5"):
        future.result()


def test_sys_exit_is_an_exception_of_the_task(executor: ProcessPoolExecutor) -> None:
    pid = [executor.submit(worker_pid).result() for _ in range(9)]
    assert isinstance(executor.submit(die, "sys.exit").exception(), SystemExit)
    assert {executor.submit(worker_pid).result() for _ in range(9)} <= {*pid, *executor._processes}


@pytest.mark.parametrize("name", ["unpicklable", "lock", "undecodable"])
def test_results_that_cannot_be_sent(executor: ProcessPoolExecutor, name: str) -> None:
    error = executor.submit(give, name).exception(PATIENCE_S)
    expected = {"unpicklable": RuntimeError, "lock": TypeError, "undecodable": BrokenProcessPool}
    assert type(error) is expected[name]
    if name == "undecodable":
        assert isinstance(error.__cause__, ValueError)
        assert "give('undecodable')" in str(error)
    assert executor.submit(square, 3).result() == 9


@pytest.mark.parametrize("name", ["demanding", "locked"])
def test_exceptions_that_cannot_be_sent(executor: ProcessPoolExecutor, name: str) -> None:
    error = executor.submit(raise_it, name).exception(PATIENCE_S)
    assert type(error) is leveret.RemoteError
    assert error.type.endswith("Error")
    assert "raise_it" in error.traceback


def test_arguments_that_cannot_be_sent(executor: ProcessPoolExecutor) -> None:
    future = executor.submit(square, Unpicklable())
    assert isinstance(future.exception(0), RuntimeError)
    assert not future.cancel()
    assert executor.submit(square, 3).result() == 9
    with pytest.raises(RuntimeError, match="cannot pickle"):
        list(executor.map(square, [Unpicklable()]))
    with pytest.raises(RuntimeError, match="cannot pickle"):
        list(executor.map(Unpicklable().__reduce__, [1]))


class UndecodableThere:
    """Can be unpickled where it was made, only."""

    def __init__(self, pid: int) -> None:
        if pid != os.getpid():
            raise ImportError("not here")
        self.pid = pid

    def __reduce__(self) -> Any:
        return UndecodableThere, (self.pid,)


def test_arguments_that_cannot_be_unpickled(executor: ProcessPoolExecutor) -> None:
    error = executor.submit(square, UndecodableThere(os.getpid())).exception(PATIENCE_S)
    assert type(error) is BrokenProcessPool
    assert "could not be unpickled" in str(error)
    assert "ImportError: not here" in str(error)
    assert executor.submit(square, 3).result() == 9


def test_what_is_no_function(executor: ProcessPoolExecutor) -> None:
    error = executor.submit(3, 4).exception(PATIENCE_S)  # type: ignore[arg-type]
    assert type(error) is TypeError


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


class Holder:
    def method(self) -> None:
        pass


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

    def tell_late(future: TaskFuture) -> None:
        told.append(future)
        if len(told) == 1:
            assert in_thread(future.cancel)
        tell(future)

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


# map().


def test_map_is_in_order_and_lets_go(executor: ProcessPoolExecutor) -> None:
    results = executor.map(give_holder, range(20))
    for result in results:
        reference = weakref.ref(result)
        del result
        assert reference() is None
    assert list(executor.map(square, [])) == []
    assert list(executor.map(square)) == []


def give_holder(_: object) -> Holder:
    return Holder()


@pytest.mark.parametrize("chunksize", [1, 2, 5, 40])
def test_map_in_chunks(executor: ProcessPoolExecutor, chunksize: int) -> None:
    assert list(executor.map(square, range(9), chunksize=chunksize)) == [x * x for x in range(9)]
    sums = executor.map(add, range(9), itertools.count(), chunksize=chunksize)
    assert list(itertools.islice(executor.map(square, range(9)), 3)) == [0, 1, 4]
    assert list(sums) == list(range(0, 18, 2))


def test_map_refuses(executor: ProcessPoolExecutor) -> None:
    with pytest.raises(ValueError, match="chunksize must be >= 1"):
        executor.map(square, [1], chunksize=0)
    with pytest.raises(TypeError, match="buffersize must be an integer or None"):
        executor.map(square, [1], buffersize=2.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="buffersize must be None or > 0"):
        executor.map(square, [1], buffersize=0)


def test_map_ends_with_the_first_exception(executor: ProcessPoolExecutor) -> None:
    results = executor.map(fail_at_three, range(5))
    assert list(itertools.islice(results, 3)) == [0, 1, 2]
    with pytest.raises(ValueError, match="three") as caught:
        next(results)
    assert "fail_at_three" in str(caught.value.__cause__)
    assert list(results) == []


@pytest.mark.parametrize("way", ["exception", "close"])
def test_map_cancels_the_rest(tmp_path: pathlib.Path, way: str) -> None:
    with forking(1) as executor:
        go, names = tmp_path / "go", [str(tmp_path / f"{x}") for x in range(50)]
        results = executor.map(touch_one, [*names[:2], "fail", str(go), *names[2:]])
        until(lambda: os.path.exists(names[1]))
        assert next(results) == names[0]
        if way == "exception":
            with pytest.raises(FileNotFoundError):
                list(results)
        else:
            results.close()
        go.touch()
    assert sum(map(os.path.exists, names)) < 40


def touch_one(name: str) -> str:
    if name == "fail":
        raise FileNotFoundError(name)
    if name.endswith("go"):
        wait_for_file(name)
    pathlib.Path(name).touch()
    return name


def test_map_in_time_or_not(executor: ProcessPoolExecutor, gate: Gate) -> None:
    results = executor.map(wait_for_file, [__file__, gate.path, __file__], timeout=0.3)
    assert next(results) == __file__
    with pytest.raises(TimeoutError):
        next(results)
    assert list(results) == []
    gate.open()


def test_map_that_nobody_iterates_over(executor: ProcessPoolExecutor, tmp_path: Any) -> None:
    names = [str(tmp_path / f"{x}") for x in range(20)]
    executor.map(touch_one, names)
    until(lambda: all(map(os.path.exists, names)))
    held = Holder()
    reference = weakref.ref(held)
    executor.map(add, [1], [held])
    del held
    until(lambda: reference() is None)


def test_a_dropped_map_is_attended_to(executor: ProcessPoolExecutor, gate: Gate) -> None:
    results = executor.map(wait_for_file, [gate.path])
    until(lambda: not executor._staff._looking)  # now nothing but a death wakes the thread
    del results
    gate.open()
    until(lambda: not executor._staff.jobs)


def test_map_reads_as_results_are_taken(executor: ProcessPoolExecutor) -> None:
    read: list[int] = []

    def numbers() -> Iterator[int]:
        for number in itertools.count():
            read.append(number)
            yield number

    results = executor.map(square, numbers(), buffersize=3)
    assert read == [0, 1, 2]
    assert list(itertools.islice(results, 4)) == [0, 1, 4, 9]
    assert read == [0, 1, 2, 3, 4, 5, 6]
    results.close()
    chunks = executor.map(add, itertools.count(), itertools.count(), chunksize=5, buffersize=2)
    assert list(itertools.islice(chunks, 20)) == list(range(0, 40, 2))


def test_map_of_an_iterable_that_raises(executor: ProcessPoolExecutor) -> None:
    def numbers() -> Iterator[int]:
        yield from range(3)
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        executor.map(square, numbers())
    results = executor.map(square, numbers(), buffersize=2)
    assert list(itertools.islice(results, 1)) == [0]
    with pytest.raises(OSError, match="no more"):
        list(results)


class Counting(ProcessPoolExecutor):
    """A subclass of a program's, which wants to see each call."""

    calls = 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        return super().submit(fn, *args, **kwargs)


def test_map_of_a_subclass_submits() -> None:
    with Counting(1, leveret.get_context("fork")) as executor:
        assert list(executor.map(square, range(5))) == [0, 1, 4, 9, 16]
        assert list(executor.map(square, range(5), chunksize=5)) == [0, 1, 4, 9, 16]
        assert executor.calls == 6


# What nobody else has.


@pytest.mark.parametrize("how", ["killed", "os._exit", "crash", "abort"])
def test_a_death_costs_one_task(executor: ProcessPoolExecutor, gate: Gate, how: str) -> None:
    other = gate.occupy(executor)
    before = set(executor._processes)
    future = executor.submit(die, how)
    more = [executor.submit(square, x) for x in range(20)]
    error = future.exception(PATIENCE_S)
    code = {"killed": -9, "os._exit": 7, "crash": -11, "abort": -6}[how]
    assert isinstance(error, leveret.WorkerDied)
    assert isinstance(error, BrokenProcessPool)
    assert error.pid in before
    assert (error.exitcode, error.task) == (code, f"die({how!r})")
    assert f"Process {error.pid} terminated abruptly with exit code {code}" in str(error.__cause__)
    assert ("Fatal Python error" in error.traceback) == (how in ("crash", "abort"))
    assert [f.result(PATIENCE_S) for f in more] == [x * x for x in range(20)]
    gate.open()
    assert other.result(PATIENCE_S) == gate.path
    assert executor._broken is False


def test_a_death_in_a_map(executor: ProcessPoolExecutor) -> None:
    results = executor.map(die, ["no", "no", "killed", "no"])
    assert list(itertools.islice(results, 2)) == ["no", "no"]
    with pytest.raises(leveret.WorkerDied):
        next(results)
    with pytest.raises(leveret.WorkerDied, match="of 3 items"):
        list(executor.map(die, ["no", "killed", "no"], chunksize=3))
    assert list(executor.map(die, ["no"] * 5)) == ["no"] * 5


def test_once_more(executor: ProcessPoolExecutor, tmp_path: pathlib.Path) -> None:
    again = executor.options(retries=1)
    assert again.submit(die_once, str(tmp_path / "1")).result(PATIENCE_S) == "alive"
    assert list(again.map(die_once, [str(tmp_path / "2")])) == ["alive"]
    error = again.submit(die, "killed").exception(PATIENCE_S)
    assert isinstance(error, leveret.WorkerDied)
    assert error.tries == 2
    assert isinstance(executor.submit(die, "killed").exception(PATIENCE_S), leveret.WorkerDied)


def test_retries_of_all_tasks(tmp_path: pathlib.Path) -> None:
    with forking(retries=1) as executor:
        assert executor.submit(die_once, str(tmp_path / "1")).result(PATIENCE_S) == "alive"


def wait_and_die(path: str) -> None:
    wait_for_file(path)
    os._exit(7)


def test_strict_breaks_as_the_standard_library_does(gate: Gate, tmp_path: pathlib.Path) -> None:
    with forking(strict=True) as executor:
        running, dying = gate.occupy(executor), executor.submit(wait_and_die, f"{tmp_path}/die")
        waiting = executor.submit(square, 3)
        (tmp_path / "die").touch()
        text = "A process in the process pool was terminated abruptly"
        for future in (running, dying, waiting):
            error = future.exception(PATIENCE_S)
            assert isinstance(error, BrokenProcessPool)
            assert text in str(error)
            assert "terminated abruptly with exit code 7" in str(error.__cause__)
        assert running.exception() is not waiting.exception()
        with pytest.raises(BrokenProcessPool, match="not usable anymore"):
            executor.submit(square, 3)
        with pytest.raises(BrokenProcessPool, match="not usable anymore"):
            executor.map(square, [3])
        assert "not usable anymore" in str(executor._broken)
    assert all(map(gone, [error.pid]))


def test_a_time_limit(executor: ProcessPoolExecutor, tmp_path: pathlib.Path) -> None:
    limited = executor.options(timeout=0.2)
    with pytest.raises(leveret.TaskTimeout, match=r"catch_timeout.* took longer than timeout=0.2"):
        limited.submit(catch_timeout, str(tmp_path / "seen")).result(PATIENCE_S)
    until(lambda: (tmp_path / "seen").exists() and (tmp_path / "seen").read_text() == "TaskTimeout")
    assert issubclass(leveret.TaskTimeout, TimeoutError)
    assert limited.submit(square, 3).result(PATIENCE_S) == 9
    results = limited.map(wait_for_file, [__file__, str(tmp_path / "never")])
    assert next(results) == __file__
    with pytest.raises(leveret.TaskTimeout):
        next(results)


def test_a_time_limit_is_kept_though_nobody_waits(tmp_path: pathlib.Path) -> None:
    with forking(1, timeout=0.1) as executor:
        future = executor.submit(insist, str(tmp_path / "begun"))
        next_one = executor.submit(pathlib.Path.touch, tmp_path / "next")
        until((tmp_path / "next").exists)
        assert isinstance(future.exception(0), leveret.TaskTimeout)
        assert next_one.result(PATIENCE_S) is None


def test_views(executor: ProcessPoolExecutor) -> None:
    view = executor.options(timeout=5).options(retries=2)
    assert isinstance(view, standard.Executor)
    assert (view._rules.timeout, view._rules.retries) == (5.0, 2)
    assert view._processes is not None
    assert view._max_workers == 2
    assert list(view.map(add, range(5), range(5), chunksize=2)) == [0, 2, 4, 6, 8]
    assert list(view.map(square, range(5), buffersize=1)) == [0, 1, 4, 9, 16]
    assert asyncio.run(in_loop(view)) == 9
    with view.options() as same:
        assert same.submit(square, 4).result() == 16
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(square, 1)
    for wrong in ({"timeout": 0}, {"timeout": -1}, {"retries": -1}, {"retries": 1.5}):
        with pytest.raises(ValueError, match="must be"):
            executor.options(**wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        executor.options(strict=True)  # type: ignore[call-arg]


async def in_loop(executor: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(executor, square, 3)


def test_limits_of_threads_and_memory() -> None:
    with forking(2) as executor:
        share = str(max(1, cpus.usable() // 2))
        assert set(executor.submit(blas_threads).result().values()) == {share}
    with forking(2, threads=None, max_memory_per_child=1 << 30) as executor:
        assert executor.submit(square, 3).result() == 9
    with pytest.raises(ValueError, match="threads"):
        forking(threads=0)
    with pytest.raises(ValueError, match="max_memory_per_child"):
        forking(max_memory_per_child=-1)


# Workers.


def test_workers_start_on_demand() -> None:
    with ProcessPoolExecutor(4, leveret.get_context("warm")) as executor:
        assert executor._processes == {}
        for _ in range(5):
            executor.submit(square, 3).result()
        assert len(executor._processes) == 1
        standard.wait([executor.submit(time.sleep, 0.1) for _ in range(4)])
        assert 1 < len(executor._processes) <= 4
    with forking(3) as executor:
        assert executor._processes == {}
        executor.submit(square, 3)
        assert len(executor._processes) == 3  # all see the same program
        assert {process.pid for process in executor._processes.values()} == set(executor._processes)


def test_workers_may_have_children(any_executor: ProcessPoolExecutor) -> None:
    assert any_executor.submit(is_daemon).result(PATIENCE_S) is False
    assert any_executor.submit(nested, 5).result(PATIENCE_S) == [0, 1, 4, 9, 16]


def nested(count: int) -> list[int]:
    with leveret.ProcessPoolExecutor(2) as executor:
        return list(executor.map(square, range(count)))


@pytest.mark.parametrize("method", ["warm", "spawn"])
def test_max_tasks_per_child(method: str) -> None:
    context = leveret.get_context(method)
    with ProcessPoolExecutor(1, context, max_tasks_per_child=3) as executor:
        pids = [executor.submit(worker_pid).result(PATIENCE_S) for _ in range(6)]
        assert pids == [pids[0]] * 3 + [pids[3]] * 3
        assert pids[0] != pids[3]
        assert len(set(executor.map(worker_pid, range(9)))) >= 3


def test_max_tasks_per_child_as_there() -> None:
    assert ProcessPoolExecutor(1, max_tasks_per_child=3)._mp_context.get_start_method() == "spawn"
    with pytest.raises(ValueError, match="incompatible with the 'fork'"):
        forking(max_tasks_per_child=1)
    with pytest.raises(ValueError, match=r"must be >= 1"):
        ProcessPoolExecutor(1, leveret.get_context("warm"), max_tasks_per_child=0)
    with pytest.raises(TypeError, match="must be an integer"):
        ProcessPoolExecutor(1, leveret.get_context("warm"), max_tasks_per_child="1")  # type: ignore


def test_initializer(any_executor: ProcessPoolExecutor) -> None:
    context = any_executor._mp_context
    with ProcessPoolExecutor(1, context, initialize, ("value",)) as executor:
        assert executor.submit(get_initialized).result(PATIENCE_S) == ["value"]


def log_to(path: str) -> None:
    logging.getLogger("concurrent.futures").addHandler(logging.FileHandler(path))
    refuse()


def test_initializer_that_raises(tmp_path: pathlib.Path) -> None:
    log = tmp_path / "log"
    with forking(2, initializer=log_to, initargs=(str(log),)) as executor:
        future = executor.submit(square, 3)
        error = future.exception(PATIENCE_S)
        assert isinstance(error, BrokenProcessPool)
        assert "the initializer log_to of a worker raised ValueError: not today" in str(error)
        with pytest.raises(BrokenProcessPool, match="not today"):
            executor.submit(square, 3)
        assert "not today" in str(executor._broken)
    assert "Exception in initializer:" in log.read_text()
    assert "ValueError: not today" in log.read_text()


def test_initializer_that_kills_its_worker() -> None:
    with forking(2, initializer=die, initargs=("killed",)) as executor:
        error = executor.submit(square, 3).exception(PATIENCE_S)
        assert isinstance(error, leveret.WorkerDied)
        assert "in its initializer die" in str(error)
        until(lambda: executor._broken)


def test_arguments_of_the_executor() -> None:
    for number in (0, -1):
        with pytest.raises(ValueError, match="max_workers must be greater than 0"):
            ProcessPoolExecutor(number)
    with pytest.raises(TypeError, match="initializer must be a callable"):
        ProcessPoolExecutor(1, initializer=3)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        ProcessPoolExecutor("3")  # type: ignore[arg-type]
    assert ProcessPoolExecutor()._max_workers == cpus.usable()
    with ProcessPoolExecutor(10**9, leveret.get_context("warm")) as executor:
        assert executor.submit(square, 3).result() == 9


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_contexts_of_the_standard_library(method: str) -> None:
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(1, context) as executor:
        assert executor._mp_context is context
        assert executor.submit(square, 3).result(PATIENCE_S) == 9
        process = next(iter(executor._processes.values()))
        assert type(process).__module__ == "leveret.context"


# Ends.


def test_shutdown_waits(gate: Gate) -> None:
    executor = forking(2)
    running, waiting = gate.occupy(executor), [executor.submit(square, x) for x in range(9)]
    processes = executor._processes
    executor.shutdown(wait=False)
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(square, 3)
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.map(square, [3])
    assert executor._processes is None
    gate.open()
    executor.shutdown()
    assert [future.result(0) for future in waiting] == [x * x for x in range(9)]
    assert running.result(0) == gate.path
    assert all(process.exitcode == 0 for process in processes.values())
    executor.shutdown(cancel_futures=True)


def test_shutdown_cancels(gate: Gate) -> None:
    executor = forking(2)
    running = [gate.occupy(executor), gate.occupy(executor)]
    waiting = [executor.submit(square, x) for x in range(9)]
    mapped = executor.map(square, range(9))
    executor.shutdown(wait=False, cancel_futures=True)
    assert all(future.cancelled() for future in waiting)
    with pytest.raises(standard.CancelledError):
        next(mapped)
    assert not any(future.done() for future in running)
    gate.open()
    executor.shutdown()
    assert [future.result(0) for future in running] == [gate.path] * 2


def test_shutdown_leaves_what_a_worker_is_free_for() -> None:
    """As there, where the first ones are with the workers already."""
    executor = forking(2)
    futures = [executor.submit(time.sleep, 0.02) for _ in range(99)]
    executor.shutdown(cancel_futures=True)
    assert futures[0].result(0) is None
    assert sum(future.cancelled() for future in futures) > 50


def test_shutdown_while_the_last_is_cancelled(gate: Gate) -> None:
    executor = forking(1)
    gate.occupy(executor)
    waiting = executor.submit(square, 3)
    executor.shutdown(wait=False)
    gate.open()
    waiting.cancel()
    executor.shutdown()


def test_a_death_after_shutdown(gate: Gate) -> None:
    executor = forking(1)
    gate.occupy(executor)
    dying, after = executor.submit(die, "killed"), executor.submit(square, 3)
    executor.shutdown(wait=False)
    gate.open()
    assert isinstance(dying.exception(PATIENCE_S), leveret.WorkerDied)
    assert after.result(PATIENCE_S) == 9
    executor.shutdown()


def test_dropped_without_shutdown(gate: Gate) -> None:
    executor = forking(2)
    running, waiting = gate.occupy(executor), [executor.submit(square, x) for x in range(9)]
    mapped = executor.map(square, range(9))
    pids = list(executor._processes)
    reference = weakref.ref(executor)
    del executor
    gc.collect()
    assert reference() is None
    gate.open()
    assert [future.result(PATIENCE_S) for future in waiting] == [x * x for x in range(9)]
    assert list(mapped) == [x * x for x in range(9)]
    assert running.result(PATIENCE_S) == gate.path
    until(lambda: all(map(gone, pids)))


def test_dropped_with_nothing_to_do() -> None:
    executor = ProcessPoolExecutor(2, leveret.get_context("warm"))
    assert executor.submit(square, 3).result() == 9
    pids = list(executor._processes)
    del executor
    until(lambda: all(map(gone, pids)))


@pytest.mark.parametrize("way", ["terminate", "kill"])
def test_workers_are_ended(gate: Gate, way: str) -> None:
    executor = forking(2)
    running, waiting = (
        gate.occupy(executor),
        [executor.submit(wait_for_file, gate.path) for _ in "abcd"],
    )
    processes = executor._processes
    getattr(executor, f"{way}_workers")()
    assert isinstance(running.exception(PATIENCE_S), BrokenProcessPool)
    for future in waiting:
        with contextlib.suppress(standard.CancelledError):
            assert isinstance(future.exception(PATIENCE_S), BrokenProcessPool)
    assert any(future.cancelled() for future in waiting)
    with pytest.raises(RuntimeError):
        executor.submit(square, 3)
    expected = -signal.SIGTERM if way == "terminate" else -signal.SIGKILL
    for process in processes.values():
        process.join(PATIENCE_S)
        assert process.exitcode == expected
    executor.shutdown()
    executor.kill_workers()


def test_ending_workers_that_there_are_not() -> None:
    executor = forking(2)
    executor.terminate_workers()
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(square, 3)
    with pytest.raises(ValueError, match="Unsupported operation: 'hug'"):
        executor._force_shutdown(operation="hug")


def test_in_a_forked_child(executor: ProcessPoolExecutor, gate: Gate) -> None:
    future = gate.occupy(executor)
    with Child(use_there, executor, future) as child:
        assert child.result() == ["RuntimeError", "RuntimeError", False, None]
    gate.open()
    assert future.result(PATIENCE_S) == gate.path
    assert executor.submit(square, 3).result(PATIENCE_S) == 9


def use_there(executor: Any, future: Any) -> list[Any]:
    said: list[Any] = []
    for use in (lambda: executor.submit(square, 3), future.result):
        try:
            said.append(use())
        except RuntimeError as error:
            assert "forked" in str(error) or "belongs to process" in str(error)
            said.append("RuntimeError")
    said.append(future.done())
    said.append(executor.shutdown())
    with leveret.ProcessPoolExecutor(1, leveret.get_context("fork")) as own:
        assert own.submit(square, 3).result(PATIENCE_S) == 9
    return said


def run(source: str, *arguments: str, check: bool = True, **options: Any) -> Any:
    """Run a program."""
    command = [sys.executable, "-c", textwrap.dedent(source), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=50, check=check, **options
    )


PROGRAM = """
    import os, signal, sys, threading, time
    import leveret
    def say(text):
        time.sleep(0.1)
        os.write(1, f"{text}\\n".encode())
    if __name__ == "__main__":
        executor = leveret.ProcessPoolExecutor(2, leveret.get_context(sys.argv[1]))
"""


@pytest.mark.parametrize("method", ["fork", "warm"])
@pytest.mark.parametrize("end", ["", "executor.shutdown(wait=False)", "del executor"])
def test_the_interpreter_waits_at_its_exit(method: str, end: str) -> None:
    tasks = "time.sleep, 0.2", "os.write, 1, b'x\\n'", "os.write, 1, b'x\\n'"
    lines = [f"        executor.submit({task})\n" for task in tasks]
    done = run("".join([PROGRAM, *lines, f"        {end}"]), method)
    assert (done.stdout, done.stderr) == ("x\n" * 2, "")


def test_a_callback_that_exits() -> None:
    done = run(
        PROGRAM
        + """
        import concurrent.futures
        future = executor.submit(say, "x")
        future.add_done_callback(lambda _: sys.exit("from a callback"))
        futures = [future, *[executor.submit(say, "x") for _ in range(3)]]
        print(len(concurrent.futures.wait(futures).done), executor.submit(abs, -3).result())
    """,
        "fork",
    )
    assert done.stdout == "x\n" * 4 + "4 3\n"


def test_no_more_tasks_at_exit() -> None:
    done = run(
        PROGRAM
        + """
        import atexit
        @atexit.register
        def last():
            try:
                executor.submit(print)
            except RuntimeError as error:
                print(error)
        executor.submit(say, "x").result()
    """,
        "fork",
    )
    assert done.stdout.splitlines() == [
        "x",
        "cannot schedule new futures after interpreter shutdown",
    ]


@pytest.mark.parametrize("how", ["with", "bare", "result"])
def test_ctrl_c(how: str, tmp_path: pathlib.Path) -> None:
    """Of the program alone, as by kill -INT: its workers are interrupted by it."""
    begun = tmp_path / "begun"
    source = PROGRAM + {
        "with": "        with executor: {submit}; {wait}\n",
        "bare": "        {submit}; {wait}\n",
        "result": "        {submit}.result()\n",
    }[how].format(
        submit="[executor.submit(work, sys.argv[2]) for _ in range(9)][0]",
        wait="threading.Event().wait()",
    )
    source = source.replace("    if __name__", WORK + "    if __name__")
    program = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(source), "fork", str(begun)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    until(begun.exists)
    until(lambda: asleep(program.pid))  # CPython misses a signal that comes as it goes to sleep
    since = time.monotonic()
    os.kill(program.pid, signal.SIGINT)
    _, said = program.communicate(timeout=PATIENCE_S)
    assert time.monotonic() - since < 5
    assert program.returncode == -signal.SIGINT
    assert said.count("Traceback") == 1, said
    assert said.rstrip().endswith("KeyboardInterrupt")
    until(lambda: not processes_of_session(program.pid))


def asleep(pid: int) -> bool:
    """Whether a process has used no processor for a moment."""
    before = spent(pid, "schedstat")
    threading.Event().wait(0.05)
    return spent(pid, "schedstat") == before


WORK = """
    def work(path):
        open(path, "w").close()
        threading.Event().wait()
"""


def processes_of_session(session: int) -> list[int]:
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] not in "ZX":
                found.append(int(entry.name))
    return found


def test_workers_end_with_a_killed_program(tmp_path: pathlib.Path) -> None:
    begun = tmp_path / "begun"
    source = PROGRAM.replace("    if __name__", WORK + "    if __name__")
    source += "        executor.submit(work, sys.argv[2]).result()\n"
    program = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(source), "fork", str(begun)], start_new_session=True
    )
    until(begun.exists)
    program.kill()
    program.wait()
    until(lambda: not processes_of_session(program.pid))


def test_an_idle_executor_uses_no_processor() -> None:
    with forking(2) as executor:
        executor.submit(square, 3).result()
        pids = [os.getpid(), *executor._processes]
        before = [spent(pid) for pid in pids]
        threading.Event().wait(2)
        after = [spent(pid) for pid in pids]
    assert all(now - then < 0.05 for then, now in zip(before, after, strict=True)), (before, after)


def spent(pid: int, source: str = "stat") -> float:
    """Seconds of processor time; or nanoseconds, and of its main thread alone."""
    if source == "schedstat":
        return float(pathlib.Path(f"/proc/{pid}/schedstat").read_text().split()[0])
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# Where it stands in for the standard one.

INSTALLED = """
    import sys
    {before}
    import leveret
    leveret.install()
    {after}
    import concurrent.futures.process as module
    import leveret.executor
    ours = leveret.executor.ProcessPoolExecutor
    assert module.ProcessPoolExecutor is ours, "module"
    assert concurrent.futures.ProcessPoolExecutor is ours, "package"
    from concurrent.futures import ProcessPoolExecutor, as_completed
    assert ProcessPoolExecutor is ours, "from"
    assert module._StandardProcessPoolExecutor.__subclasses__() == [ours]
    if __name__ == "__main__":
        from multiprocessing import get_context
        for method in "fork", "warm":
            with ProcessPoolExecutor(2, mp_context=get_context(method)) as executor:
                print(list(executor.map(abs, [-1, -2])), executor.submit(abs, -3).result())
        print([type(p).__module__ for p in executor._processes or {{}}], executor._mp_context._name)
"""


@pytest.mark.parametrize(
    "before",
    [
        "",
        "import concurrent.futures",
        "import concurrent.futures.process",
        "from concurrent.futures import ProcessPoolExecutor",
        "import multiprocessing, leveret.executor",
    ],
)
@pytest.mark.parametrize("after", ["import concurrent.futures", "from concurrent.futures import *"])
def test_install(before: str, after: str) -> None:
    done = run(INSTALLED.format(before=before, after=f"import concurrent.futures; {after}"))
    assert done.stdout.splitlines() == ["[1, 2] 3"] * 2 + ["[] warm"]
    assert done.stderr == ""


def test_an_executor_made_before_install() -> None:
    done = run("""
        from concurrent.futures import ProcessPoolExecutor, process
        import multiprocessing
        if __name__ == "__main__":
            executor = ProcessPoolExecutor(1, multiprocessing.get_context("fork"))
            import leveret
            leveret.install()
            print(executor.submit(abs, -1).result(), type(executor) is process.ProcessPoolExecutor)
            executor.shutdown()
            with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as executor:
                print(list(executor.map(abs, [-2])))
    """)
    assert done.stdout.splitlines() == ["1 False", "[2]"]


def test_importing_leveret_does_not_import_it() -> None:
    done = run("""
        import sys, leveret
        leveret.install()
        import multiprocessing
        multiprocessing.Lock()
        print([name for name in sys.modules if "executor" in name or "concurrent" in name])
    """)
    assert done.stdout.splitlines() == ["[]"]


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

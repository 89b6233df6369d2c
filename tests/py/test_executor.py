"""ProcessPoolExecutor: what the standard library promises of it, and what it offers besides."""

import asyncio
import concurrent.futures as standard
import contextlib
import itertools
import logging
import multiprocessing
import os
import pathlib
import re
import time
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import leveret
import pytest
from executors import Gate, forking, run
from forked import PATIENCE_S, until
from leveret import claims, cpus
from leveret.executor import ProcessPoolExecutor
from leveret.futures import TaskFuture
from pooled import is_there
from tasks import (
    Unpicklable,
    add,
    blas_threads,
    catch_timeout,
    die,
    die_once,
    fail,
    get_initialized,
    give,
    initialize,
    insist,
    is_daemon,
    raise_it,
    refuse,
    square,
    wait_for_file,
    worker_pid,
)

METHODS = ("fork", "warm", "spawn", "forkserver")

pytestmark = [
    # The standard library's, of a fork beside threads: an executor forks when a worker has died.
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]


@pytest.fixture(params=METHODS)
def any_executor(request: pytest.FixtureRequest) -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(2, leveret.get_context(request.param)) as executor:
        yield executor


def keywords(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
    return args, kwargs


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
    assert not is_there(error.pid)


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
    for wrong in ({"timeout": 0}, {"timeout": "3s"}, {"retries": -1}, {"retries": 1.5}):
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


def test_no_limit_at_all(executor: Any) -> None:
    assert executor.options(timeout=float("inf")).submit(square, 3).result() == 9
    assert "timeout=2.0, retries=1" in repr(executor.options(timeout=2, retries=1))


def test_half_a_worker() -> None:
    with pytest.raises(TypeError, match=r"max_workers must be an integer, not 2\.5"):
        ProcessPoolExecutor(2.5)  # type: ignore[arg-type]


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


def test_a_worker_that_dies_while_its_start_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """It took a task that another thread had put: the crew's thread is not to bury it unknown."""
    start, started = leveret.context.WarmProcess.start, list[Any]()

    def start_and_dawdle(process: Any) -> None:
        start(process)
        if not started:
            started.append(process)
            process.join()
            with contextlib.suppress(AssertionError):  # as long as this lasts, nobody buries it
                until(lambda: staff.board.look(0) is None, 0.5)

    monkeypatch.setattr(leveret.context.WarmProcess, "start", start_and_dawdle)
    monkeypatch.setattr(claims, "HELD_S", 60.0)  # the crew's thread starts nobody
    with ProcessPoolExecutor(2, leveret.get_context("warm")) as executor:
        staff = executor._ready_staff()
        staff._on_demand = False
        first = executor.submit(die, "os._exit")
        first.add_done_callback(lambda _: None)
        staff._on_demand = True
        assert executor.submit(square, 3).result(PATIENCE_S) == 9
        assert isinstance(first.exception(PATIENCE_S), leveret.WorkerDied)


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
        said = r"the initializer log_to of worker \d+ raised ValueError: not today"
        assert re.search(said, str(error))
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
    with pytest.raises(TypeError, match=r"mp_context must be what .* returns, not 'fork'"):
        ProcessPoolExecutor(1, "fork")
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

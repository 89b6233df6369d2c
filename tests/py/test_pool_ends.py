"""How pools and executors end, and how they rest: Ctrl-C, deaths, exceptions, nobody's wish.

    program: owner and workers, in a process group of its own as a terminal gives it
        says the pids of its workers, once their tasks run     -->  test signals it, or its group
        ends: with which status, with what on stderr; and who is left

What is promised is a number of seconds on a machine that is not busy. A busy one may take BUSY
times as long; what hangs takes for ever.
"""

import contextlib
import gc
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import leveret
import pytest
from crews import pool_of
from forked import Thread, until
from pooled import (
    KINDS,
    METHODS,
    PATIENCE_S,
    Pooled,
    answer,
    double,
    eventually,
    is_there,
    state_of,
)
from tasks import begin_and_wait, square

# The standard library's, of a fork beside threads: a pool forks when a worker has died. From 3.15
# on it is an exception where warnings are, and there is no such worker.
pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")

INTERRUPTED_WITHIN_S = 2.0  # after Ctrl-C, all processes
ORPHANS_GONE_WITHIN_S = 1.0  # after the death of their owner
LEFT_WITHIN_S = 2.0  # a `with`, by an exception
BUSY = 6

REST_S = 2.0  # how long nobody wakes up in a pool that has nothing to do
SAMPLES = 8  # in that time
WAKES = 3  # in that time: who is idle for long looks around ever less often
CPU_S = 0.01

HERE = pathlib.Path(__file__).parent

# What a program begins with; its body is what it does.
PRELUDE = '''
import gc, os, sys, threading, time
import leveret
from pooled import PATIENCE_S, Pooled

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def stand_still(begun):
    begun.release()
    threading.Event().wait()

def nap(begun):
    begun.release()
    time.sleep(0.3)
    return "slept"

def born(kind, method):
    """Three workers, all of them at work on something before."""
    pooled = Pooled(kind, leveret.get_context(method), 3)
    gate = leveret.Barrier(3)
    for result in [pooled.submit(gate.wait) for _ in range(3)]:
        result.get(PATIENCE_S)
    return pooled

def busy(pooled, task=stand_still):
    """Two of them run a task; the third one has nothing to do."""
    begun = leveret.Semaphore(0)
    results = [pooled.submit(task, begun) for _ in range(2)]
    assert all(begun.acquire(timeout=PATIENCE_S) for _ in results)
    say(*pooled.pids())
    return results

if __name__ == "__main__":
    kind, method = sys.argv[1:]
'''


class Program:
    """A program that was started, and has said its workers' pids."""

    def __init__(self, folder: pathlib.Path, kind: str, method: str, body: str) -> None:
        path = folder / "program.py"
        lines = [f"    {line}" for line in body.strip().splitlines()]
        path.write_text("\n".join([PRELUDE, *lines, ""]))
        self._main = subprocess.Popen(
            [sys.executable, str(path), kind, method],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(HERE)},
        )
        self.pid = self._main.pid
        assert self._main.stdout is not None
        said = self._main.stdout.readline().split()
        self.workers = [int(word) for word in said]

    def end(self, within_s: float) -> tuple[int, str, str]:
        """Its status, and what it has said; all of its processes are gone."""
        began = time.monotonic()
        out, err = self._main.communicate(timeout=PATIENCE_S)
        eventually(lambda: not any(map(is_there, self.workers)), "the end of the workers")
        took_s = time.monotonic() - began
        assert took_s < within_s * BUSY, f"it took {took_s} s, {within_s} s are promised"
        return self._main.returncode, out, err

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._main.communicate()


@pytest.fixture
def program(tmp_path: pathlib.Path) -> Iterator[Callable[..., Program]]:
    """Starts programs, and ends what is left of them."""
    started: list[Program] = []

    def start(kind: str, method: str, body: str) -> Program:
        started.append(Program(tmp_path, kind, method, body))
        assert len(started[-1].workers) == 3, started[-1].end(PATIENCE_S)
        return started[-1]

    yield start
    for one in started:
        one.close()


def all_kinds(test: Any) -> Any:
    test = pytest.mark.parametrize("method", METHODS)(test)
    return pytest.mark.parametrize("kind", KINDS)(test)


# Ctrl-C.

INTERRUPTED = {
    "in with": """
with born(kind, method) as pooled:
    results = busy(pooled)
    results[0].get()
""",
    "without with": """
pooled = born(kind, method)
results = busy(pooled)
results[0].get()
""",
    "asleep": """
with born(kind, method) as pooled:
    results = busy(pooled)
    time.sleep(1000)
""",
    "at the end of with": """
with born(kind, method) as pooled:
    results = busy(pooled)
""",
    "in join": """
pooled = born(kind, method)
results = busy(pooled)
pooled.end()
""",
}
WHERE = [(where, kind) for where in INTERRUPTED for kind in KINDS]
WHERE.remove(("at the end of with", "pool"))  # whose end is terminate()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("where", "kind"), WHERE)
def test_ctrl_c(program: Any, where: str, kind: str, method: str) -> None:
    main = program(kind, method, INTERRUPTED[where])
    eventually(lambda: state_of(main.pid) == "S")
    os.killpg(main.pid, signal.SIGINT)
    status, _, err = main.end(INTERRUPTED_WITHIN_S)
    assert err.count("Traceback (most recent call last)") == 1, err
    assert err.rstrip().endswith("KeyboardInterrupt"), err
    assert status == -signal.SIGINT


@all_kinds
def test_ctrl_c_in_asyncio(program: Any, kind: str, method: str) -> None:
    """Its handler of SIGINT is the program's; a worker that was forked under it has no loop."""
    body = """
import asyncio
async def work():
    pooled = born(kind, method)
    with pooled.pool:
        results = busy(pooled)
        await asyncio.sleep(PATIENCE_S)
asyncio.run(work())
"""
    main = program(kind, method, body)
    eventually(lambda: state_of(main.pid) == "S")
    os.killpg(main.pid, signal.SIGINT)
    status, _, err = main.end(INTERRUPTED_WITHIN_S)
    assert err.rstrip().endswith("KeyboardInterrupt"), err
    assert status == -signal.SIGINT


UNDER_ASYNCIO = """
import asyncio, signal
pooled = born(kind, method)
def leave_loop():
    raise KeyboardInterrupt
"""

# A task of asyncio's hears of it as of a cancellation: asyncio.run() cancels the main task, or is
# left by a KeyboardInterrupt (a second one, or that of a worker's task) and cancels them all.
HEARD = {
    "by the main task": """
async def main():
    with pooled.pool:
        busy(pooled)
        signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(PATIENCE_S)
""",
    "by another task": """
async def other():
    with pooled.pool:
        busy(pooled)
        signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(PATIENCE_S)
async def main():
    await asyncio.gather(other())
""",
    "at the end of the loop": """
async def main():
    with pooled.pool:
        busy(pooled)
        asyncio.get_running_loop().call_soon(leave_loop)
        await asyncio.gather(asyncio.sleep(PATIENCE_S))
""",
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("where", HEARD)
def test_ctrl_c_that_asyncio_hands_on(program: Any, where: str, method: str) -> None:
    """Of the program alone: tasks run on, as those do that a worker claims just after Ctrl-C."""
    main = program("executor", method, UNDER_ASYNCIO + HEARD[where] + "asyncio.run(main())")
    status, _, err = main.end(INTERRUPTED_WITHIN_S)
    assert err.rstrip().endswith("KeyboardInterrupt"), err
    assert status == -signal.SIGINT


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("before", ["nothing", "a Ctrl-C that it survives"])
def test_asyncio_cancels_without_ctrl_c(program: Any, before: str, method: str) -> None:
    """Tasks that run are waited for, as in the standard library."""
    body = """
async def survive():
    signal.raise_signal(signal.SIGINT)
    try:
        await asyncio.sleep(PATIENCE_S)
    except asyncio.CancelledError:
        asyncio.current_task().uncancel()
async def use():
    with pooled.pool:
        busy(pooled, nap)
        futures.append(pooled.submit(time.sleep, 1.5))  # longer than it has after Ctrl-C
        while not futures[0].running():
            await asyncio.sleep(0.001)
        asyncio.current_task().cancel()
        await asyncio.sleep(PATIENCE_S)
async def main():
    if survives:
        await survive()
    await asyncio.wait([asyncio.ensure_future(use())])
    say(futures[0].result(0))
"""
    survives = f"futures, survives = [], {before != 'nothing'}"
    main = program("executor", method, UNDER_ASYNCIO + survives + body + "asyncio.run(main())")
    assert main.end(PATIENCE_S) == (0, "None\n", "")


@all_kinds
def test_ctrl_c_that_the_program_survives(program: Any, kind: str, method: str) -> None:
    """Who was idle goes on, without a word; who ran a task tells of KeyboardInterrupt."""
    body = """
pooled = born(kind, method)
results = busy(pooled)
try:
    time.sleep(1000)
except KeyboardInterrupt:
    pass
for result in results:
    try:
        result.get(PATIENCE_S)
    except BaseException as error:
        say(type(error).__name__)
say(pooled.submit(abs, -5).get(PATIENCE_S))
pooled.end()
"""
    main = program(kind, method, body)
    eventually(lambda: state_of(main.pid) == "S")
    os.killpg(main.pid, signal.SIGINT)
    status, out, err = main.end(INTERRUPTED_WITHIN_S)
    assert (status, out.split(), err) == (0, ["KeyboardInterrupt"] * 2 + ["5"], "")


# The owner's death.


@all_kinds
def test_workers_die_with_their_owner(program: Any, kind: str, method: str) -> None:
    main = program(kind, method, "pooled = born(kind, method)\nbusy(pooled)[0].get()")
    os.kill(main.pid, signal.SIGKILL)
    status, _, err = main.end(ORPHANS_GONE_WITHIN_S)
    assert (status, err) == (-signal.SIGKILL, "")


# The interpreter's exit.

EXITS = {
    "idle": ("pooled = born(kind, method)\nsay(*pooled.pids())", 0),
    "closed": ("pooled = born(kind, method)\nbusy(pooled, nap)\npooled.pool.close()", 0),
    "tasks under way": ("pooled = born(kind, method)\nresults = busy(pooled, nap)", 0),
    "tasks, nobody waits": ("pooled = born(kind, method)\nbusy(pooled, nap)", 0),
    "in a function": ("(lambda pooled: busy(pooled, nap))(born(kind, method))", 0),
    "in a cycle": ("x = [born(kind, method)]\nx.append(x)\nbusy(x[0], nap)\ndel x", 0),
    "exit": ("pooled = born(kind, method)\nbusy(pooled, nap)\nsys.exit(5)", 5),
    "os._exit": ("pooled = born(kind, method)\nbusy(pooled)\nos._exit(6)", 6),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", EXITS)
def test_exit(program: Any, how: str, kind: str, method: str) -> None:
    body, expected = EXITS[how]
    if how == "closed" and kind == "executor":
        body = body.replace("close()", "shutdown(wait=False)")
    status, _, err = program(kind, method, body).end(LEFT_WITHIN_S)
    assert (status, err) == (expected, "")


@pytest.mark.parametrize("method", METHODS)
def test_exit_ends_tasks_of_a_pool(program: Any, method: str) -> None:
    """They would never end."""
    main = program("pool", method, "pooled = born(kind, method)\nresults = busy(pooled)")
    status, _, err = main.end(LEFT_WITHIN_S)
    assert (status, err) == (0, "")


@pytest.mark.parametrize("method", METHODS)
def test_exit_waits_for_tasks_of_an_executor(program: Any, method: str) -> None:
    body = """
pooled = born(kind, method)
for future in busy(pooled, nap):
    future.add_done_callback(lambda future: say(future.result()))
"""
    status, out, err = program("executor", method, body).end(LEFT_WITHIN_S)
    assert (status, out.split(), err) == (0, ["slept"] * 2, "")


@all_kinds
def test_exception_of_the_program(program: Any, kind: str, method: str) -> None:
    body = "with born(kind, method) as pooled:\n    busy(pooled)\n    raise ValueError(7)"
    status, _, err = program(kind, method, body).end(LEFT_WITHIN_S)
    assert status == 1
    assert err.count("Traceback") == 1
    assert err.rstrip().endswith("ValueError: 7")


# In the middle of a program.


class Planned(Exception):  # noqa: N818
    pass


def stand_still() -> None:
    threading.Event().wait()


def wait_and_double(event: Any, number: int) -> int:
    assert event.wait(PATIENCE_S)
    return 2 * number


@pytest.mark.parametrize("method", METHODS)
def test_with_pool_left_by_an_exception(method: str) -> None:
    began = time.monotonic()
    with pytest.raises(Planned), leveret.get_context(method).Pool(2) as pool:
        results = [pool.apply_async(stand_still) for _ in range(5)]
        pids = list(pool._crew.pids())
        raise Planned
    assert not any(map(is_there, pids))
    assert time.monotonic() - began < LEFT_WITHIN_S * BUSY
    for result in results:
        with pytest.raises(RuntimeError, match="terminated"):
            result.get(PATIENCE_S)


@pytest.mark.parametrize("method", METHODS)
def test_with_executor_left_by_an_exception(method: str) -> None:
    """It waits for its tasks, as the standard one does."""
    event, context = leveret.Event(), leveret.get_context(method)
    with pytest.raises(Planned), leveret.ProcessPoolExecutor(2, context) as executor:
        futures = [executor.submit(wait_and_double, event, at) for at in range(5)]
        threading.Timer(0.05, event.set).start()
        raise Planned
    assert [future.result(0) for future in futures] == [0, 2, 4, 6, 8]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@all_kinds
def test_dropped_while_idle(kind: str, method: str) -> None:
    pooled = Pooled(kind, leveret.get_context(method))
    assert [answer(pooled.submit(double, at)) for at in range(4)] == ["0", "2", "4", "6"]
    pids = pooled.pids()
    del pooled
    gc.collect()
    eventually(lambda: not any(map(is_there, pids)), "the end of the workers")


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@all_kinds
def test_dropped_with_tasks_under_way(kind: str, method: str) -> None:
    """They are done: somebody has their results to be."""
    event = leveret.Event()
    pooled = Pooled(kind, leveret.get_context(method))
    results = [pooled.submit(wait_and_double, event, at) for at in range(6)]
    pids = pooled.pids()
    del pooled
    gc.collect()
    event.set()
    assert [answer(result) for result in results] == ["0", "2", "4", "6", "8", "10"]
    eventually(lambda: not any(map(is_there, pids)), "the end of the workers")


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@all_kinds
def test_dropped_with_all_its_results(kind: str, method: str) -> None:
    event = leveret.Event()
    pooled = Pooled(kind, leveret.get_context(method))
    for at in range(6):
        pooled.submit(wait_and_double, event, at)
    pids = pooled.pids()
    del pooled
    gc.collect()
    event.set()
    eventually(lambda: not any(map(is_there, pids)), "the end of the workers")


# Rest.


def counts(task: str) -> tuple[int, float]:
    """How often a thread, /proc/TASK, went to sleep, and the seconds that it had a processor."""
    status = pathlib.Path(f"/proc/{task}/status").read_text()
    found = re.search(r"^voluntary_ctxt_switches:\s+(\d+)", status, re.M)
    assert found is not None
    ran_ns = pathlib.Path(f"/proc/{task}/schedstat").read_text().split()[0]
    return int(found[1]), int(ran_ns) / 1e9


def threads_of(pooled: Pooled) -> list[str]:
    """Of the workers, and the crew's in this process."""
    tasks = []
    for pid in pooled.pids():
        with contextlib.suppress(FileNotFoundError):  # a worker that ends
            tasks += [f"{pid}/task/{tid}" for tid in os.listdir(f"/proc/{pid}/task")]
    if pooled.crew._thread is not None:
        tasks.append(f"self/task/{pooled.crew._thread.native_id}")
    return tasks


def by_waiting(pooled: Pooled) -> None:
    if pooled.kind == "pool":
        assert pooled.pool.map(double, range(100)) == list(range(0, 200, 2))
    else:
        assert list(pooled.pool.map(double, range(100))) == list(range(0, 200, 2))


def by_results(pooled: Pooled) -> None:
    results = [pooled.submit(double, at) for at in range(100)]
    assert [result.get(PATIENCE_S) for result in results] == list(range(0, 200, 2))


def by_callbacks(pooled: Pooled) -> None:
    told: list[int] = []
    for at in range(100):
        if pooled.kind == "pool":
            pooled.pool.apply_async(double, (at,), callback=told.append)
        else:
            future = pooled.submit(double, at)
            future.add_done_callback(lambda future: told.append(future.result()))
    eventually(lambda: len(told) == 100)


def with_a_death(pooled: Pooled) -> None:
    assert answer(pooled.submit(os.abort)) == "WorkerDied SIGABRT"
    by_results(pooled)
    eventually(lambda: len(pooled.rows()) == 2, "the birth of another worker")


def with_a_limit(pooled: Pooled) -> None:
    assert answer(pooled.submit(stand_still, timeout=0.05)) == "TaskTimeout"
    by_results(pooled)
    # Where the exception was swallowed (by an import, in __del__) the worker is killed.
    eventually(lambda: not pooled.crew.stops._stopping, "the end of the task")


PASTS = [by_waiting, by_results, by_callbacks, with_a_death, with_a_limit]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("past", PASTS)
def test_idle_uses_no_processor(past: Callable[[Pooled], None], kind: str, method: str) -> None:
    with Pooled(kind, leveret.get_context(method)) as pooled:
        past(pooled)
        assert_at_rest(pooled)


@all_kinds
def test_waiting_for_a_long_task_uses_no_processor(kind: str, method: str) -> None:
    """Neither do the workers, nor who waits."""
    event = leveret.Event()
    with Pooled(kind, leveret.get_context(method)) as pooled:
        result = pooled.submit(wait_and_double, event, 4)
        waiter = threading.Thread(target=result.get)
        waiter.start()
        eventually(lambda: len(pooled.rows()) == len(pooled.pids()))
        assert_at_rest(pooled, f"self/task/{waiter.native_id}")
        event.set()
        waiter.join()
        assert answer(result) == "8"


def sample(pooled: Pooled, others: tuple[str, ...]) -> dict[str, tuple[int, float]]:
    found = {}
    for task in [*threads_of(pooled), *others]:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a worker that ends
            found[task] = counts(task)
    return found


def assert_at_rest(pooled: Pooled, *others: str) -> None:
    """There comes a time in which nobody of them wakes up, nor begins, for REST_S.

    It is not there at once: a birth or a death anywhere has every wait look more often for a while.
    """
    samples = [sample(pooled, others)]
    used: dict[str, tuple[int, float]] = {}
    for _ in range(int(PATIENCE_S / REST_S * SAMPLES)):
        time.sleep(REST_S / SAMPLES)
        samples.append(sample(pooled, others))
        then, now = samples[-1 - SAMPLES] if len(samples) > SAMPLES else {}, samples[-1]
        used = {
            task: (now[task][0] - then[task][0], now[task][1] - then[task][1])
            for task in now.keys() & then.keys()
        }
        quiet = all(wakes <= WAKES and cpu_s < CPU_S for wakes, cpu_s in used.values())
        if quiet and used and now.keys() == then.keys():
            return
    pytest.fail(f"no rest: wake-ups and seconds of each in the last {REST_S} s: {used}")


def insist_on_life(begun: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    begin_and_wait(begun, begun + "-never")


def test_who_ignores_sigterm_is_killed(tmp_path: pathlib.Path) -> None:
    begun = tmp_path / "begun"
    pool = leveret.get_context("fork").Pool(1)
    [worker_process] = pool._pool
    pool.apply_async(insist_on_life, (str(begun),))
    until(begun.exists)
    try:
        Thread(pool.terminate).result()
    finally:
        worker_process.kill()
    pool.join()
    assert worker_process.exitcode == -signal.SIGKILL


def test_callbacks_of_what_cannot_be_sent_are_the_pools_threads() -> None:
    told: list[Any] = []
    with pool_of(leveret.get_context("fork"), 1) as pool:
        result = pool.apply_async(
            square,
            (threading.Lock(),),
            error_callback=lambda error: told.append((threading.current_thread(), type(error))),
        )
        with pytest.raises(TypeError):
            result.get(PATIENCE_S)
        assert [kind for _, kind in told] == [TypeError]
        assert told[0][0] is not threading.current_thread()

"""How an executor ends: shutdown(), by nobody's wish, at the interpreter's exit, by Ctrl-C."""

import asyncio
import concurrent.futures as standard
import contextlib
import gc
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import leveret
import pytest
import tasks
from executors import Gate, forking, run
from forked import PATIENCE_S, Child, state_of, until
from leveret.executor import ProcessPoolExecutor
from pooled import is_there
from tasks import (
    die,
    square,
    use_own_executor,
    wait_for_file,
    wait_to_be_interrupted,
)

pytestmark = [
    # The standard library's, of a fork beside threads: an executor forks when a worker has died.
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]


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
    until(lambda: not any(map(is_there, pids)))


def test_dropped_with_nothing_to_do() -> None:
    executor = ProcessPoolExecutor(2, leveret.get_context("warm"))
    assert executor.submit(square, 3).result() == 9
    pids = list(executor._processes)
    del executor
    until(lambda: not any(map(is_there, pids)))


@pytest.mark.parametrize("way", ["terminate", "kill"])
def test_workers_are_ended(gate: Gate, way: str) -> None:
    executor = forking(2)
    running, waiting = (
        gate.occupy(executor),
        [executor.submit(wait_for_file, gate.path) for _ in "abcd"],
    )
    processes = executor._processes
    getattr(executor, f"{way}_workers")()
    error = running.exception(PATIENCE_S)
    assert isinstance(error, BrokenProcessPool)
    assert type(error.__cause__).__name__ == "_RemoteTraceback"
    for pid in processes:
        name = f"SIG{way[:4].upper()}"
        assert f"Process {pid} was sent {name} by {way}_workers()" in str(error.__cause__)
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


def test_a_task_cannot_use_its_own_executor(executor: ProcessPoolExecutor) -> None:
    """Nor one of the workers that are forked before the executor knows of any."""
    tasks.own[:] = [executor]
    told = pytest.raises(RuntimeError, match="a task cannot use the pool that runs it")
    for _ in range(5):
        with told:
            executor.submit(use_own_executor, 3).result(PATIENCE_S)
    tasks.own.clear()


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


def test_forked_workers_of_a_loop_hear_ctrl_c(tmp_path: pathlib.Path) -> None:
    """asyncio.run() has a handler of its own by then, which is the owner's."""
    begun = tmp_path / "begun"

    async def main(executor: Any) -> None:
        future = executor.submit(wait_to_be_interrupted, str(begun))
        until(begun.exists)
        [pid] = executor._processes
        until(
            lambda: state_of(pid) == "S"
        )  # CPython misses a signal that comes as it goes to sleep
        os.kill(pid, signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            future.result(PATIENCE_S)

    with forking(1) as executor:
        try:
            asyncio.run(main(executor))
        finally:
            executor.kill_workers()


def note_interrupt(begun: str, said: str) -> None:
    try:
        wait_to_be_interrupted(begun)
    except KeyboardInterrupt:
        pathlib.Path(said).touch()
        raise


def test_what_runs_is_interrupted_before_it_is_ended(tmp_path: pathlib.Path) -> None:
    """By an owner that had the signal alone."""
    begun, said = tmp_path / "begun", tmp_path / "said"
    with pytest.raises(KeyboardInterrupt), forking(1) as executor:
        executor.submit(note_interrupt, str(begun), str(said))
        until(begun.exists)
        [pid] = executor._processes
        until(lambda: state_of(pid) == "S")
        raise KeyboardInterrupt
    assert said.exists()

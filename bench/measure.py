"""Measures one work on one side and prints its samples, in nanoseconds, as JSON.

    python -m bench.measure WORK {std,ours} METHOD SECONDS

A process of its own each time, so that neither side ever sees the other's module.
"""

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from bench import targets

MODULES = {"std": "multiprocessing", "ours": "leveret"}
WARM_UP = 3
LOOPS = 20_000
AT_ONCE = 32
PROCESSES, ROUNDS = 4, 250_000
GIB = 1 << 30


def samples_for(seconds: float, sample: Callable[[], float], at_least: int = 3) -> list[float]:
    """Sample until the time is over, after a warm-up that is not counted."""
    for _ in range(WARM_UP):
        sample()
    found: list[float] = []
    end = time.monotonic() + seconds
    while len(found) < at_least or time.monotonic() < end:
        found.append(sample())
    return found


def one_life(context: Any) -> float:
    begin = time.perf_counter_ns()
    process = context.Process(target=targets.nothing)
    process.start()
    process.join()
    return time.perf_counter_ns() - begin


def start_join(context: Any, seconds: float) -> list[float]:
    return samples_for(seconds, lambda: one_life(context))


def start_join_apart(context: Any, seconds: float) -> list[float]:
    """With a pause before each, as in a program that does other things, too."""

    def sample() -> float:
        time.sleep(0.005)
        return one_life(context)

    return samples_for(seconds, sample)


def start_running(context: Any, seconds: float) -> list[float]:
    """From the call of start() until the target runs."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "began")

        def sample() -> float:
            process = context.Process(target=targets.note_time, args=(path,))
            begin = time.monotonic_ns()
            process.start()
            process.join()
            with open(path) as file:
                return int(file.read()) - begin

        return samples_for(seconds, sample)


def many_at_once(context: Any, seconds: float) -> list[float]:
    """Per process."""

    def sample() -> float:
        begin = time.perf_counter_ns()
        processes = [context.Process(target=targets.nothing) for _ in range(AT_ONCE)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        return (time.perf_counter_ns() - begin) / AT_ONCE

    return samples_for(seconds, sample)


def start_join_1_gib(context: Any, seconds: float) -> list[float]:
    ballast = bytearray(b"x") * GIB
    found = start_join(context, seconds)
    assert len(ballast) == GIB
    return found


@contextlib.contextmanager
def idle_threads(count: int) -> Iterator[None]:
    over = threading.Event()
    idlers = [threading.Thread(target=over.wait) for _ in range(count)]
    for idler in idlers:
        idler.start()
    try:
        yield
    finally:
        over.set()
        for idler in idlers:
            idler.join()


def start_join_100_threads(context: Any, seconds: float) -> list[float]:
    with idle_threads(100):
        return start_join(context, seconds)


def with_lock_ns(lock: Any, seconds: float) -> list[float]:
    def sample() -> float:
        repeat = range(LOOPS)
        begin = time.perf_counter_ns()
        for _ in repeat:
            with lock:
                pass
        return (time.perf_counter_ns() - begin) / LOOPS

    return samples_for(seconds, sample)


def acquire_release_ns(lock: Any, seconds: float) -> list[float]:
    def sample() -> float:
        repeat, acquire, release = range(LOOPS), lock.acquire, lock.release
        begin = time.perf_counter_ns()
        for _ in repeat:
            acquire()
            release()
        return (time.perf_counter_ns() - begin) / LOOPS

    return samples_for(seconds, sample)


def with_lock(context: Any, seconds: float) -> list[float]:
    return with_lock_ns(context.Lock(), seconds)


def acquire_release(context: Any, seconds: float) -> list[float]:
    return acquire_release_ns(context.Lock(), seconds)


def with_threading_lock(_context: Any, seconds: float) -> list[float]:
    return with_lock_ns(threading.Lock(), seconds)


def acquire_release_threading(_context: Any, seconds: float) -> list[float]:
    return acquire_release_ns(threading.Lock(), seconds)


def holder_killed(context: Any, seconds: float) -> list[float]:
    """From the holder's SIGKILL until the waiter has the lock; an empty list: it never came."""
    found: list[float] = []
    end = time.monotonic() + seconds
    while len(found) < 5 or time.monotonic() < end:
        came_ns = kill_a_holder(context, patience_s=1.0)
        if not came_ns:
            return []
        found.append(came_ns)
    return found


def kill_a_holder(context: Any, patience_s: float) -> float:
    lock = context.Lock()
    mine, theirs = context.Pipe()
    holder = context.Process(target=targets.hold_for_ever, args=(lock, theirs))
    waiter = context.Process(target=targets.wait_for_lock, args=(lock, theirs, patience_s))
    holder.start()
    assert mine.recv_bytes() == b"held"
    waiter.start()
    assert mine.recv_bytes() == b"waiting"
    time.sleep(0.02)  # time to fall asleep in acquire()
    begin = time.monotonic_ns()
    os.kill(holder.pid, signal.SIGKILL)
    came = int(mine.recv_bytes())
    holder.join()
    waiter.join()
    return came - begin if came else 0


def contended(context: Any, target: Callable[..., None], *args: Any) -> float:
    """Seconds, in ns, from the word go until the last of PROCESSES has done its rounds."""
    lock = context.Lock()
    mine, theirs = context.Pipe()
    go = context.Event()
    processes = [
        context.Process(target=target, args=(lock, ROUNDS, theirs, go, *args))
        for _ in range(PROCESSES)
    ]
    for process in processes:
        process.start()
    for _ in processes:
        assert mine.recv_bytes() == b"ready"
    begin = time.perf_counter_ns()
    go.set()
    for _ in processes:
        assert mine.recv_bytes() == b"done"
    took = time.perf_counter_ns() - begin
    for process in processes:
        process.join()
    return took


def four_take_turns(context: Any, _seconds: float) -> list[float]:
    return [contended(context, targets.take_turns)]


def four_count(context: Any, _seconds: float) -> list[float]:
    counter = context.RawValue("q", 0)
    took = contended(context, targets.count, counter)
    assert counter.value == PROCESSES * ROUNDS, "the lock does not exclude"
    return [took]


def many_locks(context: Any, _seconds: float) -> list[float]:
    count = 100_000 if context.__class__.__module__.startswith("leveret") else 1000
    begin = time.perf_counter_ns()
    locks = [context.Lock() for _ in range(count)]
    took = time.perf_counter_ns() - begin
    assert len(locks) == count
    return [took / count]


WORKS: dict[str, Callable[[Any, float], list[float]]] = {
    work.__name__: work
    for work in (
        start_join,
        start_running,
        many_at_once,
        start_join_1_gib,
        start_join_apart,
        start_join_100_threads,
        with_lock,
        acquire_release,
        with_threading_lock,
        acquire_release_threading,
        holder_killed,
        four_take_turns,
        four_count,
        many_locks,
    )
}


def wall_ns(command: list[str]) -> float:
    begin = time.perf_counter_ns()
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return time.perf_counter_ns() - begin


def import_time(side: str, seconds: float) -> list[float]:
    """Inside a new interpreter, around the import statement alone."""
    code = f"from time import perf_counter_ns as t; b = t(); import {MODULES[side]}; print(t() - b)"

    def sample() -> float:
        return int(
            subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout
        )

    return samples_for(seconds, sample)


def empty_program(side: str, seconds: float) -> list[float]:
    python, runner = sys.executable, os.path.join(os.path.dirname(sys.executable), "leveret")
    with tempfile.TemporaryDirectory() as folder:
        program = os.path.join(folder, "empty.py")
        with open(program, "w"):
            pass
        command = [python if side == "std" else runner, program]
        return samples_for(seconds, lambda: wall_ns(command))


COMMANDS: dict[str, Callable[[str, float], list[float]]] = {
    work.__name__: work for work in (import_time, empty_program)
}


def main() -> None:
    work, side, method, seconds = sys.argv[1:]
    if work in COMMANDS:
        found = COMMANDS[work](side, float(seconds))
    else:
        warnings.simplefilter("ignore")  # AbandonedLockWarning, fork from a threaded process
        module = importlib.import_module(MODULES[side])
        found = WORKS[work](module.get_context(method), float(seconds))
    print(json.dumps(found))


if __name__ == "__main__":
    main()

"""What it costs to start a process."""

import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from bench import targets
from bench.measure.sampling import samples_for

AT_ONCE = 32
GIB = 1 << 30


def one_life(context: Any, *given: Any) -> float:
    begin = time.perf_counter_ns()
    process = context.Process(target=targets.nothing, args=given)
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


def start_join_queue(context: Any, seconds: float) -> list[float]:
    """Given a queue, by a program that came to have one after its first start."""
    one_life(context)
    queue = context.Queue()
    return samples_for(seconds, lambda: one_life(context, queue))


def bare_lives(count: int) -> float:
    """What no start by a fork can do without: children that end at once, and who waits for them."""
    begin = time.perf_counter_ns()
    pids = [os.fork() or os._exit(0) for _ in range(count)]
    for pid in pids:
        os.waitpid(pid, 0)
    return time.perf_counter_ns() - begin


def bare_fork(_context: Any, seconds: float) -> list[float]:
    return samples_for(seconds, lambda: bare_lives(1))


def two_bare_forks(_context: Any, seconds: float) -> list[float]:
    return samples_for(seconds, lambda: bare_lives(2))


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


WORKS: dict[str, Callable[[Any, float], list[float]]] = {
    work.__name__: work
    for work in (
        start_join,
        start_join_apart,
        start_join_queue,
        bare_fork,
        two_bare_forks,
        start_running,
        many_at_once,
        start_join_1_gib,
        start_join_100_threads,
    )
}

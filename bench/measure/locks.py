"""What it costs to hold a lock, to wait for one, and to lose its holder."""

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

from bench import targets
from bench.measure.sampling import samples_for

LOOPS = 20_000
PROCESSES, ROUNDS = 4, 250_000


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

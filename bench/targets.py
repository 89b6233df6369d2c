"""What the processes of the benchmarks run. Importable by name, as every start method needs."""

import os
import time
from typing import Any


class Thing:
    """An object of the program's own."""

    def __init__(self, number: int, text: str) -> None:
        self.number, self.text = number, text


def nothing(*given: Any) -> None:
    """The cheapest child, whatever it is GIVEN."""


def note_time(path: str) -> None:
    """Write down when the target began to run."""
    now = time.monotonic_ns()
    with open(path, "w") as file:
        file.write(str(now))


def negative(number: int) -> int:
    """The cheapest task that is Python."""
    return -number


def same(item: Any) -> Any:
    return item


def work_for(ns: int) -> None:
    """By the clock: so the work is the same wherever it is done, and what is beside it shows."""
    now = time.monotonic_ns
    end = now() + ns
    while now() < end:
        pass


def say_pid_and_stay(path: str) -> None:
    """Through a fifo, so that whoever reads it knows that the task has begun."""
    with open(path, "w") as fifo:
        fifo.write(str(os.getpid()))
    while True:
        time.sleep(60)


def hold_for_ever(lock: Any, ready: Any) -> None:
    lock.acquire()
    ready.send_bytes(b"held")
    while True:
        time.sleep(60)


def wait_for_lock(lock: Any, ready: Any, seconds: float) -> None:
    """Say when the lock came, or 0 if it did not."""
    ready.send_bytes(b"waiting")
    got = lock.acquire(timeout=seconds)
    ready.send_bytes(str(time.monotonic_ns() if got else 0).encode())
    os._exit(0)


def take_turns(lock: Any, rounds: int, ready: Any, go: Any) -> None:
    ready.send_bytes(b"ready")
    go.wait()
    for _ in range(rounds):
        with lock:
            pass
    ready.send_bytes(b"done")


def count(lock: Any, rounds: int, ready: Any, go: Any, counter: Any) -> None:
    ready.send_bytes(b"ready")
    go.wait()
    for _ in range(rounds):
        with lock:
            counter.value += 1
    ready.send_bytes(b"done")


def count_under_its_lock(_lock: Any, rounds: int, ready: Any, go: Any, counter: Any) -> None:
    ready.send_bytes(b"ready")
    go.wait()
    for _ in range(rounds):
        with counter.get_lock():
            counter.value += 1
    ready.send_bytes(b"done")

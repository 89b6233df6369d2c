"""What the processes of the message benchmarks run. Importable by name, for every start method."""

import contextlib
import importlib
import queue as std_queue
import threading
import time
from array import array
from collections.abc import Callable
from typing import Any

from bench.measure.gate import Gate

HUNDRED = list(range(1000, 1100))
IDLE_S = 10.0
DICT = {"id": 12345, "name": "leveret", "score": 0.5}


def numbers(gate: Gate, worker: int, channel: Any, count: int) -> None:
    put = channel.sender()
    gate.pass_through(worker)
    for i in range(count):
        put(i)
    if channel.stays:
        gate.wait_for_one()


def same(gate: Gate, worker: int, channel: Any, count: int, message: Any) -> None:
    """COUNT times the same MESSAGE."""
    put = channel.sender()
    gate.pass_through(worker)
    for _ in range(count):
        put(message)
    if channel.stays:
        gate.wait_for_one()


def zeros(gate: Gate, worker: int, channel: Any, count: int, size: int) -> None:
    """Bytes, made here: they are not what the start of a process should have to carry."""
    same(gate, worker, channel, count, bytes(size))


def arrays(gate: Gate, worker: int, channel: Any, count: int, size: int) -> None:
    np: Any = importlib.import_module("numpy")
    same(gate, worker, channel, count, np.ones(size // 8))


def hundreds(gate: Gate, worker: int, channel: Any, count: int) -> None:
    gate.pass_through(worker)
    for _ in range(count // len(HUNDRED)):
        channel.queue.put_many(HUNDRED)


def take(gate: Gate, worker: int, channel: Any, count: int) -> None:
    get = channel.receiver()
    gate.pass_through(worker)
    for _ in range(count):
        get()
    gate.finish(worker)


def take_and_sum(gate: Gate, worker: int, channel: Any, count: int) -> None:
    """Read all of each array."""
    importlib.import_module("numpy")  # before the clock starts, not with the first array
    get = channel.receiver()
    gate.pass_through(worker)
    total = sum(float(get().sum()) for _ in range(count))
    gate.finish(worker)
    assert total > 0


def take_hundreds(gate: Gate, worker: int, channel: Any, count: int) -> None:
    gate.pass_through(worker)
    got = 0
    while got < count:
        got += len(channel.queue.get_many(len(HUNDRED)))
    gate.finish(worker)


def echo(gate: Gate, worker: int, there: Any, back: Any, count: int) -> None:
    get, put = there.receiver(), back.sender()
    gate.pass_through(worker)
    for _ in range(count):
        put(get())
    if back.stays:
        gate.wait_for_one()


def call(gate: Gate, worker: int, there: Any, back: Any, count: int, path: str) -> None:
    """Send and wait for the echo; the time of each round trip goes into the file."""
    get, put, now = back.receiver(), there.sender(), time.monotonic_ns
    trips = array("q", bytes(8 * count))
    gate.pass_through(worker)
    for i in range(count):
        begin = now()
        put(i)
        get()
        trips[i] = now() - begin
    gate.finish(worker)
    with open(path, "wb") as file:
        trips.tofile(file)


# --- waiting --------------------------------------------------------------------------------------


def waited(gate: Gate, worker: int, wait: Callable[[], object]) -> None:
    """The processor time of one wait, in the place of the moment when it ended."""
    gate.pass_through(worker)
    begin = time.process_time_ns()
    wait()
    gate.note(worker, time.process_time_ns() - begin)


def idle_get(gate: Gate, worker: int, queue: Any) -> None:
    def get() -> None:
        with contextlib.suppress(std_queue.Empty):
            queue.get(timeout=IDLE_S)

    waited(gate, worker, get)


def idle_poll(gate: Gate, worker: int, connection: Any, _other: Any) -> None:
    waited(gate, worker, lambda: connection.poll(IDLE_S))


def idle_queue_join(gate: Gate, worker: int, queue: Any) -> None:
    queue.put(1)
    queue.get()
    threading.Timer(IDLE_S, queue.task_done).start()
    waited(gate, worker, queue.join)

"""What it costs to send messages through a pipe and to get an answer through the same."""

import time
from collections.abc import Callable
from typing import Any

from bench.measure.channels import Side
from bench.measure.sampling import calibrated

SAMPLES = 3
MIB = 1 << 20
MOST_TRIPS = 200_000


def answer(conn: Any) -> None:
    """Send back what comes, until None does."""
    while (message := conn.recv()) is not None:
        conn.send(message)


def trips(side: Side, message: object, count: int) -> float:
    """Nanoseconds for so many round trips, after some that do not count."""
    mine, theirs = side.context.Pipe()
    process = side.context.Process(target=answer, args=(theirs,))
    process.start()
    for _ in range(max(1, count // 10)):
        mine.send(message)
        mine.recv()
    begin = time.perf_counter_ns()
    for _ in range(count):
        mine.send(message)
        mine.recv()
    took = time.perf_counter_ns() - begin
    mine.send(None)
    process.join()
    return took


def per_trip(side: Side, message: object, seconds: float, first: int) -> list[float]:
    count = calibrated(lambda n: trips(side, message, n), first, seconds, MOST_TRIPS)
    return [trips(side, message, count) / count for _ in range(SAMPLES)]


def pipe_round_trip(side: Side, seconds: float) -> list[float]:
    return per_trip(side, 12345, seconds, 200)


def pipe_1_mib(side: Side, seconds: float) -> list[float]:
    return per_trip(side, bytes(MIB), seconds, 10)


WORKS: dict[str, Callable[[Side, float], list[float]]] = {
    work.__name__: work for work in (pipe_round_trip, pipe_1_mib)
}

"""What it costs to send messages through queues.

Every sample has processes of its own. Its clock starts when all of them are ready, and stops when
the last message was received; how many there are depends on how fast they go.
"""

import contextlib
import importlib
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Callable, Iterator
from typing import Any

from bench.measure import traffic
from bench.measure.channels import Side
from bench.measure.gate import Gate
from bench.measure.sampling import calibrated, samples_for

SAMPLES = 3
MIB = 1 << 20
MOST_MESSAGES = 4_000_000

Job = tuple[Any, ...]  # a function of traffic, and its arguments behind `gate` and `worker`


def run(side: Side, jobs: list[Job]) -> float:
    """Nanoseconds from the start until the last of those who receive had all."""
    with tempfile.TemporaryDirectory() as folder:
        gate = Gate(os.path.join(folder, "gate"), len(jobs))
        processes = [
            side.context.Process(target=job[0], args=(gate, worker, *job[1:]))
            for worker, job in enumerate(jobs)
        ]
        for process in processes:
            process.start()
        try:
            begin = gate.open_for(processes)
            await_all(processes)
        except RuntimeError:
            for process in processes:
                process.kill()
            raise
        return gate.last() - begin


def await_all(processes: list[Any]) -> None:
    """Who waits for a message of one that failed would wait for ever."""
    while any(process.exitcode is None for process in processes):
        for process in processes:
            process.join(0.05)
            if process.exitcode:
                raise RuntimeError("a worker failed")
    if any(process.exitcode for process in processes):
        raise RuntimeError("a worker failed")


def per_message(work: Callable[[int], float], first: int, seconds: float) -> list[float]:
    """WORK says how long so many messages take."""
    count = calibrated(work, first, seconds, MOST_MESSAGES)
    return [work(count) / count for _ in range(SAMPLES)]


# --- through one queue ----------------------------------------------------------------------------


def crowd(side: Side, seconds: float, producers: int, consumers: int, *what: Any) -> list[float]:
    """Per message of all; WHAT they send: a function of traffic, and what it wants besides."""
    send, *rest = what or (traffic.numbers,)

    def work(count: int) -> float:
        channel = side.channel()
        puts, gets = count // producers, count // consumers
        jobs: list[Job] = [(send, channel, puts, *rest)] * producers
        jobs += [(traffic.take, channel, gets)] * consumers
        return run(side, jobs)

    first = 100 * math.lcm(producers, consumers)  # which both divide; and its multiples are tried
    return per_message(lambda n: work(n // first * first), 10 * first, seconds)


def queue_int(side: Side, seconds: float) -> list[float]:
    return crowd(side, seconds, 1, 1)


def queue_8_bytes(side: Side, seconds: float) -> list[float]:
    return bulk(side, seconds, 8, most=0, first=1000)


def queue_4_to_1(side: Side, seconds: float) -> list[float]:
    return crowd(side, seconds, 4, 1)


def queue_2_to_2_dict(side: Side, seconds: float) -> list[float]:
    return crowd(side, seconds, 2, 2, traffic.same, traffic.DICT)


def queue_2_processes(side: Side, seconds: float) -> list[float]:
    return crowd(side, seconds, 1, 1)


def queue_8_processes(side: Side, seconds: float) -> list[float]:
    return crowd(side, seconds, 4, 4)


def queue_32_processes(side: Side, seconds: float) -> list[float]:
    return crowd(side, seconds, 16, 16)


def queue_hundreds(side: Side, seconds: float) -> list[float]:
    def work(count: int) -> float:
        channel = side.channel()
        return run(
            side,
            [(traffic.hundreds, channel, count), (traffic.take_hundreds, channel, count)],
        )

    return per_message(lambda n: work(n // 100 * 100), 10_000, seconds)


# --- large ones -----------------------------------------------------------------------------------


def bulk(side: Side, seconds: float, size: int, most: int, first: int = 20) -> list[float]:
    def work(count: int) -> float:
        channel = side.channel(most, "bytes", size)
        return run(
            side,
            [(traffic.zeros, channel, count, size), (traffic.take, channel, count)],
        )

    return per_message(work, first, seconds)


def queue_1_mib(side: Side, seconds: float) -> list[float]:
    return bulk(side, seconds, MIB, most=4)


def queue_8_mib_array(side: Side, seconds: float) -> list[float]:
    def work(count: int) -> float:
        channel = side.channel(2, "array", 8 * MIB)
        return run(
            side,
            [(traffic.arrays, channel, count, 8 * MIB), (traffic.take_and_sum, channel, count)],
        )

    return per_message(work, 5, seconds)


def copy_8_mib(_side: Side, seconds: float) -> list[float]:
    """One copy into memory that was used before: what the work above is counted in."""
    np: Any = importlib.import_module("numpy")
    source, target = np.ones(MIB), np.zeros(MIB)

    def sample() -> float:
        begin = time.monotonic_ns()
        np.copyto(target, source)
        return time.monotonic_ns() - begin

    return samples_for(seconds, sample)


# --- there and back -------------------------------------------------------------------------------


def trips(side: Side, count: int) -> list[float]:
    """Each round trip between two processes."""
    there, back = side.channel(), side.channel()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "trips")
        run(
            side,
            [(traffic.call, there, back, count, path), (traffic.echo, there, back, count)],
        )
        found = array("q")
        with open(path, "rb") as file:
            found.fromfile(file, count)
    return [float(ns) for ns in found]


def many_trips(side: Side, seconds: float) -> list[list[float]]:
    count = calibrated(lambda n: sum(trips(side, n)), 100, seconds, 200_000)
    return [trips(side, count) for _ in range(SAMPLES)]


def queue_round_trip(side: Side, seconds: float) -> list[float]:
    return [statistics.median(found) for found in many_trips(side, seconds)]


def p99(found: list[float]) -> float:
    return sorted(found)[len(found) * 99 // 100]


def queue_round_trip_p99(side: Side, seconds: float) -> list[float]:
    return [p99(found) for found in many_trips(side, seconds)]


@contextlib.contextmanager
def all_cores_busy() -> Iterator[None]:
    """With somebody who never stops on each."""
    busy = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"])
        for _ in os.sched_getaffinity(0)
    ]
    try:
        time.sleep(0.1)
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def queue_round_trip_busy(side: Side, seconds: float) -> list[float]:
    with all_cores_busy():
        return queue_round_trip(side, seconds)


def queue_round_trip_busy_p99(side: Side, seconds: float) -> list[float]:
    with all_cores_busy():
        return queue_round_trip_p99(side, seconds)


# --- waiting --------------------------------------------------------------------------------------


def idle(side: Side, wait: Callable[..., Any], *args: Any) -> list[float]:
    """Processor time of a process that waits for IDLE_S seconds."""
    with tempfile.TemporaryDirectory() as folder:
        gate = Gate(os.path.join(folder, "gate"), 1)
        process = side.context.Process(target=wait, args=(gate, 0, *args))
        process.start()
        gate.open_for([process])
        process.join()
        if process.exitcode:
            raise RuntimeError("the worker failed")
        return [gate.last()]


def idle_get(side: Side, _seconds: float) -> list[float]:
    return idle(side, traffic.idle_get, side.context.Queue())


def idle_poll(side: Side, _seconds: float) -> list[float]:
    return idle(side, traffic.idle_poll, *side.context.Pipe())


def idle_queue_join(side: Side, _seconds: float) -> list[float]:
    return idle(side, traffic.idle_queue_join, side.context.JoinableQueue())


def idle_process_join(side: Side, _seconds: float) -> list[float]:
    """In this process: it is one that starts others."""
    process = side.context.Process(target=time.sleep, args=(traffic.IDLE_S,))
    process.start()
    time.sleep(0.1)
    begin = time.process_time_ns()
    process.join()
    return [time.process_time_ns() - begin]


WORKS: dict[str, Callable[[Side, float], list[float]]] = {
    work.__name__: work
    for work in (
        queue_int,
        queue_8_bytes,
        queue_4_to_1,
        queue_2_to_2_dict,
        queue_hundreds,
        queue_2_processes,
        queue_8_processes,
        queue_32_processes,
        queue_1_mib,
        queue_8_mib_array,
        copy_8_mib,
        queue_round_trip,
        queue_round_trip_p99,
        queue_round_trip_busy,
        queue_round_trip_busy_p99,
        idle_get,
        idle_poll,
        idle_queue_join,
        idle_process_join,
    )
}

"""What it costs to have work done by a pool or an executor.

Unless it is about births, a sample's clock runs while the workers are there and have worked
before: what starts and ends them does not count.
"""

import functools
import glob
import importlib
import os
import random
import signal
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

from bench import targets
from bench.measure.pool_rivals import Rival
from bench.measure.sampling import calibrated, samples_for
from bench.measure.teams import Hire, Team, Teams, at_work, drain

WORKERS = 2
SAMPLES = 3
MANY = 1_000_000
IN_FLIGHT = 10_000
ARRAYS = 8
MIB = 1 << 20
IDLE_S = 10.0

ITEMS = 4096  # of which one in RARE takes SLOWER times as long as the others
RARE, SLOWER, QUICK_NS = 64, 1000, 2000


def timed(work: Callable[[], object]) -> float:
    begin = time.perf_counter_ns()
    work()
    return time.perf_counter_ns() - begin


def few(seconds: float, sample: Callable[[], float]) -> list[float]:
    """Of what takes long by itself."""
    return samples_for(seconds, sample, SAMPLES, warm_up=1)


def life(hire: Hire, seconds: float) -> list[float]:
    """Of two workers, from before their birth until they are gone."""

    def sample() -> None:
        team = hire(WORKERS)
        team.map(targets.negative, range(4 * WORKERS))
        team.close()

    return samples_for(seconds, lambda: timed(sample))


# --- small items ----------------------------------------------------------------------------------


def per_item(
    hire: Hire, seconds: float, workers: int, pass_through: Callable[[Team, range], object]
) -> list[float]:
    """PASS_THROUGH has a team work at all of so many items."""
    with at_work(hire, workers) as team:

        def work(count: int) -> float:
            return timed(lambda: pass_through(team, range(count)))

        count = calibrated(work, 100, seconds, MANY)
        return [work(count) / count for _ in range(SAMPLES)]


def map_single(hire: Hire, seconds: float, workers: int = WORKERS) -> list[float]:
    return per_item(hire, seconds, workers, lambda t, items: t.map(targets.negative, items, 1))


def imap_unordered(hire: Hire, seconds: float) -> list[float]:
    return per_item(
        hire, seconds, WORKERS, lambda t, items: drain(t.imap_unordered(targets.negative, items))
    )


def map_million(hire: Hire, seconds: float) -> list[float]:
    with at_work(hire, WORKERS) as team:
        return few(seconds, lambda: timed(lambda: team.map(targets.negative, range(MANY))) / MANY)


def round_trip(hire: Hire, seconds: float) -> list[float]:
    """Each by itself, and the medians of so many."""
    with at_work(hire, WORKERS) as team:

        def trips(count: int) -> list[float]:
            return [timed(lambda: team.call(targets.negative, 1)) for _ in range(count)]

        count = calibrated(lambda n: sum(trips(n)), 20, seconds, 100_000)
        return [statistics.median(trips(count)) for _ in range(SAMPLES)]


def in_flight(hire: Hire, seconds: float) -> list[float]:
    """All are sent before the first result is asked for."""
    with at_work(hire, WORKERS) as team:

        def there_and_back() -> None:
            for get in [team.send(targets.negative, i) for i in range(IN_FLIGHT)]:
                get()

        return few(seconds, lambda: timed(there_and_back) / IN_FLIGHT)


# --- items that differ ----------------------------------------------------------------------------


def scattered() -> Iterator[list[int]]:
    """How long each item takes: other places in each list, the same ones on all sides."""
    chance = random.Random(5)
    while True:
        items = [QUICK_NS] * ITEMS
        for place in chance.sample(range(ITEMS), ITEMS // RARE):
            items[place] *= SLOWER
        yield items


def at_the_end() -> Iterator[list[int]]:
    """As in input that is sorted by size."""
    slow = ITEMS // RARE
    while True:
        yield [QUICK_NS] * (ITEMS - slow) + [QUICK_NS * SLOWER] * slow


def over_perfect(
    hire: Hire, seconds: float, lists: Callable[[], Iterator[list[int]]]
) -> list[float]:
    """The time of a map in that of the work alone, shared equally."""
    items = lists()
    with at_work(hire, WORKERS) as team:

        def sample() -> float:
            works = next(items)
            return timed(lambda: team.map(targets.work_for, works)) / (sum(works) / WORKERS)

        return few(seconds, sample)


# --- large ones -----------------------------------------------------------------------------------


def arrays(hire: Hire, seconds: float) -> list[float]:
    """8 MiB each, and it comes back."""
    np: Any = importlib.import_module("numpy")
    items = [np.ones(MIB)] * ARRAYS
    with at_work(hire, WORKERS) as team:
        return few(seconds, lambda: timed(lambda: team.map(targets.same, items, 1)) / ARRAYS)


# --- one that does not end by itself --------------------------------------------------------------


def busy_worker(team: Team, folder: str) -> int:
    """The one worker of TEAM, which goes on until it is killed."""
    path = os.path.join(folder, "pid")
    os.mkfifo(path)
    team.send(targets.say_pid_and_stay, path)
    with open(path) as fifo:
        return int(fifo.read())


def recovery(hire: Hire, _seconds: float) -> list[float]:
    """From the kill of a pool's only worker, in a task, until another runs the next task."""

    def sample() -> float:
        team = hire(1)
        with tempfile.TemporaryDirectory() as folder:
            pid = busy_worker(team, folder)
            get_began = team.send(time.monotonic_ns)
            begin = time.monotonic_ns()
            os.kill(pid, signal.SIGKILL)
            began: int = get_began()
        team.end()
        return began - begin

    return [sample() for _ in range(SAMPLES)]


def own_bytes() -> int:
    """Memory of this process, what it shares with its workers included."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def queued(hire: Hire, count: int, queue: Callable[[Team, int], object]) -> list[float]:
    """Bytes per task while COUNT of them wait for the one worker."""
    team = hire(1)
    with tempfile.TemporaryDirectory() as folder:
        busy_worker(team, folder)
        before = own_bytes()
        kept = queue(team, count)
        found = (own_bytes() - before) / count
    team.end()
    del kept
    return [found]


def queued_by_map(hire: Hire, _seconds: float) -> list[float]:
    return queued(
        hire, MANY, lambda team, n: team.pool.map_async(targets.negative, range(n), chunksize=1)
    )


def queued_by_apply(hire: Hire, _seconds: float) -> list[float]:
    return queued(
        hire, MANY // 10, lambda team, n: [team.send(targets.negative, i) for i in range(n)]
    )


# --- waiting --------------------------------------------------------------------------------------


def others_ns() -> int:
    """Processor time of all threads of this process's group but its own."""
    found = 0
    for path in glob.glob("/proc/[0-9]*/task/*/schedstat"):
        try:
            pid = int(path.split("/")[2])
            if pid != os.getpid() and os.getpgid(pid) == os.getpgrp():
                with open(path) as file:
                    found += int(file.read().split()[0])
        except (FileNotFoundError, ProcessLookupError):
            pass  # it ended meanwhile
    return found


def idle(hire: Hire, _seconds: float) -> list[float]:
    """Processor time of a program whose workers have nothing to do, and of theirs."""
    with at_work(hire, WORKERS):
        time.sleep(0.2)  # what ends a task is over
        before, begin = others_ns(), time.process_time_ns()
        time.sleep(IDLE_S)
        own = time.process_time_ns() - begin
        return [own + others_ns() - before]


Work = Callable[[Hire, float], list[float]]

POOL: dict[str, Work] = {
    "pool_life": life,
    "pool_map_single": map_single,
    "pool_map_single_8": functools.partial(map_single, workers=8),
    "pool_map_single_64": functools.partial(map_single, workers=64),
    "pool_imap_unordered": imap_unordered,
    "pool_map_million": map_million,
    "pool_scattered": functools.partial(over_perfect, lists=scattered),
    "pool_at_the_end": functools.partial(over_perfect, lists=at_the_end),
    "pool_round_trip": round_trip,
    "pool_in_flight": in_flight,
    "pool_arrays": arrays,
    "pool_recovery": recovery,
    "pool_queued_by_map": queued_by_map,
    "pool_queued_by_apply": queued_by_apply,
    "pool_idle": idle,
}
EXECUTOR: dict[str, Work] = {
    "executor_in_flight": in_flight,
    "executor_round_trip": round_trip,
    "executor_map_single": map_single,
    "executor_idle": idle,
}
WORKS = {**POOL, **EXECUTOR}


def measure(work: str, teams: Teams | Rival, seconds: float) -> list[float]:
    return WORKS[work](teams.pool if work in POOL else teams.executor, seconds)

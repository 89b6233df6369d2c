"""Other packages' pools and executors; imported only when they are asked for.

Each has one class, which stands beside our pool and our executor, with the nearest that it has to
each verb. loky starts its workers its own way, the others fork.
"""

import dataclasses
import importlib
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from bench.measure import apart
from bench.measure.teams import ExecutorTeam, Function, Team


class Loky(ExecutorTeam):
    def __init__(self, workers: int) -> None:
        super().__init__(importlib.import_module("loky").ProcessPoolExecutor(workers))


class Pebble(ExecutorTeam):
    def __init__(self, workers: int) -> None:
        fork = multiprocessing.get_context("fork")
        super().__init__(importlib.import_module("pebble").ProcessPool(workers, context=fork))

    def map(self, function: Function, items: Iterable[Any], chunksize: int | None = None) -> Any:
        return list(self.pool.map(function, items, chunksize=chunksize or 1).result())

    def call(self, function: Function, *args: Any) -> Any:
        return self.send(function, *args)()

    def send(self, function: Function, *args: Any) -> Callable[[], Any]:
        result: Callable[[], Any] = self.pool.schedule(function, args=args).result
        return result

    def close(self) -> None:
        self.pool.close()
        self.pool.join()


class Mpire(Team):
    """Its workers would end with each map, were they not to be kept."""

    def __init__(self, workers: int) -> None:
        make = importlib.import_module("mpire").WorkerPool
        super().__init__(make(n_jobs=workers, start_method="fork", keep_alive=True))

    def map(self, function: Function, items: Iterable[Any], chunksize: int | None = None) -> Any:
        return self.pool.map(function, items, chunk_size=chunksize)

    def imap_unordered(self, function: Function, items: Iterable[Any]) -> Iterator[Any]:
        found: Iterator[Any] = self.pool.imap_unordered(function, items, chunk_size=1)
        return found

    def close(self) -> None:
        self.pool.stop_and_join()


@dataclasses.dataclass(frozen=True)
class Rival:
    name: str  # as it is installed
    make: Callable[[int], Team]
    lacks: tuple[str, ...] = ()  # works

    def is_here(self) -> bool:
        return apart.is_here(self.name)

    def can(self, work: str) -> bool:
        return self.is_here() and work not in self.lacks

    def pool(self, workers: int) -> Team:
        return self.make(workers)

    executor = pool


RIVALS = {
    rival.name: rival
    for rival in (
        Rival("loky", Loky, lacks=("pool_imap_unordered",)),
        Rival("pebble", Pebble, lacks=("pool_imap_unordered",)),
        Rival("mpire", Mpire),
    )
}

"""Pools and executors as the benchmarks see them: some workers, and a few verbs for all of them."""

import collections
import contextlib
import dataclasses
import importlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

Function = Callable[..., Any]
EXECUTORS = {"std": "concurrent.futures", "ours": "leveret"}


class Team:
    """A pool: the verbs are its own."""

    def __init__(self, pool: Any) -> None:
        self.pool = pool

    def map(self, function: Function, items: Iterable[Any], chunksize: int | None = None) -> Any:
        """CHUNKSIZE None: the team's own default."""
        return self.pool.map(function, items, chunksize)

    def imap_unordered(self, function: Function, items: Iterable[Any]) -> Iterator[Any]:
        found: Iterator[Any] = self.pool.imap_unordered(function, items)
        return found

    def call(self, function: Function, *args: Any) -> Any:
        """There and back."""
        return self.pool.apply(function, args)

    def send(self, function: Function, *args: Any) -> Callable[[], Any]:
        """What waits for the result and returns it."""
        get: Callable[[], Any] = self.pool.apply_async(function, args).get
        return get

    def close(self) -> None:
        """When all is done; the workers are gone then."""
        self.pool.close()
        self.pool.join()

    def end(self) -> None:
        """At once."""
        self.pool.terminate()
        self.pool.join()


class ExecutorTeam(Team):
    def map(self, function: Function, items: Iterable[Any], chunksize: int | None = None) -> Any:
        return list(self.pool.map(function, items, chunksize=chunksize or 1))

    def call(self, function: Function, *args: Any) -> Any:
        return self.pool.submit(function, *args).result()

    def send(self, function: Function, *args: Any) -> Callable[[], Any]:
        result: Callable[[], Any] = self.pool.submit(function, *args).result
        return result

    def close(self) -> None:
        self.pool.shutdown()


@dataclasses.dataclass(frozen=True)
class Teams:
    """One of the sides: how it makes a pool and an executor."""

    side: str
    context: Any

    def pool(self, workers: int) -> Team:
        return Team(self.context.Pool(workers))

    def executor(self, workers: int) -> Team:
        module = importlib.import_module(EXECUTORS[self.side])
        return ExecutorTeam(module.ProcessPoolExecutor(workers, mp_context=self.context))


Hire = Callable[[int], Team]


@contextlib.contextmanager
def at_work(hire: Hire, workers: int) -> Iterator[Team]:
    """A team that has worked before."""
    team = hire(workers)
    team.map(abs, range(8 * workers), 1)
    yield team
    team.close()


def drain(results: Iterable[Any]) -> None:
    collections.deque(results, maxlen=0)

"""For tests of executors: one with forked workers, and tasks that run until they may end."""

import itertools
import pathlib
import subprocess
import sys
import textwrap
from typing import Any

import leveret
from forked import until
from leveret.executor import ProcessPoolExecutor
from tasks import begin_and_wait, square, worker_pid


def forking(workers: int = 2, **options: Any) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, leveret.get_context("fork"), **options)


class Gate:
    """Tasks that run until it is opened."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.path = str(folder / "open")
        self.count = itertools.count()

    def occupy(self, executor: Any) -> Any:
        """Have a worker run one, and wait until it does."""
        begun = self.folder / f"begun-{next(self.count)}"
        future = executor.submit(begin_and_wait, str(begun), self.path)
        until(begun.exists)
        return future

    def open(self) -> None:
        pathlib.Path(self.path).touch()

    def claim_behind_a_long_one(self, executor: Any, end: pathlib.Path) -> tuple[Any, list[Any]]:
        """Have the only worker claim many behind a task that ends with END, and run that one.

        What held it up before, and all others: the hundred quick ones, the long one, and more.
        """
        begun = self.folder / "long"
        executor.submit(worker_pid).result()
        held = self.occupy(executor)
        futures = [executor.submit(square, 0) for _ in range(100)]
        futures.append(executor.submit(begin_and_wait, str(begun), str(end)))
        futures += [executor.submit(square, 0) for _ in range(1000)]
        self.open()
        until(begun.exists)
        return held, futures


class Holder:
    def method(self) -> None:
        pass


def run(source: str, *arguments: str, check: bool = True, **options: Any) -> Any:
    """Run a program."""
    command = [sys.executable, "-c", textwrap.dedent(source), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=50, check=check, **options
    )

"""The standard library, Leveret and other packages, in one run: their queues, and their pools."""

import platform
import statistics
import sys
from collections.abc import Iterable, Iterator

from bench.measure.pool_rivals import RIVALS as POOL_RIVALS
from bench.measure.rivals import RIVALS, sweep
from bench.report import JUDGED, Result, best, spread, std_cell
from bench.rows import BOTH, POOLS, Row
from bench.run import FailedError, HungError, measure

QUEUES = {
    "int": "queue_int",
    "8 bytes": "queue_8_bytes",
    "round trip": "queue_round_trip",
    "1 MiB bytes": "queue_1_mib",
    "8 MiB array": "queue_8_mib_array",
}
LIMIT_S = 30.0
OURS = {"standard library": "std", "leveret": "ours"}

Asked = dict[str, tuple[str, str, str]]  # by a name: work, side, start method


def take_turns(
    asked: Asked, rounds: int, seconds: float
) -> tuple[dict[str, list[float]], dict[str, str]]:
    """The medians of each, and what to say of those that fail or hang: they are not asked again."""
    medians: dict[str, list[float]] = {name: [] for name in asked}
    troubles: dict[str, str] = {}
    for _ in range(rounds):
        for name, (work, side, method) in asked.items():
            if name in troubles:
                continue
            try:
                found = measure(work, side, method, seconds, LIMIT_S)
                medians[name].append(statistics.median(found))
            except HungError:
                troubles[name] = f"not done in {LIMIT_S:.0f} s"
            except FailedError as trouble:
                troubles[name] = "failed"
                print(trouble, file=sys.stderr, flush=True)
            finally:
                sweep()
    return medians, troubles


def line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def absent() -> str:
    return f"does not install on {'.'.join(platform.python_version_tuple()[:2])}"


# --- queues: one to a line ------------------------------------------------------------------------


def column(sides: dict[str, str], work: str, rounds: int, seconds: float) -> dict[str, str]:
    """One cell for each side."""
    asked = {name: (work, side, "fork") for name, side in sides.items()}
    medians, troubles = take_turns(asked, rounds, seconds)
    return {name: troubles.get(name) or spread(medians[name]) for name in sides}


def queues(works: dict[str, str], rounds: int, seconds: float) -> Iterator[str]:
    sides = {**OURS, **{name: name for name, rival in RIVALS.items() if rival.is_here()}}
    cells = {c: column(sides, w, rounds, seconds) for c, w in works.items()}
    yield line(["queue", *works])
    yield line(["---"] * (1 + len(works)))
    yield from (line([name, *(cells[c][name] for c in works)]) for name in sides)
    yield from (line([n, *[absent()] * len(works)]) for n in RIVALS if n not in sides)


# --- pools: one to a column -----------------------------------------------------------------------


class Found:
    """What a row found on every side."""

    def __init__(self, row: Row, rounds: int, seconds: float) -> None:
        self.row = row
        asked: Asked = {f"std {m}": (row.std_work or row.work, "std", m) for m in row.std}
        asked |= {f"ours {m}": (row.work, "ours", m) for m in row.ours}
        asked |= {n: (row.work, n, "own") for n, r in POOL_RIVALS.items() if r.can(row.work)}
        self.medians, self.troubles = take_turns(asked, rounds, seconds)

    def std(self) -> dict[str, list[float]]:
        """Of those start methods that came through."""
        done = [m for m in self.row.std if f"std {m}" not in self.troubles]
        return {method: self.medians[f"std {method}"] for method in done}

    def cell(self, name: str) -> str:
        if name not in self.medians:
            return "has none" if POOL_RIVALS[name].is_here() else absent()
        return self.troubles.get(name) or spread(self.medians[name], self.row.unit)

    def std_cell(self) -> str:
        if not (std := self.std()):
            return self.cell(f"std {self.row.std[0]}")
        method = best(std)
        return std_cell(self.row, method, std.get(method, []))

    def judgement(self) -> tuple[str, str, str]:
        """Of the slower of ours."""
        ours = {method: self.medians[f"ours {method}"] for method in self.row.ours}
        if any(f"ours {method}" in self.troubles for method in ours):
            return ("", "", "NO")
        slower = max(ours, key=lambda method: statistics.median(ours[method]))
        return Result.of(self.row, self.std(), slower, ours[slower]).judgement()

    def cells(self) -> list[str]:
        ours = [self.cell(f"ours {method}") for method in self.row.ours]
        rivals = [self.cell(name) for name in POOL_RIVALS]
        return [self.row.what, self.std_cell(), *ours, *self.judgement(), *rivals]


def pools(rows: list[Row], rounds: int | None, seconds: float) -> Iterator[str]:
    ours = [f"leveret, {method}" for method in BOTH]
    names = ["work", "standard library", *ours, *JUDGED, *POOL_RIVALS]
    yield line(names)
    yield line(["---"] * len(names))
    for row in rows:
        yield line(Found(row, rounds or row.rounds, seconds).cells())


def compare(words: list[str], rounds: int | None, seconds: float) -> Iterator[str]:
    """The lines of both tables; WORDs choose columns of the first and rows of the second."""

    def wanted(what: str) -> bool:
        return not words or any(word in what for word in words)

    if works := {c: w for c, w in QUEUES.items() if wanted(f"Queue, {c}")}:
        yield from queues(works, rounds or 3, seconds)
        yield ""
    if rows := [row for row in POOLS if wanted(row.what)]:
        yield from pools(rows, rounds, seconds)

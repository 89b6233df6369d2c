"""The standard library, Leveret and other packages' queues, in one table."""

import platform
import statistics
import sys

from bench.measure.rivals import RIVALS, sweep
from bench.report import spread
from bench.run import FailedError, HungError, measure

COLUMNS = {
    "int": "queue_int",
    "8 bytes": "queue_8_bytes",
    "round trip": "queue_round_trip",
    "1 MiB bytes": "queue_1_mib",
    "8 MiB array": "queue_8_mib_array",
}
LIMIT_S = 30.0
OURS = {"standard library": "std", "leveret": "ours"}


def column(sides: dict[str, str], work: str, rounds: int, seconds: float) -> dict[str, str]:
    """One cell for each side. They take turns; who fails or hangs once is not asked again."""
    medians: dict[str, list[float]] = {name: [] for name in sides}
    cells: dict[str, str] = {}
    for _ in range(rounds):
        for name, side in sides.items():
            if name in cells:
                continue
            try:
                found = measure(work, side, "fork", seconds, LIMIT_S)
                medians[name].append(statistics.median(found))
            except HungError:
                cells[name] = f"not done in {LIMIT_S:.0f} s"
            except FailedError as trouble:
                cells[name] = "failed"
                print(trouble, file=sys.stderr, flush=True)
            finally:
                sweep()
    for name, found in medians.items():
        cells.setdefault(name, spread(found))
    return cells


def compare(words: list[str], rounds: int, seconds: float) -> str:
    """A table; WORDs choose columns."""
    sides = {**OURS, **{name: name for name, rival in RIVALS.items() if rival.is_here()}}
    works = {c: w for c, w in COLUMNS.items() if not words or any(x in c for x in words)}
    cells = {c: column(sides, w, rounds, seconds) for c, w in works.items()}
    rows = [["queue", *works], ["---"] * (1 + len(works))]
    rows += [[name, *(cells[c][name] for c in works)] for name in sides]
    absent = f"does not install on {'.'.join(platform.python_version_tuple()[:2])}"
    rows += [[name, *[absent] * len(works)] for name in RIVALS if name not in sides]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)

"""Leveret beside the standard library.

    python -m bench [--rounds N] [--seconds S] [--markdown FILE] [WORD ...]
    python -m bench --rivals [...]

Both sides are measured in processes of their own that take turns; a figure is the median of the
medians of the rounds, and in brackets are the least and the greatest of them. The standard library
is shown with its best start method. WORDs choose rows; --rivals has those of Queue and Pool.
"""

import argparse
import importlib.util
import os
import pathlib
import platform
import statistics
import sys
from collections.abc import Iterable

from bench import rivalry
from bench.report import Result, markdown, table
from bench.rows import ROWS, Row
from bench.run import FailedError, HungError, measure


def run_row(row: Row, rounds: int, seconds: float) -> list[Result]:
    """Each round asks every start method of the standard library, then ours."""
    std: dict[str, list[float]] = {method: [] for method in row.std}
    ours: dict[str, list[float]] = {method: [] for method in row.ours}
    for _ in range(rounds):
        for method, medians in std.items():
            if found := measure(row.std_work or row.work, "std", method, seconds):
                medians.append(statistics.median(found))
        for method, medians in ours.items():
            if found := measure(row.work, "ours", method, seconds):
                medians.append(statistics.median(found))
    return [Result.of(row, std, method, medians) for method, medians in ours.items()]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, help="of each side; default: the row's own, 3 to 5")
    parser.add_argument("--seconds", type=float, default=0.4, help="of each side in a round")
    parser.add_argument("--markdown", type=pathlib.Path, help="write the table to this file")
    parser.add_argument("--rivals", action="store_true", help="other packages, too")
    parser.add_argument("words", nargs="*", help="rows that contain one of these")
    return parser.parse_args()


def about() -> str:
    """Where this runs, and what else did in the last minute."""
    return (
        f"CPython {platform.python_version()}, Linux {platform.release()}, "
        f"{len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}"
    )


def run_rows(rows: list[Row], args: argparse.Namespace) -> tuple[list[Result], int]:
    """The results, and how many rows have none."""
    results: list[Result] = []
    failed = 0
    for row in rows:
        if row.needs and importlib.util.find_spec(row.needs) is None:
            print(f"{row.what}: not measured, {row.needs} is not installed", flush=True)
            continue
        try:
            found = run_row(row, args.rounds or row.rounds, args.seconds)
        except (FailedError, HungError) as trouble:
            print(f"{row.what}: FAILED: {trouble}", flush=True)
            failed += 1
        else:
            print(table(found, heading=not results), flush=True)
            results += found
    return results, failed


def told(lines: Iterable[str]) -> str:
    """Them together, after each was printed when it came."""
    kept = []
    for line in lines:
        print(line, flush=True)
        kept.append(line)
    return "\n".join(kept)


def main() -> int:
    args = arguments()
    head = about()
    print(head, flush=True)
    if args.rivals:
        text, failed = told(rivalry.compare(args.words, args.rounds, args.seconds)), 0
    else:
        rows = [r for r in ROWS if not args.words or any(w in r.what for w in args.words)]
        results, failed = run_rows(rows, args)
        text = markdown(results)
    print(about())
    if args.markdown:
        args.markdown.write_text(f"{head}\n\n{text}\n")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())

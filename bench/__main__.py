"""Leveret beside the standard library.

    python -m bench [--rounds N] [--seconds S] [--markdown FILE] [WORD ...]

Both sides are measured in processes of their own that take turns; a figure is the median of the
medians of the rounds. The standard library is shown with its best start method. WORDs choose rows.
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys

from bench.report import Result, markdown, table
from bench.rows import ROWS, Row

ROOT = pathlib.Path(__file__).resolve().parent.parent
LIMIT_S = 120


def measure(work: str, side: str, method: str, seconds: float) -> list[float]:
    command = [sys.executable, "-m", "bench.measure", work, side, method, str(seconds)]
    env = {k: v for k, v in os.environ.items() if k != "LEVERET_START_METHOD"}
    done = subprocess.run(
        command, cwd=ROOT, env=env, check=False, capture_output=True, text=True, timeout=LIMIT_S
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        raise RuntimeError(f"{work}, {side}, {method}: {lines[-1]}")
    found: list[float] = json.loads(done.stdout.splitlines()[-1])
    return found


def run_row(row: Row, rounds: int, seconds: float) -> Result:
    """Each round asks every start method of the standard library, then us."""
    std: dict[str, list[float]] = {method: [] for method in row.std}
    ours: list[float] = []
    for _ in range(rounds):
        for method, medians in std.items():
            if found := measure(row.std_work or row.work, "std", method, seconds):
                medians.append(statistics.median(found))
        if found := measure(row.work, "ours", row.ours, seconds):
            ours.append(statistics.median(found))
    return Result.of(row, std, ours)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, help="of each side; default: the row's own, 3 to 5")
    parser.add_argument("--seconds", type=float, default=0.4, help="of each side in a round")
    parser.add_argument("--markdown", type=pathlib.Path, help="write the table to this file")
    parser.add_argument("words", nargs="*", help="rows that contain one of these")
    return parser.parse_args()


def main() -> int:
    args = arguments()
    rows = [r for r in ROWS if not args.words or any(w in r.what for w in args.words)]
    about = (
        f"CPython {platform.python_version()}, Linux {platform.release()}, "
        f"{len(os.sched_getaffinity(0))} cores"
    )
    print(about, flush=True)
    results = []
    failed = 0
    for row in rows:
        try:
            results.append(run_row(row, args.rounds or row.rounds, args.seconds))
        except (RuntimeError, subprocess.TimeoutExpired) as trouble:
            print(f"{row.what}: FAILED: {trouble}", flush=True)
            failed += 1
        else:
            print(table([results[-1]], heading=len(results) == 1), flush=True)
    if args.markdown:
        args.markdown.write_text(f"{about}\n\n{markdown(results)}\n")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())

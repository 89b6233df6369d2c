"""Run every example under plain Python and under Leveret: the same output, and how long each takes.

    run_examples.py [--folder examples/python] [--method M] [--rounds N] [NAME ...]

The two take turns, and the time shown is the better of the rounds of each. Different processes may
print in any order, so lines are compared sorted, and a word made of pid=, time= or the like is left
out. Anything but status 0 with nothing on stderr is a failure. Ends with `N passed, N failed`.
"""

import argparse
import dataclasses
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
LIMIT_S = 120
VARYING = re.compile(r"\b(pid|ppid|time|took)[= ]\S+|\b\d+(\.\d+)? ?m?s\b")


@dataclasses.dataclass
class Outcome:
    seconds: float
    lines: list[str]
    trouble: str


def run(command: list[str]) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        try:
            done = subprocess.run(
                command,
                check=False,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=LIMIT_S,
            )
        except subprocess.TimeoutExpired:
            return Outcome(LIMIT_S, [], f"still running after {LIMIT_S} s")
        seconds = time.perf_counter() - start
    trouble = f"status {done.returncode}" if done.returncode else ""
    if done.stderr.strip():
        trouble += f" stderr: {done.stderr.strip().splitlines()[-1]}"
    return Outcome(seconds, sorted(VARYING.sub("#", done.stdout).splitlines()), trouble)


def verdict(plain: Outcome, ours: Outcome) -> str:
    """What is wrong, or an empty string."""
    if plain.trouble or ours.trouble:
        return "; ".join(
            f"{who}: {outcome.trouble}"
            for who, outcome in (("python", plain), ("leveret", ours))
            if outcome.trouble
        )
    if plain.lines == ours.lines:
        return ""
    for mine, theirs in zip(ours.lines, plain.lines, strict=False):
        if mine != theirs:
            return f"leveret prints {mine!r} where python prints {theirs!r}"
    return f"leveret prints {len(ours.lines)} lines, python {len(plain.lines)}"


def compare(program: pathlib.Path, runner: list[str], rounds: int) -> tuple[Outcome, Outcome, str]:
    """The fastest round of each, and the first thing wrong in any."""
    wrong = ""
    pairs = []
    for _ in range(rounds):
        pairs.append((run([sys.executable, str(program)]), run([*runner, str(program)])))
        wrong = wrong or verdict(*pairs[-1])
    plain = min((p for p, _ in pairs), key=lambda outcome: outcome.seconds)
    ours = min((o for _, o in pairs), key=lambda outcome: outcome.seconds)
    return plain, ours, wrong


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=pathlib.Path, default=ROOT / "examples" / "python")
    parser.add_argument("--method", help="start method for leveret; default: its own")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("names", nargs="*")
    return parser.parse_args()


def main() -> int:
    args = arguments()
    command = pathlib.Path(sys.executable).parent / "leveret"
    if not shutil.which(command):
        sys.exit(f"run_examples.py: no {command}; `make run` installs it")
    runner = [str(command), *(["--start-method", args.method] if args.method else [])]
    programs = sorted(p for p in args.folder.glob("*.py") if not args.names or p.stem in args.names)
    if not programs:
        sys.exit(f"run_examples.py: no such program in {args.folder}")
    width = max(len(p.stem) for p in programs)
    print(f"{'example':{width}} {'python':>9} {'leveret':>9} {'ratio':>7}  same output?")
    failed = 0
    for program in programs:
        plain, ours, wrong = compare(program, runner, args.rounds)
        failed += bool(wrong)
        print(
            f"{program.stem:{width}} {plain.seconds:8.3f}s {ours.seconds:8.3f}s "
            f"{plain.seconds / ours.seconds:6.1f}x  {'NO: ' + wrong if wrong else 'yes'}",
            flush=True,
        )
    print(f"{len(programs) - failed} passed, {failed} failed")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())

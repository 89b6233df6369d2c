"""Runs works in processes of their own, and ends what hangs."""

import json
import os
import pathlib
import signal
import subprocess
import sys

from bench.measure import apart, pool_rivals, rivals

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROGRAM = str(ROOT / "bench" / "measure" / "one.py")  # a file, as most people's programs are
LIMIT_S = 120.0


class FailedError(RuntimeError):
    """A work ended with an error."""


class HungError(RuntimeError):
    """A work did not end."""


def environment(side: str) -> dict[str, str]:
    """Without what would change the sides, and without the threads that numpy starts and spins."""
    env = {k: v for k, v in os.environ.items() if k != "LEVERET_START_METHOD"}
    is_rival = side in rivals.RIVALS or side in pool_rivals.RIVALS
    path = [str(ROOT), str(apart.FOLDER)] if is_rival else [str(ROOT)]
    return {**env, "PYTHONPATH": os.pathsep.join(path), "OPENBLAS_NUM_THREADS": "1"}


def end_group(process: subprocess.Popen[str]) -> None:
    """It and whoever it started; they are in a group of their own."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def measure(
    work: str, side: str, method: str, seconds: float, limit_s: float = LIMIT_S
) -> list[float]:
    """The samples, in nanoseconds; an empty list: what was measured never ends on this side."""
    command = [sys.executable, "-P", PROGRAM, work, side, method, str(seconds)]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment(side),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    what = f"{work}, {side}, {method}"
    try:
        out, err = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        raise HungError(f"{what}: not done after {limit_s:.0f} s") from None
    finally:
        if process.poll() is None:
            end_group(process)
    if process.returncode:
        lines = err.strip().splitlines() or [f"status {process.returncode}"]
        raise FailedError(f"{what}: {lines[-1]}")
    found: list[float] = json.loads(out.splitlines()[-1])
    return found

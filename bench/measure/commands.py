"""What is measured around a whole interpreter."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

from bench.measure.sampling import samples_for

MODULES = {"std": "multiprocessing", "ours": "leveret"}


def wall_ns(command: list[str]) -> float:
    begin = time.perf_counter_ns()
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return time.perf_counter_ns() - begin


def import_time(side: str, seconds: float) -> list[float]:
    """Inside a new interpreter, around the import statement alone."""
    code = f"from time import perf_counter_ns as t; b = t(); import {MODULES[side]}; print(t() - b)"

    def sample() -> float:
        return int(
            subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout
        )

    return samples_for(seconds, sample)


def empty_program(side: str, seconds: float) -> list[float]:
    python, runner = sys.executable, os.path.join(os.path.dirname(sys.executable), "leveret")
    with tempfile.TemporaryDirectory() as folder:
        program = os.path.join(folder, "empty.py")
        with open(program, "w"):
            pass
        command = [python if side == "std" else runner, program]
        return samples_for(seconds, lambda: wall_ns(command))


COMMANDS: dict[str, Callable[[str, float], list[float]]] = {
    work.__name__: work for work in (import_time, empty_program)
}

"""For tests of births and deaths: who is there, and children that do nothing, or stand still."""

import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import leveret

METHODS = ("warm", "fork", "spawn", "forkserver")
PATIENCE_S = 20.0
GONE_WITHIN_S = 1.0

warm = leveret.get_context("warm")


def eventually(check, within: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + within
    while not check():
        assert time.monotonic() < deadline, "it did not come to that"
        threading.Event().wait(0.002)


def nothing() -> None:
    pass


def stand_still() -> None:
    threading.Event().wait()


def live(count: int = 1) -> None:
    for _ in range(count):
        child = warm.Process(target=nothing)
        child.start()
        child.join()
        assert child.exitcode == 0
        child.close()


def children_of(pid: int) -> list[int]:
    try:
        return [
            int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
    except (FileNotFoundError, ProcessLookupError):
        return []


def is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def is_over(pid: int) -> bool:
    """A zombie, or nobody any more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def run_program(tmp_path: Path, text: str, **options) -> subprocess.CompletedProcess[str]:
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(text))
    return subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, check=False, **options
    )

"""The example programs print under Leveret what they print under Python, and nothing else."""

import pathlib
import subprocess
import sys

import pytest

FOLDER = pathlib.Path(__file__).parents[2] / "examples" / "python"
PROGRAMS = sorted(FOLDER.glob("*.py"))


def start(*command: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_example(program: pathlib.Path) -> None:
    runs = {
        "python": start(str(program)),
        "fork": start("-m", "leveret", "--start-method", "fork", str(program)),
        "warm": start("-m", "leveret", "--start-method", "warm", str(program)),
    }
    ended = {
        name: (*child.communicate(timeout=50), child.returncode) for name, child in runs.items()
    }
    assert ended["python"][0] != "" and ended["python"][1:] == ("", 0)
    assert ended["fork"] == ended["python"]
    assert ended["warm"] == ended["python"]


def test_there_are_examples() -> None:
    assert len(PROGRAMS) >= 9

"""The example programs print under Leveret what they print under Python, and nothing else.

Those that use what Python does not have print what their first lines say, by themselves and under
the command `leveret`. So do the programs of the README run.
"""

import ast
import os
import pathlib
import re
import subprocess
import sys
import textwrap

import pytest

FOLDER = pathlib.Path(__file__).parents[2] / "examples"
PROGRAMS = sorted((FOLDER / "python").glob("*.py"))
OURS = sorted((FOLDER / "beyond").glob("*.py"))
README = FOLDER.with_name("README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def start(*command: str, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, *command],
        env=os.environ | environment,
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


def printed(program: pathlib.Path) -> str:
    """What a program says of itself that it prints."""
    said = ast.get_docstring(ast.parse(program.read_text()))
    assert said is not None
    return textwrap.dedent(said.partition("\nPrints:\n")[2]) + "\n"


@pytest.mark.parametrize("runner", [[], ["-m", "leveret"]], ids=["python", "leveret"])
@pytest.mark.parametrize("method", ["fork", "warm"])
@pytest.mark.parametrize("program", OURS, ids=lambda path: path.stem)
def test_example_of_what_is_ours_alone(
    program: pathlib.Path, method: str, runner: list[str]
) -> None:
    child = start(*runner, str(program), LEVERET_START_METHOD=method)
    assert (*child.communicate(timeout=50), child.returncode) == (printed(program), "", 0)


@pytest.mark.parametrize("runner", [[], ["-m", "leveret"]], ids=["python", "leveret"])
@pytest.mark.parametrize("method", ["fork", "warm"])
@pytest.mark.parametrize("block", range(len(BLOCKS)))
def test_program_of_the_readme(
    tmp_path: pathlib.Path, block: int, method: str, runner: list[str]
) -> None:
    (tmp_path / "program.py").write_text(BLOCKS[block])
    # A warning is due where the killed process did hold the lock.
    environment = {"LEVERET_START_METHOD": method, "PYTHONWARNINGS": "ignore"}
    child = start(*runner, str(tmp_path / "program.py"), **environment)
    ended = (*child.communicate(timeout=50), child.returncode)
    assert ended == ("the lock is free again: True\n" if block == 0 else "", "", 0)


def test_there_are_examples() -> None:
    assert len(PROGRAMS) >= 9
    assert len(OURS) >= 6
    assert len(BLOCKS) == 2

"""What a machine lacks for `make run` is said in one line, with the package that has it."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

TOOL = pathlib.Path(__file__).resolve().parents[2] / "tools" / "make_venv.sh"
NEEDED = ("sh", "dirname", "env", "rm")  # beside what the shell has itself

# A Python that answers like this one, but for what an environment is asked for.
DOUBLE = """#!{shell}
case "$2" in *{asked}*) exit 1;; esac
exec {python} "$@"
"""


@pytest.fixture
def machine(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder of programs: all that there is on a machine without Python and compilers."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in NEEDED:
        (programs / name).symlink_to(shutil.which(name) or name)
    return programs


def without(machine: pathlib.Path, asked: str) -> None:
    """Put a Python there which lacks what it is asked for in such words."""
    shell = shutil.which("sh")
    python = machine / "python3"
    python.write_text(DOUBLE.format(shell=shell, asked=asked, python=sys.executable))
    python.chmod(0o755)


def with_compiler(machine: pathlib.Path) -> None:
    (machine / "cc").symlink_to(shutil.which("cc") or shutil.which("gcc") or "cc")


def said_on(machine: pathlib.Path, **variables: str) -> str:
    """The line that it ends with there."""
    environ = {name: value for name, value in os.environ.items() if name != "CC"}
    environ |= {"PATH": str(machine), **variables}
    done = subprocess.run(
        [str(machine / "sh"), str(TOOL), "python3", str(machine / "made")],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1 and done.stdout == ""
    assert not (machine / "made").exists()
    (line,) = done.stderr.splitlines()
    return line


def test_no_python(machine: pathlib.Path) -> None:
    line = said_on(machine)
    assert line.startswith("leveret: no python3 here.")
    assert "apt-get install python3 python3-dev python3-venv" in line


def test_an_old_python(machine: pathlib.Path) -> None:
    without(machine, "version_info")
    assert "python3 is not CPython 3.11 or newer" in said_on(machine)


def test_no_compiler(machine: pathlib.Path) -> None:
    without(machine, "nothing")
    assert said_on(machine) == (
        "leveret: no C compiler here. Install one: apt-get install gcc libc6-dev"
    )


def test_a_compiler_that_was_named_and_is_not_there(machine: pathlib.Path) -> None:
    without(machine, "nothing")
    with_compiler(machine)
    line = said_on(machine, CC="icecream -O2")
    assert line.startswith("leveret: no C compiler icecream here (CC=icecream -O2).")


def test_no_headers_of_the_c_library(machine: pathlib.Path) -> None:
    without(machine, "nothing")
    compiler = machine / "cc"
    compiler.write_text(f"#!{shutil.which('sh')}\nexit 1\n")
    compiler.chmod(0o755)
    assert "Install the C library's headers: apt-get install libc6-dev" in said_on(machine)


def test_no_headers_of_python(machine: pathlib.Path) -> None:
    with_compiler(machine)
    without(machine, "Python.h")
    line = said_on(machine)
    short = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert line.startswith("leveret: Python.h of python3 is missing.")
    assert f"apt-get install python{short}-dev (or python3-dev)" in line

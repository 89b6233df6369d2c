"""Programs of tests that run in an interpreter of their own, and are to end well and in silence."""

import subprocess
import sys
import textwrap


def run(source: str, *arguments: str, program: str | None = None) -> list[str]:
    """Run SOURCE (as a file, where PROGRAM names one) and return the lines it prints."""
    # Not an error: that a fork has threads around, of the standard queues and executors; and, from
    # Python 3.15 on, that a standard child has a traceback of the main module.
    command = [sys.executable, "-W", "error", "-W", "ignore:This process:DeprecationWarning"]
    command += ["-W", "ignore:Module globals is missing:DeprecationWarning"]
    if program is None:
        command += ["-c", textwrap.dedent(source)]
    else:
        with open(program, "w") as file:
            file.write(textwrap.dedent(source))
        command += [program]
    done = subprocess.run(
        [*command, *arguments], capture_output=True, text=True, timeout=50, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout.splitlines()

"""Where the system forbids what we need: an import, or a start, says what, and nothing hangs."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from alone import run
from filtered import FILTERED


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("MEMFD", "cannot make an arena for shared objects"),
        ("PIDFD_OPEN", "cannot watch processes"),
        ("PIDFD_SEND_SIGNAL", "cannot watch processes"),
        ("EVENTFD", "cannot wake processes"),
    ],
)
@pytest.mark.parametrize("error", ["EPERM", "ENOSYS"])
def test_platform_that_cannot_run_us(call: str, error: str, said: str) -> None:
    ended = run(
        FILTERED
        + f"""
    forbid({call}, errno.{error})
    try:
        import leveret
    except ImportError as error:
        print(error)
    """
    )
    assert len(ended) == 1
    assert said in ended[0]
    assert "seccomp" in ended[0]


@pytest.mark.parametrize("error", ["EPERM", "ENOSYS"])
def test_platform_without_births(error: str) -> None:
    """No spare could ever receive what it is to become: start() says so."""
    ended = run(
        FILTERED
        + f"""
    forbid(RECVMSG, errno.{error})
    import leveret
    process = leveret.get_context("warm").Process(target=print)
    for _ in range(2):
        try:
            process.start()
        except OSError as error:
            print(errno.errorcode[error.errno], error)
    """
    )
    assert len(ended) == 2
    for line in ended:
        assert line.startswith(f"{error} [Errno ")
        assert "cannot make a zygote" in line
        assert "seccomp" in line


def test_births_beside_a_main_module_that_forbids_them(tmp_path: Path) -> None:
    """The filter comes with its import, in the zygote: births come from one without it."""
    program = tmp_path / "program.py"
    source = (
        FILTERED
        + """
    import leveret
    if __name__ == "__main__":
        process = leveret.get_context("warm").Process(target=print, args=("born",))
        process.start()
        process.join(30)
    else:
        forbid(RECVMSG, errno.EPERM)
    """
    )
    program.write_text(textwrap.dedent(source))
    done = subprocess.run(
        [sys.executable, program], capture_output=True, text=True, timeout=50, check=False
    )
    assert (done.returncode, done.stdout) == (0, "born\n"), done.stderr
    assert done.stderr.startswith("leveret: cannot be a zygote: ")
    assert done.stderr.count("\n") == 1


def run_filtered(tmp_path: Path, source: str) -> "subprocess.CompletedProcess[str]":
    """A program in a file: its main module is imported by the zygote."""
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(FILTERED + source))
    return subprocess.run(
        [sys.executable, program], capture_output=True, text=True, timeout=50, check=False
    )


@pytest.mark.parametrize("error", ["ENOMEM", "EACCES"])
def test_births_beside_a_fork_handler_that_forbids_them(tmp_path: Path, error: str) -> None:
    """Each spare fails to receive, while the zygote could: start() says so, every time."""
    done = run_filtered(
        tmp_path,
        f"""
    import leveret, os
    if __name__ == "__main__":
        for _ in range(2):
            try:
                leveret.get_context("warm").Process(target=print).start()
            except OSError as error:
                print(errno.errorcode[error.errno], error)
    else:
        os.register_at_fork(after_in_child=lambda: forbid(RECVMSG, errno.{error}))
    """,
    )
    said = done.stdout.splitlines()
    assert (done.returncode, done.stderr, len(said)) == (0, "", 2), done
    for line in said:
        assert line.startswith(f"{error} [Errno ")
        assert f"fails to receive what it is to be: {error} (" in line


def test_births_beside_a_zygote_that_goes_deaf(tmp_path: Path) -> None:
    """It cannot even refuse: births come from one without the main module."""
    done = run_filtered(
        tmp_path,
        """
    import leveret, os
    if __name__ == "__main__":
        for n in range(3):
            process = leveret.get_context("warm").Process(target=print, args=("born", n))
            process.start()
            process.join(30)
    else:
        os.register_at_fork(after_in_parent=lambda: forbid(RECVMSG, errno.EACCES))
    """,
    )
    assert (done.returncode, done.stdout) == (0, "born 0\nborn 1\nborn 2\n"), done.stderr
    assert done.stderr.startswith("leveret: cannot be a zygote: ")
    assert done.stderr.count("\n") == 1

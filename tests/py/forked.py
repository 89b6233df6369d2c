"""For tests: a function in a forked process, or in a thread, and what became of it.

The processes are made by a bare os.fork(), so that tests of what is shared do not depend on how
processes are born.
"""

import contextlib
import ctypes
import multiprocessing.util
import os
import pathlib
import pickle
import signal
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from types import TracebackType
from typing import Any

PATIENCE_S = 20.0  # far beyond what anything here takes: waiting longer means hanging


PR_SET_PDEATHSIG = 1


class DiedError(Exception):
    """The child ended without an answer."""


class Child:
    """function(*args) in a forked process; killed at the end of a `with`, if it still runs."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self._answers, answers = os.pipe()
        self.says, says = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside threads
            self.pid = os.fork()
        if self.pid == 0:
            self._run(function, args, answers, says)
        os.close(answers)
        os.close(says)
        self._over = False

    def _run(
        self, function: Callable[..., Any], args: tuple[Any, ...], answers: int, says: int
    ) -> None:
        _voice.append(says)
        status = 1
        try:
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            multiprocessing.util._run_after_forkers()  # as any process of multiprocessing does
            try:
                answer = pickle.dumps((True, function(*args)))
            except BaseException as error:
                error.add_note(traceback.format_exc())
                answer = pickle.dumps((False, error))
            os.write(answers, answer)
            status = 0
        finally:
            os._exit(status)

    def __enter__(self) -> "Child":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
        os.close(self._answers)
        os.close(self.says)

    def heard(self) -> str:
        """What the child said next: waits for it."""
        said = os.read(self.says, 1)
        if not said:
            raise DiedError(f"process {self.pid} said nothing more")
        return said.decode()

    def asleep(self) -> None:
        """Return once the child has nothing to do: what it waits for is up to it."""
        until(lambda: state_of(self.pid) == "S")

    def kill(self, signo: int = signal.SIGKILL) -> None:
        if not self._over:
            os.kill(self.pid, signo)
            os.waitpid(self.pid, 0)
            self._over = True

    def signal(self, signo: int) -> None:
        os.kill(self.pid, signo)

    def result(self) -> Any:
        with os.fdopen(os.dup(self._answers), "rb") as answers:
            answer = answers.read()
        os.waitpid(self.pid, 0)
        self._over = True
        if not answer:
            raise DiedError(f"process {self.pid} ended without an answer")
        worked, value = pickle.loads(answer)
        if not worked:
            raise value
        return value


_voice: list[int] = []  # of a child: where it says something


def say(word: str = ".") -> None:
    """In a child: one letter to the parent's heard()."""
    os.write(_voice[-1], word.encode())


def in_child(function: Callable[..., Any], *args: Any) -> Any:
    """What function(*args) returns in a forked process."""
    with Child(function, *args) as child:
        return child.result()


class Thread:
    """function(*args) in a thread, and what it returned or raised."""

    def __init__(self, function: Callable[..., Any], *args: Any, name: str | None = None) -> None:
        self._outcome: list[Any] = []
        self._thread = threading.Thread(target=self._run, args=(function, args), name=name)
        self._thread.daemon = True
        self._thread.start()

    def _run(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        try:
            self._outcome = [True, function(*args)]
        except BaseException as error:
            self._outcome = [False, error]

    def asleep(self) -> None:
        path = f"self/task/{self._thread.native_id}"
        until(lambda: state_of(path) == "S")

    def result(self) -> Any:
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), "the thread hangs"
        worked, value = self._outcome
        if not worked:
            raise value
        return value


def in_thread(function: Callable[..., Any], *args: Any, name: str | None = None) -> Any:
    """What function(*args) returns in a thread."""
    return Thread(function, *args, name=name).result()


def state_of(process: int | str) -> str:
    """The kernel's letter for what a process or a thread does: R, S, Z, ...; "" if it is gone."""
    with contextlib.suppress(OSError):
        return pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    return ""


def until(check: Callable[[], bool], within_s: float = PATIENCE_S) -> None:
    """Look until check() holds."""
    deadline = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < deadline, "it does not come to pass"
        time.sleep(0.001)

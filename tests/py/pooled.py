"""For tests: a Pool and a ProcessPoolExecutor under the same few calls, and what comes of tasks."""

import os
import pathlib
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import leveret

KINDS = ("pool", "executor")
METHODS = ("fork", "warm")
PATIENCE_S = 30.0  # on a busy machine; what takes longer hangs


class Pooled:
    """Workers of that KIND: `with` ends them in the orderly way, or after an exception at once."""

    def __init__(self, kind: str, context: Any, workers: int = 2, **options: Any) -> None:
        self.kind = kind
        if kind == "pool":
            self.pool = context.Pool(workers, **options)
        else:
            self.pool = leveret.ProcessPoolExecutor(workers, context, **options)

    def submit(self, function: Callable[..., Any], *args: Any, **limits: Any) -> Any:
        """Put a task; its result has get()."""
        if self.kind == "pool":
            return self.pool.apply_async(function, args, **limits)
        future = self.pool.options(**limits).submit(function, *args)
        future.get = future.result
        return future

    @property
    def crew(self) -> Any:
        return self.pool._crew if self.kind == "pool" else self.pool._staff

    def pids(self) -> list[int]:
        return list(self.crew.pids())

    def rows(self) -> list[Any]:
        """What board.look() says of each worker that has enlisted."""
        seen = map(self.crew.board.look, range(self.crew.size))
        return [row for row in seen if row is not None]

    def end(self) -> None:
        """Let the workers finish, and wait for them."""
        if self.kind == "pool":
            self.pool.close()
            self.pool.join()
        else:
            self.pool.shutdown()

    def kill(self) -> None:
        """End the workers whatever they do."""
        if self.kind == "pool":
            self.pool.terminate()
            self.pool.join()
        else:
            self.pool.kill_workers()
            self.pool.shutdown()

    def __enter__(self) -> "Pooled":
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if kind is None:
            self.end()
        else:
            self.kill()


def outcome(get: Callable[[], Any]) -> str:
    """What get() returns or raises, in a word or two."""
    try:
        return str(get())
    except leveret.WorkerDied as died:
        how = died.signal.name if isinstance(died.signal, signal.Signals) else died.exitcode
        return f"WorkerDied {how}"
    except leveret.RemoteError as remote:
        return f"RemoteError {remote.type.rpartition('.')[2]}"
    except BaseException as error:
        return type(error).__name__


def answer(result: Any) -> str:
    """What comes of a task."""
    return outcome(lambda: result.get(PATIENCE_S))


def eventually(check: Callable[[], Any], what: str = "it", within_s: float = PATIENCE_S) -> Any:
    """What check() returns once that is true."""
    deadline = time.monotonic() + within_s
    while not (found := check()):
        assert time.monotonic() < deadline, f"{what} did not come to pass within {within_s} s"
        threading.Event().wait(0.002)
    return found


def state_of(pid: int) -> str:
    """The letter of a process's state; X if there is none."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


def is_there(pid: int) -> bool:
    return state_of(pid) not in "ZX"


def double(number: int) -> int:
    return 2 * number


def pid_of_worker() -> int:
    return os.getpid()

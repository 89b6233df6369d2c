"""For tests of pools: what runs in their workers. It imports little: some workers live shortly."""

import contextlib
import ctypes
import multiprocessing
import os
import pathlib
import signal
import sys
import threading
from typing import Any

import leveret
from forked import PATIENCE_S, until

own: list[Any] = []
_initialized: list[object] = []
_held: list[bytearray] = []


def square(x: int) -> int:
    return x * x


def reciprocal(x: int) -> float:
    return 1 / x


def add(x: int, y: int = 0) -> int:
    return x + y


def worker_pid(_: object = None) -> int:
    return os.getpid()


def fail(x: int) -> None:
    raise ValueError(f"no {x}")


def fail_at_three(x: int) -> int:
    if x == 3:
        raise ValueError("it is three")
    return x


def wait_for_file(path: str) -> str:
    """Returns when there is such a file."""
    until(lambda: os.path.exists(path))
    return path


def begin_and_wait(begun: str, path: str) -> str:
    pathlib.Path(begun).touch()
    return wait_for_file(path)


def use_own_pool(x: int) -> int:
    return own[0].apply(square, (x,))


def use_own_executor(x: int) -> Any:
    return own[0].submit(square, x).result(PATIENCE_S)


def pool_of_its_own(x: int) -> list[int]:
    with leveret.get_context("fork").Pool(2) as pool:
        return pool.map(square, range(x))


def is_daemon() -> bool:
    return multiprocessing.current_process().daemon


class Unpicklable:
    def __reduce__(self) -> Any:
        raise RuntimeError("cannot pickle it")


class Undecodable:
    def __reduce__(self) -> Any:
        return int, ("x",)


class DemandingError(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


class LockedError(Exception):
    def __init__(self) -> None:
        super().__init__("locked")
        self.lock = threading.Lock()


def give(name: str) -> Any:
    return {"unpicklable": Unpicklable, "undecodable": Undecodable, "lock": threading.Lock}[name]()


def raise_it(name: str) -> Any:
    raise DemandingError(1, 2) if name == "demanding" else LockedError


def blas_threads() -> dict[str, str | None]:
    return {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}


def die(how: str) -> str:
    """What ends the worker; anything else it returns."""
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "os._exit":
        os._exit(7)
    elif how == "sys.exit":
        sys.exit(3)
    elif how == "crash":
        ctypes.string_at(8)
    elif how == "abort":
        os.abort()
    return how


def die_once(path: str) -> str:
    """Kills its worker, unless it has done so before."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return "alive"
    return die("killed")


def touch_and_stay(path: str) -> None:
    pathlib.Path(path).touch()
    threading.Event().wait()


def stay_if_asked(path: str) -> None:
    if path:
        touch_and_stay(path)


def insist(path: str) -> None:
    """Cannot be interrupted, once by that path it says so."""
    while True:
        with contextlib.suppress(BaseException):
            pathlib.Path(path).touch()
            threading.Event().wait()


def catch_timeout(path: str) -> str:
    try:
        threading.Event().wait()
    except TimeoutError as error:
        pathlib.Path(path).write_text(type(error).__name__)
    return "late"


def initialize(value: object) -> None:
    _initialized.append(value)


def get_initialized() -> list[object]:
    return _initialized


def refuse() -> None:
    raise ValueError("not today")


def hold(megabytes: int) -> int:
    _held.append(bytearray(b"x") * (megabytes << 20))
    return os.getpid()


def wait_to_be_interrupted(path: str) -> str:
    pathlib.Path(path).touch()
    threading.Event().wait()
    return "not interrupted"


def start_child_and_die(path: str, method: str) -> None:
    child = leveret.get_context(method).Process(target=stay)
    child.start()
    pathlib.Path(path).write_text(str(child.pid))
    os.kill(os.getpid(), signal.SIGKILL)


def stay() -> None:
    threading.Event().wait()


def get_name() -> str:
    return multiprocessing.current_process().name

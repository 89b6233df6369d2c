"""What runs in a worker of a pool or an executor.

    main()      enlists on the board, sets up, runs the initializer, works until there is no more
    SIGINT      from the owner, with an order: the task that it names gets an exception
                from a terminal: a task that runs gets KeyboardInterrupt, who is idle says nothing
    Faults      where a worker's faulthandler writes, and its owner reads

The rules of a pool and of an executor differ as those of the standard library do: sys.exit() in a
task ends a pool's worker, and is an exception like any other in an executor's; a result that cannot
be pickled is a MaybeEncodingError in a pool, and the pickling error itself in an executor.
"""

from __future__ import annotations

import builtins
import contextlib
import faulthandler
import os
import pickle
import signal
import sys
from multiprocessing import process

from . import _core, cpus
from .reduction import has_cloudpickle, portable

TYPE_CHECKING = False
if TYPE_CHECKING:
    import types
    from collections.abc import Callable
    from typing import Any

__all__ = ["CANCEL", "TIMEOUT", "Faults", "Orders", "main", "rehearse", "runner_of"]

# Why a task is stopped: what Board.order() takes.
TIMEOUT, CANCEL = 1, 2

# What libraries read when they are loaded; who finds none of its own looks at the first.
THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
USERS_OF_THREADS = ("numpy", "scipy", "torch", "sklearn")

FAULT_BYTES = 1 << 16


class Orders:
    """What all workers of a crew are told when they start."""

    __slots__ = (
        "faults",
        "initargs",
        "initializer",
        "memory",
        "most_tasks",
        "rules",
        "threads",
        "workers",
    )

    def __init__(
        self,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
        most_tasks: int | None,
        workers: int,
        memory: tuple[int, int] | None,
        threads: int | str | None,
        rules: str,
        faults: Faults,
    ) -> None:
        self.initializer, self.initargs = initializer, initargs
        self.most_tasks, self.workers = most_tasks, workers
        self.memory, self.rules, self.faults = memory, rules, faults
        self.threads = max(1, cpus.usable() // workers) if threads == "share" else threads

    def __getstate__(self) -> dict[str, Any]:
        state = {name: getattr(self, name) for name in self.__slots__}
        return state | {"initializer": portable(self.initializer)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)


def main(board: _core.Board, row: int, orders: Orders) -> None:
    """Be the worker of that row."""
    # A pool's worker is a daemon, but may have children: they end with it.
    vars(process.current_process())["_config"]["leveret_worker"] = True
    signal.signal(signal.SIGINT, Interrupts(board))
    board.enlist(row)
    orders.faults.listen(row)
    if orders.threads is not None:
        _limit_threads(int(orders.threads))
    fail = _fail_in_pool if orders.rules == "pool" else failed
    if orders.initializer is not None and not _initialize(board, orders):
        return
    board.work(
        fail,
        _unsendable_in_pool if orders.rules == "pool" else _unsendable,
        orders.most_tasks or 0,
        orders.workers,
        Memory(*orders.memory) if orders.memory else None,
        _undecodable_in_pool if orders.rules == "pool" else _undecodable,
        _no_memory(),
    )


def rehearse() -> None:
    """Touch what a worker touches before its first task, in a process that is to end behind it.

    It is in the terminal's group, and ignores Ctrl-C.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Faults.create().listen(0)
    _limit_threads(1)


def _initialize(board: _core.Board, orders: Orders) -> bool:
    assert orders.initializer is not None
    try:
        orders.initializer(*orders.initargs)
    except BaseException as error:
        _core.let_go(error)
        board.unfit(failed(error))
        return False
    board.ready(None)
    return True


class Interrupts:
    """The handler of SIGINT."""

    def __init__(self, board: _core.Board) -> None:
        self._board = board
        self._pid = os.getpid()
        self._heeded = 0  # signals that came with orders
        self._before = _handler_of_program()

    def __call__(self, number: int, frame: types.FrameType | None) -> None:
        if os.getpid() != self._pid:  # forked by a task, and nobody's worker
            signal.default_int_handler(number, frame)
        if not self._heed_order():
            self._interrupt(number, frame)

    def _heed_order(self) -> bool:
        """Whether the signal came with an order; raises in the task that the order names.

        An order may be overwritten by the next one before its signal is here, which raises what
        that one says: its own signal then finds that done, and must not be taken for Ctrl-C. Where
        two signals came as one, the next Ctrl-C is taken for the other one, and ends nothing.
        """
        number, why, count = self._board.ordered()
        if count == self._heeded:
            return False
        self._heeded += 1
        if self._board.running() == number:
            raise _stopped(why)
        return True

    def _interrupt(self, number: int, frame: types.FrameType | None) -> None:
        """Do what the program wants of Ctrl-C; if it wants nothing special, end what runs."""
        if callable(self._before) and self._before is not signal.default_int_handler:
            self._before(number, frame)
        elif self._before is not signal.SIG_IGN and self._board.running() is not None:
            raise KeyboardInterrupt


def _handler_of_program() -> Any:
    """What the program wants of SIGINT.

    The handler of asyncio.run() stands for the default one, and cancels a task of the loop that it
    belongs to. A forked worker has a copy of it, and no such loop.
    """
    handler = signal.getsignal(signal.SIGINT)
    return handler if runner_of(handler) is None else signal.default_int_handler


def runner_of(handler: Any) -> Any:
    """The Runner of asyncio's that a handler of SIGINT belongs to, or None."""
    runners = sys.modules.get("asyncio.runners")
    runner = getattr(getattr(handler, "func", None), "__self__", None)  # a partial of its method
    return runner if runners and isinstance(runner, runners.Runner) else None


def _stopped(why: int) -> BaseException:
    from . import faults

    if why == TIMEOUT:
        return faults.TaskTimeout("the task's time is over")
    from concurrent.futures import CancelledError

    return CancelledError("the task was cancelled")


# What goes wrong.


def failed(error: BaseException) -> tuple[str, str, str, bytes | None]:
    """(traceback, type, text, pickle) of the exception of a task, whose frames hold no memory."""
    if isinstance(error, MemoryError):
        _explain_limit(error)
    import traceback
    from multiprocessing.reduction import ForkingPickler

    text = "".join(traceback.format_exception(error))
    try:
        pickled = bytes(ForkingPickler.dumps(error))
    except Exception:
        pickled = None
    return text, type_name(error), _text_of(error), pickled


def _no_memory() -> tuple[str, str, str, bytes]:
    """As above, of a task of which nothing else can be told: made while there is memory."""
    text = f"worker {os.getpid()} had too little memory to send what this task returned or raised"
    return f"MemoryError: {text}\n", "MemoryError", text, pickle.dumps(MemoryError(text))


def _explain_limit(error: MemoryError) -> None:
    """It has no text of its own, and the machine may have memory enough."""
    if Memory.limit:
        with contextlib.suppress(Exception):  # it needs some, too
            error.add_note(
                f"leveret: a worker of this pool gets {Memory.limit} bytes of its own at most "
                "(max_memory_per_child)"
            )


def type_name(error: BaseException) -> str:
    """The type of an exception, as tracebacks name it."""
    kind = type(error)
    known = kind.__module__ in (builtins.__name__, "__main__")
    return kind.__qualname__ if known else f"{kind.__module__}.{kind.__qualname__}"


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "<exception str() failed>"


def _fail_in_pool(error: BaseException) -> tuple[Any, ...]:
    if isinstance(error, SystemExit):
        raise error
    return failed(error)


def _unsendable(error: BaseException, value: object) -> tuple[Any, ...]:
    return failed(error)


def _undecodable_in_pool(error: BaseException) -> tuple[Any, ...]:
    """As of what a task raised; and who unpickled it."""
    _explain(error)
    return *_fail_in_pool(error), os.getpid()


def _explain(error: BaseException) -> None:
    """Note in the ERROR of a task that cannot be unpickled why its function is not there."""
    text = _text_of(error)
    if isinstance(error, AttributeError) and ("__main__" in text or "__mp_main__" in text):
        help = "" if has_cloudpickle() else ", or install cloudpickle, which can send functions"
        error.add_note(
            "leveret: a worker finds in the main module what was defined there, at top level, "
            "before the pool started it; unless it was forked, only what is in a file, outside "
            '`if __name__ == "__main__":`. What came later, at a prompt or in a notebook, is found '
            f"by the forked workers of a new pool: make one{help}"
        )


def _undecodable(error: BaseException) -> tuple[Any, ...]:
    """In the standard library's executor a worker dies of this."""
    _explain(error)
    from concurrent.futures.process import BrokenProcessPool

    broken = BrokenProcessPool(
        f"the task could not be unpickled in worker {os.getpid()}: {type_name(error)}: "
        f"{_text_of(error)}"
    )
    broken.__cause__ = error
    return failed(broken)


def _unsendable_in_pool(error: BaseException, value: object) -> tuple[Any, ...]:
    from multiprocessing import pool as std

    return failed(vars(std)["MaybeEncodingError"](_Shown(error), _Shown(value)))


class _Shown:
    """What has the repr of another object, or its beginning: not of megabytes."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __repr__(self) -> str:
        from . import faults

        return faults.shown(self._value)


# Limits.


def _limit_threads(count: int) -> None:
    """Let the BLAS and OpenMP libraries of this process start so many threads at most.

    Unless the program has said how many, in the variables that they read.
    """
    if THREADS[0] in os.environ:
        return
    for name in THREADS:
        os.environ.setdefault(name, str(count))
    if any(name in sys.modules for name in USERS_OF_THREADS):
        with contextlib.suppress(ImportError):  # they are loaded and have read their variables
            import threadpoolctl  # type: ignore[import-untyped, import-not-found, unused-ignore]

            threadpoolctl.threadpool_limits(count)


class Memory:
    """How much memory of its own a worker has taken since it began."""

    limit = 0  # bytes of its own that this worker gets; 0: as many as there are

    def __init__(self, most: int, limit: int) -> None:
        """More than LIMIT bytes it does not get (MemoryError); beyond MOST it is replaced."""
        import resource

        Memory.limit = limit
        self._most, self._page = most, resource.getpagesize()
        self._fd = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        self._at_first = self._own()
        data = int(self._read()[5]) * self._page
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        wanted = data + limit
        if hard == resource.RLIM_INFINITY or wanted < hard:
            resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))

    def _read(self) -> list[bytes]:
        return os.pread(self._fd, 256, 0).split()

    def _own(self) -> int:
        """What is resident and not shared with other processes by file or arena."""
        _, resident, shared, *_ = self._read()
        return (int(resident) - int(shared)) * self._page

    def __call__(self) -> bool:
        """Whether it is too much, between two tasks."""
        return self._own() - self._at_first > self._most


class Faults:
    """A memory file of the owner's, with a place for the last words of each row's worker.

    A worker opens it anew by its owner's /proc, so that no descriptor needs to be sent and each
    worker writes at a place of its own. Where that does not work, nothing is told of a fault.
    """

    def __init__(self, pid: int, fd: int, inode: int) -> None:
        self._pid, self._fd, self._inode = pid, fd, inode

    @classmethod
    def create(cls) -> Faults:
        """Make the file; without descriptors there will be no last words."""
        try:
            fd = os.memfd_create("leveret-faults", os.MFD_CLOEXEC)
        except OSError:
            return cls(os.getpid(), -1, 0)
        return cls(os.getpid(), fd, os.fstat(fd).st_ino)

    def listen(self, row: int) -> None:
        """In the worker of that row: have faulthandler write there."""
        if self._fd < 0:
            return
        with contextlib.suppress(OSError):
            fd = os.open(f"/proc/{self._pid}/fd/{self._fd}", os.O_WRONLY | os.O_CLOEXEC)
            if os.fstat(fd).st_ino != self._inode:
                os.close(fd)
                return
            os.lseek(fd, row * FAULT_BYTES, os.SEEK_SET)
            faulthandler.enable(fd, all_threads=False)

    def read(self, row: int) -> str:
        """In the owner: the last words of that row's worker."""
        return _without_our_frames(self._said(row).decode(errors="replace"))

    def _said(self, row: int) -> bytes:
        if self._fd < 0:
            return b""
        return os.pread(self._fd, FAULT_BYTES, row * FAULT_BYTES).partition(b"\0")[0]

    def clear(self, row: int) -> None:
        """In the owner: another worker has the row next."""
        if said := self._said(row):
            os.pwrite(self._fd, bytes(len(said)), row * FAULT_BYTES)

    def close(self, _os: Any = os) -> None:
        """In the owner: there is nobody any more who would say something."""
        fd, self._fd = self._fd, -1  # one of several threads closes it
        if fd >= 0 and _os.getpid() == self._pid:
            _os.close(fd)

    def __del__(self) -> None:
        self.close()


def _without_our_frames(text: str) -> str:
    """A traceback down to the task: below it is how the worker came to run it."""
    lines, below = [], False
    for line in text.splitlines(keepends=True):
        below = below or f'"{__file__}"' in line
        if not (below and line.startswith('  File "')):
            lines.append(line)
    return "".join(lines)

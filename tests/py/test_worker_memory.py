"""Workers that have no memory to claim a task with: whose answer that costs, and whose it does not.

A task with a block needs a handle in whoever claims it, and a place in the table of those. A table
that is full is made again, twice as long; so a worker with many shared objects, that may not have
much more memory, is short of just that, and not of what it needs to say so.
"""

import contextlib
import multiprocessing.pool as std
import os
import resource
import signal
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import leveret
import pytest
from forked import PATIENCE_S
from leveret import _core
from leveret.pool import Pool
from pooled import KINDS, Pooled

pytestmark = [
    pytest.mark.skipif(
        "asan" in os.environ.get("LD_PRELOAD", ""),
        reason="AddressSanitizer has an allocator of its own, which ends who gets nothing",
    ),
]

MANY = 40_000  # the table has three MiB when it is next made
ROOM = 5 << 19  # enough for all else
LARGE = bytes(1 << 20)  # has a block

hoard: list[Any] = []


def use_up(kept: list[Any] = hoard) -> int:
    """From here on this process can have no more shared objects than KEPT, and those it has."""
    kept.extend(_core.Semaphore(1) for _ in range(MANY))
    with open("/proc/self/statm") as statm:
        data = int(statm.read().split()[5]) * resource.getpagesize()
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (data + ROOM, hard))
    with contextlib.suppress(MemoryError):
        while True:
            kept.append(_core.Semaphore(1))
    return os.getpid()


def pid_and_size(data: bytes) -> tuple[int, int]:
    return os.getpid(), len(data)


class Hoarder:
    """Has used up what there is for as long as a worker keeps it."""

    def __init__(self) -> None:
        self.kept: list[Any] = []

    def __reduce__(self) -> Any:
        return make_hoarder, ()

    def __call__(self) -> int:
        return os.getpid()


def make_hoarder() -> Hoarder:
    hoarder = Hoarder()
    use_up(hoarder.kept)
    return hoarder


@contextlib.contextmanager
def one_worker(kind: str, **options: Any) -> Iterator[Callable[..., Any]]:
    """What puts a task, and returns how to get its result.

    Born from a clean process: the table of one that many tests have run in is longer than that.
    """
    ctx = leveret.get_context("warm")
    if kind == "pool":
        with Pool(1, context=ctx, **options) as pool:
            yield lambda function, *args: pool.apply_async(function, args).get
        pool.join()
    else:
        with leveret.ProcessPoolExecutor(1, mp_context=ctx, **options) as executor:
            yield lambda function, *args: executor.submit(function, *args).result


@pytest.fixture(params=["pool", "executor"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_what_other_tasks_have_left_costs_nobody_his_task(
    kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """The worker ends, blamed for nothing, and the next one does what it could not claim."""
    with one_worker(kind, strict=True) as put:
        poor = put(use_up)(PATIENCE_S)
        results = [put(pid_and_size, data) for data in (b"small", LARGE, b"small", LARGE)]
        answers = [result(PATIENCE_S) for result in results]
    assert [size for _, size in answers] == [5, len(LARGE), 5, len(LARGE)]
    assert answers[0][0] == poor != answers[1][0]
    assert {pid for pid, _ in answers[1:]} == {answers[1][0]}
    assert capfd.readouterr().err == ""


def test_who_has_none_from_the_beginning_answers_the_task(kind: str) -> None:
    """However many there are: no worker is started that could do no more, and none in vain."""
    with one_worker(kind, initializer=use_up) as put:
        results = [put(pid_and_size, data) for data in (b"small", LARGE) * 6]
        for result in results[::2]:
            assert result(PATIENCE_S)[1] == 5
        pids = [pid_of_failure(result) for result in results[1::2]]
    assert all(pids)


def pid_of_failure(result: Callable[[float], Any]) -> int:
    words = r"left in worker [0-9]+ to take this task's data"
    with pytest.raises(MemoryError, match=words) as info:
        result(PATIENCE_S)
    return int(str(info.value).split("worker ")[1].split()[0])


def test_what_is_kept_goes_first(kind: str) -> None:
    with one_worker(kind) as put:
        poor = put(Hoarder())(PATIENCE_S)
        assert put(pid_and_size, LARGE)(PATIENCE_S) == (poor, len(LARGE))


class Relief:
    """There is no memory at all as long as it lives."""

    nothing = None

    def __init__(self) -> None:
        self.give_back = _testcapi().remove_mem_hooks

    def __del__(self) -> None:
        self.give_back()


def _testcapi() -> Any:
    import _testcapi

    return _testcapi


def keep_all_but(few: int) -> NoReturn:
    """Raise MemoryError, and leave memory for a traceback, perhaps, and nothing else."""
    relief, error = Relief(), MemoryError()
    _testcapi().set_nomemory(few)
    raise error from relief.nothing


# Messages.

MUCH = 30 << 20


def limit_messages() -> None:
    """From here on this process can send nothing of more than a MiB."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))


def raise_much(size: int) -> NoReturn:
    raise ValueError("x" * size)


@pytest.mark.parametrize("kind", KINDS)
def test_a_result_that_there_is_no_memory_for_is_an_error_of_its_task(
    kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Said in little, by the worker itself, which goes on."""
    ctx = leveret.get_context("fork")
    with Pooled(kind, ctx, 1, initializer=limit_messages) as pooled:
        worker = pooled.submit(os.getpid).get(PATIENCE_S)
        with pytest.raises((std.MaybeEncodingError, MemoryError)) as caught:
            pooled.submit(bytes, MUCH).get(PATIENCE_S)
        with pytest.raises(MemoryError, match=f"worker {worker} had too little memory to send"):
            pooled.submit(raise_much, MUCH).get(PATIENCE_S)
        assert pooled.submit(os.getpid).get(PATIENCE_S) == worker
    assert isinstance(caught.value, std.MaybeEncodingError) is (kind == "pool")
    assert "cannot put a message into shared memory" in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert capfd.readouterr().err == ""


def keep_all_that_there_is() -> None:
    with open("/proc/self/statm") as statm:
        used = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, resource.getrlimit(resource.RLIMIT_AS)[1]))
    kept: list[Any] = []
    for size in (1 << 20, 1 << 14, 1 << 8):
        with contextlib.suppress(MemoryError):
            while True:
                kept.append(bytearray(size))
    kept.append(bytearray(1 << 20))


@pytest.mark.parametrize("way", ["item", "star", "apply"])
def test_an_exception_comes_through_where_there_is_no_memory_for_frames(way: str) -> None:
    """Each time in a worker that nothing has run in: it is small, and has nothing to spare."""
    with Pool(1, context=leveret.get_context("warm"), maxtasksperchild=1) as pool:
        for _ in range(8):
            with pytest.raises(MemoryError):
                if way == "apply":
                    pool.apply(keep_all_that_there_is)
                elif way == "star":
                    pool.starmap(keep_all_that_there_is, [()])
                else:
                    pool.map(keep_all_that_there_is_of, [None])


def keep_all_that_there_is_of(_: object) -> None:
    keep_all_that_there_is()


def test_what_gives_neither_a_value_nor_an_exception() -> None:
    testcapi = pytest.importorskip("_testcapi")
    refused = pytest.raises(SystemError, match="without setting an exception")
    with Pool(1, context=leveret.get_context("fork")) as pool, refused:
        pool.apply(testcapi.return_null_without_error)


@pytest.mark.parametrize("kind", KINDS)
def test_a_task_lets_go_of_memory_before_anything_is_said(kind: str) -> None:
    pytest.importorskip("_testcapi")
    with Pooled(kind, leveret.get_context("fork"), 1) as pooled:
        worker = pooled.submit(os.getpid).get()
        for few in range(5, 24):  # with less the interpreter itself fails
            with pytest.raises(MemoryError):
                pooled.submit(keep_all_but, few).get(PATIENCE_S)
        assert pooled.submit(os.getpid).get(PATIENCE_S) == worker

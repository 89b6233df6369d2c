"""Pool: progress=, how far a call is. To be shown that changes nothing else."""

import contextlib
import functools
import io
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from typing import Any

import leveret
import pytest
from executors import Gate
from forked import until
from leveret.pool import Pool
from tasks import reciprocal, square

pytestmark = [
    # The standard library's, of a fork beside threads: a pool forks when a worker has died.
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]


# What is shown.


def test_progress_is_told(pool: Pool) -> None:
    told: list[tuple[int, int | None]] = []

    def tell(done: int, total: int | None) -> None:
        told.append((done, total))

    pool.map(square, range(100), progress=tell)
    assert told[-1] == (100, 100) and told == sorted(told)
    pool.map(square, range(100), 7, progress=tell)
    assert told[-1] == (100, 100)
    del told[:]
    list(pool.imap(square, range(5), progress=tell))
    assert told == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]
    del told[:]
    list(pool.imap_unordered(square, iter(range(5)), 2, progress=tell))
    assert told == [(count, None) for count in range(1, 6)]


def test_progress_that_raises_is_reported_once(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", reported.append)

    def refuse(done: int, total: int | None) -> None:
        raise KeyError(done)

    assert pool.map(square, range(100), progress=refuse) == [x * x for x in range(100)]
    assert len(reported) == 1 and reported[0].exc_type is KeyError
    assert "progress" in reported[0].exc_value.__notes__[0]


class Bar:
    """As tqdm's."""

    def __init__(self, total: int | None) -> None:
        self.n, self.total, self.closed = 0, total, 0

    def update(self, count: int) -> None:
        self.n += count

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def bars(monkeypatch: pytest.MonkeyPatch) -> list[Bar]:
    """Those that were made, where there is a tqdm."""
    made: list[Bar] = []

    def tqdm(total: int | None) -> Bar:
        made.append(Bar(total))
        return made[-1]

    module = type(sys)("tqdm")
    module.tqdm = tqdm  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tqdm", module)
    return made


def test_progress_is_tqdms_where_it_is(pool: Pool, bars: list[Bar]) -> None:
    assert pool.map(square, range(5), progress=True) == [0, 1, 4, 9, 16]
    assert list(pool.imap(square, range(5), 2, progress=True)) == [0, 1, 4, 9, 16]
    assert pool.map(square, [], progress=True) == []
    assert [(bar.n, bar.total, bar.closed) for bar in bars] == [(5, 5, 1), (5, 5, 1), (0, 0, 1)]


@pytest.mark.parametrize("chunksize", [1, 2])
def test_a_bar_is_closed_where_not_all_is_taken(
    pool: Pool, bars: list[Bar], chunksize: int
) -> None:
    for _ in pool.imap(square, range(5), chunksize, progress=True):
        break
    with contextlib.suppress(ZeroDivisionError):  # which keeps no traceback, with the results in it
        for _ in pool.imap_unordered(reciprocal, [1, 0, 0], chunksize, progress=True):
            pass
    assert [bar.closed for bar in bars] == [1, 1] and bars[0].n == 1


def test_what_could_not_be_put_is_not_shown_as_done(pool: Pool, bars: list[Bar]) -> None:
    with pytest.raises(TypeError, match="pickle"):
        pool.map(threading.Lock().acquire, range(5), progress=True)
    assert [(bar.n, bar.closed) for bar in bars] == [(0, 1)]


def test_a_bar_that_breaks_is_reported_once(
    pool: Pool, bars: list[Bar], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The terminal is gone, for one."""
    reported: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", reported.append)
    monkeypatch.delattr(Bar, "update")
    assert pool.map(square, range(50), progress=True) == [x * x for x in range(50)]
    assert len(reported) == 1 and reported[0].exc_type is AttributeError


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_a_line_on_a_terminal(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr(sys, "stderr", stream := Terminal())
    list(pool.imap(square, range(5), progress=True))
    assert "\r5 of 5, 100 %" in stream.getvalue() and stream.getvalue().endswith("s\n")
    monkeypatch.setattr(sys, "stderr", stream := Terminal())
    pool.map(square, range(5), progress=True)
    assert "\r5 of 5, 100 %" in stream.getvalue() and stream.getvalue().endswith("s\n")
    monkeypatch.setattr(sys, "stderr", quiet := io.StringIO())
    pool.map(square, range(5), progress=True)
    assert quiet.getvalue() == ""


@pytest.mark.parametrize("where", ["to a pipe", "closed"])
def test_progress_is_nothing_where_there_is_no_terminal(where: str) -> None:
    """Nor is it missed where there is no standard error at all."""
    program = """
        import sys, leveret
        sys.modules["tqdm"] = None
        with leveret.get_context("fork").Pool(1) as pool:
            assert pool.map(abs, range(5), progress=True) == list(range(5))
            assert list(pool.imap(abs, range(5), progress=True)) == list(range(5))
        print("done")
    """
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(program)]
    if where == "closed":
        command = ["sh", "-c", 'exec "$@" 2>&-', "sh", *command]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=50, check=True)
    assert (ended.stdout, ended.stderr) == ("done\n", "")


# A call that shows how far it is is told of results more often, and no sooner forgotten.


def at_once(gate: str) -> None:
    pass


def never(gate: str) -> None:
    threading.Event().wait()


def die_behind(gate: str) -> None:
    until(pathlib.Path(gate).exists)
    os.kill(os.getpid(), signal.SIGKILL)


def die_once_behind(gate: str) -> None:
    until(pathlib.Path(gate).exists)
    if not os.path.exists(gate + "-died"):
        pathlib.Path(gate + "-died").touch()
        os.kill(os.getpid(), signal.SIGKILL)


def call(function: Callable[[str], None], gate: str) -> str:
    function(gate)
    return function.__name__


class Shown:
    """A call of two tasks, the other of which goes on when the first is told of."""

    def __init__(self, gate: Gate, other: Callable[[str], None]) -> None:
        self.gate, self.other, self.told = gate, other, threading.Event()

    def map_by(self, pool: Pool, **limits: Any) -> list[str]:
        def tell(done: int, total: int | None) -> None:
            self.told.set()

        run = functools.partial(call, gate=self.gate.path)
        return pool.map(run, [at_once, self.other], 1, progress=tell, **limits)


@pytest.fixture
def two() -> Iterator[Pool]:
    with leveret.get_context("fork").Pool(2) as pool:
        yield pool


class Meanwhile(threading.Thread):
    """Does something as soon as one task is told of."""

    def __init__(self, shown: Shown, act: Callable[[], object]) -> None:
        super().__init__()
        self.shown, self.act = shown, act
        self.start()

    def run(self) -> None:
        self.shown.told.wait()
        self.act()

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self.join()


def test_a_time_limit(two: Pool, gate: Gate) -> None:
    with pytest.raises(leveret.TaskTimeout):
        Shown(gate, never).map_by(two, timeout=0.5)


def test_an_end(two: Pool, gate: Gate) -> None:
    shown = Shown(gate, never)
    with Meanwhile(shown, two.terminate), pytest.raises(RuntimeError, match="terminated"):
        shown.map_by(two)


def test_a_death_in_a_strict_pool(gate: Gate) -> None:
    shown = Shown(gate, die_behind)
    with (
        leveret.get_context("fork").Pool(2, strict=True) as pool,
        Meanwhile(shown, gate.open),
        pytest.raises(leveret.WorkerDied),
    ):
        shown.map_by(pool)


def test_a_retry_in_a_closed_pool(two: Pool, gate: Gate) -> None:
    shown = Shown(gate, die_once_behind)

    def close_then_open() -> None:
        two.close()
        gate.open()

    with Meanwhile(shown, close_then_open):
        assert shown.map_by(two, retries=1) == ["at_once", "die_once_behind"]

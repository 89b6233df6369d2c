"""Pool.imap() and imap_unordered(): an input that is read as its results are taken.

    input  --read, at most buffersize ahead-->  tasks  -->  results  --next()-->  the program

How far the input is read; who waits for whom; and what becomes of it where it raises, where nobody
takes its results, and where the stream, or its pool, is dropped.
"""

import functools
import itertools
import pathlib
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import leveret
import pytest
from crews import pool_of
from forked import PATIENCE_S, until
from leveret import jobs
from leveret.pool import Pool
from tasks import square, wait_for_file

pytestmark = [
    # The standard library's, of a fork beside threads: a pool forks when a worker has died.
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]


def count_in(path: str, x: int) -> None:
    with open(path, "ab") as file:
        file.write(b"x")


@pytest.mark.parametrize("kind", [list, iter])
@pytest.mark.parametrize("chunksize", [1, 7])
def test_what_nobody_takes_is_done(
    pool: Pool, tmp_path: pathlib.Path, kind: Callable[[Any], Any], chunksize: int
) -> None:
    """An iterator that is left, and one that nobody has looked at: as in the standard library."""
    path = tmp_path / "count"
    work = functools.partial(count_in, str(path))
    for _ in pool.imap(work, kind(range(300)), chunksize):
        break
    pool.imap_unordered(work, kind(range(300)), chunksize)
    pool.close()
    pool.join()
    assert path.stat().st_size == 600


def test_nobody_reads_on_for_a_bound_that_was_given(pool: Pool) -> None:
    endless = itertools.count()
    for _ in pool.imap(square, endless, buffersize=5):
        break
    pool.close()
    pool.join()
    assert next(endless) < 20


def test_nobody_reads_on_for_a_pool_that_was_dropped() -> None:
    def first() -> int:
        pool = leveret.get_context("fork").Pool(1)
        for crew in [pool._crew]:
            crews.append(weakref.ref(crew))
        return int(next(pool.imap(square, endless)))

    crews: list[Any] = []
    endless = itertools.count()
    with pytest.warns(ResourceWarning):
        assert first() == 0
    until(lambda: crews[0]() is None or crews[0]()._is_gone())


def test_a_bound_does_not_grow_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "BOUND_MOST", 2 * jobs.BOUND_LEAST)
    monkeypatch.setattr(jobs, "BOUND_S", 60.0)
    with pool_of(leveret.get_context("fork"), 1) as pool:
        results = pool.imap(square, range(20 * jobs.BOUND_LEAST))
        assert sum(1 for _ in results) == 20 * jobs.BOUND_LEAST
        assert results._stream._bound == 2 * jobs.BOUND_LEAST


def counted(count: list[int], limit: int | None = None) -> Iterator[int]:
    for number in itertools.count() if limit is None else range(limit):
        count.append(number)
        yield number


@pytest.mark.parametrize("name", ["imap", "imap_unordered"])
def test_an_endless_input_is_read_as_results_are_taken(pool: Pool, name: str) -> None:
    read: list[int] = []
    results = getattr(pool, name)(square, counted(read), buffersize=8)
    for taken in range(1, 50):
        next(results)
        assert len(read) <= taken + 8
    results = getattr(pool, name)(square, counted(read))
    assert len({next(results) for _ in range(3000)}) == 3000
    assert len(read) < 3000 + 50 + 70_000


def test_a_bounded_list_is_read_no_further(pool: Pool, tmp_path: pathlib.Path) -> None:
    paths = [str(tmp_path / str(number)) for number in range(20)]
    results = pool.imap(pathlib.Path.touch, map(pathlib.Path, paths), buffersize=3)
    until(lambda: len(list(tmp_path.iterdir())) == 3)
    next(results)
    until(lambda: len(list(tmp_path.iterdir())) >= 4)
    assert len(list(tmp_path.iterdir())) <= 5
    list(results)
    assert len(list(tmp_path.iterdir())) == 20


def test_room_that_comes_as_the_reader_lies_down(pool: Pool) -> None:
    """Who takes the last result tells nobody, for the reader is not hungry yet: it looks again."""
    begin = threading.Event()
    taken: list[int] = []

    def numbers() -> Iterator[int]:
        assert begin.wait(PATIENCE_S)
        yield from range(8)

    class Room(threading.Event):
        def clear(self) -> None:
            super().clear()
            if not taken:
                taken.extend([results.next(PATIENCE_S) for _ in range(4)])

    results = pool.imap(square, numbers(), buffersize=4)
    results._stream._room = Room()
    begin.set()
    until(lambda: len(taken) == 4)
    assert taken + [results.next(PATIENCE_S) for _ in range(4)] == [x * x for x in range(8)]


@pytest.mark.parametrize("name", ["imap", "imap_unordered"])
@pytest.mark.parametrize("chunksize", [1, 3])
def test_an_input_that_raises_delivers_what_came_before(
    pool: Pool, name: str, chunksize: int
) -> None:
    def items() -> Iterator[int]:
        yield from range(9)
        raise KeyError("no more")

    results = getattr(pool, name)(square, items(), chunksize)
    assert sorted(next(results) for _ in range(9)) == [x * x for x in range(9)]
    with pytest.raises(KeyError, match="no more"):
        next(results)
    assert list(results) == []


def test_an_input_may_wait_for_the_results(pool: Pool) -> None:
    back: list[int] = []

    def items() -> Iterator[int]:
        for number in range(20):
            until(lambda number=number: len(back) >= number)
            yield number

    for result in pool.imap(square, items()):
        back.append(result)
    assert back == [x * x for x in range(20)]


def test_next_may_time_out(pool: Pool, tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "go")
    results = pool.imap(wait_for_file, [path])
    with pytest.raises(leveret.TimeoutError):
        results.next(0.01)
    pathlib.Path(path).touch()
    assert results.next(PATIENCE_S) == path
    with pytest.raises(StopIteration):
        results.next(0)


def test_a_dropped_stream_reads_no_more(pool: Pool) -> None:
    read: list[int] = []
    results = pool.imap(square, counted(read), buffersize=4)
    next(results)
    del results
    until(lambda: not any("imap" in thread.name for thread in threading.enumerate()))
    assert len(read) <= 6
    until(lambda: pool.apply(square, (2,)) == 4 and not pool._cache)


def test_two_threads_take_from_one_stream(pool: Pool) -> None:
    results = pool.imap_unordered(square, iter(range(5000)))
    taken: list[int] = []
    threads = [threading.Thread(target=lambda: taken.extend(results)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert sorted(taken) == [x * x for x in range(5000)]

"""Pool.imap(): what becomes of an input whose results nobody takes, and how far it is read."""

import functools
import itertools
import pathlib
import weakref
from collections.abc import Callable
from typing import Any

import leveret
import pytest
from crews import pool_of
from forked import until
from leveret import jobs
from leveret.pool import Pool
from tasks import square

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

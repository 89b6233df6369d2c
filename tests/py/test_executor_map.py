"""ProcessPoolExecutor.map(): in order, in chunks, in time, and as much as is wanted."""

import itertools
import os
import pathlib
import weakref
from collections.abc import Callable, Iterator
from math import inf
from typing import Any

import leveret
import pytest
from executors import Gate, Holder, forking
from forked import PATIENCE_S, until
from leveret._core import ITEM
from leveret.executor import ProcessPoolExecutor
from leveret.mapped import MapResults
from tasks import (
    add,
    fail_at_three,
    square,
    stay_if_asked,
    wait_for_file,
    worker_pid,
)

pytestmark = [
    # The standard library's, of a fork beside threads: an executor forks when a worker has died.
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]


def test_map_is_in_order_and_lets_go(executor: ProcessPoolExecutor) -> None:
    results = executor.map(give_holder, range(20))
    for result in results:
        reference = weakref.ref(result)
        del result
        assert reference() is None
    assert list(executor.map(square, [])) == []
    assert list(executor.map(square)) == []


def give_holder(_: object) -> Holder:
    return Holder()


@pytest.mark.parametrize("chunksize", [1, 2, 5, 40])
def test_map_in_chunks(executor: ProcessPoolExecutor, chunksize: int) -> None:
    assert list(executor.map(square, range(9), chunksize=chunksize)) == [x * x for x in range(9)]
    sums = executor.map(add, range(9), itertools.count(), chunksize=chunksize)
    assert list(itertools.islice(executor.map(square, range(9)), 3)) == [0, 1, 4]
    assert list(sums) == list(range(0, 18, 2))


def test_map_refuses(executor: ProcessPoolExecutor) -> None:
    with pytest.raises(ValueError, match="chunksize must be >= 1"):
        executor.map(square, [1], chunksize=0)
    with pytest.raises(TypeError, match="buffersize must be an integer or None"):
        executor.map(square, [1], buffersize=2.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="buffersize must be None or > 0"):
        executor.map(square, [1], buffersize=0)


def test_map_says_where_rules_belong(executor: ProcessPoolExecutor) -> None:
    called: Any
    place = r"'retries'; .* executor\.options\(retries=\.\.\.\)\.map"
    for called in (executor, executor.options(timeout=9)):
        with pytest.raises(TypeError, match=place):
            called.map(square, [1], retries=2)
        with pytest.raises(TypeError, match=r"unexpected keyword argument 'chunk_size'$"):
            called.map(square, [1], chunk_size=2)
    assert list(executor.options(retries=2).map(square, [1])) == [1]


def test_map_ends_with_the_first_exception(executor: ProcessPoolExecutor) -> None:
    results = executor.map(fail_at_three, range(5))
    assert list(itertools.islice(results, 3)) == [0, 1, 2]
    with pytest.raises(ValueError, match="three") as caught:
        next(results)
    assert "fail_at_three" in str(caught.value.__cause__)
    assert list(results) == []


@pytest.mark.parametrize("way", ["exception", "close"])
def test_map_cancels_the_rest(tmp_path: pathlib.Path, way: str) -> None:
    with forking(1) as executor:
        go, names = tmp_path / "go", [str(tmp_path / f"{x}") for x in range(50)]
        results = executor.map(touch_one, [*names[:2], "fail", str(go), *names[2:]])
        until(lambda: os.path.exists(names[1]))
        assert next(results) == names[0]
        if way == "exception":
            with pytest.raises(FileNotFoundError):
                list(results)
        else:
            results.close()
        go.touch()
    assert sum(map(os.path.exists, names)) < 40


def test_a_map_that_is_dropped_stops_what_runs(tmp_path: pathlib.Path) -> None:
    """With stop_running=True; its worker is interrupted, and goes on."""
    begun = tmp_path / "begun"
    with forking(1, stop_running=True) as executor:
        pid = executor.submit(worker_pid).result()
        results = executor.map(stay_if_asked, ["", str(begun)])
        assert next(results) is None
        until(begun.exists)
        results.close()
        assert executor.submit(worker_pid).result(PATIENCE_S) == pid


def touch_one(name: str) -> str:
    if name == "fail":
        raise FileNotFoundError(name)
    if name.endswith("go"):
        wait_for_file(name)
    pathlib.Path(name).touch()
    return name


def test_map_in_time_or_not(executor: ProcessPoolExecutor, gate: Gate) -> None:
    results = executor.map(wait_for_file, [__file__, gate.path, __file__], timeout=0.3)
    assert next(results) == __file__
    with pytest.raises(TimeoutError):
        next(results)
    assert list(results) == []
    gate.open()


def test_map_that_nobody_iterates_over(executor: ProcessPoolExecutor, tmp_path: Any) -> None:
    names = [str(tmp_path / f"{x}") for x in range(20)]
    executor.map(touch_one, names)
    until(lambda: all(map(os.path.exists, names)))
    held = Holder()
    reference = weakref.ref(held)
    executor.map(add, [1], [held])
    del held
    until(lambda: reference() is None)


def test_a_dropped_map_is_attended_to(executor: ProcessPoolExecutor, gate: Gate) -> None:
    results = executor.map(wait_for_file, [gate.path])
    until(lambda: executor._staff.claims._next == inf)  # now nothing but a death wakes the thread
    del results
    gate.open()
    until(lambda: not executor._staff.jobs)


def test_map_reads_as_results_are_taken(executor: ProcessPoolExecutor) -> None:
    read: list[int] = []

    def numbers() -> Iterator[int]:
        for number in itertools.count():
            read.append(number)
            yield number

    results = executor.map(square, numbers(), buffersize=3)
    assert read == [0, 1, 2]
    assert list(itertools.islice(results, 4)) == [0, 1, 4, 9]
    assert read == [0, 1, 2, 3, 4, 5, 6]
    results.close()
    chunks = executor.map(add, itertools.count(), itertools.count(), chunksize=5, buffersize=2)
    assert list(itertools.islice(chunks, 20)) == list(range(0, 40, 2))


def test_map_of_an_iterable_that_raises(executor: ProcessPoolExecutor) -> None:
    def numbers() -> Iterator[int]:
        yield from range(3)
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        executor.map(square, numbers())
    results = executor.map(square, numbers(), buffersize=2)
    assert list(itertools.islice(results, 1)) == [0]
    with pytest.raises(OSError, match="no more"):
        list(results)


class Counting(ProcessPoolExecutor):
    """A subclass of a program's, which wants to see each call."""

    calls = 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        return super().submit(fn, *args, **kwargs)


def test_map_of_a_subclass_submits() -> None:
    with Counting(1, leveret.get_context("fork")) as executor:
        assert list(executor.map(square, range(5))) == [0, 1, 4, 9, 16]
        assert list(executor.map(square, range(5), chunksize=5)) == [0, 1, 4, 9, 16]
        assert executor.calls == 6


def test_who_is_told_the_same_twice_keeps_it_once() -> None:
    """Ctrl-C between telling and noting that it was told has it told again."""
    with forking(1) as executor:
        results = MapResults(executor._ready_staff(), square, ITEM, executor._rules)
        results._tasks[0] = 3
        results.deliver(0, 9)
        assert results._answers.pop(0) == 9
        results.deliver(0, 9)
        assert not results._answers

"""What a pool refuses, or cannot send: who asked is told, and the pool goes on.

    program                                         worker
    arguments of Pool() and its methods: checked
    function, items: encoded           ---------->  decoded, called
    value or exception: decoded        <----------  encoded

Each arrow has two ends at which it may fail; wherever it does, the caller, and nobody else, gets an
exception that says so.
"""

import multiprocessing.pool as std
import re
import sys
import threading
from collections.abc import Callable
from typing import Any

import leveret
import pytest
from forked import PATIENCE_S
from leveret.pool import Pool
from tasks import (
    Undecodable,
    Unpicklable,
    give,
    raise_it,
    square,
)

pytestmark = [
    # The standard library's, of a fork beside threads: a pool forks when a worker has died.
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]


# What cannot be sent.


def test_what_cannot_be_encoded(pool: Pool) -> None:
    told: list[BaseException] = []
    for call in (
        lambda: pool.map(square, [1, Unpicklable()]),
        lambda: pool.apply(square, (Unpicklable(),)),
        lambda: pool.apply_async(square, (Unpicklable(),), error_callback=told.append).get(9),
        lambda: pool.map_async(square, [Unpicklable()] * 3, error_callback=told.append).get(9),
        lambda: list(pool.imap(square, [1, Unpicklable(), 2])),
        lambda: list(pool.imap_unordered(square, iter([Unpicklable()]))),
    ):
        with pytest.raises(RuntimeError, match="cannot pickle it"):
            call()
    assert [str(error) for error in told] == ["cannot pickle it"] * 2
    assert pool.map(square, [2]) == [4]


def test_functions_that_cannot_be_encoded(pool: Pool) -> None:
    told: list[BaseException] = []
    with pytest.raises(Exception, match=r"pickle|local"):
        pool.apply(threading.Lock().acquire)
    result = pool.map_async(threading.Lock().acquire, [1, 2], error_callback=told.append)
    with pytest.raises(Exception, match=r"pickle|local"):
        result.get(PATIENCE_S)
    assert len(told) == 1
    with pytest.raises(Exception, match=r"pickle|local"):
        next(pool.imap(threading.Lock().acquire, [1, 2]))


def test_results_that_cannot_be_encoded(pool: Pool) -> None:
    with pytest.raises(std.MaybeEncodingError, match="cannot pickle it") as caught:
        pool.apply(give, ("unpicklable",))
    assert "Unpicklable" in caught.value.value and "cannot pickle it" in caught.value.exc
    with pytest.raises(std.MaybeEncodingError):
        pool.map(give, ["lock"])


def test_results_that_cannot_be_decoded(pool: Pool) -> None:
    def notes_of(call: Callable[..., Any], *args: Any) -> list[str]:
        with pytest.raises(ValueError, match="invalid literal") as caught:
            call(give, *args)
        return caught.value.__notes__

    note = "leveret: raised here, by unpickling the result of give('undecodable')"
    chunk = "give() of 2 items, the first of them 'undecodable'"
    assert notes_of(pool.apply, ("undecodable",)) == [note]
    assert notes_of(lambda *args: next(pool.imap(*args)), ["undecodable"]) == [note]
    assert notes_of(pool.map, ["undecodable"] * 2) == [note]
    assert notes_of(pool.map, ["undecodable"] * 2, 2) == [
        "leveret: raised here, by unpickling the result of " + chunk
    ]


def test_tasks_that_cannot_be_decoded(pool: Pool) -> None:
    def note_of(call: Callable[..., Any], *args: Any) -> str:
        with pytest.raises(ValueError, match="invalid literal") as caught:
            call(give, *args)
        [note] = caught.value.__notes__
        _, worker, task = re.split(r"worker ([0-9]+), ", note)
        assert int(worker) in [process.pid for process in pool._pool]
        return task

    bad, task = Undecodable(), r"by unpickling the task give\(<tasks.Undec.*>\)"
    assert re.fullmatch(task, note_of(pool.apply, (bad,)))
    assert re.fullmatch(task, note_of(lambda *args: next(pool.imap(*args)), [bad]))
    assert re.fullmatch(task, note_of(pool.map, [bad]))
    assert note_of(pool.map, [bad] * 2, 2).startswith("by unpickling the task give() of 2 items")


def test_what_is_wrong_with_a_task_for_another_reason_is_told_as_it_is(pool: Pool) -> None:
    for call in (pool.apply, pool.map):
        with pytest.raises(RuntimeError, match="cannot pickle it") as caught:
            call(abs, [Unpicklable()])
        assert not [note for note in vars(caught.value).get("__notes__", ()) if "raised" in note]
    with pytest.raises(ValueError, match="one") as raised:
        pool.map(int, ["one"])
    assert not hasattr(raised.value, "__notes__")


def test_exceptions_that_cannot_be_sent(pool: Pool) -> None:
    with pytest.raises(leveret.RemoteError, match=r"DemandingError: 1 and 2.*unpickling") as one:
        pool.apply(raise_it, ("demanding",))
    assert one.value.type.endswith("DemandingError") and one.value.text == "1 and 2"
    assert "raise DemandingError" in one.value.traceback
    with pytest.raises(leveret.RemoteError, match=r"LockedError: locked.*cannot be pickled"):
        pool.map(raise_it, ["lock"])


def test_a_function_that_came_too_late(pool: Pool) -> None:
    """As one does at a prompt: its module was forked before it was there."""

    def late() -> None:
        pass

    late.__module__, late.__qualname__ = "__main__", "late"
    sys.modules["__main__"].late = late  # type: ignore[attr-defined]
    try:
        with pytest.raises(AttributeError, match="late") as caught:
            pool.apply(late)
    finally:
        del sys.modules["__main__"].late  # type: ignore[attr-defined]
    assert "at top level, before the pool started it" in caught.value.__notes__[0]


def test_what_is_not_callable(pool: Pool) -> None:
    for call in (
        lambda: pool.apply(5),  # type: ignore[arg-type]
        lambda: pool.map(5, [1]),  # type: ignore[arg-type]
        lambda: list(pool.imap(None, [1])),  # type: ignore[arg-type]
        lambda: pool.apply_async(square, 5).get(PATIENCE_S),  # type: ignore[arg-type]
    ):
        with pytest.raises(TypeError, match=r"callable|args must be a tuple, such as \(5,\)"):
            call()


def test_pickling_may_use_the_pool_and_its_lock(pool: Pool) -> None:
    lock = threading.RLock()

    class Argument:
        def __reduce__(self) -> Any:
            with lock:
                return int, (str(pool.apply(square, (3,))),)

    with lock:
        assert pool.apply(square, (Argument(),)) == 81
        assert pool.map(square, [Argument(), Argument()]) == [81, 81]


def test_an_input_that_cannot_be_iterated(pool: Pool) -> None:
    with pytest.raises(TypeError):
        pool.map(square, 5)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        next(pool.imap(square, 5))  # type: ignore[arg-type]


# Arguments.


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"processes": 0}, "at least 1"),
        ({"processes": -3}, "at least 1"),
        ({"processes": 10**6}, "at most 4096"),
        ({"maxtasksperchild": 0}, "positive int or None"),
        ({"maxtasksperchild": 0.5}, "positive int or None"),
        ({"timeout": 0}, "positive number of seconds"),
        ({"timeout": float("nan")}, "positive number of seconds"),
        ({"timeout": float("nan")}, "positive number of seconds"),
        ({"timeout": "3s"}, "positive number of seconds"),
        ({"retries": -1}, "at least 0"),
        ({"retries": 1.5}, "at least 0"),
        ({"max_memory_per_child": 0}, "positive number of bytes"),
        ({"max_memory_per_child": (2, 1)}, "positive number of bytes"),
        ({"max_memory_per_child": (1,)}, "positive number of bytes"),
        ({"threads": 0}, "positive int or None"),
        ({"threads": "some"}, "positive int or None"),
    ],
)
def test_bad_arguments(options: dict[str, Any], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        leveret.get_context("fork").Pool(**options)


def test_bad_initializer() -> None:
    with pytest.raises(TypeError, match="initializer must be a callable"):
        leveret.get_context("fork").Pool(1, initializer=5)
    with pytest.raises(TypeError, match=r"initargs must be a tuple, such as \(5,\), not 5"):
        leveret.get_context("fork").Pool(1, square, 5)


def test_bad_arguments_of_calls(pool: Pool) -> None:
    for call, error in (
        (lambda: pool.map(square, [1], 0), "Chunksize"),
        (lambda: pool.imap(square, [1], 0), "Chunksize"),
        (lambda: pool.imap(square, [1], buffersize=0), "buffersize"),
        (lambda: pool.map(square, [1], timeout=-1), "timeout"),
        (lambda: pool.apply(square, (1,), retries=-1), "retries"),
    ):
        with pytest.raises(ValueError, match=error):
            call()
    with pytest.raises(TypeError, match="progress"):
        pool.map(square, [1], progress=5)

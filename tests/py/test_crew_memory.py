"""Memory that is short where a crew tells of results: nothing is lost by that, and nobody hangs.

The next round, or the thread's next try, does what this one could not.
"""

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from executors import Gate
from forked import until
from leveret._core import Board
from leveret.executor import ProcessPoolExecutor
from leveret.futures import Call
from leveret.pump import VALUE, Job, Pump, note_yes
from tasks import square

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]

MANY = 200  # more than a block of a deque has room for
FULL = (62, 63, 64)  # so many fill the first one, or nearly


class Listing(Job):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[int, Any]] = []

    def deliver(self, place: int, value: Any) -> None:
        self.told.append((place, value))

    def fail(self, place: int, error: BaseException) -> None:
        self.told.append((place, error))


def short_of_memory(late: int, call: Callable[[], object]) -> bool:
    """Whether CALL fails when the allocation does before which LATE others are made."""
    testcapi = pytest.importorskip("_testcapi")
    testcapi.set_nomemory(late, late + 1)
    try:
        call()
    except MemoryError:
        return True
    finally:
        testcapi.remove_mem_hooks()
    return False


def test_results_that_are_taken() -> None:
    failed = 0
    for late in range(20):
        pump, job = Pump(Board(1), "pump"), Listing()
        events = [(job, place, VALUE, -place) for place in range(MANY)]
        pump._taken = functools.partial(next, iter([events]), [])  # type: ignore[assignment]
        failed += short_of_memory(late, pump._fetch)
        while pump._fetch():
            pass
        pump._tell_jobs()
        assert dict(job.told) == {place: -place for place in range(MANY)}, late
    assert 0 < failed < 20


def ask_once(waited_for: dict[int, bool], number: int) -> bool:
    return waited_for.pop(number, False)


def test_an_error_that_a_task_is_to_have() -> None:
    """A board says yes once. (The interpreter may leak an object that it could not initialise.)"""
    failed, error = 0, KeyError()
    for late, full in itertools.product(range(20), FULL):
        pump, job, filler = Pump(Board(1), "pump"), Listing(), Listing()
        waited_for = {7: True}
        ask = functools.partial(ask_once, waited_for)
        pump._events.extend([(filler, 0, VALUE, None)] * full)
        fail = functools.partial(pump.fail_task, 7, job, 0, error, ask)
        if short_of_memory(late, fail):
            failed += 1
            fail()
        pump._tell_jobs()
        assert job.told == [(0, error)], (late, full)
    assert failed


def test_a_cancel_is_noted(executor: ProcessPoolExecutor, gate: Gate) -> None:
    gate.occupy(executor), gate.occupy(executor)
    staff: Any = executor._staff
    failed = 0
    for late in range(20):
        future = executor.submit(square, late)
        call: Any = future._call
        note = functools.partial(note_yes, call, "cancelled", staff.board.cancel, call.number)
        failed += short_of_memory(late, note)
        assert call.cancelled is (staff.board.find(call.number) is None), late
        if call.cancelled:
            call._be_cancelled()
            staff.poke(call)
    assert 0 < failed < 20
    gate.open()


@pytest.fixture
def once() -> Iterator[Callable[[Any], Any]]:
    """Makes a function that has no memory the first time."""
    called: list[Any] = []

    def short_once(function: Any) -> Any:
        def short(*args: Any) -> Any:
            called.append(args)
            if len(called) == 1:
                raise MemoryError
            return function(*args)

        return short

    yield short_once
    assert len(called) > 1


def test_the_thread_takes_results_again(
    executor: ProcessPoolExecutor, gate: Gate, once: Callable[[Any], Any]
) -> None:
    future, called = gate.occupy(executor), list[Any]()
    staff: Any = executor._staff
    staff._taken = once(staff._taken)
    future.add_done_callback(called.append)
    gate.open()
    until(lambda: called == [future])


def test_the_thread_tells_again(
    executor: ProcessPoolExecutor,
    gate: Gate,
    once: Callable[[Any], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    future, called = gate.occupy(executor), list[Any]()
    monkeypatch.setattr(Call, "deliver", once(Call.deliver))
    future.add_done_callback(called.append)
    gate.open()
    until(lambda: called == [future])

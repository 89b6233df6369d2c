"""Barrier: nobody waits for the dead."""

import pickle
import threading
import time
from typing import Any

import pytest
from forked import Child, Thread, in_child, say, until
from leveret.synchronize import Barrier

Broken = threading.BrokenBarrierError


def is_broken(barrier: Any) -> bool:
    try:
        barrier.wait(20)
    except Broken:
        return True
    return False


def test_the_death_of_one_who_waits_breaks_it_for_the_others() -> None:
    barrier = Barrier(3)
    with Child(is_broken, barrier) as one, Child(is_broken, barrier) as two:
        until(lambda: barrier.n_waiting == 2)
        one.kill()
        assert two.result() is True
    assert barrier.broken
    barrier.reset()
    assert not barrier.broken and barrier.n_waiting == 0


def test_who_comes_last_to_a_dead_one_is_told() -> None:
    barrier = Barrier(2)
    with Child(is_broken, barrier) as child:
        until(lambda: barrier.n_waiting == 1)
        child.kill()
        with pytest.raises(Broken):
            barrier.wait(20)


def say_and_stay() -> None:
    say()
    threading.Event().wait()


def test_the_death_of_the_last_one_in_its_action_breaks_it() -> None:
    barrier = Barrier(2, say_and_stay)
    waiter = Thread(is_broken, barrier)
    until(lambda: barrier.n_waiting == 1)
    with Child(barrier.wait) as last:
        last.heard()
        last.kill()
        assert waiter.result() is True


def test_a_slow_action_is_waited_for_beyond_the_timeout() -> None:
    """As in the standard class: who has come in time passes."""
    go = threading.Event()
    barrier = Barrier(2, go.wait)
    waiter = Thread(barrier.wait, 0.2)
    until(lambda: barrier.n_waiting == 1)
    last = Thread(barrier.wait)
    time.sleep(0.4)  # the timeout must pass: there is nothing else to wait for
    go.set()
    assert {waiter.result(), last.result()} == {0, 1}


def test_a_pickled_barrier_is_the_same_one() -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        barrier = Barrier(2, None, 15)
        again = pickle.loads(pickle.dumps(barrier, protocol))
        assert type(again) is Barrier and isinstance(again, threading.Barrier)
        thread = Thread(again.wait)
        assert {barrier.wait(), thread.result()} == {0, 1}


hits: list[int] = []


def hit() -> None:
    hits.append(1)


def test_the_action_and_the_timeout_travel_with_it() -> None:
    again = pickle.loads(pickle.dumps(Barrier(1, hit, 0.01)))
    assert again.wait() == 0 and hits == [1]
    two = pickle.loads(pickle.dumps(Barrier(2, hit, 0.01)))
    with pytest.raises(Broken):
        two.wait()


def test_a_barrier_made_by_a_child() -> None:
    barrier = pickle.loads(in_child(lambda: pickle.dumps(Barrier(1))))
    assert barrier.wait() == 0


@pytest.mark.parametrize("parties", [0, -1])
def test_there_must_be_somebody(parties: int) -> None:
    with pytest.raises(ValueError, match="parties must be > 0"):
        Barrier(parties)


@pytest.mark.parametrize("parties", ["two", None, 1.5])
def test_parties_is_a_number(parties: Any) -> None:
    with pytest.raises(TypeError):
        Barrier(parties)


def test_an_object_that_was_never_initialised_says_so() -> None:
    for call in ("wait()", "reset()", "abort()", "parties", "n_waiting", "broken", "__repr__()"):
        with pytest.raises(RuntimeError, match=r"Barrier.__init__\(\) was not called"):
            eval(f"Barrier.__new__(Barrier).{call}")
    with pytest.raises(RuntimeError, match="called already"):
        Barrier(1).__init__(1)


def test_many_rounds_in_a_crowd() -> None:
    barrier = Barrier(5)

    def go_round() -> int:
        return sum(barrier.wait(20) for _ in range(200))

    with Child(go_round) as one, Child(go_round) as two:
        threads = [Thread(go_round) for _ in range(3)]
        total = sum(worker.result() for worker in (one, two, *threads))
    assert total == 200 * (0 + 1 + 2 + 3 + 4)
    assert barrier.n_waiting == 0

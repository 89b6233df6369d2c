"""Event: waiting for it, beside those who die."""

import copy
import pickle
import threading
from typing import Any

import pytest
from forked import Child, Thread, in_child, say
from leveret.synchronize import Event


def wait(event: Any) -> bool:
    say()
    return event.wait(20)


def test_the_death_of_one_who_waits_leaves_the_others_waiting() -> None:
    event = Event()
    with Child(wait, event) as one, Child(wait, event) as two:
        for child in (one, two):
            child.heard()
            child.asleep()
        one.kill()
        event.set()
        assert two.result() is True


def test_a_set_that_is_cleared_at_once_wakes_who_waits() -> None:
    event = Event()
    thread = Thread(event.wait, 20)
    with Child(wait, event) as child:
        child.heard()
        child.asleep()
        thread.asleep()
        event.set()
        event.clear()
        assert child.result() is True
    assert thread.result() is True
    assert not event.is_set()


def set_and_stay(event: Any) -> None:
    event.set()
    say()
    threading.Event().wait()


def test_what_a_killed_process_set_is_set() -> None:
    event = Event()
    with Child(set_and_stay, event) as child:
        child.heard()
        child.kill()
    assert event.wait(0)


def test_two_unpicklings_share_the_state() -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        event = Event()
        event.colour = "red"
        again = pickle.loads(pickle.dumps(event, protocol))
        again.set()
        assert event.is_set() and again.colour == "red"
        copy.copy(event).clear()
        assert not again.is_set()


def test_a_pickle_made_by_a_child() -> None:
    event = pickle.loads(in_child(lambda: pickle.dumps(Event())))
    event.set()
    assert event.wait()


def test_an_object_that_was_never_initialised_says_so() -> None:
    for call in ("set()", "clear()", "wait()", "is_set()", "__getstate__()", "__repr__()"):
        with pytest.raises(RuntimeError, match=r"Event.__init__\(\) was not called"):
            eval(f"Event.__new__(Event).{call}")
    with pytest.raises(RuntimeError, match="called already"):
        Event().__init__()

"""A pipe against a model of it: random calls, in one process, and by several that may be killed.

Each actor has the two ends, until it closes them. Where one would have to wait for a message,
poll() has to say so instead.
"""

import pickle
import select
from collections import deque
from typing import Any

import leveret
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule, run_state_machine_as_test
from leveret import _core
from modelled import Modelled, There, often

ACTORS = 3
MOST = 12  # messages under way: below 1 MiB, so no send() waits
OBJECTS = st.one_of(
    st.integers(),
    st.text(max_size=5),
    st.sampled_from([None, 1.5, ["a", {"b": (1,)}]]),
    st.sampled_from([900, 5_000, 50_000]).map(bytes),
    st.frozensets(st.integers(), max_size=3),  # pickled
)
numbers = st.integers(0, 5)
ends = st.integers(0, 1)


class Here:
    """An actor that is this process."""

    def __init__(self, both: Any) -> None:
        self.ends = list(both)

    def does(self, which: int, call: str, *args: Any) -> Any:
        """What a call returned, or the class of what it raised."""
        try:
            return getattr(self.ends[which], call)(*args)
        except (OSError, EOFError) as error:
            return type(error)

    def receives_into(self, which: int, room: int) -> tuple[bytes, bool]:
        """What came, and whether the buffer was too short for it: then the error has it."""
        buffer = bytearray(room)
        try:
            return bytes(buffer[: self.ends[which].recv_bytes_into(buffer)]), False
        except leveret.BufferTooShort as error:
            return error.args[0], True

    def is_readable(self, which: int) -> bool:
        """By its descriptor, as select() sees it."""
        return bool(select.select([self.ends[which]], [], [], 0)[0])

    def pickled(self, which: int) -> bytes:
        return pickle.dumps(self.ends[which])

    def takes(self, which: int, data: bytes) -> None:
        """What it had is closed, for a forked actor's frames refer to it as well."""
        before, self.ends[which] = self.ends[which], pickle.loads(data)
        before.close()

    def end(self) -> None:
        self.ends.clear()


class OneProcess(Modelled):
    def actors_of(self, both: Any) -> list[Any]:
        return [Here(both)]

    @initialize(duplex=st.booleans())
    def begin(self, duplex: bool) -> None:
        self.duplex = duplex
        self.actors = self.actors_of(leveret.Pipe(duplex))
        self.has = [[True, True] for _ in self.actors]
        self.inbox: list[deque[Any]] = [deque(), deque()]  # what is on its way to each end

    def is_open(self, which: int) -> bool:
        return any(has[which] for has in self.has)

    def can_receive(self, index: int, which: int) -> bool:
        return self.has[index][which] and (which == 0 or self.duplex)

    def lost(self, index: int, which: int) -> None:
        """What nobody can receive any more is gone."""
        self.has[index][which] = False
        if not self.is_open(which):
            self.inbox[which].clear()

    def send_outcome(self, index: int, which: int) -> Any:
        if not self.has[index][which] or (which == 0 and not self.duplex):
            return OSError
        return None if self.is_open(1 - which) else BrokenPipeError

    def sends(self, number: int, which: int, call: str, data: Any, obj: Any) -> None:
        index, actor = self.actor(number)
        expected = self.send_outcome(index, which)
        if expected is None and len(self.inbox[1 - which]) == MOST:
            return
        assert actor.does(which, call, data) is expected
        if expected is None:
            self.inbox[1 - which].append(obj)

    @rule(number=numbers, which=ends, obj=OBJECTS)
    def send(self, number: int, which: int, obj: Any) -> None:
        self.sends(number, which, "send", obj, obj)

    @rule(number=numbers, which=ends, obj=OBJECTS)
    def send_bytes(self, number: int, which: int, obj: Any) -> None:
        self.sends(number, which, "send_bytes", pickle.dumps(obj), obj)

    def nothing_comes(self, index: int, which: int, call: str) -> bool:
        """Whether there is no message; and that the end says why."""
        actor = self.actors[index]
        if not self.can_receive(index, which):
            assert actor.does(which, call) is OSError
        elif self.inbox[which]:
            return False
        elif self.is_open(1 - which):
            assert actor.does(which, "poll") is False
        else:
            assert actor.does(which, call) is EOFError
        return True

    @rule(number=numbers, which=ends)
    def recv(self, number: int, which: int) -> None:
        index, actor = self.actor(number)
        if not self.nothing_comes(index, which, "recv"):
            assert actor.does(which, "recv") == self.inbox[which].popleft()

    @rule(number=numbers, which=ends, objects=st.lists(OBJECTS, max_size=8))
    def put_many(self, number: int, which: int, objects: list[Any]) -> None:
        """For what nobody could receive there is no error as long as there is nothing to send."""
        index, actor = self.actor(number)
        expected = self.send_outcome(index, which)
        if expected is None:
            del objects[MOST - len(self.inbox[1 - which]) :]
            self.inbox[1 - which].extend(objects)
        if expected is not OSError and (expected is None or not objects):
            expected = len(objects)
        assert actor.does(which, "_put_many", objects) == expected

    @rule(number=numbers, which=ends, most=st.integers(1, 10))
    def get_many(self, number: int, which: int, most: int) -> None:
        index, actor = self.actor(number)
        if not self.nothing_comes(index, which, "_get_many"):
            count = min(most, len(self.inbox[which]))
            expected = [self.inbox[which].popleft() for _ in range(count)]
            assert actor.does(which, "_get_many", most) == expected

    @rule(number=numbers, which=ends)
    def recv_bytes(self, number: int, which: int) -> None:
        index, actor = self.actor(number)
        if not self.nothing_comes(index, which, "recv_bytes"):
            came = actor.does(which, "recv_bytes")
            assert pickle.loads(came) == self.inbox[which].popleft()

    @rule(number=numbers, which=ends, room=st.sampled_from([0, 1_000, 100_000]))
    def recv_bytes_into(self, number: int, which: int, room: int) -> None:
        index, actor = self.actor(number)
        if not self.can_receive(index, which) or not self.inbox[which]:
            return
        came, is_too_long = actor.receives_into(which, room)
        assert is_too_long is (len(came) > room)
        assert pickle.loads(came) == self.inbox[which].popleft()

    @rule(number=numbers, which=ends)
    def look(self, number: int, which: int) -> None:
        """A descriptor may say too much, but never too little."""
        index, actor = self.actor(number)
        if not self.can_receive(index, which):
            assert actor.does(which, "poll") is OSError
            return
        there_is = bool(self.inbox[which]) or not self.is_open(1 - which)
        assert actor.is_readable(which) or not there_is
        assert actor.does(which, "poll") is there_is

    @rule(number=numbers, which=ends)
    def close(self, number: int, which: int) -> None:
        index, actor = self.actor(number)
        assert actor.does(which, "close") is None
        self.lost(index, which)

    @rule(number=numbers, other=numbers, which=ends)
    def give(self, number: int, other: int, which: int) -> None:
        """Who closed an end may have it again from one who has it still."""
        (giver, from_), (index, to) = self.actor(number), self.actor(other)
        if self.has[giver][which]:
            to.takes(which, from_.pickled(which))
            self.has[index][which] = True


class SeveralProcesses(OneProcess):
    def actors_of(self, both: Any) -> list[Any]:
        self.here = Here(both)
        return [self.here, *(There(self.here) for _ in range(ACTORS - 1))]

    @rule(number=numbers)
    def kill(self, number: int) -> None:
        """Its ends are closed; who is born in its place has those that this process has."""
        index, actor = self.actor(number)
        if actor is self.here:
            return
        actor.end()
        _core.repair()
        for which in (0, 1):
            self.lost(index, which)
        self.actors[index] = There(self.here)
        self.has[index] = list(self.has[0])


@pytest.mark.timeout(300)
def test_in_one_process() -> None:
    run_state_machine_as_test(OneProcess, settings=often(100))


@pytest.mark.timeout(300)
def test_by_several_processes() -> None:
    run_state_machine_as_test(SeveralProcesses, settings=often(30))

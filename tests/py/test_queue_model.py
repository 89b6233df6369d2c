"""A queue against a model of it: random calls, in one process, and by several that may be killed.

Each actor has the queue, and does what it is told.
"""

import pickle
import threading
from collections import deque
from queue import Empty, Full
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule, run_state_machine_as_test
from leveret import _core
from leveret.queues import JoinableQueue, Queue
from modelled import Modelled, There, often

ACTORS = 3
OBJECTS = st.one_of(
    st.integers(),
    st.text(max_size=5),
    st.sampled_from([None, 1.5, ["a", {"b": (1,)}]]),
    st.sampled_from([900, 5_000, 50_000]).map(bytes),
    st.frozensets(st.integers(), max_size=3),  # pickled
)


def answer(queue: Queue, call: str, *args: Any) -> Any:
    """What a call returned, or the class of what it raised."""
    try:
        return getattr(queue, call)(*args)
    except (Empty, Full, ValueError) as error:
        return type(error)


class Here:
    """An actor that is this process."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue

    def does(self, call: str, *args: Any) -> Any:
        return answer(self.queue, call, *args)

    def renew(self) -> None:
        """Another handle of the same queue."""
        self.queue = pickle.loads(pickle.dumps(self.queue))

    def end(self) -> None:
        del self.queue


class OneProcess(Modelled):
    def actors_of(self, queue: Queue) -> list[Any]:
        return [Here(queue)]

    @initialize(bound=st.sampled_from([0, 1, 2, 5]), joinable=st.booleans())
    def begin(self, bound: int, joinable: bool) -> None:
        self.queue = JoinableQueue(bound) if joinable else Queue(bound)
        self.bound, self.joinable = bound, joinable
        self.model: deque[Any] = deque()
        self.unfinished = self.strange = 0
        self.actors = self.actors_of(self.queue)
        self.held = [0] * len(self.actors)

    def room(self) -> int:
        return self.bound - len(self.model) if self.bound else 1 << 30

    def took(self, index: int, count: int) -> list[Any]:
        self.held[index] += count
        return [self.model.popleft() for _ in range(count)]

    @rule(number=st.integers(0, 5), obj=OBJECTS)
    def put(self, number: int, obj: Any) -> None:
        expected = None if self.room() else Full
        assert self.actor(number)[1].does("put", obj, False) is expected
        if expected is None:
            self.model.append(obj)
            self.unfinished += 1

    @rule(number=st.integers(0, 5), objects=st.lists(OBJECTS, max_size=8))
    def put_many(self, number: int, objects: list[Any]) -> None:
        got_in = min(len(objects), self.room())
        expected = got_in if got_in == len(objects) else Full
        assert self.actor(number)[1].does("put_many", objects, False) == expected
        self.model.extend(objects[:got_in])
        self.unfinished += got_in

    @rule()
    def put_what_cannot_be_sent(self) -> None:
        with pytest.raises(TypeError):
            self.queue.put(threading.Lock())

    @rule(number=st.integers(0, 5))
    def get(self, number: int) -> None:
        index, actor = self.actor(number)
        expected = self.took(index, 1)[0] if self.model else Empty
        assert actor.does("get", False) == expected

    @rule(number=st.integers(0, 5), most=st.integers(1, 10))
    def get_many(self, number: int, most: int) -> None:
        index, actor = self.actor(number)
        expected: Any = self.took(index, min(most, len(self.model))) or Empty
        assert actor.does("get_many", most, 0) == expected

    @rule(number=st.integers(0, 5))
    def look(self, number: int) -> None:
        actor = self.actor(number)[1]
        assert actor.does("qsize") == len(self.model)
        assert actor.does("empty") is (not self.model)
        assert actor.does("full") is (self.room() == 0)

    @rule(number=st.integers(0, 5))
    def renew(self, number: int) -> None:
        self.actor(number)[1].renew()

    @precondition(lambda self: self.joinable)
    @rule(number=st.integers(0, 5))
    def task_done(self, number: int) -> None:
        index, actor = self.actor(number)
        assert actor.does("task_done") is (None if self.unfinished else ValueError)
        if not self.unfinished:
            return
        self.unfinished -= 1
        if self.held[index]:
            self.held[index] -= 1
        else:
            self.strange += 1

    @precondition(lambda self: self.joinable and not self.unfinished)
    @rule(number=st.integers(0, 5))
    def join(self, number: int) -> None:
        assert self.actor(number)[1].does("join") is None

    def teardown(self) -> None:
        super().teardown()
        self.queue = None  # type: ignore[assignment]


class SeveralProcesses(OneProcess):
    def actors_of(self, queue: Queue) -> list[Any]:
        return [Here(queue), *(There(Here(queue)) for _ in range(ACTORS - 1))]

    @rule(number=st.integers(0, 5))
    def kill(self, number: int) -> None:
        """What it held is lost, but for what others called done in its place."""
        index, actor = self.actor(number)
        if isinstance(actor, Here):
            return
        actor.end()
        _core.repair()
        in_its_place = min(self.held[index], self.strange)
        self.strange -= in_its_place
        self.unfinished -= self.held[index] - in_its_place
        self.held[index] = 0
        self.actors[index] = There(Here(self.queue))


@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore::leveret.LostTaskWarning")
def test_in_one_process() -> None:
    run_state_machine_as_test(OneProcess, settings=often(100))


@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore::leveret.LostTaskWarning")
def test_by_several_processes() -> None:
    run_state_machine_as_test(SeveralProcesses, settings=often(30))

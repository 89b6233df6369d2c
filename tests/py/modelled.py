"""For tests against a model: actors that do what they are told, here or in a process of their own.

this process -- call --> pipe --> actor      (the pipes are the standard library's)
             <- answer -- pipe --
"""

import multiprocessing
from contextlib import suppress
from typing import Any

from forked import Child
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant
from leveret import _core


def act(actor: Any, pipe: Any, others: list[Any]) -> None:
    for other in others:
        other.close()
    pipe.send("born")
    with suppress(EOFError):
        while True:
            call, *args = pipe.recv()
            pipe.send(getattr(actor, call)(*args))


class There:
    """What ACTOR would be in a child of this process; end() kills it."""

    def __init__(self, actor: Any) -> None:
        self.pipe, theirs = multiprocessing.Pipe()
        self.child = Child(act, actor, theirs, [self.pipe])
        theirs.close()
        self.pipe.recv()  # killed any earlier it would be an embryo, whose slot is kept for 10 s

    def __getattr__(self, call: str) -> Any:
        def ask(*args: Any) -> Any:
            self.pipe.send((call, *args))
            return self.pipe.recv()

        return ask

    def end(self) -> None:
        with self.child:
            self.pipe.close()


class Modelled(RuleBasedStateMachine):
    """Actors, and a session that is valid after each of their steps."""

    actors: list[Any]

    def actor(self, number: int) -> tuple[int, Any]:
        index = number % len(self.actors)
        return index, self.actors[index]

    @invariant()
    def is_valid(self) -> None:
        _core.session_check()

    def teardown(self) -> None:
        for actor in getattr(self, "actors", []):
            actor.end()
        _core.repair()
        self.actors = []


def often(examples: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=40,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )

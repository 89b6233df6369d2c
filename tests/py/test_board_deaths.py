"""Workers that die, whatever they do: each task is told of once, or run again."""

import os
import random
import signal
import time
from typing import Any

import pytest
from boards import work
from forked import PATIENCE_S, Child, until
from leveret._core import (
    ITEM,
    Batch,
    Board,
    Function,
)

KILLS = int(os.environ.get("LEVERET_KILLS", "20"))


def maybe_die(x: int) -> int:
    if x % 97 == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return x * x


class Crew:
    """What a pool does with workers that die: every task is told of once."""

    def __init__(self, size: int) -> None:
        self.board, self.size = Board(size), size
        self.children: list[Child | None] = [None] * size
        self.died: list[int] = []
        self.again: list[int] = []
        for row in range(size):
            self.start(row)

    def start(self, row: int) -> None:
        self.children[row] = Child(work, self.board, row, self.size)
        until(lambda: self.board.look(row) is not None)

    def bury(self, row: int) -> None:
        child = self.children[row]
        assert child is not None
        with child:
            pass
        self.board.settle(row)
        self.board.take()
        _, first, count, running, *_ = self.board.bury(row)
        for number in range(first, first + count):
            whose = self.board.find(number)
            if whose is None:
                continue
            (self.died if number == running else self.again).append(whose[1])
            assert self.board.strike(number)
        self.start(row)

    def bury_all(self) -> None:
        for row in self.board.over():
            self.bury(row)

    def kill(self, row: int) -> None:
        child = self.children[row]
        assert child is not None
        child.kill()

    def end(self) -> None:
        self.bury_all()
        self.board.close()
        for child in self.children:
            assert child is not None
            with child:
                child.result()


@pytest.mark.timeout(120)
def test_workers_that_kill_themselves() -> None:
    crew, count = Crew(2), 1000
    batch = Batch(count)
    function = Function(maybe_die)
    crew.board.put_many(function, ITEM, range(count), batch)
    while batch.left:
        assert crew.board.wait(PATIENCE_S)
        crew.board.take()
        crew.bury_all()
        for place in crew.died:
            batch.results[place] = "died"
        batch.left -= len(crew.died)
        for place in crew.again:
            crew.board.put(function, ITEM, place, batch, place)
        crew.died, crew.again = [], []
    crew.end()
    assert batch.results == ["died" if x % 97 == 5 else x * x for x in range(count)]
    assert crew.board.outstanding() == 0


def slowly_same(x: Any) -> Any:
    if x == 5:
        time.sleep(0.001)  # claims are small
    return x


@pytest.mark.timeout(60 + 5 * KILLS)
def test_workers_killed_at_random() -> None:
    """Whatever they were about: what they had claimed is done by others, and all is told once."""
    seed = int(os.environ.get("LEVERET_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"seed {seed}")
    chooser = random.Random(seed)
    crew, function, ran, count = Crew(2), Function(slowly_same), 0, 300
    for kill in range(KILLS):
        kinds = [6, bytes(2000), bytes(10_000), *[5] * chooser.randrange(2)]
        arguments = [chooser.choice(kinds) for _ in range(count)]
        batch, at, victim = Batch(count), chooser.randrange(count), chooser.randrange(2)
        crew.board.put_many(function, ITEM, arguments, batch)
        while batch.left:
            if batch.left <= count - at:
                crew.kill(victim)
                at = count
            assert crew.board.wait(PATIENCE_S)
            crew.board.take()
            crew.bury_all()
            for place in crew.died + crew.again:
                crew.board.put(function, ITEM, arguments[place], batch, place)
            ran += len(crew.died)
            crew.died, crew.again = [], []
        assert batch.results == arguments, kill
        assert crew.board.outstanding() == 0 == crew.board.waiting()
    print(f"{ran} tasks ran when their workers were killed")
    crew.end()

"""Two processes on a queue, one of them killed at a random moment, again and again.

    producer  -- q.put(message) -->  queue  -- q.get() -->  consumer
        |                                                       |
        +-- one of the two is the victim, the other survives ---+
                                  |
    this process: kills the victim, takes its place for some messages, starts the next victim

After each kill the survivor must go on: what it gets, or what we get from it, within WITHIN_S. Each
message says who put it and which of his it is, and its body is checked byte by byte; both ends
write into a file that all map how far they are, so that nothing can be missing or come twice.

How long a kill holds up the survivor is measured from the kill. Where that is too long, what the
processes waited for a processor meanwhile (/proc/PID/schedstat) is subtracted: a busy machine is
not the queue's fault, and who hangs at a queue waits for no processor.

    python killing.py [--library multiprocessing] [--method fork] [--victim producer] [--size 4096]
"""

import argparse
import contextlib
import importlib
import mmap
import os
import pathlib
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import Empty, Full
from typing import Any

WITHIN_S = 0.1
PATIENCE_S = 20.0  # what takes longer hangs, unless it is told otherwise
BODY = random.Random(4).randbytes(2 << 20)
WORDS = 16
KILLED = (-signal.SIGKILL, 255)  # 255: the one who could have known is gone
FAILS = 3  # our exit status when it hangs, or something is lost

# Words of the board: each is written by one process at a time.
PUT = 0  # the producer: how many of its puts have returned
GOT = 1  # the consumer: how many messages it has got and found good
BIRTH = 2  # the victim: which one it is
MARK = 3  # the consumer that survives: the last mark that it has got
MARK_NS = 4  # when
WRONG = 5  # anybody: something is wrong, and it has said what
NEXT = 6  # this process: which message the next victim gets first
STOP = 7  # this process: the end


class Board:
    """A few numbers that all processes see, and that survive them."""

    def __init__(self, path: str) -> None:
        with open(path, "r+b") as file:
            self._map = mmap.mmap(file.fileno(), WORDS * 8)
        self._words = memoryview(self._map).cast("q")

    def __getitem__(self, word: int) -> int:
        return self._words[word]

    def __setitem__(self, word: int, value: int) -> None:
        self._words[word] = value

    def close(self) -> None:
        self._words.release()
        self._map.close()


def body_of(number: int, size: int) -> bytes:
    start = number * 4099 % (len(BODY) - size)
    return BODY[start : start + size]


def message(birth: int, number: int, size: int) -> tuple[int, int, bytes]:
    return birth, number, body_of(number, size)


def complain(board: Board, text: str) -> None:
    print(f"killing: process {os.getpid()}: {text}", file=sys.stderr, flush=True)
    board[WRONG] = 1


def check(board: Board, got: Any, birth: int, number: int, size: int) -> None:
    if got[:2] != (birth, number):
        complain(board, f"message {got[:2]} came, {(birth, number)} was to come")
    elif got[2] != body_of(number, size):
        complain(board, f"message {got[:2]} is damaged")


def produce(queue: Any, path: str, birth: int, size: int, pause_s: float) -> None:
    board = Board(path)
    board[PUT] = number = 0
    if birth:
        board[BIRTH] = birth
    while not board[STOP]:
        queue.put(message(birth, number, size))
        number += 1
        board[PUT] = number
        if pause_s:
            time.sleep(pause_s)


def consume(queue: Any, path: str, birth: int, size: int, pause_s: float) -> None:
    """The victim: goes on where the last one, or this process, was."""
    board = Board(path)
    number = board[GOT] = board[NEXT]
    board[BIRTH] = birth
    while True:
        check(board, queue.get(), 0, number, size)
        number += 1
        board[GOT] = number
        if pause_s:
            time.sleep(pause_s)


def consume_all(queue: Any, path: str, _birth: int, size: int, _pause_s: float) -> None:
    """The survivor: gets what the victims put, one after the other, and this process's marks."""
    board = Board(path)
    birth, number = 0, 0
    while not board[STOP]:
        got = queue.get()
        if got[0] < 0:
            board[MARK_NS] = time.monotonic_ns()
            board[MARK] = got[1]
            continue
        if got[0] != birth:
            birth, number = got[0], 0
        check(board, got, birth, number, size)
        number += 1
        board[GOT] = birth << 32 | number


def delay_ns(pid: int) -> int:
    """How long a process has waited for a processor so far."""
    with contextlib.suppress(OSError):
        return int(pathlib.Path(f"/proc/{pid}/schedstat").read_text().split()[1])
    return 0


class HangError(AssertionError):
    """Somebody waits for what will never come."""


@dataclass
class Outcome:
    kills: int = 0
    messages: int = 0  # of victims, or to them
    held: int = 0  # messages that died with their consumer
    stalls_s: list[float] = field(default_factory=list)
    with_load_s: list[float] = field(default_factory=list)  # before anything was subtracted

    def __str__(self) -> str:
        stalls = sorted(self.stalls_s)
        return (
            f"{self.kills} kills, {self.messages} messages, {self.held} more died with their "
            "consumer; stalls: "
            f"median {stalls[len(stalls) // 2] * 1e3:.1f} ms, longest {stalls[-1] * 1e3:.1f} ms "
            f"({max(self.with_load_s) * 1e3:.1f} ms with what was waited for a processor)"
        )


class Hunt:
    """One queue, one survivor, many victims."""

    def __init__(
        self, context: Any, victim: str, size: int, seed: int, patience_s: float = PATIENCE_S
    ) -> None:
        self.patience_s = patience_s
        self.rng = random.Random(seed)
        self.context, self.victim, self.size = context, victim, size
        self.bound = self.rng.choice((4, 16, 64)) if size < 1 << 16 else self.rng.choice((2, 4))
        self.lives_s = (0.001, 0.003, 0.02) if size < 1 << 16 else (0.003, 0.02, 0.06)
        self.queue = context.Queue(self.bound)
        self.outcome = Outcome()
        self.last = 0  # the number of the message that we got last, and one
        with tempfile.NamedTemporaryFile(prefix="killing-", delete=False) as file:
            file.write(bytes(WORDS * 8))
        self.path = file.name
        self.board = Board(self.path)
        survivor = consume_all if victim == "producer" else produce
        self.survivor = self.start(survivor, 0)

    def start(self, role: Callable[..., None], birth: int) -> Any:
        pause_s = self.rng.choice((0, 0, 0.0002, 0.002))
        process = self.context.Process(
            target=role, args=(self.queue, self.path, birth, self.size, pause_s), daemon=True
        )
        process.start()
        return process

    def until(self, check: Callable[[], bool], what: str) -> int:
        """When check() began to hold, in ns."""
        deadline = time.monotonic() + self.patience_s
        while not check():
            if self.board[WRONG]:
                raise AssertionError("a message was not as it has to be")
            if time.monotonic() > deadline:
                raise HangError(f"after {self.outcome.kills} kills: {what}")
            time.sleep(0.0002)
        return time.monotonic_ns()

    def kill_one(self) -> None:
        """The life and death of one victim."""
        birth = self.outcome.kills + 1
        role = produce if self.victim == "producer" else consume
        process = self.start(role, birth)
        self.until(lambda: self.board[BIRTH] == birth, "the victim does not begin")
        time.sleep(self.rng.choice(self.lives_s) * self.rng.random())
        family = (os.getpid(), process.pid, self.survivor.pid)
        before_ns = sum(map(delay_ns, family))
        killed_ns = time.monotonic_ns()
        os.kill(process.pid, signal.SIGKILL)
        self.outcome.kills += 1
        after_producer = self.victim == "producer"
        went_on_ns = self.after_producer(birth) if after_producer else self.after_consumer()
        self.note(went_on_ns - killed_ns, sum(map(delay_ns, family)) - before_ns)
        if after_producer:
            self.check_complete(birth)
        process.join()
        assert process.exitcode in KILLED, f"a victim ended with {process.exitcode}"
        process.close()

    def note(self, stall_ns: int, delays_ns: int) -> None:
        too_long = stall_ns > WITHIN_S * 1e9
        self.outcome.with_load_s.append(stall_ns / 1e9)
        self.outcome.stalls_s.append(max(0, stall_ns - delays_ns * too_long) / 1e9)

    def after_producer(self, birth: int) -> int:
        """The survivor gets what is there, and what we put. Sometimes we put nothing before the
        queue is empty: our put would wake who was not woken."""
        drained_ns = 0
        if self.rng.random() < 0.5:
            drained_ns = self.until(lambda: self.queue.qsize() == 0, "the survivor gets no more")
        began_ns = time.monotonic_ns()
        self.put_mark(birth)
        self.until(lambda: self.board[MARK] == birth, "the survivor does not get our message")
        if not drained_ns:
            return self.board[MARK_NS]
        return drained_ns + self.board[MARK_NS] - began_ns

    def put_mark(self, birth: int) -> None:
        try:
            self.queue.put((-1, birth, b""), timeout=self.patience_s)
        except Full:
            raise HangError(f"after {self.outcome.kills} kills: nothing to be put") from None

    def check_complete(self, birth: int) -> None:
        """All that the victim put has come, and at most the one that it was putting."""
        got = self.board[GOT]
        count = got & 0xFFFFFFFF if got >> 32 == birth else 0
        put = self.board[PUT]
        assert put <= count <= put + 1, f"{put} puts have returned, {count} messages came"
        self.outcome.messages += count

    def get(self) -> Any:
        try:
            return self.queue.get(timeout=self.patience_s)
        except Empty:
            raise HangError(f"after {self.outcome.kills} kills: nothing to be got") from None

    def after_consumer(self) -> int:
        """We get what is there, and the survivor puts more. Sometimes it has to before we get: our
        get would wake who was not woken."""
        good, puts = self.board[GOT], self.board[PUT]
        put_ns = began_ns = 0
        if self.rng.random() < 0.5:
            put_ns = self.until(lambda: self.puts_again(puts), "the survivor puts no more")
            began_ns, puts = time.monotonic_ns(), self.board[PUT]
        first = self.get()
        assert first[1] - good in (0, 1), f"{good} messages came, then number {first[1]}"
        check(self.board, first, 0, first[1], self.size)
        now_ns = self.until(lambda: self.board[PUT] > puts, "the survivor puts no more")
        self.outcome.held += first[1] - good
        self.outcome.messages += good - self.board[NEXT]
        self.get_more(first[1] + 1)
        return put_ns + now_ns - began_ns

    def puts_again(self, puts: int) -> bool:
        return self.board[PUT] > puts or self.queue.full()

    def get_more(self, number: int) -> None:
        """More than was in the queue."""
        self.board[NEXT] = number + self.bound + 3
        for later in range(number, self.board[NEXT]):
            check(self.board, self.get(), 0, later, self.size)

    def end(self) -> None:
        self.board[STOP] = 1
        if self.victim == "producer":
            self.queue.put((-1, 0, b""))
        else:
            with contextlib.suppress(Empty):
                while True:
                    self.queue.get(timeout=0.2)
        self.survivor.join(PATIENCE_S)
        assert self.survivor.exitcode == 0, f"the survivor ended with {self.survivor.exitcode}"
        self.survivor.close()
        assert not self.board[WRONG]

    def close(self) -> None:
        with contextlib.suppress(ValueError):
            self.survivor.kill()
            self.survivor.join()
            self.survivor.close()
        self.board.close()
        os.unlink(self.path)
        self.queue.close()


def hunt(
    context: Any, victim: str, size: int, kills: int, seed: int, patience_s: float = PATIENCE_S
) -> Outcome:
    one = Hunt(context, victim, size, seed, patience_s)
    try:
        while one.outcome.kills < kills:
            one.kill_one()
        one.end()
    finally:
        one.close()
    return one.outcome


def watch(seconds: float) -> None:
    """End this process if it takes longer: what it waits for may have no limit of its own."""

    def give_up() -> None:
        print("killing: it hangs, and so do we", flush=True)
        os._exit(FAILS)

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--library", default="leveret")
    parser.add_argument("--method", default="fork")
    parser.add_argument("--victim", choices=("producer", "consumer"), default="producer")
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--patience", type=float, default=PATIENCE_S)
    parser.add_argument("--seconds", type=float, default=600)
    args = parser.parse_args()
    print(f"killing: seed {args.seed}", flush=True)
    watch(args.seconds)
    context = importlib.import_module(args.library).get_context(args.method)
    try:
        print(hunt(context, args.victim, args.size, args.kills, args.seed, args.patience))
    except AssertionError as error:
        print(f"killing: {type(error).__name__} {error}", flush=True)
        os._exit(FAILS)  # an orderly end would hang, too
    return 0


if __name__ == "__main__":
    sys.exit(main())

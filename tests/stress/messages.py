"""The soak's queues: producers and consumers that are killed, and an account of every message.

    producer --> queue --> consumer      one pair of processes for each kind of queue;
        |                      |         who is killed is replaced
     returned[p]          arrived[p][n]  in a file that all map

A message says which producer put it and which of his it is. Every message whose put() returned must
arrive exactly once, unless a consumer was killed while it held it: of these there can be no more
than there were consumers killed.
"""

import itertools
import mmap
import os
import random
import tempfile
import threading
import time
import warnings

import leveret
from leveret import _core

PRODUCERS = 4000  # in all, one after the other
EACH = 2048  # messages of one producer; then it is replaced
UNBOUNDED = 500  # where a producer without a bound stops for a while
BODY = random.Random(1).randbytes(2 << 20)
KINDS = {  # bound, joinable, bytes
    "small": (8, False, 20),
    "4 KiB": (0, False, 4 << 10),
    "1 MiB": (2, False, 1 << 20),
    "joinable": (16, True, 300),
    "locks": (4, True, 0),
}


class Account:
    """returned[p], then arrived[p][n]: a word and a byte each."""

    def __init__(self, path):
        with open(path, "r+b") as file:
            self.map = mmap.mmap(file.fileno(), PRODUCERS * (8 + EACH))
        self.returned = memoryview(self.map)[: PRODUCERS * 8].cast("q")
        self.arrived = memoryview(self.map)[PRODUCERS * 8 :]


def body_of(number, size):
    start = number * 4099 % (len(BODY) - size)
    return BODY[start : start + size]


def produce(queue, path, kind, producer, seed):
    account, rng, size = Account(path), random.Random(seed), KINDS[kind][2]
    for number in range(EACH):
        body = leveret.Lock() if kind == "locks" else body_of(number, size)
        queue.put((producer, number, body))
        account.returned[producer] = number + 1
        while queue.qsize() > UNBOUNDED or rng.random() < 0.02:
            time.sleep(rng.uniform(0, 0.01))


def receive(account, queue, kind, message, last, fail):
    """Enter a message into the account; and see that it is what it was, and in order."""
    producer, number, body = message
    if kind == "locks":
        with body:
            pass
    elif body != body_of(number, KINDS[kind][2]):
        fail(f"message {number} of {producer} ({kind}) is damaged")
    if last.get(producer, -1) >= number:
        fail(f"message {number} of {producer} ({kind}) came after {last[producer]}")
    last[producer] = number
    at = producer * EACH + number
    if account.arrived[at]:
        fail(f"message {number} of {producer} ({kind}) came twice")
    account.arrived[at] = 1
    if KINDS[kind][1]:
        queue.task_done()


def consume(queue, path, kind, fail):
    warnings.simplefilter("ignore", _core.AbandonedLockWarning)
    account, last = Account(path), {}
    while True:
        receive(account, queue, kind, queue.get(), last, fail)


class Messages:
    """The queues, and who works on them; driven by the soak."""

    def __init__(self, rng, methods, fail):
        self.rng, self.methods, self.fail = rng, methods, fail
        self.numbers = itertools.count()
        self.used = self.consumers_killed = 0
        with tempfile.NamedTemporaryFile(prefix="soak-", delete=False) as file:
            file.truncate(PRODUCERS * (8 + EACH))
        self.path = file.name
        context = leveret.get_context("fork")
        self.queues = {
            kind: (context.JoinableQueue if joinable else context.Queue)(bound)
            for kind, (bound, joinable, _) in KINDS.items()
        }
        self.group = {
            (kind, role): self.start(kind, role)
            for kind in KINDS
            for role in ("producer", "consumer")
        }

    def start(self, kind, role):
        context = leveret.get_context(self.rng.choice(self.methods))
        if role == "producer":
            self.used = next(self.numbers)
            args = (self.queues[kind], self.path, kind, self.used, self.rng.random())
            process = context.Process(target=produce, args=args)
        else:
            args = (self.queues[kind], self.path, kind, self.fail)
            process = context.Process(target=consume, args=args)
        process.start()
        return process

    def replace_dead(self, check, killed):
        for (kind, role), process in self.group.items():
            if process.is_alive() or self.used == PRODUCERS - 1:
                continue
            process.join()
            ends = (0, *killed) if role == "producer" else killed
            check(process.exitcode in ends, f"a {role} ({kind}) ended with {process.exitcode}")
            self.consumers_killed += role == "consumer"
            process.close()
            self.group[kind, role] = self.start(kind, role)

    def count(self):
        account = Account(self.path)
        return sum(account.returned)

    def kill_all(self):
        for process in self.group.values():
            process.kill()
        for process in self.group.values():
            process.join()
            process.close()
        self.consumers_killed += len(KINDS)
        self.group.clear()

    def end(self, check, patience_s):
        """With everybody dead: get what is left, and go over the account."""
        warnings.simplefilter("ignore", _core.AbandonedLockWarning)
        self.kill_all()
        account = Account(self.path)
        for kind, queue in self.queues.items():
            last = {}
            while not queue.empty():
                receive(account, queue, kind, queue.get(timeout=patience_s), last, self.fail)
        undone = sum(self.joined(kind, check, patience_s) for kind in KINDS if KINDS[kind][1])
        arrived, held = self.go_over(account, check)
        check(
            held <= self.consumers_killed,
            f"{held} messages are gone, {self.consumers_killed} consumers were killed",
        )
        self.queues.clear()
        os.unlink(self.path)
        return (
            f"{arrived} messages of {self.used + 1} producers, {held} died with one of "
            f"{self.consumers_killed} killed consumers, {undone} were never called done"
        )

    def joined(self, kind, check, patience_s):
        """How many tasks join() says are lost."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            joiner = threading.Thread(target=self.queues[kind].join, daemon=True)
            joiner.start()
            joiner.join(patience_s)
            check(not joiner.is_alive(), f"the join of the queue of {kind} hangs")
        return sum(int(str(one.message).split()[0]) for one in caught)

    def go_over(self, account, check):
        arrived = held = 0
        for producer in range(self.used + 1):
            row = bytes(account.arrived[producer * EACH : (producer + 1) * EACH])
            returned = account.returned[producer]
            arrived += sum(row)
            held += returned - sum(row[:returned])
            check(not any(row[returned + 1 :]), f"producer {producer}: more than it put came")
        return arrived, held

"""Kills random processes of a group that hammers locks, births and queues: the living go on.

    soak.py [--seconds 60] [--seed N] [--workers 6]

    this process ---> workers ---> their children
         |               all take the same locks, semaphores, conditions
         +----------> producers and consumers of queues (messages.py)
         |
         +--- SIGKILL to any descendant: worker, child, zygote, spare

and for the last third of the time pools and executors, whose workers are killed (pools.py).

What must hold all the time: one holder for each lock, unless the lock says that its last one
died; every lock can be had within PATIENCE_S; no process ends but by its own end or by our kill.
And at the end, with all of them dead: the arena is valid, every unit of every semaphore is back,
and as many slots, objects and blocks are in use as before. Closes with `N passed, N failed`.
"""

import argparse
import gc
import os
import pathlib
import random
import signal
import sys
import threading
import time
import warnings
from multiprocessing import connection

import leveret
from leveret import _core
from messages import Messages
from pools import soak as soak_pools

PATIENCE_S = 20.0  # on a busy machine; any wait beyond it is a hang
LOCKS = 4
UNITS = 2
BARRIER_S = 0.2
KILLED = (-signal.SIGKILL, 255)  # 255: so was the zygote, who alone knew
METHODS = ("warm", "fork", "warm", "fork", "spawn")
COUNTED = ("blocks", "objects", "slots_embryo", "slots_running", "slots_over", "slots_kept")


class Shared:
    """What all processes of the group have in common."""

    def __init__(self, context, workers):
        self.locks = [context.Lock() for _ in range(LOCKS)]
        self.rlock = context.RLock()
        self.semaphore = context.BoundedSemaphore(UNITS)
        self.condition = context.Condition()
        self.event = context.Event()
        self.barrier = context.Barrier(2)
        self.owners = context.RawArray("q", LOCKS)  # who is inside each lock
        self.progress = context.RawArray("q", workers)
        self.abandoned = context.RawValue("q", 0)
        self.births = context.RawValue("q", 0)


def fail(message):
    print(f"soak: {os.getpid()}: {message}", file=sys.stderr, flush=True)
    os._exit(3)


def inside(shared, which):
    """The critical section of one lock: nobody else may be in it."""
    lock = shared.locks[which]
    before = shared.owners[which]
    if before and not lock.abandoned:
        fail(f"lock {which}: {before} is inside as well")
    if lock.abandoned:
        shared.abandoned.value += 1
    shared.owners[which] = os.getpid()
    for _ in range(random.choice((1, 1, 1, 10_000))):
        if shared.owners[which] != os.getpid():
            fail(f"lock {which}: somebody came in")
    shared.owners[which] = 0


def take_lock(shared, rng):
    which = rng.randrange(LOCKS)
    if not shared.locks[which].acquire(timeout=PATIENCE_S):
        fail(f"lock {which} not to be had in {PATIENCE_S} s")
    inside(shared, which)
    shared.locks[which].release()


def take_with(shared, rng):
    which = rng.randrange(LOCKS)
    with shared.locks[which]:
        inside(shared, which)


def take_rlock(shared, rng):
    depth = rng.randint(1, 3)
    for _ in range(depth):
        if not shared.rlock.acquire(timeout=PATIENCE_S):
            fail(f"the recursive lock not to be had in {PATIENCE_S} s")
    for _ in range(depth):
        shared.rlock.release()


def take_unit(shared, _rng):
    if not shared.semaphore.acquire(timeout=PATIENCE_S):
        fail(f"no unit of the semaphore in {PATIENCE_S} s")
    shared.semaphore.release()


def use_condition(shared, rng):
    with shared.condition:
        if rng.random() < 0.5:
            shared.condition.notify(rng.randint(1, 3))
        else:
            shared.condition.wait(0.01)


def use_event(shared, rng):
    if rng.random() < 0.5:
        shared.event.set()
    else:
        shared.event.clear()
        shared.event.wait(0.01)


def use_barrier(shared, _rng):
    try:
        shared.barrier.wait(BARRIER_S)
    except threading.BrokenBarrierError:
        shared.barrier.reset()


def grandchild(shared, seed):
    warnings.simplefilter("ignore", _core.AbandonedLockWarning)
    rng = random.Random(seed)
    for _ in range(rng.randrange(20)):
        take_lock(shared, rng)


def give_birth(shared, rng):
    method = rng.choice(METHODS[:4])
    child = leveret.get_context(method).Process(target=grandchild, args=(shared, rng.random()))
    child.start()
    shared.births.value += 1
    child.join(PATIENCE_S)
    if child.exitcode not in (0, *KILLED):
        fail(f"a child by {method} ended with {child.exitcode}")


ACTIONS = (take_lock, take_with, take_rlock, take_unit, use_condition, use_event, use_barrier)


def worker(shared, index, seed):
    """Hammers until it is killed."""
    warnings.simplefilter("ignore", _core.AbandonedLockWarning)
    rng = random.Random(seed)
    while True:
        for _ in range(50):
            rng.choice(ACTIONS)(shared, rng)
            shared.progress[index] += 1
        give_birth(shared, rng)


def descendants():
    """{pid: command line} of all living descendants, the standard library's helpers aside."""
    table = {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                words = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            table[int(entry.name)] = (int(fields[1]), fields[0], words)
    family = {os.getpid()}
    while grown := {p for p, (parent, *_) in table.items() if parent in family} - family:
        family |= grown
    return {
        pid: table[pid][2]
        for pid in family - {os.getpid()}
        if table[pid][1] not in "ZX" and "resource_tracker" not in table[pid][2]
    }


def kill_one(rng):
    """SIGKILL to one descendant; False if there was none."""
    victims = sorted(descendants())
    if not victims:
        return False
    victim = rng.choice(victims)
    try:
        handle = os.pidfd_open(victim)
    except ProcessLookupError:
        return False
    try:
        if victim in descendants():  # still the same one, now that the handle is open
            signal.pidfd_send_signal(handle, signal.SIGKILL)
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)
    return True


class Soak:
    def __init__(self, seed, workers):
        self.rng = random.Random(seed)
        self.passed, self.failed, self.kills, self.replaced = 0, 0, 0, 0
        self.shared = Shared(leveret.get_context("fork"), workers)
        self.group = {index: self.start(index) for index in range(workers)}
        self.messages = Messages(self.rng, METHODS, fail)

    def check(self, holds, message):
        if holds:
            self.passed += 1
        else:
            self.failed += 1
            print(f"soak: FAILED: {message}", flush=True)

    def start(self, index):
        context = leveret.get_context(self.rng.choice(METHODS))
        process = context.Process(
            target=worker, args=(self.shared, index, self.rng.random()), name=f"worker-{index}"
        )
        process.start()
        return process

    def replace_dead(self):
        connection.wait([process.sentinel for process in self.group.values()], 0)
        for index, process in self.group.items():
            if process.is_alive():
                continue
            process.join()
            self.check(process.exitcode in KILLED, f"a worker ended with {process.exitcode}")
            process.close()
            self.group[index] = self.start(index)
            self.replaced += 1
        self.messages.replace_dead(self.check, KILLED)

    def look(self, last):
        """The locks can be had, and somebody has worked, and put, since the last look."""
        for which, lock in enumerate(self.shared.locks):
            got = lock.acquire(timeout=PATIENCE_S)
            self.check(got, f"lock {which} not to be had in {PATIENCE_S} s")
            if got:
                inside(self.shared, which)
                lock.release()
        now = sum(self.shared.progress), self.messages.count()
        self.check(now[0] > last[0], "no progress since the last look")
        self.check(now[1] > last[1], "no message since the last look")
        return now

    def hammer(self, seconds):
        end = time.monotonic() + seconds
        next_look, progress = time.monotonic() + 5, (-1, -1)
        while time.monotonic() < end:
            self.kills += kill_one(self.rng)
            self.replace_dead()
            if time.monotonic() > next_look:
                progress = self.look(progress)
                next_look = time.monotonic() + 5
            time.sleep(self.rng.uniform(0, 0.1))
        self.look(progress)

    def end(self):
        for process in self.group.values():
            process.kill()
        for process in self.group.values():
            process.join(PATIENCE_S)
            self.check(process.exitcode in KILLED, f"{process} was not to be killed")
            process.close()
        self.group.clear()
        self.report = self.messages.end(self.check, PATIENCE_S)
        wait_for(lambda: not still_running())
        self.check(not still_running(), f"{still_running()} processes still run")
        units = sum(self.shared.semaphore.acquire(timeout=0.5) for _ in range(UNITS))
        self.check(units == UNITS, f"{units} of {UNITS} units came back")
        for _ in range(units):
            self.shared.semaphore.release()
        with self.shared.condition:
            self.shared.condition.notify_all()


def still_running():
    """How many more processes there are in the session than at first; the zygote may be gone."""
    _core.repair()
    return max(0, _core.session_stats()["slots_running"] - BASE["slots_running"])


def wait_for(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.01)


def counted():
    stats = _core.session_stats()
    return {name: stats[name] for name in COUNTED}


def nothing():
    pass


def settle():
    """Brings to life what stays, and counts."""
    for method in set(METHODS):
        process = leveret.get_context(method).Process(target=nothing)
        process.start()
        process.join()
        process.close()
    return counted()


BASE = {}


def left_over():
    """What there is more of than at first, once the dead are repaired."""
    _core.repair()
    now = counted()
    return {name: (was, now[name]) for name, was in BASE.items() if now[name] > was}


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--workers", type=int, default=6)
    return parser.parse_args()


def main():
    args = arguments()
    warnings.simplefilter("ignore", _core.AbandonedLockWarning)
    print(f"soak: seed {args.seed}, {args.workers} workers, {args.seconds:g} s", flush=True)
    BASE.update(settle())
    soak = Soak(args.seed, args.workers)
    soak.hammer(args.seconds * 2 / 3)
    soak.end()
    shared = soak.shared
    print(
        f"soak: {soak.kills} killed, {soak.replaced} workers replaced, "
        f"{shared.births.value} births, {sum(shared.progress)} actions, "
        f"{shared.abandoned.value} abandoned locks"
    )
    print(f"soak: {soak.report}")
    failed = soak_pools(args.seed, seconds=args.seconds / 3)
    soak.check(not failed, f"{failed} failures in pools")
    soak.shared = soak.messages = shared = None
    _core.session_check()
    wait_for(lambda: not left_over())
    left = left_over()
    soak.check(not left, f"before and after: {left}")
    print(f"{soak.passed} passed, {soak.failed} failed")
    return bool(soak.failed)


if __name__ == "__main__":
    sys.exit(main())

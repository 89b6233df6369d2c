"""Small tasks by the million in pools whose workers are killed: an account of every task.

    pools.py [--tasks 1000000] [--seconds S] [--seed N] [--every 0.05]

    this process --- map, apply_async, imap_unordered, submit ---> workers of a pool, an executor
         |                                                             runs[task] += 1, in an array
         +--- told[task]: a value, or WorkerDied                       that all share
    killer, a thread: SIGKILL to a worker every 50 ms, whatever it does

What must hold: every task is told, once, within PATIENCE_S. One that is told as a value has the
right one and was run: exactly once without retries. One that is told as WorkerDied was run once at
most. With retries both were run at most 1 + retries times. Nobody is left at the end, and no more
is in use in the arena than before.

A round is one pool, and drawn from a seed of its own, which a failure names (`--seed N --tasks 1`
is that round). Who is killed when depends on the machine, too.
"""

import argparse
import contextlib
import gc
import os
import random
import signal
import sys
import threading
import time
from concurrent.futures import as_completed, wait

import leveret
from leveret import _core

PATIENCE_S = 60.0  # on a busy machine; any wait beyond it is a hang
KINDS = ("pool", "pool", "executor")
METHODS = ("fork", "fork", "warm")
COUNTED = ("blocks", "objects", "slots_embryo", "slots_running", "slots_over", "slots_kept")
ROUND = 4000  # tasks of a call, at most
CALLS_MOST = 4  # of a round

runs = None  # of a worker: the array


def set_up(array):
    global runs  # noqa: PLW0603
    runs = array


def work(task):
    """A task: (its place, how much it has to do)."""
    at, size = task
    runs[at] += 1
    sum(range(size))
    return at, bytes(size)


def answer_to(task):
    return task[0], bytes(task[1])


class Killer(threading.Thread):
    """Kills one of the workers every so often."""

    def __init__(self, rng, every_s):
        super().__init__(name="killer", daemon=True)
        self.rng, self.every_s = rng, every_s
        self.victims = nobody
        self.kills = 0
        self.over = threading.Event()

    def run(self):
        while not self.over.wait(self.every_s):
            with contextlib.suppress(ProcessLookupError):
                self.kills += self.kill_one()

    def kill_one(self):
        victims = sorted(self.victims())
        if not victims:
            return False
        victim = self.rng.choice(victims)
        handle = os.pidfd_open(victim)
        try:
            still = victim in self.victims()  # the same one, now that the handle is open
            if still:
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        finally:
            os.close(handle)
        return still


class Account:
    """What was told of each task of a call, and how often it was run."""

    def __init__(self, array, first, count, retries, fail):
        self.array, self.first, self.retries, self.fail = array, first, retries, fail
        self.told = [None] * count

    def tell(self, task, get):
        """Enter what get() returns or raises; whether it has an answer."""
        if self.told[task[0] - self.first] is not None:
            self.fail(f"task {task} was told twice")
        try:
            told = "value" if get() == answer_to(task) else "wrong"
        except leveret.WorkerDied:
            told = "died"
        except TimeoutError:
            told = "hangs"
        self.told[task[0] - self.first] = told
        return told == "value"

    def give_up(self, tasks):
        """The call has ended, by the death of another task: nothing is known of these."""
        for task in tasks:
            self.told[task[0] - self.first] = "died"

    def close(self):
        """When the pool is over: all tasks were told, and run as often as they may be."""
        for at, told in enumerate(self.told, self.first):
            count, most = self.array[at], 1 + self.retries
            if told not in ("value", "died"):
                self.fail(f"task {at} was told: {told}")
            elif not (told == "value") <= count <= most:
                self.fail(f"task {at} was told: {told}, and run {count} times; {most} at most")


# Calls. Each tells the account of all of its tasks.


def by_map(pool, tasks, account, _rng):
    """Of one that died it raises that, and says nothing of the others."""
    try:
        values = pool.map(work, tasks)
    except leveret.WorkerDied:
        account.give_up(tasks)
        return
    for task, value in zip(tasks, values, strict=True):
        account.tell(task, lambda value=value: value)


def by_map_async(pool, tasks, account, rng):
    result = pool.map_async(work, tasks, rng.choice((None, 1, 7)))
    by_map(Started(result), tasks, account, rng)


class Started:
    """A pool whose map() is under way."""

    def __init__(self, result):
        self.map = lambda *_: result.get(PATIENCE_S)


def by_apply_async(pool, tasks, account, _rng):
    results = [pool.apply_async(work, (task,)) for task in tasks]
    for task, result in zip(tasks, results, strict=True):
        account.tell(task, lambda result=result: result.get(PATIENCE_S))


def by_callbacks(pool, tasks, account, _rng):
    """In the pool's own thread."""
    left = threading.Semaphore(0)

    def told(task, get):
        account.tell(task, get)
        left.release()

    def raiser(error):
        raise error

    for task in tasks:
        pool.apply_async(
            work,
            (task,),
            callback=lambda value, task=task: told(task, lambda: value),
            error_callback=lambda error, task=task: told(task, lambda: raiser(error)),
        )
    for _ in tasks:
        if not left.acquire(timeout=PATIENCE_S):
            account.fail("a callback does not come")
            return


def by_imap(pool, tasks, account, _rng):
    results = pool.imap(work, iter(tasks))
    for task in tasks:
        account.tell(task, lambda: results.next(PATIENCE_S))


def by_imap_unordered(pool, tasks, account, _rng):
    """Who died is not said: those are the ones that are missing."""
    results, missing = pool.imap_unordered(work, tasks), {task[0]: task for task in tasks}
    deaths = 0
    for _ in tasks:
        try:
            value = results.next(PATIENCE_S)
        except leveret.WorkerDied:
            deaths += 1
        else:
            account.tell(missing.pop(value[0]), lambda value=value: value)
    if len(missing) != deaths:
        account.fail(f"{len(missing)} results are missing, {deaths} have died")
    account.give_up(missing.values())


def by_submit(executor, tasks, account, rng):
    futures = [executor.submit(work, task) for task in tasks]
    if rng.random() < 0.5:
        wait(futures, PATIENCE_S)
    for task, future in zip(tasks, futures, strict=True):
        account.tell(task, lambda future=future: future.result(PATIENCE_S))


def by_as_completed(executor, tasks, account, _rng):
    futures = {executor.submit(work, task): task for task in tasks}
    for future in as_completed(futures, PATIENCE_S):
        account.tell(futures[future], lambda future=future: future.result(0))


def by_executor_map(executor, tasks, account, rng):
    """Its iterator ends at the first death, and cancels what nobody has begun."""
    options = {"buffersize": 50} if rng.random() < 0.5 else {}
    results = executor.map(work, tasks, timeout=PATIENCE_S, **options)
    for at, task in enumerate(tasks):
        if not account.tell(task, lambda: next(results)):
            account.give_up(tasks[at + 1 :])
            return


CALLS = {
    "pool": (by_map, by_map_async, by_apply_async, by_callbacks, by_imap, by_imap_unordered),
    "executor": (by_submit, by_submit, by_as_completed, by_executor_map),
}


class Pools:
    """Rounds, each of its own seed: a pool, some calls, its end."""

    def __init__(self, seed, every_s):
        self.seed = seed
        self.array = leveret.RawArray("q", CALLS_MOST * ROUND)
        self.rounds = self.calls = self.tasks = self.deaths = self.failed = 0
        self.killer = Killer(random.Random(seed), every_s)
        self.killer.start()

    def fail(self, message):
        self.failed += 1
        if self.failed <= 20:
            print(f"pools: FAILED: {self.what}: {message}", flush=True)

    def round(self):
        """One pool, from its birth to its end."""
        rng = random.Random(self.seed + self.rounds)
        self.rounds += 1
        kind, method, workers = rng.choice(KINDS), rng.choice(METHODS), rng.choice((1, 2, 2, 4, 8))
        retries = rng.choice((0, 0, 1, 3))
        self.where = f"seed {self.seed + self.rounds - 1}, {kind}, {method}, {workers} workers"
        self.what = self.where
        self.array[:] = [0] * len(self.array)
        try:
            self.use(kind, new_pool(kind, method, workers, retries, self.array), retries, rng)
        except Exception as error:
            self.fail(f"{type(error).__name__}: {error}")

    def use(self, kind, pool, retries, rng):
        self.killer.victims = victims_in(pool)
        accounts = []
        try:
            for which in range(rng.randint(1, CALLS_MOST)):
                accounts.append(self.call(kind, pool, which * ROUND, retries, rng))
        finally:
            self.killer.victims = nobody
            end(kind, pool, rng)
        for account in accounts:
            account.close()
            self.tasks += len(account.told)
            self.deaths += account.told.count("died")

    def call(self, kind, pool, first, retries, rng):
        count = rng.choice((1, 10, 300, ROUND // 2, ROUND))
        sizes = rng.choice(((0,), (0, 10, 100), (0, 3000), (0, 100, 20_000)))
        tasks = [(at, rng.choice(sizes)) for at in range(first, first + count)]
        call = rng.choice(CALLS[kind])
        self.what = f"{self.where}, {retries} retries, {call.__name__} of {count}"
        self.calls += 1
        account = Account(self.array, first, count, retries, self.fail)
        call(pool, tasks, account, rng)
        return account


def new_pool(kind, method, workers, retries, array):
    context = leveret.get_context(method)
    options = {"initializer": set_up, "initargs": (array,), "retries": retries}
    if kind == "pool":
        return context.Pool(workers, **options)
    return leveret.ProcessPoolExecutor(workers, context, **options)


def victims_in(pool):
    """Whom to kill: workers that are initialised (the death of another one is the pool's), while
    there is something to do."""

    def victims():
        crew = getattr(pool, "_crew", None) or getattr(pool, "_staff", None)
        if crew is None or not crew.jobs:
            return []
        return [member.process.pid for member in list(crew._members.values()) if member.ready]

    return victims


def nobody():
    return []


def end(kind, pool, rng):
    if kind == "executor":
        pool.shutdown()
    elif rng.random() < 0.5:
        pool.close()
    else:
        pool.terminate()
    if kind == "pool":
        pool.join()


def in_use():
    _core.repair()
    stats = _core.session_stats()
    return {name: stats[name] for name in COUNTED}


def settled(before):
    """What there is more of than before, once the kernel has taken down what has ended."""
    deadline = time.monotonic() + 10
    while True:
        gc.collect()
        now = in_use()
        more = {name: (was, now[name]) for name, was in before.items() if now[name] > was}
        if not more or time.monotonic() > deadline:
            return more
        time.sleep(0.01)


def soak(seed, tasks=sys.maxsize, seconds=float("inf"), every_s=0.05):
    """Rounds until there were so many tasks, or so many seconds; how many failures."""
    for method in METHODS:  # what comes to life once and stays
        with leveret.get_context(method).Pool(1) as pool:
            pool.apply(abs, (1,))
    settled({})
    before = in_use()
    pools, began = Pools(seed, every_s), time.monotonic()
    while pools.tasks < tasks and time.monotonic() - began < seconds and pools.failed < 100:
        pools.round()
    pools.killer.over.set()
    pools.killer.join()
    print(
        f"pools: {pools.tasks} tasks in {pools.calls} calls of {pools.rounds} pools, "
        f"{time.monotonic() - began:.0f} s: {pools.killer.kills} workers killed, "
        f"{pools.deaths} tasks without a value, {pools.failed} failures",
        flush=True,
    )
    pools.array = None
    if left := settled(before):
        pools.fail(f"before and after: {left}")
    return pools.failed


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=int, default=sys.maxsize)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--every", type=float, default=0.05, help="seconds from kill to kill")
    args = parser.parse_args()
    if args.tasks == sys.maxsize and args.seconds == float("inf"):
        args.tasks = 1_000_000
    print(f"pools: seed {args.seed}", flush=True)
    failed = soak(args.seed, args.tasks, args.seconds, args.every)
    print(f"{int(not failed)} passed, {failed} failed")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())

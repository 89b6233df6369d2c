"""What goes wrong in the workers of a pool, at every moment at which it can.

    FAULTS    what goes wrong: an exception, a death, a halt, no memory
    MOMENTS   when it does, for a task: while it waits, is claimed, is unpickled, runs, ...
    TABLE     for each fault and moment, what the caller of the task is told

For each row, with Pool and with ProcessPoolExecutor, whose workers are forked or warm: the caller
gets the answer that the table names; tasks that were put before and after it get theirs; the pool
goes on, ends in the orderly way, and leaves nothing behind (conftest.py counts). Each wait ends by
what is waited for: PATIENCE_S is how long one may last that is over at once on an idle machine.
"""

import contextlib
import errno
import faulthandler
import os
import pathlib
import re
import resource
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import Any, NoReturn

import leveret
import pytest
from pooled import KINDS, METHODS, PATIENCE_S, Pooled, answer, double, eventually, outcome, state_of

# The standard library's, of a fork beside threads: a pool forks when a worker has died. From 3.15
# on it is an exception where warnings are, and there is no such worker.
pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")

# A task that does not end has so long; its caller is told at the end of it, and a second later its
# worker is gone.
TIMEOUT_S = 0.3

NEIGHBOURS = 6  # before the task, and as many after it

# fault       moment        Pool                    Executor, if it is something else
TABLE = """
raise         waiting       value
exit          waiting       value
_exit         waiting       value
kill          waiting       value
segfault      waiting       value
stop          waiting       value
hang          waiting       value
deaf          waiting       value
unpicklable   waiting       value
memory        waiting       value
no memory     waiting       value

raise         claimed       value
exit          claimed       value
_exit         claimed       value
kill          claimed       value
segfault      claimed       value
stop          claimed       value
hang          claimed       value
deaf          claimed       value
unpicklable   claimed       value
memory        claimed       value
no memory     claimed       value

raise         unpickling    Planned                 BrokenProcessPool
exit          unpickling    WorkerDied 3            BrokenProcessPool
_exit         unpickling    WorkerDied 7
kill          unpickling    WorkerDied SIGKILL
segfault      unpickling    WorkerDied SIGSEGV
stop          unpickling    TaskTimeout
hang          unpickling    TaskTimeout
deaf          unpickling    TaskTimeout
unpicklable   unpickling    RemoteError Guarded     BrokenProcessPool
stubborn      unpickling    RemoteError Stubborn    BrokenProcessPool
memory        unpickling    MemoryError             BrokenProcessPool
no memory     unpickling    MemoryError             BrokenProcessPool

raise         running       Planned
exit          running       WorkerDied 3            SystemExit
_exit         running       WorkerDied 7
kill          running       WorkerDied SIGKILL
segfault      running       WorkerDied SIGSEGV
stop          running       TaskTimeout
hang          running       TaskTimeout
deaf          running       TaskTimeout
unpicklable   running       RemoteError Guarded
stubborn      running       RemoteError Stubborn
memory        running       MemoryError
no memory     running       MemoryError

raise         pickling      MaybeEncodingError      Planned
exit          pickling      MaybeEncodingError      SystemExit
_exit         pickling      WorkerDied 7
kill          pickling      WorkerDied SIGKILL
segfault      pickling      WorkerDied SIGSEGV
stop          pickling      TaskTimeout
hang          pickling      TaskTimeout
deaf          pickling      TaskTimeout
lock          pickling      MaybeEncodingError      TypeError
unpicklable   pickling      MaybeEncodingError      RemoteError Guarded
stubborn      pickling      MaybeEncodingError      RemoteError Stubborn
memory        pickling      MaybeEncodingError      MemoryError
no memory     pickling      MaybeEncodingError      MemoryError

raise         told          value
exit          told          value
_exit         told          value
kill          told          value
segfault      told          value
stop          told          value
unpicklable   told          value
memory        told          value

kill          idle          value
segfault      idle          value
terminate     idle          value
stop          idle          value
interrupt     idle          value

raise         initializer   BrokenProcessPool
exit          initializer   BrokenProcessPool
_exit         initializer   WorkerDied 7
kill          initializer   WorkerDied SIGKILL
segfault      initializer   WorkerDied SIGSEGV
unpicklable   initializer   BrokenProcessPool
stubborn      initializer   BrokenProcessPool
memory        initializer   BrokenProcessPool
no memory     initializer   BrokenProcessPool

raise         argument      Planned
lock          argument      TypeError
unpicklable   argument      Guarded
memory        argument      MemoryError

raise         result        Planned                 BrokenProcessPool
exit          result        RemoteError SystemExit  BrokenProcessPool
unpicklable   result        Guarded                 BrokenProcessPool
memory        result        MemoryError             BrokenProcessPool
"""

VALUE = "value"

# To have the task claimed together with the one before it, so many are put around the two.
FILLERS = 400
CLAIMS = 100


# Faults.


class Planned(Exception):  # noqa: N818
    """What a task raises."""


class Guarded(Exception):  # noqa: N818
    """An exception that cannot be pickled."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


class Stubborn(Exception):  # noqa: N818
    """An exception that cannot be unpickled."""

    def __init__(self, one: int, other: int) -> None:
        super().__init__(f"{one} and {other}")


def raise_planned() -> NoReturn:
    raise Planned("as planned")


def leave() -> NoReturn:
    raise SystemExit(3)


def leave_at_once() -> NoReturn:
    os._exit(7)


def kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def crash() -> None:
    faulthandler._sigsegv()


def stop_self() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def hang() -> None:
    threading.Event().wait()


def hang_deaf() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    hang()


def raise_unpicklable() -> NoReturn:
    raise Guarded


def raise_stubborn() -> NoReturn:
    raise Stubborn(1, 2)


def pickle_a_lock() -> NoReturn:
    threading.Lock().__reduce_ex__(2)
    raise AssertionError


def limit_memory(more: int) -> None:
    """What this process may have is what it has, and that much."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more, hard))


def ask_for_too_much() -> None:
    bytearray(1 << 60)


def use_up_memory() -> None:
    """Take what there is, in ever smaller pieces; it is there again when the exception is gone."""
    limit_memory(32 << 20)
    hoard: list[Any] = []
    for size in (1 << 20, 1 << 14, 1 << 8):
        try:
            while True:
                hoard.append(bytearray(size))
        except MemoryError:
            continue
    hoard.append(bytearray(1 << 20))


FAULTS: dict[str, Callable[[], object]] = {
    "raise": raise_planned,
    "exit": leave,
    "_exit": leave_at_once,
    "kill": kill_self,
    "segfault": crash,
    "stop": stop_self,
    "hang": hang,
    "deaf": hang_deaf,
    "lock": pickle_a_lock,
    "unpicklable": raise_unpicklable,
    "stubborn": raise_stubborn,
    "memory": ask_for_too_much,
    "no memory": use_up_memory,
}
ENDLESS = ("stop", "hang", "deaf")  # these have TIMEOUT_S

SIGNALS = {
    "kill": signal.SIGKILL,
    "segfault": signal.SIGSEGV,
    "terminate": signal.SIGTERM,
    "stop": signal.SIGSTOP,
    "interrupt": signal.SIGINT,
}


# Moments. What is pickled and unpickled goes wrong by itself; the others are led to it.


def commit(fault: str) -> None:
    FAULTS[fault]()


class AtUnpickling:
    def __init__(self, fault: str) -> None:
        self.fault = fault

    def __reduce__(self) -> Any:
        return commit, (self.fault,)


class AtPickling(AtUnpickling):
    def __reduce__(self) -> Any:
        return commit(self.fault)


class AtTheEnd(AtUnpickling):
    """Goes wrong when its worker lets go of it, after its result is with the owner."""

    def __reduce__(self) -> Any:
        return str, (VALUE,)

    def __del__(self) -> None:
        commit(self.fault)


def run(fault: str) -> str:
    commit(fault)
    return VALUE


def run_when_told(fault: str, begun: Any, go: Any, really: Any) -> str:
    begun.set()
    go.wait()
    if really.value:
        commit(fault)
    return VALUE


stage: list[Any] = []


def set_stage(*parts: Any) -> None:
    """The initializer of workers that claim several tasks: these have no shared objects."""
    stage[:] = parts


def run_on_stage(fault: str) -> str:
    return run_when_told(fault, *stage)


def give(argument: Any) -> str:
    return VALUE


def make(kind: type[AtUnpickling], fault: str) -> AtUnpickling:
    return kind(fault)


def count(counters: Any, at: int) -> int:
    counters[at] += 1
    return at


def no_tidings(unraisable: Any) -> None:
    """What is raised where a value goes would be told on stderr."""


class Case:
    """One row of the table, with one kind of pool."""

    def __init__(self, fault: str, moment: str, kind: str, method: str) -> None:
        self.fault, self.kind = fault, kind
        self.limits = {"timeout": TIMEOUT_S} if fault in ENDLESS else {}
        self.context = leveret.get_context(method)
        self.counters = leveret.RawArray("q", 4 * NEIGHBOURS)
        self.neighbours: list[Any] = []
        self.stage = self.new_stage()
        if moment == "claimed":
            options = {"initializer": set_stage, "initargs": self.stage}
            self.pooled = Pooled(kind, self.context, 1, **options)
        else:
            self.pooled = Pooled(kind, self.context)

    def new_stage(self) -> tuple[Any, Any, Any]:
        """The task has begun; it may go on; whether it then goes wrong."""
        return self.context.Event(), self.context.Event(), self.context.RawValue("b", 0)

    def put(self, function: Callable[..., Any], *args: Any) -> Any:
        return self.pooled.submit(function, *args, **self.limits)

    def put_neighbours(self) -> None:
        for at in range(len(self.neighbours), len(self.neighbours) + NEIGHBOURS):
            self.neighbours.append(self.pooled.submit(count, self.counters, at))

    def check_neighbours(self) -> None:
        """All of them were run, once each, and their callers told."""
        answers = [answer(result) for result in self.neighbours]
        assert answers == [str(at) for at in range(len(answers))]
        assert list(self.counters)[: len(answers)] == [1] * len(answers)


def at_running(case: Case) -> Any:
    return case.put(run, case.fault)


def at_unpickling(case: Case) -> Any:
    return case.put(give, AtUnpickling(case.fault))


def at_pickling(case: Case) -> Any:
    return case.put(make, AtPickling, case.fault)


def at_told(case: Case) -> Any:
    return case.put(make, AtTheEnd, case.fault)


def at_argument(case: Case) -> Any:
    return case.put(give, AtPickling(case.fault))


def at_result(case: Case) -> Any:
    return case.put(make, AtUnpickling, case.fault)


def at_waiting(case: Case) -> Any:
    """Both workers go wrong while the task waits behind theirs."""
    stages = [case.new_stage() for _ in range(2)]
    holders = [case.put(run_when_told, case.fault, *stage) for stage in stages]
    for begun, _, _ in stages:
        assert begun.wait(PATIENCE_S)
    result = case.pooled.submit(give, None)
    for _, go, really in stages:
        really.value = 1
        go.set()
    expected = TABLE_ROWS[case.fault, "running"][case.kind]
    assert [answer(holder) for holder in holders] == [expected] * 2
    return result


def at_claimed(case: Case) -> Any:
    """The worker goes wrong that has claimed the task, behind the one that goes wrong.

    How many it claims is its own affair: we look, and try again until it was more than one.
    """
    for _ in range(CLAIMS):
        result, reached = try_to_be_claimed(case)
        if reached:
            return result
    pytest.fail(f"no worker claimed two tasks at once, {CLAIMS} times")


def try_to_be_claimed(case: Case) -> tuple[Any, bool]:
    begun, go, really = case.stage
    begun.clear()
    go.clear()
    gate = case.context.Event()
    results = [case.pooled.submit(gate.wait)]
    results += [case.pooled.submit(double, at) for at in range(FILLERS)]
    holder = case.put(run_on_stage, case.fault)
    result = case.pooled.submit(give, None)
    results += [case.pooled.submit(double, at) for at in range(FILLERS)]
    gate.set()
    assert begun.wait(PATIENCE_S)
    really.value = reached = behind(case.pooled) > 0
    go.set()
    assert answer(holder) == (TABLE_ROWS[case.fault, "running"][case.kind] if reached else VALUE)
    doubles = [str(2 * at) for at in range(FILLERS)]
    assert [answer(filler) for filler in results] == ["True", *doubles, *doubles]
    return result, reached


def behind(pooled: Pooled) -> int:
    """How many tasks a worker has claimed behind the one that it runs."""
    _, first, many, running, *_ = eventually(
        lambda: [r for r in pooled.rows() if r[3] is not None]
    )[0]
    return first + many - 1 - running


def at_idle(case: Case) -> Any:
    """All workers go wrong while there are no tasks."""
    case.check_neighbours()
    pids = eventually(lambda: idle(case.pooled))
    slept = {pid: sleeps(pid) for pid in pids}
    for pid in pids:
        os.kill(pid, SIGNALS[case.fault])
    done = {"stop": "T", "interrupt": "S"}.get(case.fault, "ZX")
    for pid in pids:
        eventually(lambda pid=pid: state_of(pid) in done and sleeps(pid) != slept[pid])
    return case.put(give, None)


def idle(pooled: Pooled) -> list[int]:
    """The pids of the workers, if there is nothing to do and all of them sleep."""
    pids = pooled.pids()
    nothing = len(pooled.rows()) == len(pids) and pooled.crew.board.outstanding() == 0
    return pids if nothing and all(state_of(pid) == "S" for pid in pids) else []


def sleeps(pid: int) -> int:
    """How often a process has gone to sleep; -1 if there is none."""
    try:
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return -1
    return int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", status, re.M)[1])


MOMENTS: dict[str, Callable[[Case], Any]] = {
    "waiting": at_waiting,
    "claimed": at_claimed,
    "unpickling": at_unpickling,
    "running": at_running,
    "pickling": at_pickling,
    "told": at_told,
    "idle": at_idle,
    "argument": at_argument,
    "result": at_result,
}


# The table, tested.


def rows_of(table: str) -> Iterator[tuple[tuple[str, str], dict[str, str]]]:
    for line in table.strip().splitlines():
        if line:
            fault, moment, pool, *other = re.split(r"  +", line.strip())
            yield (fault, moment), {"pool": pool, "executor": other[0] if other else pool}


TABLE_ROWS = dict(rows_of(TABLE))
CASES = [(*row, kind, method) for row in TABLE_ROWS for kind in KINDS for method in METHODS]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(("fault", "moment", "kind", "method"), CASES)
def test_fault(fault: str, moment: str, kind: str, method: str) -> None:
    expected = TABLE_ROWS[fault, moment][kind]
    if moment == "initializer":
        check_initializer(fault, kind, method, expected)
        return
    case = Case(fault, moment, kind, method)
    pooled = case.pooled
    try:
        case.put_neighbours()
        result = MOMENTS[moment](case)
        case.put_neighbours()
        assert answer(result) == expected
        case.check_neighbours()
        assert answer(pooled.submit(double, 4)) == "8"
    except BaseException:
        pooled.kill()
        raise
    if fault == "stop" and moment == "told":
        pooled.kill()  # who is stopped without a task does not leave
    else:
        pooled.end()


def check_initializer(fault: str, kind: str, method: str, expected: str) -> None:
    """All tasks are told the same, and the pool is of no use any more."""
    context = leveret.get_context(method)
    with Pooled(kind, context, initializer=commit, initargs=(fault,)) as pooled:
        first = outcome(lambda: pooled.submit(double, 1).get(PATIENCE_S))
        assert first == expected
        with pytest.raises(BrokenProcessPool):
            pooled.submit(double, 2).get(PATIENCE_S)


# No more processes.


class NoProcessError(OSError):
    """What a start raises, for a while."""


@contextlib.contextmanager
def no_births(method: str, after: int = 0) -> Iterator[None]:
    """So many processes can be started, and no more."""
    process: Any = leveret.get_context(method).Process
    born, left = process._Popen, [after]

    def fail(process_obj: Any) -> Any:
        if left[0] == 0:
            raise NoProcessError(errno.EAGAIN, "cannot start a process: there are too many")
        left[0] -= 1
        return born(process_obj)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(process, "_Popen", staticmethod(fail))
        yield


def on_all_kinds(test: Any) -> Any:
    test = pytest.mark.parametrize("method", METHODS)(test)
    return pytest.mark.parametrize("kind", KINDS)(test)


@on_all_kinds
@pytest.mark.parametrize("after", [0, 1])
def test_no_process_at_first(after: int, kind: str, method: str) -> None:
    """Who makes the pool is told; an executor, who gives it the first task, and may try again."""
    context = leveret.get_context(method)
    if kind == "pool":
        with no_births(method, after), pytest.raises(NoProcessError):
            context.Pool(2)
        return
    with Pooled(kind, context) as pooled:
        if method == "fork" or after == 0:
            with no_births(method, after), pytest.raises(NoProcessError):
                pooled.submit(double, 1)
        assert answer(pooled.submit(double, 4)) == "8"


@on_all_kinds
def test_no_process_in_place_of_a_dead_one(kind: str, method: str) -> None:
    """The others do its work, and it is replaced as soon as that is possible."""
    with Pooled(kind, leveret.get_context(method)) as pooled:
        both_at_work(pooled)
        with no_births(method):
            assert answer(pooled.submit(run, "kill")) == "WorkerDied SIGKILL"
            assert [answer(pooled.submit(double, at)) for at in range(20)] == [
                str(2 * at) for at in range(20)
            ]
            assert len(pooled.pids()) == 1
        both_at_work(pooled)


def both_at_work(pooled: Pooled) -> None:
    """Return once both workers have met."""
    gate = leveret.Barrier(2)
    results = [pooled.submit(gate.wait) for _ in range(2)]
    assert sorted(answer(result) for result in results) == ["0", "1"]


@on_all_kinds
def test_no_process_in_place_of_the_last_one(kind: str, method: str) -> None:
    """Nobody will do what there is to do: all are told, at once."""
    with Pooled(kind, leveret.get_context(method), 1) as pooled:
        assert answer(pooled.submit(double, 1)) == "2"
        with no_births(method):
            begun, go, really = leveret.Event(), leveret.Event(), leveret.RawValue("b", 1)
            killed = pooled.submit(run_when_told, "kill", begun, go, really)
            waiting = [pooled.submit(double, at) for at in range(3)]
            go.set()
            assert answer(killed) in ("WorkerDied SIGKILL", "NoProcessError")
            assert [answer(result) for result in waiting] == ["NoProcessError"] * 3
            with pytest.raises((NoProcessError, BrokenProcessPool)):
                pooled.submit(double, 1).get(PATIENCE_S)


# Retries, strictness, a limit of memory.


def fault_until(counters: Any, fault: str, good_at: int) -> int:
    counters[0] += 1
    if counters[0] < good_at:
        commit(fault)
    return int(counters[0])


RETRIED = """
kill       1   value
kill       2   value
kill       3   WorkerDied SIGKILL
_exit      2   value
segfault   2   value
raise      1   Planned
"""
RETRIES = [re.split(r"  +", line.strip()) for line in RETRIED.strip().splitlines()]


@on_all_kinds
@pytest.mark.parametrize(("fault", "times", "expected"), RETRIES)
def test_retries(fault: str, times: str, expected: str, kind: str, method: str) -> None:
    """Two of them: for deaths, not for exceptions. Nobody else is run again."""
    with Pooled(kind, leveret.get_context(method), retries=2) as pooled:
        counters, others = leveret.RawArray("q", 1), leveret.RawArray("q", NEIGHBOURS)
        result = pooled.submit(fault_until, counters, fault, int(times) + 1)
        neighbours = [pooled.submit(count, others, at) for at in range(NEIGHBOURS)]
        got = answer(result)
        assert got == (str(int(times) + 1) if expected == VALUE else expected)
        assert counters[0] == (1 if fault == "raise" else min(int(times) + 1, 3))
        assert [answer(neighbour) for neighbour in neighbours] == [
            str(n) for n in range(NEIGHBOURS)
        ]
        assert list(others) == [1] * NEIGHBOURS


@on_all_kinds
@pytest.mark.parametrize("fault", ["kill", "_exit", "segfault"])
def test_strict(fault: str, kind: str, method: str) -> None:
    """A death breaks the pool: all that have no answer yet are told, and who comes later."""
    with Pooled(kind, leveret.get_context(method), strict=True) as pooled:
        begun, go, really = leveret.Event(), leveret.Event(), leveret.RawValue("b", 1)
        holder = pooled.submit(run_when_told, "raise", begun, go, really)
        assert begun.wait(PATIENCE_S)
        died = pooled.submit(run, fault)
        for result in (died, holder):
            with pytest.raises(leveret.WorkerDied):
                result.get(PATIENCE_S)
        with pytest.raises(BrokenProcessPool):
            pooled.submit(double, 1).get(PATIENCE_S)

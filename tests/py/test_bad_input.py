"""What a program does wrong, or the machine refuses: an error that says so, nothing lost or hung.

What concerns one class alone is in that class's tests; here is what is to be the same everywhere.
"""

import contextlib
import os
import pickle
import resource
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from multiprocessing.reduction import ForkingPickler
from typing import Any

import leveret
import pytest
from forked import Child, DiedError, Thread, in_child, say
from leveret import _core
from leveret.connection import wait

METHODS = ("fork", "warm", "spawn", "forkserver")
UNDER_ASAN = "asan" in os.environ.get("LD_PRELOAD", "")


def run_program(text: str, *arguments: str) -> list[str]:
    """The lines that a program prints; it must end well."""
    command = [sys.executable, "-c", textwrap.dedent(text), *arguments]
    done = subprocess.run(command, text=True, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


# Handles outside of their session

HANDLES: dict[str, Callable[[], Any]] = {
    "lock": leveret.Lock,
    "rlock": leveret.RLock,
    "semaphore": leveret.Semaphore,
    "bounded semaphore": leveret.BoundedSemaphore,
    "condition": leveret.Condition,
    "event": leveret.Event,
    "barrier": lambda: leveret.Barrier(2),
    "queue": leveret.Queue,
    "joinable queue": leveret.JoinableQueue,
    "simple queue": leveret.SimpleQueue,
    "pipe": lambda: leveret.Pipe()[0],
    "value": lambda: leveret.Value("i"),
    "array": lambda: leveret.Array("i", 2),
    "raw value": lambda: leveret.RawValue("i"),
    "raw array": lambda: leveret.RawArray("i", 2),
}

OPEN_ALL = """
import pickle, sys
for data in pickle.load(sys.stdin.buffer):
    try:
        pickle.loads(data)
    except RuntimeError as error:
        print(error)
    else:
        print("opened")
"""


def test_no_handle_opens_outside_its_session() -> None:
    pickles = [bytes(ForkingPickler.dumps(make())) for make in HANDLES.values()]
    done = subprocess.run(
        [sys.executable, "-c", OPEN_ALL],
        input=pickle.dumps(pickles),
        capture_output=True,
        check=True,
    )
    said = done.stdout.decode().splitlines()
    assert len(said) == len(HANDLES), done.stderr
    for name, line in zip(HANDLES, said, strict=True):
        assert "that was sent here: it belongs to another session" in line, name
    for data in pickles:
        pickle.loads(data)  # and the reference is still good here


# Timeouts


@contextlib.contextmanager
def sleeper(method: str) -> Iterator[Any]:
    process = leveret.get_context(method).Process(target=idle)
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()
        process.close()


def idle() -> None:
    signal.pause()


class Wait:
    """A call that waits for so many seconds, false if in vain; and what ends the wait."""

    def __init__(self, call: Callable[[float], Any], end: Callable[[], Any]) -> None:
        self.call, self.end = call, end


def for_a_lock(kind: str) -> Wait:
    lock = getattr(leveret, kind)()
    lock.acquire()
    return Wait(lambda s: Thread(lock.acquire, True, s).result(), lock.release)


def for_a_condition(use: str) -> Wait:
    condition = leveret.Condition()
    told: list[int] = []

    def call(seconds: float) -> Any:
        with condition:
            if use == "wait":
                return condition.wait(seconds)
            return bool(condition.wait_for(lambda: told, seconds))

    def end() -> None:
        with condition:
            told.append(1)
            condition.notify_all()

    return Wait(call, end)


def for_an_event() -> Wait:
    event = leveret.Event()
    return Wait(event.wait, event.set)


def for_a_barrier() -> Wait:
    barrier = leveret.Barrier(2)

    def call(seconds: float) -> bool:
        try:
            return barrier.wait(seconds) in (0, 1)
        except threading.BrokenBarrierError:
            barrier.reset()
            return False

    return Wait(call, barrier.wait)


def for_a_queue(use: str) -> Wait:
    queue = leveret.Queue(1)
    if use == "put":
        queue.put(0)

    def call(seconds: float) -> bool:
        try:
            queue.put(1, True, seconds) if use == "put" else queue.get(True, seconds)
        except (leveret.queues.Full, leveret.queues.Empty):
            return False
        return True

    return Wait(call, queue.get if use == "put" else lambda: queue.put(1))


def for_a_pipe(call: Callable[[Any, float], Any]) -> Wait:
    one, two = leveret.Pipe()
    return Wait(lambda s: bool(call(one, s)), lambda: two.send(1))


def for_a_descriptor() -> Wait:
    one, two = leveret.Pipe()
    there, _here = os.pipe()
    return Wait(
        lambda s: bool(wait([one, there], s)),
        lambda: (two.send(1), os.close(there), os.close(_here)),
    )


def for_a_value() -> Wait:
    value = leveret.Value("i")
    value.acquire()
    return Wait(lambda s: Thread(value.acquire, True, s).result(), value.release)


WAITS: dict[str, Callable[[], Wait]] = {
    "lock": lambda: for_a_lock("Lock"),
    "rlock": lambda: for_a_lock("RLock"),
    "semaphore": lambda: for_a_lock("Semaphore"),
    "bounded semaphore": lambda: for_a_lock("BoundedSemaphore"),
    "condition": lambda: for_a_condition("wait"),
    "predicate": lambda: for_a_condition("wait_for"),
    "event": for_an_event,
    "barrier": for_a_barrier,
    "get": lambda: for_a_queue("get"),
    "put": lambda: for_a_queue("put"),
    "poll": lambda: for_a_pipe(lambda one, s: one.poll(s)),
    "wait for one": lambda: for_a_pipe(lambda one, s: wait([one], s)),
    "wait for several": for_a_descriptor,
    "value": for_a_value,
}


@pytest.mark.parametrize("name", WAITS)
def test_a_timeout_may_be_any_number(name: str) -> None:
    begun = WAITS[name]()
    for passed in (0, -1, -0.5, -1e300, -(2**70), float("-inf"), 0.001):
        assert not begun.call(passed)
    with pytest.raises(ValueError, match="NaN"):
        begun.call(float("nan"))
    waiter = Thread(begun.call, 20.0)
    waiter.asleep()
    begun.end()
    assert waiter.result()


@pytest.mark.parametrize("seconds", [1e9, 2**70, 1e300, float("inf")])
@pytest.mark.parametrize("name", WAITS)
def test_a_huge_timeout_is_no_limit(name: str, seconds: float) -> None:
    begun = WAITS[name]()
    waiter = Thread(begun.call, seconds)
    waiter.asleep()
    begun.end()
    assert waiter.result()


@pytest.mark.parametrize("method", METHODS)
def test_join_takes_any_timeout(method: str) -> None:
    with sleeper(method) as process:
        for with_sentinel in (False, True):
            if with_sentinel:
                assert process.sentinel > 0
            for passed in (0, -1, -1e300, float("-inf"), 0.001):
                process.join(passed)
                assert process.is_alive()
    for seconds in (1e9, 2**70, 1e300, float("inf")):
        for with_sentinel in (False, True):
            with sleeper(method) as process:
                if with_sentinel:
                    assert process.sentinel > 0
                joiner = Thread(process.join, seconds)
                joiner.asleep()
                process.kill()
                joiner.result()
                assert process.exitcode == -signal.SIGKILL


# Want of descriptors, processes, memory

LIMITED = """
import ctypes, os, resource, sys
sys.path[:] = {path!r}
import leveret

def may_be_refused():
    "Have `ulimit -u` apply to root, too: another real user, without the capabilities to pass it."
    if os.getuid():
        return
    os.setresuid(54321, 0, 0)
    libc = ctypes.CDLL(None, use_errno=True)
    head, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    libc.capget(head, sets)
    sets[0] &= ~(1 << 24 | 1 << 21)
    if libc.capset(head, sets):
        raise OSError(ctypes.get_errno(), "capset")

def start():
    process = leveret.get_context(sys.argv[1]).Process(target=os.getpid)
    try:
        process.start()
        process.join()
        return str(process.exitcode)
    except (OSError, MemoryError) as error:
        return str(error)
    finally:
        resource.setrlimit(*unlimited)
        if process.pid:
            process.join()
        assert not leveret.active_children()

unlimited = (resource.RLIMIT_NOFILE, resource.getrlimit(resource.RLIMIT_NOFILE))

def limited(what, soft):
    global unlimited
    unlimited = (what, resource.getrlimit(what))
    resource.setrlimit(what, (soft, unlimited[1][1]))
    print(start(), flush=True)
"""


def limited(text: str, method: str) -> list[str]:
    return run_program(LIMITED.format(path=sys.path) + textwrap.dedent(text), method)


@pytest.mark.parametrize("method", ["fork", "warm", "spawn"])  # a fork server may die of it
def test_want_of_descriptors_is_an_error(method: str) -> None:
    said = limited(
        """
        assert start() == "0"
        for room in range(4):
            limited(resource.RLIMIT_NOFILE, 3 + room)
        assert start() == "0"
        """,
        method,
    )
    assert len(said) == 4
    for line in said:
        refused = line.startswith("[Errno 24] cannot") and "(see `ulimit -n`)" in line
        in_the_child = line == "1" and method == "fork"  # which has said so
        assert line == "0" or refused or in_the_child, said
    assert method != "spawn" or said[0] != "0"


@pytest.mark.parametrize("method", METHODS)
def test_want_of_processes_is_an_error(method: str) -> None:
    said = limited(
        """
        import leveret.popen.warm, leveret.popen.fork
        may_be_refused()
        limited(resource.RLIMIT_NPROC, 0)
        assert start() == "0"
        """,
        method,
    )
    assert len(said) == 1
    assert "[Errno 11] cannot start a process" in said[0] and "`ulimit -u`" in said[0]


@pytest.mark.skipif(UNDER_ASAN, reason="AddressSanitizer reserves 14 TiB of addresses")
@pytest.mark.parametrize("method", METHODS)
def test_want_of_addresses_hangs_nobody(method: str) -> None:
    """A child that has too few ends with an exit code; what is left of this process goes on."""
    said = limited(
        """
        assert start() == "0"
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        for room in (1 << 22, 1 << 24, 1 << 26, 1 << 31):
            limited(resource.RLIMIT_AS, used + room)
        assert start() == "0"
        """,
        method,
    )
    assert len(said) == 4 and said[-1] == "0"
    assert all(line in ("0", "1") or "memory" in line for line in said[:-1])


def test_a_message_that_is_larger_than_memory_leaves_the_pipe_as_it_was() -> None:
    """`ulimit -f`, and the limit of a container: the arena cannot grow."""
    one, two = leveret.Pipe()
    whole = bytes(600 << 20)

    def send_too_much() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        one.send("before")
        for send in (one.send, one.send_bytes):
            with pytest.raises(MemoryError):
                send(whole)
        one.send("after")

    in_child(send_too_much)
    assert [two.recv(), two.recv(), two.poll()] == ["before", "after", False]
    _core.session_check()


# Objects that end what pickles them


class Leaving:
    """Says CODE while it is pickled."""

    def __init__(self, code: str) -> None:
        self.code = code

    def __reduce__(self) -> Any:
        exec(self.code, {"os": os, "sys": sys})
        return int, ()


def test_a_process_that_ends_while_it_pickles_leaves_all_as_it_was() -> None:
    queue, (one, two) = leveret.JoinableQueue(2), leveret.Pipe()
    leaving = ["x" * 100_000, Leaving("os._exit(0)")]
    for send in (queue.put, one.send):
        with Child(send, leaving) as child, pytest.raises(DiedError):
            child.result()
    assert queue.empty() and not two.poll()
    for send in (queue.put, one.send):
        with pytest.raises(SystemExit):
            send(["x", Leaving("sys.exit(3)")])
    queue.put(1)
    one.send(2)
    assert (queue.get(), two.recv()) == (1, 2)
    queue.task_done()
    queue.join()
    _core.session_check()


@pytest.mark.parametrize("method", ["warm", "spawn", "forkserver"])
def test_an_argument_that_exits_while_it_is_pickled_starts_nobody(method: str) -> None:
    process = leveret.get_context(method).Process(target=print, args=(Leaving("sys.exit(3)"),))
    with pytest.raises(SystemExit):
        process.start()
    assert process.pid is None and not leveret.active_children()


@pytest.mark.parametrize("method", ["warm", "spawn", "forkserver"])
@pytest.mark.parametrize(
    ("args", "kwargs", "blamed"),
    [
        ((1, lambda: None), {}, "argument 1: <function <lambda>"),
        ((leveret.Lock, leveret.Queue), {"lock": threading.Lock()}, "argument 'lock': <unl"),
        (([sys],), {}, "argument 0: [<module 'sys'"),
    ],
    ids=["lambda", "lock", "module"],
)
def test_an_argument_that_cannot_be_sent_is_named(
    method: str, args: Any, kwargs: Any, blamed: str
) -> None:
    makers = leveret.Lock, leveret.Queue  # theirs can be sent
    args = [arg() if arg in makers else arg for arg in args]
    process = leveret.get_context(method).Process(target=print, args=args, kwargs=kwargs)
    with pytest.raises((TypeError, pickle.PicklingError)) as raised:
        process.start()
    said = str(raised.value)
    assert blamed in said and process.name in said
    assert f"the start method '{method}'" in said and "--start-method fork" in said
    assert process.pid is None and not leveret.active_children()


def test_a_fork_server_that_ended_meanwhile_is_an_error_that_says_so() -> None:
    said = run_program(
        """
        import os, resource, leveret
        from multiprocessing import forkserver
        def start():
            process = leveret.get_context("forkserver").Process(target=int)
            process.start()
            process.join()
            print(process.exitcode)
        start()
        server = forkserver._forkserver._forkserver_pid
        resource.prlimit(server, resource.RLIMIT_NOFILE, (3, 3))
        try:
            start()
        except (EOFError, ConnectionError) as error:
            print(error)
        os.waitid(os.P_PID, server, os.WEXITED | os.WNOWAIT)
        start()
        """
    )
    assert [said[0], said[2]] == ["0", "0"] and len(said) == 3
    assert "the fork server, or the child, ended before it was born" in said[1]


# Signals, in the waits that have no test elsewhere


class InterruptedHereError(Exception):
    pass


def interrupt(*_: object) -> None:
    raise InterruptedHereError


def fill(one: Any) -> None:
    while True:
        one.send_bytes(bytes(100_000))


def test_a_handler_that_raises_ends_a_send_and_a_join() -> None:
    def interrupted(call: Callable[..., Any], *args: Any) -> bool:
        signal.signal(signal.SIGUSR1, interrupt)
        say()
        try:
            call(*args)
        except InterruptedHereError:
            return True
        return False

    queue, (one, two), simple = leveret.JoinableQueue(), leveret.Pipe(), leveret.SimpleQueue()
    queue.put(1)
    for call in ((queue.join,), (fill, one), (simple.get,)):
        with Child(interrupted, *call) as child:
            child.heard()
            child.asleep()
            child.signal(signal.SIGUSR1)
            assert child.result()
    assert queue.get() == 1
    queue.task_done()
    queue.join()
    while two.poll():
        assert len(two.recv_bytes()) == 100_000
    simple.put(1)
    assert simple.get() == 1


# Forks that are not ours


@pytest.mark.parametrize("method", ["fork", "warm", "spawn"])  # a fork server serves its maker
def test_a_process_that_forked_itself_starts_others(method: str) -> None:
    queue = leveret.Queue()

    def start() -> int:
        process = leveret.get_context(method).Process(target=queue.put, args=("from it",))
        process.start()
        process.join()
        return process.exitcode

    assert in_child(start) == 0
    assert queue.get(timeout=20) == "from it"

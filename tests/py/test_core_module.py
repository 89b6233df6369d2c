"""The extension module itself: its references, its interpreters, its session, its errors."""

import gc
import os
import pickle
import subprocess
import sys
import textwrap
import threading
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from forked import Child, Thread, in_child, say
from leveret import AbandonedLockWarning, _core
from leveret.synchronize import (
    Barrier,
    BoundedSemaphore,
    Condition,
    Event,
    Lock,
    RLock,
    Semaphore,
)


def run(code: str, *options: str) -> str:
    """What a fresh interpreter prints."""
    command = [sys.executable, *options, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, text=True, capture_output=True, check=False, timeout=50)
    assert done.returncode == 0, done.stderr
    return done.stdout


# References


class Sub(Condition):
    """A Python class over one of ours."""


def use_lock() -> None:
    for kind in (Lock, RLock):
        lock = kind()
        lock.note = "note"
        with lock:
            repr(lock)
        lock.acquire(block=True, timeout=0.5)
        lock.acquire(False)
        while lock._is_mine():
            lock.release()
        pickle.loads(pickle.dumps(lock))


def use_semaphore() -> None:
    for kind in (Semaphore, BoundedSemaphore):
        semaphore = kind(2)
        with semaphore:
            repr(semaphore)
        semaphore.acquire(timeout=0)
        semaphore.release()
        pickle.loads(pickle.dumps(semaphore))


def use_condition() -> None:
    for condition in (Condition(), Condition(Lock()), Sub()):
        with condition:
            condition.wait(0)
            condition.wait_for(lambda: [1])
            condition.wait_for(lambda: [], 0.0001)
            condition.notify(3)
            condition.notify_all()
        repr(condition)
        pickle.loads(pickle.dumps(condition))


def use_event() -> None:
    event = Event()
    event.wait(0)
    event.set()
    event.wait()
    repr(event)
    pickle.loads(pickle.dumps(event))


def act() -> None:
    """A barrier's action."""


def use_barrier() -> None:
    barrier = Barrier(1, act, 5)
    barrier.wait()
    barrier.abort()
    repr(barrier)
    barrier.reset()
    pickle.loads(pickle.dumps(barrier))


def use_codec() -> None:
    shared = [1]
    values = [
        5,
        "x",
        {"a": [1.5, (None, b"y")], ("k", 2): {}},
        shared,
        [shared, shared],
        {1},
        print,
    ]
    stream, buffers, _ = _core.encode([*values, "z" * 9000, bytearray(9000), 1 << 100])
    _core.decode(stream, buffers)
    for bad in (b"", b"\xb2\x81a\xe2\x07", b"\xc2\x00\x00\x00\x00", b"\xc1\xa1\x81b"):
        with pytest.raises(ValueError):
            _core.decode(bad)
    with pytest.raises(TypeError):
        _core.encode([values, threading.Lock()])
    _core.encode(Lock())
    _core.encode_small(values, 1000)
    _core.relay([Lock(), pickle.PickleBuffer(bytes(70_000)), "w" * 9000])


def use_wrongly() -> None:
    calls: list[Callable[[], Any]] = [
        Lock().release,
        RLock().release,
        BoundedSemaphore(1).release,
        Condition().notify,
        Condition().wait,
        lambda: Lock().acquire(timeout="soon"),
        lambda: Lock().acquire(1, 2, 3),
        lambda: Lock().acquire(when=1),
        lambda: Lock().__init__(),
        lambda: Lock.__new__(Lock).acquire(),
        lambda: Semaphore("x"),
        lambda: Semaphore(-1),
        lambda: Condition(7),
        lambda: Barrier(0),
        lambda: Barrier(2, None, 0.001).wait(),
        lambda: Barrier(1, lambda: 1 // 0).wait(),
        lambda: Lock.__new__(Lock).__setstate__((b"x", None)),
        lambda: Condition.__new__(Condition).__setstate__((b"x", None, None)),
    ]
    for call in calls:
        try:
            call()
        except Exception:
            continue
        pytest.fail("this should have raised")


def use_in_cycles() -> None:
    for kind in (Lock, Event, Sub):
        thing = kind()
        thing.itself = thing
    barrier = Barrier(1, None)
    barrier.itself = barrier
    holder: list[Any] = []
    holder.append(Barrier(1, holder.append))
    condition = Condition()
    condition._lock.condition = condition
    del thing, barrier, holder, condition
    gc.collect(0)  # the youngest


USES = [
    use_lock,
    use_semaphore,
    use_condition,
    use_event,
    use_barrier,
    use_codec,
    use_wrongly,
    use_in_cycles,
]


@pytest.mark.parametrize("use", USES)
def test_nothing_is_leaked(use: Callable[[], None]) -> None:
    count = getattr(sys, "gettotalrefcount", sys.getallocatedblocks)

    def grown(rounds: int) -> int:
        gc.collect()
        before = count()
        for _ in range(rounds):
            use()
        gc.collect()
        return count() - before

    grown(20)
    objects = _core.session_stats()["objects"]
    # The interpreter's caches come and go; a leak would be one a round at least.
    assert min(grown(100) for _ in range(4)) < 100
    assert _core.session_stats()["objects"] == objects


def test_none_true_and_false_are_not_used_up() -> None:
    before = [sys.getrefcount(each) for each in (None, True, False)]
    for _ in range(200):
        use_lock()
        use_condition()
        use_event()
    gc.collect()
    after = [sys.getrefcount(each) for each in (None, True, False)]
    assert all(abs(one - two) < 100 for one, two in zip(before, after, strict=True))


def test_a_leaver_of_the_interpreter_leaves_in_order() -> None:
    """The interpreter takes apart what lives until the end, in modules and in cycles."""
    code = """
        import leveret.synchronize as s
        held = s.Lock(); held.acquire()
        condition = s.Condition(); condition._lock.me = condition
        class Late(s.Event):
            def __del__(self):
                self.set()
        late = Late(); late.me = late
        keep = [s.Barrier(1, print), s.Semaphore(3), late]
        keep.append(keep)
        print("done")
    """
    assert run(code) == "done\n"
    assert run(code, "-X", "dev") == "done\n"


# Interpreters

if sys.version_info >= (3, 13):
    import _interpreters

    def in_an_interpreter(code: str) -> None:
        interpreter = _interpreters.create()
        try:
            failure = _interpreters.exec(interpreter, textwrap.dedent(code))
            assert failure is None, failure
        finally:
            _interpreters.destroy(interpreter)

elif sys.version_info >= (3, 12):
    import _xxsubinterpreters

    def in_an_interpreter(code: str) -> None:
        interpreter = _xxsubinterpreters.create(isolated=True)
        try:
            _xxsubinterpreters.run_string(interpreter, textwrap.dedent(code))
        finally:
            _xxsubinterpreters.destroy(interpreter)


has_own_gil = pytest.mark.skipif(sys.version_info < (3, 12), reason="came with 3.12")


@has_own_gil
def test_interpreters_of_one_process_share_its_session() -> None:
    lock, event = Lock(), Event()
    lock.acquire()
    in_an_interpreter(f"""
        import pickle, sys
        sys.path[:] = {sys.path!r}
        from leveret import _core
        assert _core.session_exists()
        lock, event = pickle.loads({pickle.dumps((lock, event))!r})
        assert not lock.acquire(False)
        assert repr(lock).startswith("<Lock(owner=")
        event.set()
        condition = _core.Condition()
        with condition:
            assert condition.wait(0) is False
        condition._lock.me = condition
        assert issubclass(_core.AbandonedLockWarning, RuntimeWarning)
        values = [1, "two", {{3.0: b"four"}}, {{5}}]
        assert _core.decode(_core.encode(values)[0]) == values
    """)
    assert event.is_set()


@has_own_gil
def test_interpreters_wait_for_each_other() -> None:
    lock = Lock()
    lock.acquire()
    thread = Thread(
        in_an_interpreter,
        f"""
        import pickle, sys
        sys.path[:] = {sys.path!r}
        lock = pickle.loads({pickle.dumps(lock)!r})
        assert lock.acquire(timeout=20)
        lock.release()
        """,
    )
    lock.release()
    thread.result()


@has_own_gil
def test_interpreters_come_and_go() -> None:
    code = f"import sys; sys.path[:] = {sys.path!r}; from leveret import _core; x = _core.Lock()"
    in_an_interpreter(code)
    before = _core.session_stats()["objects"]
    for _ in range(5):
        in_an_interpreter(code)
    assert _core.session_stats()["objects"] == before


# The session


def test_a_process_is_in_one_session_only() -> None:
    _core.session_fd()
    for join in (_core.session_attach, _core.session_map):
        with pytest.raises(RuntimeError, match="in a session of leveret already"):
            join(_core.session_fd())


def test_a_stranger_with_the_descriptor_joins() -> None:
    lock = RLock()
    lock.acquire()
    fd = os.dup(_core.session_fd())
    code = f"""
        import pickle, sys
        sys.path[:] = {sys.path!r}
        from leveret import _core
        assert not _core.session_exists()
        _core.session_attach({fd})
        lock = pickle.loads({pickle.dumps(lock)!r})
        print(lock, lock.acquire(False), _core.proc_self() != 0)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(
        command, text=True, capture_output=True, check=False, timeout=50, pass_fds=[fd]
    )
    os.close(fd)
    assert done.stdout == "<RLock(SomeOtherProcess, nonzero)> False True\n", done.stderr


@pytest.mark.parametrize(
    ("offset", "what"),
    [(0, "header is damaged"), (8, "another version"), (16, "another version"), (40, "damaged")],
    ids=["magic", "format", "layout", "size"],
)
def test_a_damaged_arena_is_refused(offset: int, what: str) -> None:
    """The first fields of struct lvri_arena_shm, in a copy of an arena that is in order."""
    code = f"""
        import os, sys
        sys.path[:] = {sys.path!r}
        from leveret import _core
        arena = os.memfd_create("copy")
        os.write(arena, sys.stdin.buffer.read())
        os.pwrite(arena, bytes(b ^ 0xff for b in os.pread(arena, 4, {offset})), {offset})
        try:
            _core.session_attach(arena)
        except RuntimeError as error:
            print(error)
    """
    fd = _core.session_fd()
    command = [sys.executable, "-c", textwrap.dedent(code)]
    whole = os.pread(fd, os.fstat(fd).st_size, 0)
    done = subprocess.run(command, input=whole, capture_output=True, check=False, timeout=50)
    assert what in done.stdout.decode(), done.stderr


def test_a_descriptor_of_something_else_is_refused() -> None:
    code = f"""
        import os, sys
        sys.path[:] = {sys.path!r}
        from leveret import _core
        for fd in (0, os.memfd_create("x"), os.open("/dev/zero", os.O_RDWR), 99):
            try:
                _core.session_attach(fd)
            except (OSError, RuntimeError) as error:
                assert str(error)
            else:
                print("joined", fd)
    """
    assert run(code) == ""


def test_the_check_finds_nothing_wrong() -> None:
    _core.session_check()
    assert _core.proc_self() != 0
    assert in_child(_core.proc_self) != _core.proc_self()


def test_importing_makes_no_session() -> None:
    assert run("import leveret, leveret._core as c; print(c.session_exists())") == "False\n"


def test_want_of_memory_is_a_memory_error() -> None:
    """And what was there before goes on working."""
    code = """
        import resource
        from leveret import _core
        locks = [_core.Lock()]
        resource.setrlimit(resource.RLIMIT_FSIZE, (8 << 20, 8 << 20))
        import signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            while len(locks) < 1_000_000:
                locks.append(_core.Lock())
        except MemoryError as error:
            print(type(error).__name__, "cannot make a lock" in str(error))
        for lock in locks:
            with lock:
                pass
        del locks[len(locks) // 2 :]
        locks.append(_core.Lock())
        _core.session_check()
    """
    assert run(code) == "MemoryError True\n"


def test_too_many_open_files_is_said() -> None:
    code = """
        import resource
        from leveret import _core
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
        try:
            _core.Lock()
        except OSError as error:
            print(error.errno == 24, "ulimit -n" in str(error))
    """
    assert run(code) == "True True\n"


# Threads


def test_threads_and_processes_together() -> None:
    """A free-for-all: nothing crashes, nothing hangs, nobody is in two at a time."""
    lock, condition, semaphore = Lock(), Condition(), BoundedSemaphore(2)
    inside: list[int] = []

    def play() -> int:
        for _ in range(150):
            with lock:
                inside.append(1)
                assert len(inside) == 1
                inside.pop()
            with semaphore, condition:
                condition.notify()
                condition.wait(0.0005)
        return len(inside)

    with Child(play) as one, Child(play) as two:
        threads = [Thread(play) for _ in range(4)]
        assert [worker.result() for worker in (one, two, *threads)] == [0] * 6


def test_an_object_is_used_while_it_is_initialised_elsewhere() -> None:
    """Only one of several threads may initialise it."""
    for _ in range(50):
        lock = Lock.__new__(Lock)
        start = threading.Barrier(4)

        def initialise(lock: Any = lock, start: Any = start) -> bool:
            start.wait()
            try:
                lock.__init__()
            except RuntimeError:
                return False
            return True

        assert sorted(t.result() for t in [Thread(initialise) for _ in range(4)]) == [0, 0, 0, 1]


def hold(lock: Any) -> None:
    lock.acquire()
    say()
    threading.Event().wait()


def test_the_warning_filter_once_is_heeded() -> None:
    locks = [Lock() for _ in range(3)]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", AbandonedLockWarning)
        for lock in locks:
            with Child(hold, lock) as child:
                child.heard()
            lock.acquire()
    assert len(caught) == 3

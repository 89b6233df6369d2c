"""Waits that last: how seldom they look, and that a signal or a death is not slept through.

A wait is old when it sleeps on every process's word: /proc/PID/syscall tells.
"""

import contextlib
import ctypes
import errno
import os
import pathlib
import queue as queues
import resource
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import leveret
import pytest
from forked import PATIENCE_S, Child, in_child, say, until
from leveret import Condition, Event, JoinableQueue, Lock, Pipe, Process, Queue, Semaphore

SECONDS = 2.0
SLEEPS_MOST = 14  # twice as many as it takes; a look every 50 or 100 ms makes 20 to 40

FUTEX_WAITV = 449


def has_waitv() -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    return libc.syscall(FUTEX_WAITV, None, 0, 0, None, 1) < 0 and ctypes.get_errno() == errno.EINVAL


pytestmark = pytest.mark.skipif(not has_waitv(), reason="the kernel has no sleep on many words")


def for_a_message(seconds: float) -> None:
    with pytest.raises(queues.Empty):
        Queue().get(timeout=seconds)


def for_a_pipe(seconds: float) -> None:
    one, other = Pipe()
    assert not one.poll(seconds)
    other.close()


def for_a_lock(seconds: float) -> None:
    lock = Lock()
    lock.acquire()
    assert not lock.acquire(timeout=seconds)


def for_a_semaphore(seconds: float) -> None:
    assert not Semaphore(0).acquire(timeout=seconds)


def for_an_event(seconds: float) -> None:
    assert not Event().wait(seconds)


def for_a_condition(seconds: float) -> None:
    condition = Condition()
    with condition:
        assert not condition.wait(seconds)


def for_a_process(seconds: float) -> None:
    process = Process(target=time.sleep, args=(PATIENCE_S,))
    process.start()
    process.join(seconds)
    assert process.is_alive()
    process.kill()
    process.join()


WAITS = [
    for_a_message,
    for_a_pipe,
    for_a_lock,
    for_a_semaphore,
    for_an_event,
    for_a_condition,
    for_a_process,
]


def sleeps_of(wait: Callable[[float], None], seconds: float) -> int:
    """How often this thread gave up the processor meanwhile."""
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
    wait(seconds)
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw - before


@pytest.mark.parametrize("wait", WAITS)
def test_an_idle_wait_seldom_looks(wait: Callable[[float], None]) -> None:
    beginning = in_child(sleeps_of, wait, 0.02)
    assert in_child(sleeps_of, wait, SECONDS) - beginning < SLEEPS_MOST


def test_so_does_one_that_is_not_in_the_main_thread() -> None:
    def wait() -> int:
        sleeps: list[int] = []
        thread = threading.Thread(target=lambda: sleeps.append(sleeps_of(for_a_message, SECONDS)))
        thread.start()
        thread.join()
        return sleeps[0]

    assert in_child(wait) < SLEEPS_MOST


def is_old(pid: int) -> bool:
    with contextlib.suppress(OSError):
        fields = pathlib.Path(f"/proc/{pid}/syscall").read_text().split()
        return fields[0] == str(FUTEX_WAITV) and int(fields[2], 16) > 2
    return False


def await_old(pid: int) -> None:
    try:
        pathlib.Path(f"/proc/{os.getpid()}/syscall").read_text()
    except OSError:
        pytest.skip("/proc/PID/syscall is not there, or not ours to read")
    until(lambda: is_old(pid))


def get_and_say(queue: Any) -> Any:
    signal.signal(signal.SIGUSR1, lambda number, frame: say("h"))
    say("w")
    return queue.get(timeout=PATIENCE_S)


def test_a_signal_ends_an_old_sleep() -> None:
    queue = Queue()
    with Child(get_and_say, queue) as child:
        assert child.heard() == "w"
        for _ in range(3):
            await_old(child.pid)
            child.signal(signal.SIGUSR1)
            assert child.heard() == "h"
        queue.put("late")
        assert child.result() == "late"


def get_without_being_interrupted(queue: Any) -> float:
    """A signal goes to the other thread: as one that came just before the main thread slept."""
    heard: list[float] = []
    over = threading.Event()
    signal.signal(signal.SIGUSR1, lambda number, frame: heard.append(time.monotonic()))
    threading.Thread(target=over.wait).start()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    begin = time.monotonic()
    sent: list[float] = []

    def send() -> None:
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGUSR1)

    threading.Timer(1, send).start()
    with contextlib.suppress(queues.Empty):
        queue.get(timeout=6)
    over.set()
    return (heard[0] - sent[0]) / (sent[0] - begin)


def test_a_signal_that_interrupts_nothing_is_heard_when_the_wait_is_twice_as_old() -> None:
    assert in_child(get_without_being_interrupted, Queue()) < 1.5


def test_a_child_of_a_fork_in_a_thread_hears_its_signals() -> None:
    """Its only thread, which was not the main one, runs the handlers from then on."""

    def fork_in_thread() -> float:
        answers: list[float] = []

        def fork() -> None:
            with contextlib.suppress(queues.Empty):
                Queue().get(timeout=0.01)  # it was asked who it is
            answers.append(in_child(get_without_being_interrupted, Queue()))

        thread = threading.Thread(target=fork)
        thread.start()
        thread.join()
        return answers[0]

    assert in_child(fork_in_thread) < 1.5


def take_and_hold(queue: Any) -> None:
    queue.get()
    say("t")
    signal.pause()


def test_a_death_ends_an_old_sleep() -> None:
    queue = JoinableQueue()
    queue.put("a task")
    with Child(take_and_hold, queue) as holder:
        assert holder.heard() == "t"

        def join() -> float:
            with pytest.warns(leveret.LostTaskWarning):
                queue.join()
            return time.monotonic()

        with Child(join) as joiner:
            await_old(joiner.pid)
            begin = time.monotonic()
            holder.kill()
            assert joiner.result() - begin < 1

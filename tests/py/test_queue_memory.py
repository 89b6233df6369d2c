"""Sizes: large messages and many of them, and where there is too little memory."""

import os
import resource
import signal
import subprocess
import sys
import time

import pytest
from forked import in_child
from leveret import _core
from leveret.connection import Pipe
from leveret.queues import Queue
from queued import MIB, drained


def memory_for(mib: int) -> bool:
    with open("/proc/meminfo") as file:
        free = next(int(line.split()[1]) for line in file if line.startswith("MemAvailable"))
    return free > mib << 10


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mib", [1, 100, 1024])
def test_large_messages(mib: int) -> None:
    if not memory_for(5 * mib + 1024):
        pytest.skip("too little memory")
    queue = Queue()
    size = mib * MIB
    message = bytearray(size)
    message[::4096] = bytes(range(256)) * (size // 4096 // 256)
    queue.put(message)
    queue.put("next")
    got = queue.get()
    assert got == message and type(got) is bytearray
    assert queue.get() == "next"


without_asan = pytest.mark.skipif(
    "asan" in os.environ.get("LD_PRELOAD", ""),
    reason="AddressSanitizer reserves 14 TiB of addresses, and has times of its own",
)

MILLION = 1_000_000


def test_a_million_messages_take_memory_for_their_bytes_and_give_it_back() -> None:
    queue = Queue()
    before = _core.session_stats()["bytes"]
    queue.put_many(range(MILLION))
    assert queue.qsize() == MILLION
    used = _core.session_stats()["bytes"] - before
    assert used < 40 * MILLION
    expected = 0
    while not queue.empty():
        got = queue.get_many()
        assert got == list(range(expected, expected + len(got)))
        expected += len(got)
    assert expected == MILLION
    assert _core.session_stats()["bytes"] - before < 200_000


def seconds_for(queue: Queue, count: int, at_a_time: int) -> float:
    """Processor time for so many messages, of which so many wait at a time."""
    begin = time.process_time()
    for _ in range(count // at_a_time):
        for number in range(at_a_time):
            queue.put(number)
        for number in range(at_a_time):
            assert queue.get() == number
    return time.process_time() - begin


@without_asan
def test_a_message_costs_the_same_among_a_million_as_among_ten() -> None:
    """Within what fresh memory and cold caches cost, and what a busy machine does to clocks."""
    queue = Queue()
    few = min(seconds_for(queue, MILLION // 10, 10) * 10 for _ in range(5))
    many = min(seconds_for(queue, MILLION, MILLION) for _ in range(2))
    assert many < 3 * few


TOO_LARGE = """
import leveret
queue = leveret.Queue()
queue.put("before")
message = bytearray(700 << 20)
for obj in (message, [message, 1], {"a": message}):
    try:
        queue.put(obj)
    except MemoryError as error:
        print("MemoryError", queue.qsize())
    else:
        queue.get_many()
queue.put("after")
print(queue.get(), queue.get(), queue.qsize(), leveret._core.session_stats()["objects"])
leveret._core.session_check()
"""


@without_asan
def test_a_message_that_is_larger_than_memory_is_a_memory_error() -> None:
    command = ["bash", "-c", 'ulimit -v 1200000; exec "$0" -c "$1"', sys.executable, TOO_LARGE]
    done = subprocess.run(command, text=True, capture_output=True, check=False, timeout=50)
    assert done.stdout.split("\n") == [*["MemoryError 1"] * 3, "before after 0 1", ""], done.stderr


def test_no_room_for_files_is_a_memory_error() -> None:
    """`ulimit -f`, and the limit of a container: the arena cannot grow."""
    queue = Queue()

    def put_too_much() -> int:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, MIB))
        queue.put("before")
        with pytest.raises(MemoryError):
            queue.put(bytes(600 * MIB))
        queue.put("after")
        return queue.qsize()

    assert in_child(put_too_much) == 2
    assert drained(queue) == ["before", "after"]


@without_asan
def test_a_receiver_without_memory_is_told_that_the_message_is_gone() -> None:
    queue, (one, two) = Queue(), Pipe()
    whole = bytes(300 * MIB)
    for put in (queue.put, one.send):
        put(whole)

    def receive() -> list[str]:
        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 50 * MIB, used + 50 * MIB))
        notes = []
        for get in (queue.get, two.recv):
            with pytest.raises(MemoryError) as caught:
                get()
            notes += caught.value.__notes__
        return notes

    notes = in_child(receive)
    assert len(notes) == 2 and all("the message is gone" in note for note in notes)
    queue.put("next")
    one.send("next")
    assert (queue.get(), two.recv()) == ("next", "next")

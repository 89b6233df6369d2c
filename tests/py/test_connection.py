"""Pipe and its ends, beside the standard library's, and beside those who die."""

import asyncio
import contextlib
import gc
import multiprocessing
import os
import pickle
import select
import selectors
import signal
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from multiprocessing.context import BaseContext
from typing import Any

import leveret
import pytest
from beside import OURS, THEIRS, attempt
from forked import Child, Thread, in_child, say, until
from leveret.connection import PipeConnection, wait

BORN = ["fork", "warm"]
# Processes under AddressSanitizer end slowly, the standard library's as well.
SOON_S = 0.5 if "asan" in os.environ.get("LD_PRELOAD", "") else 0.1


@pytest.fixture(params=[THEIRS, OURS], ids=["stdlib", "leveret"])
def mp(request: pytest.FixtureRequest) -> BaseContext:
    return request.param


# Both must do it.


def test_messages_of_all_sizes(mp: BaseContext) -> None:
    one, two = mp.Pipe()
    with one, two:
        for size in (0, 1, 1023, 1024, 4096, 8190, 8191, 8192, 8193, 40_000):
            data = os.urandom(size)
            one.send_bytes(data)
            assert two.recv_bytes() == data
            one.send(data)
            assert two.recv() == data
            one.send_bytes(data)
            room = bytearray(size + 3)
            assert two.recv_bytes_into(room, 2) == size
            assert room == b"\0\0" + data + b"\0"
            one.send_bytes(data)
            if size:
                with pytest.raises(multiprocessing.BufferTooShort) as short:
                    two.recv_bytes_into(bytearray(size - 1))
                assert short.value.args[0] == data
            else:
                assert two.recv_bytes() == b""


def echo(one: Any, two: Any) -> None:
    one.close()
    with contextlib.suppress(EOFError):
        while True:
            two.send_bytes(two.recv_bytes())


def test_more_than_there_is_room_for(mp: BaseContext) -> None:
    one, two = mp.Pipe()
    process = mp.Process(target=echo, args=(one, two))
    process.start()
    two.close()
    data = os.urandom(5_000_000)
    with one:
        sender = Thread(lambda: [one.send_bytes(data) for _ in range(3)])
        assert [one.recv_bytes() == data for _ in range(3)] == [True] * 3
        sender.result()
    process.join()
    assert process.exitcode == 0


def receive(one: Any, two: Any) -> Any:
    two.close()
    say()
    return attempt(one.recv)


@pytest.mark.parametrize("ended_by", ["close", "exit", "kill", "exec"])
def test_a_forked_reader_is_told_of_the_end(mp: BaseContext, ended_by: str) -> None:
    one, two = mp.Pipe()

    def hold() -> None:
        one.close()
        say()
        if ended_by == "close":
            os.read(start, 1)
            two.close()
            os.read(start, 1)
        elif os.read(start, 1) and ended_by == "exec":
            os.execlp("sleep", "sleep", "5")
        elif ended_by == "kill":
            os.kill(os.getpid(), signal.SIGKILL)

    start, begin = os.pipe()
    with Child(hold) as writer, Child(receive, one, two) as reader:
        writer.heard()
        reader.heard()
        one.close()
        two.close()
        reader.asleep()
        began = time.monotonic()
        os.write(begin, b"x")
        assert reader.result() == "EOFError: "
        assert time.monotonic() - began < SOON_S * 2
        os.write(begin, b"x")
    os.close(start)
    os.close(begin)


def end_somehow(conn: Any, how: str) -> None:
    if how.startswith("told"):
        conn.send("here I am")
    if how.endswith("killed"):
        os.kill(os.getpid(), signal.SIGKILL)
    if how.endswith("_exit"):
        os._exit(0)
    if how.endswith("raise"):
        raise SystemExit(3)


def listening() -> socket.socket:
    """A socket that nobody connects to."""
    return socket.create_server(("127.0.0.1", 0))


HOWS = [
    f"{first}, {last}" for first in ("told", "silent") for last in ("killed", "_exit", "raise", "")
]


@pytest.mark.parametrize("method", BORN)
@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("way", ["recv", "poll", "select", "wait", "look"])
def test_every_death_is_the_end(method: str, how: str, way: str) -> None:
    context = leveret.get_context(method)
    one, two = context.Pipe()
    process = context.Process(target=end_somehow, args=(two, how))
    process.start()
    two.close()
    if how.startswith("told"):
        assert one.recv() == "here I am"
    with one:
        if way == "poll":
            assert one.poll(20)
        elif way == "wait":
            with listening() as other:
                assert wait([one, process.sentinel, other], 20)
        elif way == "select":
            while not one.poll():
                assert select.select([one], [], [], 20)[0] == [one]
        elif way == "look":
            until(one.poll)
        process.join()
        began = time.monotonic()
        with pytest.raises(EOFError):
            one.recv()
        assert time.monotonic() - began < SOON_S
        with pytest.raises(BrokenPipeError):
            one.send(1)


def test_an_end_inherited_is_open(mp: BaseContext) -> None:
    one, two = mp.Pipe()

    def hold() -> None:
        say()
        os.read(start, 1)

    start, begin = os.pipe()
    with one, Child(hold) as child:
        child.heard()
        two.close()
        assert not one.poll(0.2)
        os.write(begin, b"x")
        child.result()
        assert one.poll(5)
        with pytest.raises(EOFError):
            one.recv()
    os.close(start)
    os.close(begin)


# Descriptors.


def test_a_selector_sees_each_message() -> None:
    one, two = OURS.Pipe()
    with one, two, selectors.DefaultSelector() as selector:
        selector.register(one, selectors.EVENT_READ)
        for i in range(100):
            assert selector.select(0) == []
            two.send(i)
            assert [key.fileobj for key, _ in selector.select(5)] == [one]
            assert one.recv() == i
        two.close()
        assert [key.fileobj for key, _ in selector.select(5)] == [one]
        selector.unregister(one)


def reply(conn: Any, count: int) -> None:
    for _ in range(count):
        conn.send(conn.recv() + 1)


@pytest.mark.parametrize("method", BORN)
def test_asyncio_is_woken_by_messages_and_by_the_end(method: str) -> None:
    context = leveret.get_context(method)

    async def talk(conn: Any) -> list[object]:
        loop, heard = asyncio.get_running_loop(), asyncio.Queue[object]()

        def read() -> None:
            try:
                heard.put_nowait(conn.recv())
            except EOFError:
                heard.put_nowait(EOFError)
                loop.remove_reader(conn.fileno())

        loop.add_reader(conn.fileno(), read)
        answers: list[object] = []
        for i in range(50):
            conn.send(i)
            answers.append(await asyncio.wait_for(heard.get(), 10))
        answers.append(await asyncio.wait_for(heard.get(), 10))
        return answers

    one, two = context.Pipe()
    process = context.Process(target=reply, args=(two, 50))
    process.start()
    two.close()
    with one:
        assert asyncio.run(talk(one)) == [*range(1, 51), EOFError]
    process.join()


def test_a_descriptor_is_made_when_it_is_asked_for() -> None:
    before = len(os.listdir("/proc/self/fd"))
    one, two = OURS.Pipe()
    two.send(1)
    assert one.poll(1)
    assert wait([one, two], 1) == [one]
    assert len(os.listdir("/proc/self/fd")) == before
    one.fileno()
    assert len(os.listdir("/proc/self/fd")) > before
    one.close()
    two.close()
    assert len(os.listdir("/proc/self/fd")) == before


def later(seconds: float, function: Callable[[], object]) -> threading.Timer:
    timer = threading.Timer(seconds, function)
    timer.start()
    return timer


def test_wait_mixes_everything() -> None:
    one, two = OURS.Pipe()
    three, four = THEIRS.Pipe()
    five, six = socket.socketpair()
    seven, eight = os.pipe()
    process = OURS.Process(target=time.sleep, args=(30,))
    process.start()
    with one, two, three, four, five, six:
        everything = [one, three, five, seven, process.sentinel]
        assert wait(everything, 0) == []
        for what, act in [
            (one, lambda: two.send(1)),
            (three, lambda: four.send(1)),
            (five, lambda: six.send(b"1")),
            (seven, lambda: os.write(eight, b"1")),
            (process.sentinel, process.kill),
        ]:
            timer = later(0.05, act)
            assert wait(everything, 20) == [what]
            timer.join()
            if what != process.sentinel:
                everything.remove(what)
        two.close()
        assert wait([process.sentinel, one], 0) == [process.sentinel, one]
    process.join()
    os.close(seven)
    os.close(eight)


def test_wait_for_many_ends() -> None:
    pipes = [OURS.Pipe(duplex=False) for _ in range(200)]
    readers = [reader for reader, _ in pipes]
    assert wait(readers[:50], 0.05) == []
    timer = later(0.1, lambda: pipes[17][1].send(1))
    assert wait(readers[:50], 20) == [readers[17]]
    timer.join()
    timer = later(0.1, lambda: pipes[190][1].send(1))
    assert wait(readers[100:], 20) == [readers[190]]
    timer.join()
    assert wait(readers, 20) == [readers[17], readers[190]]
    for pipe in pipes:
        for end in pipe:
            end.close()


def test_two_objects_over_one_end() -> None:
    one, two = OURS.Pipe()
    again = pickle.loads(pickle.dumps(one))
    assert again is not one
    two.send(1)
    with listening() as other:
        assert wait([one, again, other], 1) == [one, again]
    one.close()
    assert again.recv() == 1
    two.send(2)
    assert again.recv() == 2
    again.close()
    with pytest.raises(BrokenPipeError):
        two.send(3)
    two.close()


# Travelling.


def use_pickled(data: bytes) -> Any:
    conn = pickle.loads(data)
    conn.send("from the child")
    return conn.recv()


def test_an_end_can_be_pickled_to_anybody() -> None:
    one, two = OURS.Pipe()
    with one, two, Child(use_pickled, pickle.dumps(two)) as child:
        assert one.recv() == "from the child"
        one.send("to the child")
        assert child.result() == "to the child"


def forward(conn: Any) -> None:
    with conn, conn.recv() as other:
        other.send("by way of an end")


@pytest.mark.parametrize("method", ["fork", "warm", "spawn", "forkserver"])
def test_an_end_sent_through_an_end(method: str) -> None:
    context = leveret.get_context(method)
    one, two = context.Pipe()
    three, four = context.Pipe(duplex=False)
    process = context.Process(target=forward, args=(two,))
    process.start()
    two.close()
    one.send(four)
    four.close()
    with one, three:
        assert three.recv() == "by way of an end"
        with pytest.raises(EOFError):
            three.recv()
    process.join()


def talk_over(conn: Any) -> None:
    with conn, conn.recv() as sock, conn.recv() as other:
        sock.sendall(b"socket")
        other.send("connection")


def test_sockets_and_standard_connections_travel_through_ours() -> None:
    one, two = OURS.Pipe()
    five, six = socket.socketpair()
    seven, eight = THEIRS.Pipe()
    process = OURS.Process(target=talk_over, args=(two,))
    process.start()
    with one, two, five, six, seven, eight:
        one.send(six)
        one.send(eight)
        assert five.recv(10) == b"socket"
        assert seven.recv() == "connection"
    process.join()
    from multiprocessing import resource_sharer

    resource_sharer.stop()


def test_a_message_keeps_the_end_in_it_open() -> None:
    one, two = OURS.Pipe()
    three, four = OURS.Pipe()
    one.send(four)
    four.close()
    three.send("kept")
    with two.recv() as received:
        assert received.recv() == "kept"
    with pytest.raises(EOFError):
        three.recv()
    for end in (one, two, three):
        end.close()


def test_an_end_in_a_message_that_nobody_gets_is_closed() -> None:
    one, two = OURS.Pipe()
    three, four = OURS.Pipe()
    one.send(four)
    four.close()
    one.close()
    two.close()
    with pytest.raises(EOFError):
        three.recv()
    three.close()


# Threads and signals.


def test_close_ends_the_wait_of_another_thread() -> None:
    for way in ("recv", "recv_bytes", "poll", "_get_many"):
        one, two = OURS.Pipe()
        waiter = Thread(getattr(one, way), *([None] if way == "poll" else []))
        waiter.asleep()
        began = time.monotonic()
        one.close()
        with pytest.raises(OSError, match="handle is closed"):
            waiter.result()
        assert time.monotonic() - began < 1
        with pytest.raises(EOFError):
            two.recv()
        two.close()


@pytest.mark.parametrize("way", ["send_bytes", "send", "_put_many"])
def test_close_ends_a_send_that_waits_for_room(way: str) -> None:
    one, two = OURS.Pipe()
    data = b"x" * 800

    def fill() -> None:
        while True:
            getattr(one, way)([data] * 10 if way == "_put_many" else data)

    sender = Thread(fill)
    sender.asleep()
    one.close()
    with pytest.raises(OSError, match="handle is closed"):
        sender.result()
    two.close()


def cut_short(conn: Any, call: str, *args: Any) -> None:
    """Close an object in the middle of a wait of its own."""
    waiter = Thread(getattr(conn, call), *args)
    waiter.asleep()
    conn.close()
    with pytest.raises(OSError, match="handle is closed"):
        waiter.result()


def test_closing_one_object_leaves_the_waits_of_the_other() -> None:
    one, two = OURS.Pipe()
    for call, got in (("recv", "still here"), ("_get_many", ["still here"])):
        waiter = Thread(getattr(one, call))
        waiter.asleep()
        cut_short(pickle.loads(pickle.dumps(one)), call)
        two.send("still here")
        assert waiter.result() == got
    many = [b"x" * 800] * 3000
    putter = Thread(one._put_many, many)
    putter.asleep()
    cut_short(pickle.loads(pickle.dumps(one)), "_put_many", [b"y" * 900] * 9)
    got = []
    while len(got) < len(many):
        got += two._get_many(timeout=20)
    assert got == many and putter.result() == len(many)
    one.close()
    two.close()


def close_here(conn: Any) -> bool:
    conn.close()
    return bool(conn.closed)


def test_a_child_forked_in_the_middle_of_a_recv_closes_its_end() -> None:
    one, two = OURS.Pipe()
    waiter = Thread(one.recv)
    waiter.asleep()
    with Child(close_here, one) as child:
        assert child.result()
    two.send(1)
    assert waiter.result() == 1
    one.close()
    with pytest.raises(BrokenPipeError):
        two.send(2)
    two.close()


def test_many_threads_on_one_end() -> None:
    one, two = OURS.Pipe()
    count, threads = 500, 4

    def receive_all() -> list[int]:
        return [two.recv() for _ in range(count)]

    receivers = [Thread(receive_all) for _ in range(threads)]
    senders = [
        Thread(lambda k=k: [one.send(k * count + i) for i in range(count)]) for k in range(threads)
    ]
    for sender in senders:
        sender.result()
    got = [receiver.result() for receiver in receivers]
    assert sorted(i for numbers in got for i in numbers) == list(range(count * threads))
    one.close()
    two.close()


class InterruptedHereError(Exception):
    pass


@contextlib.contextmanager
def alarm(seconds: float, handler: Callable[..., object]) -> Iterator[None]:
    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def interrupt(*_: object) -> None:
    raise InterruptedHereError


def wait_beside(one: Any) -> list[Any]:
    with listening() as other:
        return wait([one, other])


def waits(one: Any) -> list[Callable[[], object]]:
    return [
        one.recv,
        one.recv_bytes,
        lambda: one.poll(None),
        lambda: one.poll(20),
        lambda: wait([one]),
        lambda: wait_beside(one),
    ]


def test_a_signal_handler_that_raises_ends_each_wait() -> None:
    one, two = OURS.Pipe()
    for call in waits(one):
        with alarm(0.05, interrupt), pytest.raises(InterruptedHereError):
            call()
    two.send(1)
    assert one.recv() == 1
    one.close()
    two.close()


def test_a_signal_handler_that_returns_ends_no_wait() -> None:
    one, two = OURS.Pipe()
    for call in waits(one):
        with alarm(0.05, lambda *_: two.send_bytes(pickle.dumps(1))):
            assert call() in (1, pickle.dumps(1), True, [one])
        while one.poll():
            one.recv()
    one.close()
    two.close()


# Many at once, for SimpleQueue: most of it is in test_queue_many.py.


def test_many_go_where_one_may_go() -> None:
    one, two = OURS.Pipe(duplex=False)
    with pytest.raises(OSError, match="read-only"):
        one._put_many([1])
    with pytest.raises(OSError, match="write-only"):
        two._get_many()
    bare = PipeConnection.__new__(PipeConnection)
    for call in (bare._get_many, lambda: bare._put_many([1])):
        with pytest.raises(RuntimeError, match="was not called"):
            call()
    one.close()
    two.close()


@pytest.mark.parametrize("receive", ["recv", "recv_bytes", "_get_many", "recv_bytes_into"])
def test_whoever_receives_next_is_told_what_could_not_be_unpickled(receive: str) -> None:
    one, two = OURS.Pipe()
    one._put_many(["first", Bomb()])
    assert two._get_many() == ["first"]
    one.send_bytes(b"next")
    with pytest.raises(ValueError, match="no number"):
        getattr(two, receive)(*[bytearray(9)] * receive.endswith("into"))
    assert two.recv_bytes() == b"next"
    one.close()
    two.close()


# The rest.


def test_unpicklable_leaves_the_pipe_as_it_was() -> None:
    one, two = OURS.Pipe()
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        one.send(threading.Lock())
    one.send(1)
    assert two.recv() == 1
    one.close()
    two.close()


class Bomb:
    def __reduce__(self) -> Any:
        return int, ("no number",)


def test_what_cannot_be_unpickled_is_gone() -> None:
    one, two = OURS.Pipe()
    one.send(Bomb())
    one.send("next")
    with pytest.raises(ValueError, match="no number"):
        two.recv()
    assert two.recv() == "next"
    one.close()
    two.close()


class ClosesItself:
    def __init__(self, conn: Any) -> None:
        self.conn = conn

    def __reduce__(self) -> Any:
        self.conn.close()
        return int, ()


def test_pickling_that_closes_the_end() -> None:
    one, two = OURS.Pipe()
    with pytest.raises(OSError, match="handle is closed"):
        one.send(ClosesItself(one))
    two.close()


def test_dropping_an_end_closes_it() -> None:
    one, two = OURS.Pipe()
    ref = weakref.ref(two)
    del two
    gc.collect()
    assert ref() is None
    with pytest.raises(EOFError):
        one.recv()
    one.close()


def test_it_is_made_by_pipe_alone() -> None:
    with pytest.raises(TypeError, match=r"made by Pipe\(\)"):
        PipeConnection(3)
    bare = PipeConnection.__new__(PipeConnection)
    assert bare.closed
    with pytest.raises(RuntimeError, match="was not called"):
        bare.recv()
    bare.close()


def test_a_fork_in_the_child_is_counted() -> None:
    """Ends are closed by every process that has them, however deep."""
    one, two = OURS.Pipe()

    def grandchild() -> str:
        one.close()
        return in_child(use_pickled_end)

    def use_pickled_end() -> str:
        two.send("from below")
        return "done"

    with Child(grandchild) as child:
        two.close()
        assert child.result() == "done"
    assert one.recv() == "from below"
    with pytest.raises(EOFError):
        one.recv()
    one.close()


def test_the_private_names_of_the_standard_class() -> None:
    one, two = OURS.Pipe()
    one._send_bytes(b"abc")
    assert two._recv_bytes().getvalue() == b"abc"
    assert one._handle == one.fileno()
    assert not one._poll(0)
    assert one._readable
    assert one._writable
    one.close()
    assert one._handle is None
    two.close()

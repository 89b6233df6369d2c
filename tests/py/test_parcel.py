"""Messages put together and taken apart: blocks for what is large, and what lives how long."""

import gc
import pickle
import threading
from typing import Any

import pytest
from forked import Child, in_child, say
from leveret import _core
from leveret.synchronize import Condition, Event, Lock

BUFFER = _core.BUFFER_BYTES


class Holder:
    """Hands its memory out of band."""

    def __init__(self, memory: Any) -> None:
        self.memory = memory

    def __reduce_ex__(self, protocol: Any) -> Any:
        return Holder, (pickle.PickleBuffer(self.memory),)


def is_ours(memory: Any) -> bool:
    return type(memory).__module__ == "leveret._core" and type(memory).__name__ == "Buffer"


def in_use() -> tuple[int, int]:
    gc.collect()
    stats = _core.session_stats()
    return stats["objects"], stats["blocks"]


@pytest.mark.parametrize(
    "obj",
    [
        5,
        {"a": [1.5, None]},
        "x" * 8180,
        ["x" * 4000] * 2,
        ["x" * 4000, "y" * 4000, "z" * 4000],
        b"b" * (3 << 20),
        [bytearray(b"c" * 9000), "\u20ac" * 5000, 1],
        {"l": list(range(20_000))},
        {frozenset([1]): b"d" * 100_000},
    ],
    ids=lambda obj: repr(obj)[:20],
)
def test_an_object_comes_through_whole(obj: Any) -> None:
    before = in_use()
    assert _core.relay(obj) == obj
    assert in_use() == before


def test_sizes_around_the_limits_come_through() -> None:
    for size in [*range(8180, 8200), BUFFER - 1, BUFFER, BUFFER + 1]:
        for obj in (b"x" * size, ["y" * (size - 100), "z" * 100], bytearray(size)):
            assert _core.relay(obj) == obj
        assert bytes(_core.relay(Holder(bytes(size))).memory) == bytes(size)


def test_a_buffer_is_the_receivers_own() -> None:
    before = in_use()
    memory = bytearray(b"a" * BUFFER)
    came = [_core.relay(Holder(memory)).memory for _ in range(2)]
    assert all(is_ours(buffer) and len(buffer) == BUFFER for buffer in came)
    views = [memoryview(buffer) for buffer in came]
    views[0][:3] = b"xyz"
    assert bytes(views[1][:3]) == b"aaa" == bytes(memory[:3])
    memory[:3] = b"123"
    assert bytes(views[0][:4]) == b"xyza"
    assert in_use() > before
    del came
    views.clear()
    assert in_use() == before


def test_a_view_keeps_its_memory() -> None:
    view = memoryview(_core.relay(Holder(bytearray(b"k" * BUFFER))).memory)[5:]
    others = [memoryview(_core.relay(Holder(bytearray(b"o" * BUFFER))).memory) for _ in range(5)]
    assert bytes(view) == b"k" * (BUFFER - 5) and not view.readonly
    assert all(bytes(other) == b"o" * BUFFER for other in others)


def test_read_only_memory_cannot_be_written() -> None:
    came = _core.relay(Holder(b"r" * BUFFER))
    assert memoryview(came.memory).readonly
    with pytest.raises((TypeError, BufferError)):
        memoryview(came.memory)[0] = 1
    assert "read-only" in repr(came.memory) and str(BUFFER) in repr(came.memory)


def test_a_forked_child_has_the_memory_as_it_was_written() -> None:
    came = _core.relay(Holder(bytearray(BUFFER))).memory
    view = memoryview(came)
    view[0] = 1

    def change() -> bytes:
        view[1] = 2
        return bytes(view[:3])

    assert in_child(change) == b"\1\2\0"
    assert bytes(view[:3]) == b"\1\0\0"


def test_a_buffer_can_be_sent_on() -> None:
    came = _core.relay(Holder(bytearray(b"s" * BUFFER)))
    again = _core.relay(came)
    assert is_ours(again.memory) and bytes(again.memory) == b"s" * BUFFER
    assert _core.relay([came.memory]) == [bytearray(b"s" * BUFFER)]
    fixed = _core.relay(_core.relay(Holder(b"f" * BUFFER)).memory)
    assert fixed == b"f" * BUFFER


def test_many_buffers_come_in_their_order() -> None:
    obj = [Holder(bytearray([number]) * BUFFER) for number in range(20)]
    came = _core.relay([obj, b"x" * 10_000])[0]
    assert [memoryview(holder.memory)[7] for holder in came] == list(range(20))


def test_shared_objects_come_through() -> None:
    before = in_use()
    lock, event, condition = Lock(), Event(), Condition()
    came = _core.relay([lock, {"e": event}, condition, Holder(bytearray(BUFFER)), "x" * 10_000])
    with lock:
        assert not came[0].acquire(False)
    event.set()
    assert came[1]["e"].is_set()
    with came[2]:
        came[2].notify()
    del lock, event, condition
    gc.collect()
    assert came[0].acquire(False)
    del came
    assert in_use() == before


class Vanishing:
    """Is pickled with a lock that nobody else knows."""

    def __reduce__(self) -> Any:
        return list, ((Lock(), Holder(bytearray(BUFFER))),)


def test_what_a_reducer_makes_lives_until_it_has_come() -> None:
    before = in_use()
    lock, holder = _core.relay(Vanishing())
    assert lock.acquire(False) and bytes(holder.memory) == bytes(BUFFER)
    del lock, holder
    assert in_use() == before


def fail(*_: Any) -> Any:
    raise LookupError("on arrival")


class FailsOnArrival:
    def __init__(self, *parts: Any) -> None:
        self.parts = parts

    def __reduce__(self) -> Any:
        return fail, self.parts


def test_a_message_that_fails_leaves_nothing() -> None:
    before = in_use()
    memory = bytearray(BUFFER)
    for _ in range(3):
        with pytest.raises(LookupError, match="on arrival"):
            _core.relay(FailsOnArrival(Lock(), Holder(memory), "x" * 10_000))
        with pytest.raises(TypeError):
            _core.relay([Lock(), Holder(memory), threading.Lock()])
        memory.append(1)
    assert in_use() == before


def test_want_of_memory_is_a_memory_error() -> None:
    def relay_too_much() -> str:
        import resource
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (256 << 20, 256 << 20))
        data = bytes(300 << 20)
        for obj in (data, [Holder(data)]):
            with pytest.raises(MemoryError, match="shared memory"):
                _core.relay(obj)
        return str(_core.relay("afterwards"))

    assert in_child(relay_too_much) == "afterwards"


def test_threads_relay_at_once() -> None:
    def play(number: int) -> None:
        for size in (10, 9000, 1 << 20, 3 << 20):
            for obj in (
                bytes([number]) * size,
                Holder(bytearray([number]) * size),
                {number: Lock()},
            ):
                came = _core.relay(obj)
                if isinstance(obj, Holder):
                    assert bytes(came.memory) == bytes(obj.memory)
                elif isinstance(obj, bytes):
                    assert came == obj

    errors: list[Any] = []

    def guarded(number: int) -> None:
        try:
            play(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


def test_numpy_arrays_are_the_receivers_memory() -> None:
    numpy = pytest.importorskip("numpy")
    array = numpy.arange(100_000, dtype="f8").reshape(100, 1000)
    came = _core.relay(
        {"a": array, "f": numpy.asfortranarray(array), "s": array[::2, ::2], "t": array[:2, :5]}
    )
    assert all(
        (came[key] == value).all()
        for key, value in (("a", array), ("f", array), ("s", array[::2, ::2]))
    )
    assert came["f"].flags.f_contiguous and came["a"].flags.writeable
    came["a"][0, 0] = 7
    assert array[0, 0] == 0
    array.flags.writeable = False
    assert not _core.relay(array).flags.writeable


def hold(memory: Any) -> None:
    say("h" if len(memory) == BUFFER else "?")
    threading.Event().wait()


def test_a_child_that_is_killed_with_a_buffer_gives_it_back() -> None:
    before = in_use()
    came = _core.relay(Holder(bytearray(BUFFER))).memory
    with Child(hold, came) as child:
        assert child.heard() == "h"
        child.kill()
    _core.repair()
    assert bytes(came) == bytes(BUFFER)
    del came
    assert in_use() == before

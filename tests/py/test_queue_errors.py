"""Messages that cannot be sent, or not be received, also because somebody has overwritten them."""

import os
import pickle
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import leveret
import pytest
from forked import Child
from leveret import CorruptMessage, LostTaskWarning, _core
from leveret.queues import JoinableQueue, Queue
from queued import Bad, Unpicklable, both

# What cannot be sent, or not be received


@both
def test_what_cannot_be_pickled_raises_in_put(kind: Any) -> None:
    queue = kind(2)
    for obj, error in (
        (Unpicklable(), LookupError),
        (threading.Lock(), TypeError),
        ([{"a": Unpicklable()}], LookupError),
        (iter("x").__class__, None),
    ):
        if error is not None:
            with pytest.raises(error):
                queue.put(obj)
    assert queue.empty() and queue.qsize() == 0
    queue.put(None)
    assert queue.get() is None
    if kind is JoinableQueue:
        queue.task_done()
        queue.join()


def test_an_error_may_be_told_to_the_queue() -> None:
    told = []

    class Telling(Queue):
        def _on_queue_feeder_error(self, e: Exception, obj: Any) -> None:
            told.append((type(e), type(obj)))

    queue = Telling()
    queue.put(Unpicklable())
    queue.put(1)
    assert queue.get() == 1 and queue.empty()
    assert told == [(LookupError, Unpicklable)]
    plain = Queue()
    with pytest.raises(LookupError):
        plain._on_queue_feeder_error(LookupError(), None)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("1 // 0", ZeroDivisionError),
        ("int('x')", ValueError),
        ("__import__('no_such_module')", ModuleNotFoundError),
        ("__import__('os').no_such_name", AttributeError),
        ("exit(3)", SystemExit),
    ],
)
def test_what_cannot_be_unpickled_raises_in_get(code: str, error: type[BaseException]) -> None:
    queue = Queue()
    queue.put(Bad(code))
    queue.put("next")
    with pytest.raises(error):
        queue.get()
    assert queue.get() == "next" and queue.empty()


def test_a_class_that_is_gone_raises_in_get(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules[__name__]
    monkeypatch.setattr(module, "Gone", type("Gone", (), {"__module__": __name__}), raising=False)
    queue = Queue()
    queue.put(module.Gone())
    queue.put("next")
    monkeypatch.delattr(module, "Gone")
    with pytest.raises(AttributeError, match="Gone"):
        queue.get()
    assert queue.get() == "next"


def test_who_exits_while_it_unpickles_holds_up_nobody() -> None:
    queue = JoinableQueue()
    queue.put(Bad("__import__('os')._exit(0)"))
    queue.put("next")
    with Child(queue.get) as child, pytest.raises(Exception, match="without an answer"):
        child.result()
    assert queue.get(timeout=20) == "next"
    queue.task_done()
    with pytest.warns(LostTaskWarning, match="1 of this queue's objects"):
        queue.join()


# What somebody has overwritten


def places_of(wanted: bytes, file: int) -> Iterator[int]:
    """Where it is in a file, whose holes are left holes: to read one through a mapping fills it."""
    end, at = os.fstat(file).st_size, 0
    while at < end:
        try:
            begin = os.lseek(file, at, os.SEEK_DATA)
        except OSError:  # there is nothing more
            return
        at = os.lseek(file, begin, os.SEEK_HOLE)
        data = os.pread(file, at - begin, begin)
        found = data.find(wanted)
        while found >= 0:
            yield begin + found
            found = data.find(wanted, found + 1)


def overwrite(old: bytes, offset: int, new: bytes) -> None:
    """Somebody writes into the arena where it must not: beside the one place where old is."""
    file = os.open(f"/proc/self/fd/{_core.session_fd()}", os.O_RDWR)
    try:
        [at] = places_of(old, file)
        os.pwrite(file, new, at + offset)
    finally:
        os.close(file)


GARBAGE = [b"\xff", b"\xdd\xff\xff\xff", b"\xc2\xff\xff\xff", b"\xe4\xff\xff\xff\xff\xff"]


@pytest.mark.parametrize("garbage", GARBAGE, ids=bytes.hex)
@pytest.mark.parametrize("by_pipe", [False, True])
def test_garbage_in_a_message_is_an_error_of_its_reader(garbage: bytes, by_pipe: bool) -> None:
    needle = f"a message that nobody else has {uuid.uuid4()}"
    queue, (reader, writer) = Queue(), leveret.Pipe(False)
    put, get = (writer.send, reader.recv) if by_pipe else (queue.put, queue.get)
    for message in ("before", needle, "behind"):
        put(message)
    overwrite(_core.encode(needle)[0], 0, garbage)
    assert get() == "before"
    # what does not look like a message of ours recv() takes for the pickle of a send_bytes()
    is_foreign = by_pipe and garbage == b"\xff"
    with pytest.raises(pickle.UnpicklingError if is_foreign else CorruptMessage):
        get()
    assert get() == "behind"
    writer.close()
    reader.close()


def read_past_a_broken_record() -> list[str]:
    queue, errors = Queue(), []
    needle = f"a message that nobody else has {uuid.uuid4()}"
    queue.put(needle)
    overwrite(_core.encode(needle)[0], -8, b"\xff" * 8)  # struct lvri_record_header
    for get in (queue.get, queue.get_many, queue.get_nowait):
        try:
            get()
        except RuntimeError as error:
            errors.append(str(error))
    print(len(errors), *set(errors))
    sys.stdout.flush()
    os._exit(0)


def test_garbage_around_a_message_is_an_error_too() -> None:
    code = "import test_queue_errors; test_queue_errors.read_past_a_broken_record()"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}; {code}"],
        text=True,
        capture_output=True,
        check=False,
        timeout=50,
    )
    assert done.stdout.startswith("3 cannot get from a queue: a structure of the arena is"), done
    assert "end this session's processes" in done.stdout

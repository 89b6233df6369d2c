"""The codec: what is written directly, what is pickled, and what is kept alive."""

import collections
import copyreg
import enum
import functools
import gc
import importlib.util
import math
import multiprocessing.context
import os
import pickle
import struct
import sys
import threading
import types
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from typing import Any

import pytest
from coded import TREES, Point, Raising, Thing, arrived, failure, plainly, recoded
from forked import in_child
from leveret import CorruptMessage, _core
from leveret.synchronize import Condition, Event, Lock

PICKLE, PICKLE_BUFFERS = b"\xe3", b"\xe4"
SPLICE, BUFFER = _core.SPLICE_BYTES, _core.BUFFER_BYTES


def is_direct(obj: Any) -> bool:
    return _core.encode(obj)[0][:1] not in (PICKLE, PICKLE_BUFFERS)


def same(one: Any, two: Any) -> bool:
    """Equal, and of the same types all the way down; a NaN is itself."""
    if type(one) is not type(two):
        return False
    if type(one) in (list, tuple):
        return len(one) == len(two) and all(map(same, one, two))
    if type(one) is dict:
        return same(list(one.items()), list(two.items()))
    if type(one) is float:
        return struct.pack("d", one) == struct.pack("d", two)
    return bool(one == two)


# What is direct

INTS = [
    sign * (1 << power) + step
    for power in (0, 5, 7, 8, 15, 16, 29, 30, 31, 32, 59, 60, 62, 63, 64, 65, 127, 128, 1000, 20000)
    for sign in (1, -1)
    for step in (-1, 0, 1)
]
TEXTS = [
    "",
    "a",
    "ab",
    "\0",
    "x" * 31,
    "x" * 32,
    "x" * 252,
    "x" * 253,
    "x" * 70_000,
    "\xe9",
    "\xff" * 300,
    "a\u0100",
    "\u20ac" * 255,
    "\ud800",
    "\udfff\ud800x",
    "\U0001f600",
    "\U0010ffff" * 40,
    "ab\U00010000\udc80",
]
FLOATS = [0.0, -0.0, 1.5, math.inf, -math.inf, 5e-324, sys.float_info.max, 0.1, math.nan]
BYTES = [b"", b"\0", b"ab", b"x" * 252, b"y" * 253, b"z" * 65_536]
SMALL = [None, True, False, bytearray(b"abc"), bytearray()]
PLAIN = {
    "small": SMALL,
    "ints": INTS,
    "texts": TEXTS,
    "floats": FLOATS,
    "bytes": BYTES,
    "trees": TREES,
}


@pytest.mark.parametrize("group", PLAIN)
def test_plain_objects_are_direct_and_come_out_as_they_are(group: str) -> None:
    for obj in PLAIN[group]:
        assert is_direct(obj)
        assert same(recoded(obj), obj)
        assert same(recoded([obj, (1, obj)]), [obj, (1, obj)])


@pytest.mark.parametrize(
    "bits", [0x7FF0000000000001, 0xFFF8DEADBEEF0001, 0x7FF7FFFFFFFFFFFF, 0x8000000000000000]
)
def test_floats_keep_every_bit(bits: int) -> None:
    value = struct.unpack("<d", struct.pack("<Q", bits))[0]
    stream = _core.encode(value)[0]
    assert stream[1:] == struct.pack("<d", value)
    assert struct.pack("<d", _core.decode(stream)) == struct.pack("<d", value)


FORMAT = [
    (0, "00"),
    (127, "7f"),
    (-1, "d4 ff"),
    (128, "d5 80 00"),
    (-32769, "d6 ff 7f ff ff"),
    (1 << 40, "d7 00 00 00 00 00 01 00 00"),
    (1 << 63, "d8 09 00 00 00 00 00 00 00 80 00"),
    ("hi", "82 68 69"),
    ("x" * 32, "d9 20" + "78" * 32),
    ("\xe9", "da 01 e9"),
    ("\u20ac", "db 01 ac 20"),
    ("\U0001f600", "dc 01 00 f6 01 00"),
    (b"ab", "dd 02 61 62"),
    (bytearray(b"c"), "de 01 63"),
    ((1, None), "a2 01 d0"),
    ([True, False], "b2 d2 d1"),
    ({"k": 1.0}, "c1 81 6b d3 00 00 00 00 00 00 f0 3f"),
    ((0,) * 16, "df 10" + "00" * 16),
    ([0] * 300, "e0 fd 2c 01" + "00" * 300),
]


def test_the_format_is_as_written_down() -> None:
    for obj, text in FORMAT:
        stream = bytes.fromhex(text)
        assert _core.encode(obj) == (stream, [], [])
        assert same(_core.decode(stream), obj)


def test_sizes_of_every_width_are_read() -> None:
    for size in ("02", "fd 02 00", "fe 02 00 00 00", "ff 02 00 00 00 00 00 00 00"):
        assert _core.decode(bytes.fromhex(f"dd {size} 61 62")) == b"ab"
    assert len(recoded("x" * (1 << 16))) == 1 << 16


def test_empty_and_single_things_are_the_interpreters_own() -> None:
    for obj in ("", chr(97), b"", b"a", (), 5, chr(0xE9)):
        assert recoded([obj])[0] is obj


# Identity


def test_a_container_met_twice_is_one_object() -> None:
    for shared in ([1], {"a": 1}, bytearray(b"x")):
        obj = [shared, {"again": shared}]
        assert not is_direct(obj)
        came = recoded(obj)
        assert same(came, obj) and came[0] is came[1]["again"]


def test_a_cycle_comes_out_as_a_cycle() -> None:
    loop: list[Any] = [1]
    loop.append({"loop": (loop,)})
    came = recoded(loop)
    assert came[1]["loop"][0] is came and came[0] == 1


def test_a_string_met_twice_is_one_string_and_travels_once() -> None:
    text, data = "long enough, and twice" * 10, bytes(200)
    stream = _core.encode([text, {text: data}, data, text])[0]
    assert len(stream) < len(text) + len(data) + 40
    one, pairs, data_again, two = _core.decode(stream)
    (key,) = pairs
    assert one is two and one is key and pairs[key] is data_again
    assert (one, data_again) == (text, data)


def test_many_strings_met_twice_are_told_apart() -> None:
    texts = [f"text {i}" for i in range(5000)]
    came = recoded([texts + texts, "only here", texts[7]])
    assert came[0] == texts + texts and came[2] is came[0][7]
    assert all(one is two for one, two in zip(came[0][:5000], came[0][5000:], strict=True))


def test_a_tuple_met_twice_is_one_tuple_and_direct() -> None:
    inner = (1, [2])
    outer = (inner, "text")
    obj = [outer, {"k": outer}, inner, (), (3,), outer]
    assert is_direct(obj)
    came = recoded(obj)
    assert came == obj
    assert came[0] is came[1]["k"] is came[5] and came[2] is came[0][0]
    key = (1, "a")
    obj = [key, {key: key}, {key: 2}]
    assert not is_direct(obj) and is_direct([{key: 1}, key])
    assert recoded(obj) == obj and recoded([{key: 1}, key]) == [{key: 1}, key]


def test_equal_strings_stay_two() -> None:
    one, two = ("".join(["ab", "c" * 50]) for _ in range(2))
    came = recoded([one, two])
    assert came[0] == came[1] and came[0] is not came[1]


# Depth


def nested(depth: int, wrap: Callable[[Any], Any]) -> Any:
    obj: Any = None
    for _ in range(depth):
        obj = wrap(obj)
    return obj


def levels(obj: Any) -> int:
    count = 0
    while obj is not None:
        obj, count = next(iter(obj.values())) if isinstance(obj, dict) else obj[0], count + 1
    return count


WRAPS = [lambda obj: [obj], lambda obj: (obj,), lambda obj: {"k": obj}]


@pytest.mark.parametrize("wrap", WRAPS)
def test_what_pickle_can_nest_we_can(wrap: Any) -> None:
    depth = 10
    while depth < 5000:
        try:
            pickle.dumps(nested(depth, wrap))
        except RecursionError:
            break
        obj = nested(depth, wrap)
        assert levels(recoded(obj)) == depth
        depth += depth // 2


@pytest.mark.parametrize("wrap", WRAPS)
def test_nesting_without_end_is_a_recursion_error(wrap: Any) -> None:
    obj = nested(500_000, wrap)
    with pytest.raises(RecursionError):
        _core.encode(obj)
    while obj is not None:  # taken apart from the outside: that does not recurse either
        obj = next(iter(obj.values())) if isinstance(obj, dict) else obj[0]


def test_decoding_is_as_deep_as_what_was_sent() -> None:
    for opened, end in ((b"\xb1", b"\xd0"), (b"\xa1", b"\xd0"), (b"\xc1\x81k", b"\xd0")):
        came = _core.decode(opened * 200_000 + end)
        assert levels(came) == 200_000
        while came is not None:
            came = next(iter(came.values())) if isinstance(came, dict) else came[0]


def test_keys_are_nested_only_so_deep() -> None:
    key = nested(400, lambda obj: (obj,))
    assert is_direct({key: 1}) and recoded({key: [key]}) == {key: [key]}
    with pytest.raises(CorruptMessage, match="nested too deep"):
        _core.decode(b"\xc1" + b"\xa1" * 100_000 + b"\xd0\x00")
    assert (
        levels(_core.decode(b"\xc1" + b"\xa1" * 900 + b"\xd0" + b"\xb1" * 2000 + b"\xd0")) == 2001
    )


# What is pickled


class Colour(enum.Enum):
    RED = 1


class Number(int):
    """Not exact."""


class Text(str):
    """Not exact."""


PICKLED = [
    Colour.RED,
    Number(5),
    Text("x"),
    Point(1, 2),
    {1, 2},
    frozenset([3]),
    complex(1, 2),
    range(5),
    Thing(1, [2]),
    collections.OrderedDict(a=1),
    collections.deque([1]),
    math.sin,
    Thing,
    ValueError("x"),
    [1, 2, Thing("x" * 100_000, b"y" * 100_000)],
]


def test_all_else_goes_by_pickle() -> None:
    for obj in PICKLED:
        assert not is_direct(obj)
        came = recoded(obj)
        assert type(came) is type(obj)
        assert came == obj or (isinstance(obj, ValueError) and came.args == obj.args)
        assert type(recoded([1, {"x": obj}])[1]["x"]) is type(obj)


class Registered:
    """Can be sent by a registered reducer only."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise pickle.PicklingError("not by itself")


@pytest.fixture
def registry() -> Any:
    """What is registered in a test, is not after it."""
    extra: Any = ForkingPickler.__dict__["_extra_reducers"]
    before, copyreg_before = dict(extra), dict(copyreg.dispatch_table)
    yield
    for table, old in ((extra, before), (copyreg.dispatch_table, copyreg_before)):
        table.clear()
        table.update(old)


def test_registered_reducers_are_heeded_as_of_now(registry: None) -> None:
    thing = Registered()
    with pytest.raises(pickle.PicklingError, match="not by itself"):
        _core.encode(thing)
    ForkingPickler.register(Registered, lambda _: (arrived, (1,)))
    assert recoded(thing) == ("arrived", 1)
    ForkingPickler.register(Registered, lambda _: (arrived, (2,)))
    assert recoded([thing]) == [("arrived", 2)]


def test_copyreg_is_heeded_too(registry: None) -> None:
    copyreg.pickle(Registered, lambda _: (arrived, (3,)))  # type: ignore[arg-type]
    assert recoded(Registered()) == ("arrived", 3)
    ForkingPickler.register(Registered, lambda _: (arrived, (4,)))
    assert recoded(Registered()) == ("arrived", 4)
    del copyreg.dispatch_table[Registered]
    assert recoded(Registered()) == ("arrived", 4)


def test_another_forking_pickler_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(ForkingPickler):
        def reducer_override(self, obj: Any) -> Any:
            return (arrived, (5,)) if isinstance(obj, Registered) else NotImplemented

    reducer = types.SimpleNamespace(ForkingPickler=Other)
    monkeypatch.setattr(multiprocessing.context, "reduction", reducer)
    assert recoded([Registered()]) == [("arrived", 5)]


def test_methods_and_partials_go_as_they_do_in_the_standard_library() -> None:
    method, partial = recoded([Thing(7).__eq__, functools.partial(arrived, 1)])
    assert method(Thing(7)) and partial(2) == ("arrived", 1, 2)


# Buffers and large payloads


class Holder:
    """Hands its memory out of band."""

    def __init__(self, memory: Any) -> None:
        self.memory = memory

    def __reduce_ex__(self, protocol: Any) -> Any:
        return Holder, (pickle.PickleBuffer(self.memory),)


def test_large_buffers_travel_by_themselves() -> None:
    for size in (BUFFER, BUFFER + 1, 1 << 20):
        stream, buffers, _ = _core.encode(["x", Holder(bytearray(size))])
        assert stream[:1] == PICKLE_BUFFERS and len(stream) < 200
        assert [len(buffer) for buffer in buffers] == [size]
        memory = bytearray(b"y" * size)
        came = _core.decode(stream, [memory])
        assert came[1].memory is memory


def test_small_buffers_do_not() -> None:
    stream, buffers, _ = _core.encode(Holder(bytearray(BUFFER - 1)))
    assert stream[:1] == PICKLE and not buffers
    assert _core.decode(stream).memory == bytes(BUFFER - 1)


def test_read_only_memory_stays_read_only() -> None:
    for memory, is_read_only in ((bytes(BUFFER), True), (bytearray(BUFFER), False)):
        stream, buffers, _ = _core.encode(Holder(memory))
        assert memoryview(_core.decode(stream, buffers).memory).readonly is is_read_only
    assert memoryview(_core.decode(*_core.encode(Holder(bytes(BUFFER)))[:2]).memory).readonly


def test_memory_with_gaps_is_left_to_pickle() -> None:
    with pytest.raises(pickle.PicklingError, match="contiguous"):
        _core.encode(Holder(memoryview(bytearray(4 * BUFFER))[::2]))
    fortran = memoryview(bytearray(BUFFER)).cast("B", (256, BUFFER // 256))
    assert len(_core.encode(Holder(fortran))[1][0]) == BUFFER


def test_as_many_buffers_must_come_as_were_sent() -> None:
    stream, buffers, _ = _core.encode([Holder(bytearray(BUFFER)), Holder(bytearray(BUFFER))])
    for wrong in ([], buffers[:1], buffers * 2):
        with pytest.raises(CorruptMessage, match="more or fewer buffers"):
            _core.decode(stream, wrong)
    with pytest.raises(CorruptMessage, match="more or fewer buffers"):
        _core.decode(_core.encode(Thing())[0], buffers)


@pytest.mark.parametrize("size", [SPLICE - 1, SPLICE, 100_000, 3 << 20])
def test_large_payloads_come_whole_and_in_their_places(size: int) -> None:
    obj = [
        "begin",
        "a" * size,
        {"b": b"b" * size, "c": bytearray(b"c") * size},
        "\u20ac" * size,
        [1, "\xe9" * size, 2],
        Thing(b"d" * size, "e" * size) if size % 2 else None,
        "end",
    ]
    came = recoded(obj)
    assert came == obj and [type(part) for part in came] == [type(part) for part in obj]


def test_nothing_is_held_afterwards() -> None:
    memory = bytearray(BUFFER)
    for obj in (memory, [memory], Holder(memory), Thing(memory)):
        _core.encode(obj)
        memory.append(1)  # would raise while somebody has its buffer
        with pytest.raises(TypeError):
            _core.encode([obj, threading.Lock()])
        memory.append(2)


def test_small_encodings_fit_or_are_none() -> None:
    assert _core.encode_small([1, "two"], 6) == _core.encode([1, "two"])[0]
    assert _core.encode_small([1, "two"], 5) is None
    assert _core.encode_small(Thing(), 1024) is None
    assert _core.encode_small(bytes(2 * SPLICE), 1024) is None
    assert _core.encode_small(nested(100_000, lambda obj: [obj]), 1024) is None
    assert _core.encode_small(0, 0) is None


# cloudpickle


class FakeCloud:
    """A module that pickles functions as what they return."""

    class Pickler(pickle.Pickler):
        dispatch_table: Any = copyreg.dispatch_table

        def __init__(self, file: Any, protocol: Any = None, buffer_callback: Any = None) -> None:
            super().__init__(file, protocol, buffer_callback=buffer_callback)

        def reducer_override(self, obj: Any) -> Any:
            if isinstance(obj, types.FunctionType) and obj.__name__ == "<lambda>":
                return arrived, (obj(),)
            return NotImplemented


def test_cloudpickle_is_asked_last(registry: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cloudpickle", FakeCloud)
    ForkingPickler.register(Registered, lambda _: (arrived, (6,)))
    memory = bytearray(BUFFER)
    obj = ["x", Registered(), Holder(memory), lambda: 8]
    stream, buffers, _ = _core.encode(obj)
    assert len(buffers) == 1 and len(stream) < 1000
    came = _core.decode(stream, buffers)
    assert came[:2] == ["x", ("arrived", 6)] and came[3] == ("arrived", 8)
    memory.append(1)
    error = failure([lambda: 8, threading.Lock()])
    assert type(error) is plainly([lambda: 8])
    monkeypatch.setattr(FakeCloud.Pickler, "dump", lambda *_: pytest.fail("asked for no reason"))
    assert recoded(Thing(1)) == Thing(1)
    assert isinstance(failure(Raising(ValueError("v"))), ValueError)


def send_by_cloudpickle() -> tuple[int, bool]:
    seven = 7
    came = recoded({"f": lambda x: x + seven, "t": Thing(1)})
    return came["f"](1), came["t"] == Thing(1)


def test_cloudpickle_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(os.path.join(sys.prefix, "cloudpickle"))
    if importlib.util.find_spec("cloudpickle") is None:
        pytest.skip("it is not installed")
    assert in_child(send_by_cloudpickle) == (8, True)  # where others do not find it imported


# Shared objects


def objects() -> int:
    return _core.session_stats()["objects"]


def test_what_is_named_is_carried_and_does_not_travel() -> None:
    lock, event, condition = Lock(), Event(), Condition()
    before = objects()
    stream, _, refs = _core.encode([lock, {"e": event}, condition])
    assert len(refs) >= 3 and all(len(ref) == 40 and ref in stream for ref in refs)
    came = _core.decode(stream)
    with lock:
        assert not came[0].acquire(False)
    event.set()
    assert came[1]["e"].is_set()
    assert objects() == before
    del lock, event, condition, came
    gc.collect()
    with pytest.raises(RuntimeError, match="gone"):
        _core.decode(stream)


def test_a_failed_message_leaves_no_reference() -> None:
    before = objects()
    for _ in range(3):
        with pytest.raises(TypeError):
            _core.encode([Lock(), threading.Lock()])
    assert objects() == before


class Nested:
    """Pickles privately while it is pickled; puts into another message, too."""

    def __init__(self, lock: Any) -> None:
        self.lock = lock

    def __reduce__(self) -> Any:
        _, _, refs = _core.encode([self.lock])
        assert len(refs) == 1
        return pickle.loads, (pickle.dumps(self.lock),)


def test_a_pickle_within_the_pickle_is_carried_as_well() -> None:
    lock = Lock()
    stream, _, refs = _core.encode([Nested(lock), Nested(lock)])
    assert len(refs) == 2
    with lock:
        assert [came.acquire(False) for came in _core.decode(stream)] == [False, False]


def test_a_pickle_outside_of_messages_travels_as_before() -> None:
    data = pickle.dumps(Lock())
    assert pickle.loads(data).acquire(False)

"""Shared values and arrays: ours beside the standard library's, and what only ours can do.

What either must do is evaluated with both, and the outcomes, be they values, texts or exceptions,
must be equal to the letter.
"""

import array
import copy
import ctypes
import gc
import itertools
import math
import multiprocessing
import multiprocessing.heap
import multiprocessing.sharedctypes
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
import weakref
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.reduction import ForkingPickler
from typing import Any

import leveret
import leveret.heap
import leveret.sharedctypes
import pytest
from forked import Child, Thread, in_child, in_thread, say, until
from leveret import AbandonedLockWarning, _core

THEIRS = multiprocessing.get_context("fork")
OURS = leveret.get_context("fork")
KEPT = THEIRS.RawArray("b", 1)  # the standard library's heap lets go of its file with the last

METHODS = ("fork", "spawn", "forkserver", "warm")
CODES = "cubBhHiIlLqQfd"
INTEGERS = "iIlLqQ"  # of 4 and 8 bytes


class Point(ctypes.Structure):
    _fields_ = (("x", ctypes.c_int), ("y", ctypes.c_double))


class Segment(Point):
    _fields_ = (("end", Point), ("name", ctypes.c_char * 4))


class Either(ctypes.Union):
    _fields_ = (("number", ctypes.c_uint32), ("parts", ctypes.c_uint8 * 4))


class Odd(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("tag", ctypes.c_char), ("number", ctypes.c_int))


class MyInt(ctypes.c_int):
    pass


class Loud(ctypes.c_int * 3):  # type: ignore[misc]
    def __getitem__(self, key: Any) -> Any:
        return "loud", super().__getitem__(key)


class AnyLock:
    """A lock with nothing but what is needed."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def acquire(self) -> None:
        self.calls.append("acquire")

    def release(self) -> None:
        self.calls.append("release")


class Side:
    """The standard library, or us."""

    def __init__(self, context: Any, types: Any, heap: Any) -> None:
        self.mp, self.types, self.heap = context, types, heap

    def names(self) -> dict[str, Any]:
        return {**globals(), "mp": self.mp, "types": self.types, "heap": self.heap}

    def outcome(self, row: str) -> str:
        """What comes of an expression, or of `object | call | statement`."""
        first, *steps = row.split(" | ")
        try:
            names = self.names()
            names["thing"] = thing = eval(first, names)
            value = repr([did(step, names) for step in steps] if steps else thing)
        except Exception as error:
            value = f"{type(error).__name__}: {error}"
        return plain(value)


def plain(text: str) -> str:
    """Without what names the place or the side: addresses, modules, class of the context."""
    text = re.sub(r" at 0x[0-9a-f]+", " at 0x", text).replace("leveret.", "multiprocessing.")
    text = re.sub(r"'multiprocessing\.sharedctypes\.(\w+)' object", r"'\1' object", text)
    return text.replace("LeveretContext.", "BaseContext.")


def did(step: str, names: dict[str, Any]) -> object:
    """What `.method()`, `[index]` or `.attribute = value` of a thing returns or raises."""
    try:
        if re.search(r"[^=]=[^=]", re.sub(r"\(.*\)", "", step)):
            return exec(f"thing{step}", names)
        return eval(f"thing{step}", names)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


STANDARD = Side(THEIRS, multiprocessing.sharedctypes, multiprocessing.heap)
LEVERET = Side(OURS, leveret.sharedctypes, leveret.heap)


@pytest.fixture(params=[STANDARD, LEVERET], ids=["stdlib", "leveret"])
def side(request: pytest.FixtureRequest) -> Side:
    return request.param


# The same calls, the same outcome

ROWS = """
mp.Value('i')
mp.Value('i', 7) | .value | .value = 8 | .value | .value += 1 | .value
mp.Value(ctypes.c_longlong, -5) | .value
mp.Value('i', 7, lock=True) | .get_lock()
mp.Value('i', 7, lock=None) | .get_lock()
mp.Value('i', 7, lock=1) | .get_lock()
mp.Value('i', 7, lock=mp.Lock()) | .get_lock() | .value | .value = 3 | .value
mp.Value('i', 7, lock=mp.Semaphore()) | .get_lock() | .value
mp.Value('i', 7, lock=mp.Condition()) | .value | .value = 3 | .value
mp.Value('i', 7, lock=False)
mp.Value('i', 7, lock=0)
mp.Value('i', 7, lock='x')
mp.Value('i', 7, mp.Lock())
mp.Value('i', 7, lock=AnyLock()) | .value | .value = 4 | .value | .get_lock().calls | .__enter__()
mp.Value('i', 'seven')
mp.Value('i', 1.5)
mp.Value('i', 1, 2)
mp.Value('i', 2**40).value
mp.Value()
mp.Value('i', wrong=3)
mp.Value([1])
mp.Value('d', 1) | .value | .value = 2 | .value | .value = '1' | .value
mp.Value('c', b'x') | .value | .value = 65 | .value | .value = b'xy' | .value = bytearray(b'z')
    | .value
mp.Value('u', 'x') | .value | .value = 'é' | .value | .value = '' | .value = '\\U0001f407'
    | .value
mp.Value(ctypes.c_bool) | .value | .value = 1 | .value | .value = [] | .value | .value = True
    | .value
mp.Value(ctypes.c_longdouble, 2.5) | .value | .value = 3 | .value
mp.Value(ctypes.c_char_p) | .value | .value = None
mp.Value(ctypes.c_void_p, 5) | .value | .value = None | .value
mp.Value(ctypes.c_int.__ctype_be__, 5) | .value | .value = 6 | .value | .get_obj()
mp.Value(MyInt, 5) | .value | .value = 6 | .value | .get_obj()
mp.Value(Point, 1, 2.5) | .x | .y | .x = 9 | .x | .y = 'no' | .z
mp.Value(Point, y=2.5) | .get_obj().y | .__class__.__name__
mp.Value(Segment, (1, 2)) | .end | .name
mp.Value(Either, 0x01020304) | .number | .parts[0] | .number = 7 | .number
mp.Value(Odd, b'x', 3) | .number | .tag
mp.Value(ctypes.c_int * 3, 1, 2) | [0] | [:]
mp.Value(ctypes.POINTER(ctypes.c_int))
mp.Value('i', 3) | .get_obj() | .get_obj().value | .acquire() | .acquire(False) | .release()
    | .release() | .release()
mp.Value('i', 3) | .acquire(timeout=1) | .acquire(block=False) | .get_lock() | .release()
    | .release()
mp.Value('i', 3) | .__enter__() | .get_lock() | .__exit__(None, None, None)
    | .__exit__(None, None, None)
mp.Value('i', 3) | .__repr__() | .__class__.__mro__[0].__name__ | .__class__.__mro__[1].__name__
mp.Value('i', 3) | .extra = 5 | .extra | .missing
mp.Value('i', 3) | [0] | .__len__()
delattr(mp.Value('i'), 'value')
mp.Array('i', 3) | [:] | [0] | [-1] | [3] | [-4] | [0] = 5 | [-1] = 6 | [:] | .__len__()
mp.Array('i', [1, 2, 3]) | [:] | ['x'] | [1.0] | [None] | [2**70] | [True] | [3] = 1
    | ['x'] = 1 | [0] = 'x' | [0] = 1.5
mp.Array('i', (1, 2, 3)) | [0:2] | [::2] | [::-1] | [5:] | [:-5] | [::0] | ['a':] | [1:2] = 5
mp.Array('i', range(5)) | [1:3] = [8, 9] | [:] | [1:3] = (7, 6) | [:] | [1:3] = [1]
    | [::2] = range(3) | [:]
mp.Array('i', range(5)) | [1:4] = [8, 'x', 9] | [:] | [:] = thing | [:] | [:] = thing.get_obj()
    | [:]
mp.Array('i', range(5)) | [::2] = [8, 2**40, True] | [:] | [::-2] = array.array('i', [1, 2, 3])
    | [:] | [2:1] = [] | [:]
mp.Array('i', 3) | .value | .raw | .get_lock() | .get_obj()._length_
mp.Array('i', 0) | [:] | .__len__() | [0] | [:] = []
mp.Array('i', -1)
mp.Array('i', 1.5)
mp.Array('i', None)
mp.Array('i', ['x'])
mp.Array('i', True) | [:]
mp.Array('i', {3: 1, 4: 2}) | [:]
mp.Array('i', iter([1]))
mp.Array('i')
mp.Array('i', 3, False)
mp.Array('i', 3, lock=False)
mp.Array('i', 3, lock='x')
mp.Array('i', 3, lock=0)
mp.Array('i', 3, lock=mp.Lock()) | .get_lock() | [:] | [0] = 1 | [:]
mp.Array('i', 3, lock=mp.BoundedSemaphore()) | [:] | [0] = 1 | [:]
mp.Array('i', 3) | .__getslice__(0, 2) | .__setslice__(0, 2, [5, 6]) | [:]
mp.Array('d', [1, 2.5]) | [:] | [0] = 3 | [:] | [0] = 'x' | [0:1] = [7] | [:]
mp.Array('f', [0.1, 1e30]) | [:] | [0] = 1e300 | [0] = float('-inf') | [:]
mp.Array('u', 'häse') | [:] | [1] | [1:] | [0] = 'H' | [0:2] = 'Ho' | [0:2] = ['a', 'b'] | [:]
    | .value
mp.Array('c', b'hare') | .value | .raw | [:] | [1] | [1:3] | [-1] | .__len__()
    | .__class__.__name__
mp.Array('c', 6) | .value = b'hi' | .value | .raw | .raw = b'xyz' | .value | .raw
    | .value = b'1234567' | .value = 'str'
mp.Array('c', 4) | [0] = b'a' | [1] = 66 | [2] = 'c' | [2] = b'cc' | [3] = 300 | .raw
    | [0:2] = b'xy' | [0:2] = [b'p', b'q'] | .raw
mp.Array('c', 4) | .raw = b'a\\0b' | .value | .raw | [:] | [::2] | .raw = 5
delattr(mp.Array('c', 4), 'raw')
mp.Array(ctypes.c_bool, [True, False]) | [:] | [1] = 5 | [:]
mp.Array(Point, 2) | [0].x | [1] = Point(1, 2) | [1].x | [1] = (5, 6) | [1].y | [1] = 5
mp.Array(Point, [(1, 2), (3, 4)]) | [1].y
mp.Array(MyInt, [1, 2]) | [0] | [0] = 5 | [0] = MyInt(6) | [0].value
mp.Array(ctypes.c_int * 2, 2) | [0][:] | [1] = (5, 6) | [1][:]
mp.Array(ctypes.c_short.__ctype_be__, [1, 2]) | [:] | [0] = 3 | [:]
mp.Array(ctypes.c_void_p, [1, 0]) | [:] | [0] = None | [:]
list(mp.Array('i', range(4)))
list(reversed(mp.Array('i', range(4))))
2 in mp.Array('i', range(4)), 9 in mp.Array('i', range(4))
sum(mp.Array('d', [1, 2]))
tuple(mp.Array('c', b'abc'))
[*mp.Array('u', 'abc')]
mp.Array('i', 3) == mp.Array('i', 3)
bool(mp.Array('i', 0)), bool(mp.Value('i', 0))
hasattr(mp.Array('i', 3), '__iter__')
mp.RawValue('i', 4)
mp.RawValue('i', 4).value
mp.RawValue('i', 2**33 + 1).value
mp.RawValue('i', 'x')
mp.RawValue('d').value
mp.RawValue(Point, 3) | .x | .y
mp.RawValue()
mp.RawValue([])
mp.RawArray('i', 4)[:]
mp.RawArray('i', [1, 2])[:]
mp.RawArray('i', -4)
mp.RawArray('i', 1.0)
mp.RawArray('c', b'ab').raw
mp.RawArray(Point, 2)[1].x
type(mp.RawArray('i', 2)).__name__
types.RawValue('i', 3), types.RawArray('h', 2)[:], types.Value('i', 3, ctx=mp), types.Value('b',
    lock=False)
types.Array('i', [1], ctx=mp)[:], types.Array('b', 2, lock=False)[:]
types.Array(typecode_or_type='i', size_or_initializer=2, lock=True, ctx=mp)[:]
types.Array('i', 3, True)
types.copy(mp.RawValue('i', 3)), types.copy(Point(1, 2)).y, types.copy((ctypes.c_int * 2)(3,
    4))[:]
types.copy(MyInt(5)), types.copy(ctypes.c_char(b'x')).value
types.copy(mp.Value('i', 3).get_obj())
types.synchronized(mp.RawValue('i', 3), ctx=mp) | .value | .get_lock()
types.synchronized(ctypes.c_int(5), ctx=mp) | .value | .value = 6 | .value
types.synchronized((ctypes.c_int * 2)(5, 6), ctx=mp) | [:] | [0] = 3 | [:]
types.synchronized((ctypes.c_char * 3)(), mp.Lock()) | .raw
types.synchronized(Loud(5, 6), ctx=mp) | [0] | [0] = 3 | [0]
types.synchronized(Point(1, 2), lock=mp.Lock(), ctx=mp) | .x | .get_lock()
types.synchronized(mp.Value('i'), ctx=mp)
types.synchronized(5, ctx=mp)
types.synchronized(mp.RawValue('i'), 'lock')
types.synchronized(mp.RawValue(Odd, b'x', 1), ctx=mp).number
types.SynchronizedBase(mp.RawValue('i', 3), mp.Lock()) | .get_obj() | .get_lock() | .__repr__()
    | .value
types.SynchronizedBase(mp.RawValue('i', 3), None, mp) | .get_lock()
types.SynchronizedBase(mp.RawValue('i', 3), ctx=mp) | .get_lock()
types.SynchronizedBase(obj=mp.RawValue('i', 3), lock=mp.Lock()) | ._obj | ._lock
types.SynchronizedBase(1, 2)
types.Synchronized(mp.RawValue('i', 3), mp.RLock()).value
types.SynchronizedArray(mp.RawArray('i', 3), mp.RLock())[:]
types.SynchronizedString(mp.RawArray('c', 3), mp.RLock()).raw
isinstance(mp.Value('i'), types.Synchronized), isinstance(mp.Array('i', 1),
    types.SynchronizedArray)
isinstance(mp.Array('c', 1), types.SynchronizedString), isinstance(mp.Array('c', 1),
    types.SynchronizedArray)
isinstance(mp.Value(Point), types.SynchronizedBase),
    type(mp.Value(Point)) is type(mp.Value(Point))
type(mp.Value(Point)).__name__, type(mp.Value('i')).__name__, type(mp.Value('i')).__qualname__
types.make_property('x') is types.make_property('x')
types.typecode_to_type
sorted(types.__all__)
type(mp.Value('i')).__module__
issubclass(types.SynchronizedString, types.SynchronizedArray), issubclass(types.Synchronized,
    types.SynchronizedBase)
heap.BufferWrapper(8).create_memoryview().nbytes
heap.BufferWrapper(8).create_memoryview().readonly
heap.BufferWrapper(0).create_memoryview().tobytes()
memoryview(mp.RawArray('i', 3)).shape
memoryview(mp.RawArray('i', 3)).format
bytes(mp.RawArray('B', [1, 2]))
ctypes.sizeof(mp.Value('q').get_obj())
ctypes.resize(mp.RawValue('i'), 64)
"""


def all_rows() -> list[str]:
    return [row for row in re.sub(r"\n +", " ", ROWS).split("\n") if row]


def rows_by_call() -> dict[str, list[str]]:
    """A test for each function or class, not for each row: a test costs more than a row."""
    found: dict[str, list[str]] = {}
    for row in all_rows():
        called = re.search(r"(mp|types|heap)\.(\w+)", row)
        found.setdefault(called[2] if called else "else", []).append(row)
    return found


@pytest.mark.parametrize("call", rows_by_call())
def test_the_same_comes_of_it(call: str) -> None:
    rows = rows_by_call()[call]
    ours = {row: LEVERET.outcome(row) for row in rows}
    assert ours == {row: STANDARD.outcome(row) for row in rows}


def test_every_row_is_one_that_was_meant() -> None:
    """A row that is no Python has the same outcome on both sides, too."""
    odd = [row for row in all_rows() if "SyntaxError" in STANDARD.outcome(row)]
    assert odd == []


STORES: list[Any] = [
    *(0, 1, -1, 42, 127, 128, 255, 256, 300, -128, -129, 32767, 32768, 65536, 2**31 - 1, 2**31),
    *(-(2**31), -(2**31) - 1, 2**32 - 1, 2**32, 2**63 - 1, 2**63, -(2**63), 2**64 - 1, 2**64),
    *(-(2**63) - 1, 10**30, -(10**30), True, False, None, 0.0, -0.0, 1.5, 0.1, 1e38, 3.5e38, 1e300),
    *(math.inf, -math.inf, b"", b"a", b"\0", b"ab", bytearray(b"q"), "", "a", "ab", "\0", "ä"),
    *("\ud800", "\U0010ffff", [], (1,), object(), 1j, MyInt(3), ctypes.c_int(4)),
]

TYPES: list[Any] = [*CODES, ctypes.c_bool, ctypes.c_longdouble, ctypes.c_int16.__ctype_be__, MyInt]
for name in ("c_float_complex", "c_double_complex"):
    if hasattr(ctypes, name):
        TYPES.append(getattr(ctypes, name))


def tried(change: Any, look: Any) -> str:
    """What a change raises, if it does, and what is there afterwards."""
    try:
        change()
        came = ""
    except Exception as error:
        came = f"{type(error).__name__}: {error} "
    return plain(came + repr(look()))


@pytest.mark.parametrize("kind", TYPES, ids=str)
def test_every_type_takes_and_gives_what_the_standard_one_does(kind: Any) -> None:
    def all_of(side: Side) -> list[str]:
        value, items = side.mp.Value(kind), side.mp.Array(kind, 4)
        found = []
        for given in STORES:
            found.append(tried(lambda g=given: setattr(value, "value", g), lambda: value.value))
            found.append(tried(lambda g=given: items.__setitem__(2, g), lambda: items[2]))
            found.append(
                tried(lambda g=given: items.__setitem__(slice(0, 3, 2), [g, g]), lambda: items[:])
            )
        return found

    for given, ours, theirs in zip(
        itertools.chain.from_iterable([given] * 3 for given in STORES),
        all_of(LEVERET),
        all_of(STANDARD),
        strict=True,
    ):
        assert ours == theirs, given


def test_a_nan_keeps_its_nature(side: Side) -> None:
    for code in "fd":
        value, items = side.mp.Value(code, math.nan), side.mp.Array(code, [math.nan])
        assert math.isnan(value.value) and math.isnan(items[0]) and math.isnan(items[:][0])
    whole = side.mp.Array("d", [math.nan] * 3)[:]
    assert whole.count(whole[0]) == 1


BOUNDS = (None, -9, -4, -1, 0, 1, 3, 4, 9)


@pytest.mark.parametrize("code", ["i", "c", "u", "d"])
@pytest.mark.parametrize("step", [None, 1, 2, 3, -1, -2, 9, -9])
def test_slices_are_those_of_a_list(code: str, step: int | None) -> None:
    whole: Any = {"i": [1, 2, 3, 4, 5], "c": b"abcde", "u": "abcde", "d": [1.5, 2, 3, 4, 5]}[code]
    items = OURS.Array(code, whole)
    for start, stop in itertools.product(BOUNDS, BOUNDS):
        part = slice(start, stop, step)
        assert items[part] == whole[part]
        other = OURS.RawArray(code, whole)
        new = [b"z"] * 9 if code == "c" else ["z"] * 9 if code == "u" else list(range(9))
        new = new[: len(whole[part])]
        wrapped = leveret.sharedctypes.synchronized(other)
        wrapped[part] = new
        expected = list(OURS.RawArray(code, whole))
        expected[part] = new
        assert list(other) == expected


def test_indices_may_be_what_has_an_index(side: Side) -> None:
    class Third:
        def __index__(self) -> int:
            return 2

    items = side.mp.Array("i", range(5))
    assert items[Third()] == 2
    items[Third()] = 9
    assert items[Third() : Third() + 1 if hasattr(Third, "__add__") else 3] == [9]


def test_a_bad_type_code_says_what_is_a_good_one() -> None:
    for bad in ("x", "", "ii", int, object(), None):
        with pytest.raises(TypeError, match=r"bad typecode .* c, b, B, u"):
            OURS.Value(bad)
        with pytest.raises(TypeError):
            OURS.Array(bad, 3)


def test_what_is_larger_than_memory_is_an_error_and_leaves_nothing() -> None:
    before = _core.session_stats()
    with pytest.raises(MemoryError):
        OURS.RawArray("q", 2**48)
    with pytest.raises((MemoryError, OverflowError, ValueError)):
        OURS.RawArray("q", 2**62)
    with pytest.raises(ValueError, match="out of range"):
        leveret.heap.BufferWrapper(-1)
    after = _core.session_stats()
    assert (before["blocks"], before["objects"]) == (after["blocks"], after["objects"])


# What is whose


def test_whoever_imports_what_gets_ours() -> None:
    assert type(leveret.Value("i")) is leveret.sharedctypes.Synchronized
    assert leveret.sharedctypes.Synchronized is _core.Synchronized
    assert type(leveret.RawValue("i")._wrapper) is leveret.heap.BufferWrapper
    assert type(leveret.Value("i").get_lock()) is leveret.synchronize.RLock
    assert leveret.heap.Heap is multiprocessing.heap.Heap
    with pytest.raises(AttributeError):
        _ = leveret.sharedctypes.nothing


def run(program: str, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, *options, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_after_install_the_standard_names_are_ours() -> None:
    assert run("""
import multiprocessing
early = multiprocessing.Value("i", 1)          # the standard library's
from multiprocessing.sharedctypes import RawValue as early_function
import leveret
leveret.install()
from multiprocessing import heap, sharedctypes
late = multiprocessing.Value("i", 2)
array = multiprocessing.get_context("fork").Array("c", 3)
print(type(late) is leveret.sharedctypes.Synchronized, isinstance(late, sharedctypes.Synchronized))
print(isinstance(array, sharedctypes.SynchronizedString))
print(isinstance(early, sharedctypes.Synchronized))
print(heap.BufferWrapper is leveret.heap.BufferWrapper)
print(type(early_function("i")._wrapper) is leveret.heap.BufferWrapper)
def child():
    early.value += 10
    late.value += 10
for method in ("fork",):
    process = multiprocessing.get_context(method).Process(target=child)
    process.start(); process.join()
print(early.value, late.value)
for name in sharedctypes.__all__:
    assert getattr(sharedctypes, name) is getattr(leveret.sharedctypes, name), name
print(heap.BufferWrapper.__module__, len(heap._StandardBufferWrapper._heap._arenas))
""").split("\n")[:7] == [
        "True True",
        "True",
        "False",
        "True",
        "True",
        "11 12",
        "leveret.heap 1",
    ]


def test_the_standard_heap_is_not_even_imported() -> None:
    program = (
        "import leveret, sys; leveret.Value('i'); print('multiprocessing.heap' in sys.modules)"
    )
    assert run(program) == "False\n"


# Memory, and how long it lasts


def test_memory_begins_as_zeros_also_when_it_was_used_before(side: Side) -> None:
    for _ in range(20):
        items = side.mp.RawArray("q", 64)
        assert not any(items)
        items[:] = range(1, 65)
        del items


def objects() -> int:
    """How many there are in the arena."""
    gc.collect()
    _core.repair()
    return _core.session_stats()["objects"]


def test_memory_goes_with_the_last_thing_over_it() -> None:
    before = objects()
    wrapped = OURS.Array("i", 100)
    raw = wrapped.get_obj()
    del wrapped
    view = memoryview(raw).cast("B")[10:20]
    del raw
    assert objects() > before
    view[0:1] = view[0:1]
    del view
    assert objects() == before


def test_a_large_array_is_given_back_to_the_last_byte() -> None:
    def used() -> int:
        return os.stat(f"/proc/self/fd/{_core.session_fd()}").st_blocks * 512

    OURS.RawValue("i")
    before = used()
    large = OURS.RawArray("B", 200 << 20)
    large[len(large) - 1] = 1
    assert used() >= before + (200 << 20)
    del large
    gc.collect()
    assert used() < before + (100 << 20)


def test_a_cycle_through_its_attributes_is_found() -> None:
    before = objects()
    value, items, memory = OURS.Value("i"), OURS.Array("i", 3), leveret.heap.BufferWrapper(5)
    value.other, items.other, memory.other = items, value, memory
    gone = weakref.ref(value)
    del value, items, memory
    assert objects() == before
    assert gone() is None


def test_numpy_works_on_the_memory_and_keeps_it() -> None:
    numpy = pytest.importorskip("numpy")
    before = objects()
    wrapped = OURS.Array("d", range(1000))
    there = numpy.frombuffer(wrapped.get_obj())
    assert there.sum() == 499500
    there[5] = -1
    assert wrapped[5] == -1
    in_child(wrapped.__setitem__, 6, -2)
    del wrapped
    gc.collect()
    assert there[6] == -2 and objects() > before
    there[:] = 7
    assert there.sum() == 7000
    del there
    assert objects() == before


def test_the_buffer_is_shared_and_writable() -> None:
    memory = leveret.heap.BufferWrapper(10)
    assert memory.nbytes == 10
    view = memory.create_memoryview()
    assert (view.nbytes, view.readonly, view.format) == (10, False, "B")

    def write() -> None:
        memoryview(memory)[3] = 77

    in_child(write)
    assert view[3] == 77
    with pytest.raises(RuntimeError, match="called already"):
        memory.__init__(5)
    bare = leveret.heap.BufferWrapper.__new__(leveret.heap.BufferWrapper)
    for wrong in (bare.create_memoryview, lambda: bare.nbytes, lambda: pickle.dumps(bare)):
        with pytest.raises(RuntimeError, match="was not called"):
            wrong()


def test_objects_at_odd_places_work_too() -> None:
    memory = leveret.heap.BufferWrapper(32)
    for offset in range(0, 9):
        obj = ctypes.c_int.from_buffer(memory, offset)
        obj._wrapper = memory
        value = leveret.sharedctypes.synchronized(obj)
        value.value = offset + 0x10203
        assert obj.value == value.value == offset + 0x10203
        if offset % 4:
            with pytest.raises(TypeError, match="without the lock"):
                value.fetch_add(1)
        else:
            assert value.fetch_add(1) == offset + 0x10203


def test_a_liar_about_its_memory_is_not_believed() -> None:
    obj = ctypes.c_int(5)
    obj._wrapper = leveret.heap.BufferWrapper(4)
    value = leveret.sharedctypes.synchronized(obj)
    assert value.value == 5
    ctypes.resize(obj, 64)
    value.value = 6
    assert obj.value == 6
    with pytest.raises(TypeError):
        value.fetch_add(1)


# Pickling


def change(value: Any, items: Any, point: Any, raw: Any, text: Any) -> str:
    """In another process: see all of them, and change all of them."""
    with value.get_lock():
        value.value += 1
    items[1] = items[0] + 0.5
    point.x += point.get_obj().x
    raw[-1] = 99
    text.value = text.value.upper()
    return f"{type(value).__name__} {type(items).__name__} {type(point).__name__} {len(raw)}"


SEEN = "Synchronized SynchronizedArray SynchronizedPoint 3"


def some(context: Any) -> tuple[Any, ...]:
    return (
        context.Value("i", 41),
        context.Array("d", [1, 2]),
        context.Value(Point, 21, 1),
        context.RawArray("H", 3),
        context.Array("c", b"abc"),
    )


def check_changed(objects: tuple[Any, ...]) -> None:
    value, items, point, raw, text = objects
    assert (value.value, items[:], point.x, raw[:], text.value) == (
        42,
        [1, 1.5],
        42,
        [0, 0, 99],
        b"ABC",
    )


def take_and_answer(*objects: Any, queue: Any = None, pipe: Any = None) -> None:
    if queue is not None:
        objects = queue.get()
        queue.put(change(*objects))
    elif pipe is not None:
        objects = pipe.recv()
        pipe.send(change(*objects))
    else:
        change(*objects)


@pytest.mark.parametrize("method", METHODS)
def test_they_are_given_to_a_process(method: str) -> None:
    context = leveret.get_context(method)
    objects = some(context)
    process = context.Process(target=take_and_answer, args=objects)
    process.start()
    process.join()
    assert process.exitcode == 0
    check_changed(objects)


@pytest.mark.parametrize("method", METHODS)
def test_they_are_sent_through_a_queue_and_a_pipe(method: str) -> None:
    context = leveret.get_context(method)
    objects, queue = some(context), context.SimpleQueue()
    process = context.Process(target=take_and_answer, kwargs={"queue": queue})
    process.start()
    queue.put(objects)
    process.join()
    assert queue.get() == SEEN
    check_changed(objects)
    queue.close()

    objects, (mine, theirs) = some(context), context.Pipe()
    process = context.Process(target=take_and_answer, kwargs={"pipe": theirs})
    process.start()
    mine.send(objects)
    assert mine.recv() == SEEN
    process.join()
    check_changed(objects)
    mine.close()
    theirs.close()


def given_to_workers(context: Any) -> None:
    with context.Pool(1) as pool:
        objects = some(context)
        assert pool.apply(change, objects) == SEEN
        check_changed(objects)
        pool.close()
        pool.join()
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        objects = some(context)
        assert executor.submit(change, *objects).result() == SEEN
        check_changed(objects)


def made_there() -> Any:
    return leveret.Value("i", 5), leveret.Array("c", b"made")


def what_a_worker_made(context: Any) -> None:
    with context.Pool(1) as pool:
        value, text = pool.apply(made_there)
        pool.close()
        pool.join()
    assert value.value == 5 and text.value == b"made"
    value.value += 1
    assert value.value == 6


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("work", ["given_to_workers", "what_a_worker_made"])
def test_they_go_to_workers_and_come_from_them(work: str, method: str) -> None:
    # in an interpreter of its own: the standard pool ends with a semaphore held for ever
    here = os.path.dirname(__file__)
    run(f"""
import sys
sys.path.insert(0, {here!r})
import leveret, test_values
test_values.{work}(leveret.get_context({method!r}))
""")


def through(thing: Any) -> Any:
    return pickle.loads(ForkingPickler.dumps(thing))


def test_a_pickle_is_the_same_memory_and_the_same_lock() -> None:
    value, items, raw = OURS.Value("q", 5), OURS.Array("h", [1, 2]), OURS.RawValue(Point, 1, 2)
    other, more, same = through(value), through(items), through(raw)
    other.value += 1
    more[1] = 9
    same.x = 4
    assert (value.value, items[:], raw.x) == (6, [1, 9], 4)
    assert other.fetch_add(1) == 6 and value.load() == 7
    with value:
        assert not in_thread(other.acquire, False)
    both = through([value, value, value.get_lock(), value.get_obj()])
    assert both[0] is both[1] and both[2] is both[0].get_lock()
    both[3].value += 1
    assert both[0].value == value.value == 8


def test_any_pickler_will_do_for_a_wrapper() -> None:
    for value in (OURS.Value("q", 5), OURS.Value("q", 5, lock=OURS.Lock())):
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
            other = pickle.loads(pickle.dumps(value, protocol))
            other.value += 1
            assert value.value == other.value
    items, point = OURS.Array("c", b"abc"), OURS.Value(Point, 1, 2)
    pickle.loads(pickle.dumps(items)).value = b"xyz"
    pickle.loads(pickle.dumps(point)).x = 9
    assert (items.value, point.x) == (b"xyz", 9)


def test_a_copy_of_a_raw_object_is_a_copy(side: Side) -> None:
    raw = side.mp.RawValue(Point, 1, 2)
    apart = copy.copy(raw)
    apart.x = 5
    assert (raw.x, apart.x) == (1, 5)


def test_a_copy_does_not_travel_as_what_it_was_copied_from() -> None:
    raw = OURS.RawValue(Point, 1, 2)
    apart = copy.copy(raw)
    apart.x = 5
    there = through(apart)
    there.x += 1
    assert (raw.x, apart.x, there.x) == (1, 5, 6)


def test_the_lock_alone_can_make_it_impossible() -> None:
    value = leveret.sharedctypes.synchronized(ctypes.c_int(), threading.Lock())
    with pytest.raises(TypeError, match="lock"):
        ForkingPickler.dumps(value)


def test_a_type_that_was_shared_once_is_still_copied_where_it_is_not() -> None:
    OURS.RawValue("i")
    assert through(ctypes.c_int(5)).value == 5
    there = through([ctypes.c_int(6), OURS.RawValue("i", 7)])
    assert [obj.value for obj in there] == [6, 7]
    point = OURS.RawValue(Segment, 1, 2, (3, 4))
    assert through(point).end.x == 3
    inner = through(point.end)
    inner.x = 9
    assert point.end.x == 3


def test_a_damaged_pickle_is_an_error() -> None:
    memory = leveret.heap.BufferWrapper(4)
    bare = leveret.heap.BufferWrapper.__new__(leveret.heap.BufferWrapper)
    with pytest.raises(TypeError, match="is a tuple"):
        bare.__setstate__(5)
    with pytest.raises(ValueError, match="damaged"):
        bare.__setstate__((b"short", None))
    with pytest.raises((OSError, ValueError, RuntimeError)):
        bare.__setstate__((b"\0" * 40, None))
    with pytest.raises(RuntimeError, match="called already"):
        memory.__setstate__((b"\0" * 40, None))


def test_its_attributes_come_along_with_memory() -> None:
    memory = leveret.heap.BufferWrapper(4)
    memory.name = "mine"
    assert through(memory).name == "mine"


# Locks


@pytest.mark.parametrize(
    "use",
    [
        lambda v, a, p: v.value,
        lambda v, a, p: setattr(v, "value", 1),
        lambda v, a, p: a[0],
        lambda v, a, p: a[:],
        lambda v, a, p: a.__setitem__(0, 1),
        lambda v, a, p: a.__setitem__(slice(None), [1, 2]),
        lambda v, a, p: a.__setitem__(slice(None), range(2)),
        lambda v, a, p: next(iter(a)),
        lambda v, a, p: p.x,
        lambda v, a, p: setattr(p, "x", 1),
        lambda v, a, p: v.__enter__(),
    ],
    ids=lambda use: str(use.__code__.co_consts) + str(use.__code__.co_names),
)
@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_whoever_holds_the_lock_keeps_all_others_out(side: Side, kind: str, use: Any) -> None:
    lock = getattr(side.mp, kind)()
    things = (
        side.mp.Value("i", lock=lock),
        side.mp.Array("i", 2, lock=lock),
        side.mp.Value(Point, lock=lock),
    )
    lock.acquire()
    with Child(lambda: (say(), use(*things) and 0)) as child:
        child.heard()
        child.asleep()
        time.sleep(0.02)
        child.asleep()
        lock.release()
        child.result()


@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition"])
def test_counting_under_the_lock_loses_nothing(side: Side, kind: str) -> None:
    counter = side.mp.Value("i", lock=getattr(side.mp, kind)())
    squares = side.mp.Array("q", 2, lock=counter.get_lock())

    def count(reentrant: bool) -> None:
        for _ in range(500):
            with counter.get_lock():
                if reentrant:
                    counter.value += 1
                    squares[1] += 2
                else:
                    counter.get_obj().value += 1
                    squares.get_obj()[1] += 2

    children = [Child(count, kind in ("RLock", "Condition")) for _ in range(3)]
    for child in children:
        with child:
            child.result()
    assert (counter.value, squares[1]) == (1500, 3000)


def test_a_lock_of_threads_does_for_threads(side: Side) -> None:
    counter = side.mp.Value("i", lock=threading.RLock())

    def count() -> None:
        for _ in range(2000):
            with counter:
                counter.value += 1

    threads = [Thread(count) for _ in range(3)]
    for thread in threads:
        thread.result()
    assert counter.value == 6000
    with counter, pytest.raises(AssertionError):
        in_thread(lambda: pytest.fail("it got in") if counter.acquire(False) else exec("assert 0"))


def test_an_error_under_the_lock_releases_it(side: Side) -> None:
    value, items, point = side.mp.Value("i"), side.mp.Array("i", 2), side.mp.Value(Point)
    for wrong in (
        lambda: setattr(value, "value", "x"),
        lambda: items[5],
        lambda: items.__setitem__(5, 1),
        lambda: items.__setitem__(0, "x"),
        lambda: items.__setitem__(slice(None), [1]),
        lambda: items.__setitem__(slice(None), [1, "x"]),
        lambda: items.__delitem__(0),
        lambda: setattr(point, "x", "x"),
    ):
        with pytest.raises(Exception):  # noqa: B017
            wrong()
    for thing in (value, items, point):
        assert in_thread(lambda t=thing: (t.acquire(False), t.release())) == (True, None)


class CountingLock(type(OURS.RLock())):  # type: ignore[misc]
    """One that notices how it is used."""

    def acquire(self, *args: Any, **kwargs: Any) -> bool:
        self.taken = getattr(self, "taken", 0) + 1
        return super().acquire(*args, **kwargs)


def test_a_subclass_of_a_lock_is_asked() -> None:
    lock = CountingLock()
    value, items = OURS.Value("i", lock=lock), OURS.Array("i", 3, lock=lock)
    value.value += 1
    assert items[:] == [0, 0, 0] and items[0] == 0
    assert lock.taken == 4 and value.value == 1


class Failing(AnyLock):
    def acquire(self) -> None:
        raise KeyError("no")


class Sticky(AnyLock):
    def release(self) -> None:
        raise KeyError("stuck")


@pytest.mark.parametrize("lock", [Failing, Sticky])
def test_what_a_lock_raises_comes_out(side: Side, lock: Any) -> None:
    value = side.mp.Value("i", lock=lock())
    with pytest.raises(KeyError):
        _ = value.value
    with pytest.raises(KeyError):
        value.value = 1


def die_with(lock: Any) -> None:
    lock.acquire()
    say()
    threading.Event().wait()


@pytest.mark.parametrize(
    "use",
    [
        lambda v, a: v.value,
        lambda v, a: setattr(v, "value", 7),
        lambda v, a: a[1],
        lambda v, a: a.__setitem__(1, 7),
        lambda v, a: a[::2],
        lambda v, a: a.__setitem__(slice(0, 2), [7, 7]),
        lambda v, a: v.__enter__() and v.__exit__(),
    ],
)
@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_the_next_one_after_the_killed_is_warned_and_goes_on(kind: str, use: Any) -> None:
    lock = getattr(OURS, kind)()
    value, items = OURS.Value("i", 3, lock=lock), OURS.Array("i", 3, lock=lock)

    def leave_abandoned() -> int:
        with Child(die_with, value) as child:
            child.heard()
            child.kill()
            return child.pid

    pid = leave_abandoned()
    with pytest.warns(AbandonedLockWarning, match=f"process {pid} died"):
        use(value, items)
    use(value, items)  # nothing is wrong any more
    assert not lock.abandoned

    leave_abandoned()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            with pytest.raises(AbandonedLockWarning):
                use(value, items)
    with pytest.warns(AbandonedLockWarning):
        use(value, items)


def test_killed_while_they_count_they_cost_at_most_a_warning() -> None:
    """Value and array are whole whenever somebody looks, and nobody waits for the dead."""
    value, items = OURS.Value("q"), OURS.Array("q", 2, lock=False)
    wrapped = leveret.sharedctypes.synchronized(items, value.get_lock())

    def count() -> None:
        say()
        while True:
            with value.get_lock():
                value.value += 0x100000001
                wrapped[:] = [value.value] * 2

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AbandonedLockWarning)
        for turn in range(20):
            with Child(count) as child:
                child.heard()
                time.sleep(0.001 * (turn % 4))
                child.kill()
            number = value.value
            assert number % 0x100000001 == 0
            assert all(abs(number - item) in (0, 0x100000001) for item in wrapped[:])
            wrapped[:] = [number] * 2


# Signals


def with_handler(handler: Any, use: Any) -> Any:
    signal.signal(signal.SIGUSR1, handler)
    say("w")
    return use()


USES = [
    lambda v, a: v.value,
    lambda v, a: setattr(v, "value", 7) or 7,
    lambda v, a: a[0],
    lambda v, a: a[:][0],
    lambda v, a: a.__setitem__(0, 7) or 7,
    lambda v, a: (v.__enter__(), v.__exit__(), 7)[2],
]


@pytest.mark.parametrize("use", USES)
def test_a_handler_that_returns_lets_the_wait_go_on(use: Any) -> None:
    lock = OURS.Lock()
    value, items = OURS.Value("i", 7, lock=lock), OURS.Array("i", [7], lock=lock)
    lock.acquire()
    with Child(with_handler, lambda *_: say("h"), lambda: use(value, items)) as child:
        assert child.heard() == "w"
        for _ in range(3):
            child.asleep()
            child.signal(signal.SIGUSR1)
            assert child.heard() == "h"
        lock.release()
        assert child.result() == 7


@pytest.mark.parametrize("use", USES)
def test_a_handler_that_raises_ends_the_wait_and_holds_nothing(use: Any) -> None:
    lock = OURS.RLock()
    value, items = OURS.Value("i", 5, lock=lock), OURS.Array("i", [5], lock=lock)

    def refuse(*_: Any) -> None:
        raise InterruptedError("enough")

    lock.acquire()
    with Child(with_handler, refuse, lambda: use(value, items)) as child:
        assert child.heard() == "w"
        child.asleep()
        child.signal(signal.SIGUSR1)
        with pytest.raises(InterruptedError, match="enough"):
            child.result()
    assert (value.value, items[0]) == (5, 5)
    lock.release()
    assert in_child(lambda: value.acquire(False))
    with pytest.warns(AbandonedLockWarning):
        assert value.value == 5


def test_ctrl_c_ends_the_wait() -> None:
    value = OURS.Value("i")
    value.acquire()

    def wait() -> None:
        say()
        _ = value.value

    with Child(wait) as child:
        child.heard()
        child.asleep()
        child.signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            child.result()
    value.release()


def test_other_threads_run_while_one_waits() -> None:
    value = OURS.Value("i")
    with value:
        waiter = Thread(lambda: value.value)
        waiter.asleep()
    assert waiter.result() == 0


# Without the lock


@pytest.mark.parametrize("code", INTEGERS)
def test_numbers_change_without_the_lock_and_wrap_around(code: str) -> None:
    kind = leveret.sharedctypes.typecode_to_type[code]
    value, items = OURS.Value(code), OURS.Array(code, 3)
    for number in (0, 1, -1, 5, 2**31, -(2**31), 2**32 - 1, 2**63, 2**64 - 1, -(2**63), 10**30):
        cut = kind(number).value
        value.value = 0
        assert value.fetch_add(number) == 0 and value.value == cut
        assert value.fetch_add(number) == cut and value.load() == kind(2 * cut).value
        value.store(number)
        assert value.load() == value.value == cut
        assert value.exchange(3) == cut and value.load() == 3
        assert value.compare_exchange(number, 4) is (cut == 3)
        assert value.compare_exchange(3, number) is (cut != 3) or value.load() == 4
        items[1] = 0
        assert items.fetch_add(1, number) == 0 and items[1] == cut
        assert items.exchange(-2, 7) == cut and items.load(1) == 7
        assert items.compare_exchange(1, 8, number) is False
        assert items.compare_exchange(1, 7, number) is True and items.load(-2) == cut
        items.store(1, number)
        assert items[:] == [0, cut, 0]


def test_nobody_is_waited_for() -> None:
    value, items = OURS.Value("i", lock=OURS.Lock()), OURS.Array("i", 1)
    with value.get_lock(), items.get_lock():
        assert in_child(lambda: (value.fetch_add(5), items.fetch_add(0, 6))) == (0, 0)
        assert (value.load(), items.load(0)) == (5, 6)


@pytest.mark.parametrize("code", "iq")
def test_nothing_is_lost_between_processes(code: str) -> None:
    counter, items = OURS.Value(code), OURS.Array(code, 3)

    def count() -> None:
        for _ in range(3000):
            counter.fetch_add(1)
            items.fetch_add(0, 1)
            old = items.load(1)
            while not items.compare_exchange(1, old, old + 1):
                old = items.load(1)

    children = [Child(count) for _ in range(4)]
    for child in children:
        with child:
            child.result()
    assert (counter.value, items[:]) == (12000, [12000, 12000, 0])


def test_exchange_makes_a_lock() -> None:
    token, won, plain = OURS.Value("i"), OURS.Value("i"), OURS.RawValue("i")

    def grab() -> None:
        for _ in range(1000):
            if token.exchange(1) == 0:
                plain.value += 1
                won.fetch_add(1)
                token.store(0)

    children = [Child(grab) for _ in range(3)]
    for child in children:
        with child:
            child.result()
    assert plain.value == won.load() > 0 and token.load() == 0


@pytest.mark.parametrize(
    "thing",
    [
        lambda: OURS.Value("h"),
        lambda: OURS.Value("B"),
        lambda: OURS.Value("f"),
        lambda: OURS.Value("d"),
        lambda: OURS.Value("c"),
        lambda: OURS.Value("u"),
        lambda: OURS.Value(ctypes.c_bool),
        lambda: OURS.Value(ctypes.c_void_p),
        lambda: OURS.Value(MyInt),
        lambda: OURS.Value(ctypes.c_int.__ctype_be__),
        lambda: leveret.sharedctypes.synchronized(ctypes.c_int()),
    ],
)
def test_other_values_say_that_it_cannot_be_done(thing: Any) -> None:
    value = thing()
    for call in (
        value.load,
        lambda: value.store(1),
        lambda: value.fetch_add(1),
        lambda: value.exchange(1),
        lambda: value.compare_exchange(0, 1),
    ):
        with pytest.raises(TypeError, match="integers of 4 or 8 bytes in shared memory"):
            call()


def test_wrong_arguments_without_the_lock_change_nothing() -> None:
    value, items = OURS.Value("i", 5), OURS.Array("i", [5, 6])
    for wrong in (1.0, "1", None, b"1", ctypes.c_int(1)):
        for call in (value.store, value.fetch_add, value.exchange):
            with pytest.raises(TypeError):
                call(wrong)
        with pytest.raises(TypeError):
            value.compare_exchange(5, wrong)
        with pytest.raises(TypeError):
            value.compare_exchange(wrong, 5)
        with pytest.raises(TypeError):
            items.fetch_add(0, wrong)
        with pytest.raises(TypeError):
            items.load("0")
    for index in (2, -3, 2**62):
        with pytest.raises(IndexError):
            items.fetch_add(index, 1)
        with pytest.raises(IndexError):
            items.load(index)
    with pytest.raises(IndexError):
        items.load(2**80)
    for count, call in (
        (1, value.compare_exchange),
        (3, value.compare_exchange),
        (1, items.fetch_add),
        (3, items.exchange),
        (2, items.compare_exchange),
    ):
        with pytest.raises(TypeError, match="arguments"):
            call(*[0] * count)
    assert value.value == 5 and items[:] == [5, 6]


# Classes


def test_an_object_is_initialised_once() -> None:
    value = OURS.Value("i", 5)
    with pytest.raises(RuntimeError, match=r"Synchronized.__init__\(\) was called already"):
        value.__init__(OURS.RawValue("i"))
    types = leveret.sharedctypes
    for kind in (types.SynchronizedBase, types.Synchronized, types.SynchronizedArray):
        bare = kind.__new__(kind)
        for use in (
            lambda b=bare: b.get_obj(),
            lambda b=bare: b.get_lock(),
            lambda b=bare: b.acquire(),
            lambda b=bare: b.__enter__(),
            lambda b=bare: b.__exit__(None, None, None),
            lambda b=bare: b.__reduce__(),
            lambda b=bare: b.value if hasattr(type(b), "value") else b[0] if len(b) else 0,
        ):
            with pytest.raises((RuntimeError, AttributeError, TypeError)):
                use()
        assert "wrapper" in repr(bare)


def test_a_wrapper_can_be_subclassed(side: Side) -> None:
    class Percent(side.types.Synchronized):  # type: ignore[misc,name-defined]
        def __init__(self, obj: Any) -> None:
            super().__init__(obj, ctx=side.mp)
            self.unit = "%"

        @property
        def share(self) -> float:
            return self.value / 100

    class Row(side.types.SynchronizedArray):  # type: ignore[misc,name-defined]
        def __getitem__(self, key: Any) -> Any:
            return ("row", super().__getitem__(key))

    percent, row = (
        Percent(side.mp.RawValue("i", 50)),
        Row(side.mp.RawArray("i", [1, 2]), side.mp.Lock()),
    )
    assert (percent.share, percent.unit, repr(percent)) == (
        0.5,
        "%",
        "<Percent wrapper for c_int(50)>",
    )
    assert row[0] == ("row", 1) and list(row)[1] == ("row", 2)
    row[0] = 5
    assert row.get_obj()[0] == 5


def test_a_class_of_structures_is_made_once_and_goes_with_it() -> None:
    def make() -> Any:
        class Local(ctypes.Structure):
            _fields_ = (("a", ctypes.c_int),)

        return weakref.ref(type(leveret.sharedctypes.synchronized(Local(3)))), Local

    wrapper, local = make()
    assert leveret.sharedctypes.class_cache[local] is wrapper()


def test_items_may_change_while_others_look() -> None:
    items = OURS.Array("i", 1000)

    def change_all() -> None:
        for turn in range(300):
            items[:] = [turn] * 1000

    with Child(change_all) as child:
        for _ in range(300):
            assert len(set(items[:])) == 1
        child.result()


def test_a_list_that_is_assigned_may_be_any_sequence(side: Side) -> None:
    items = side.mp.Array("i", 4)
    for values in ([1, 2, 3, 4], (1, 2, 3, 4), range(1, 5), array.array("i", [1, 2, 3, 4])):
        items[:] = [0] * 4
        items[:] = values
        assert items[:] == [1, 2, 3, 4]
        items[::-1] = values
        assert items[:] == [4, 3, 2, 1]


def test_a_forked_child_sees_what_its_parent_sees() -> None:
    value, items = OURS.Value("i", 1), OURS.Array("i", 3)
    with value:  # a lock that its parent holds is not the child's
        assert in_child(lambda: value.acquire(False)) is False

    def change_both() -> None:
        value.value += 1
        items[2] = 5
        in_child(items.__setitem__, 0, os.getpid() and 6)

    in_child(change_both)
    assert (value.value, items[:]) == (2, [6, 0, 5])


def test_settling_the_start_method_is_left_to_the_program() -> None:
    program = (
        "import leveret; leveret.RawValue('i'); leveret.set_start_method('spawn'); print('ok')"
    )
    assert run(program) == "ok\n"


def test_many_values_are_given_back() -> None:
    before = objects()
    many = [OURS.Value("i", number) for number in range(3000)]
    assert sum(value.value for value in many) == 3000 * 2999 // 2
    del many
    until(lambda: objects() == before)

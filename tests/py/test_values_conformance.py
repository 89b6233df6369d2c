"""Shared values and arrays beside the standard library's: what either must do is done with both.

The outcomes, be they values, texts or exceptions, must be equal to the letter.
"""

import array
import ctypes
import itertools
import math
import re
from typing import Any

import leveret
import leveret.sharedctypes
import pytest
import shared
from beside import OURS
from shared import LEVERET, STANDARD, MyInt, Side

CODES = "cubBhHiIlLqQfd"


class Either(ctypes.Union):
    _fields_ = (("number", ctypes.c_uint32), ("parts", ctypes.c_uint8 * 4))


class Odd(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("tag", ctypes.c_char), ("number", ctypes.c_int))


class Loud(ctypes.c_int * 3):  # type: ignore[misc]
    def __getitem__(self, key: Any) -> Any:
        return "loud", super().__getitem__(key)


def names_for(side: Side) -> dict[str, Any]:
    return {**vars(shared), **globals(), "mp": side.mp, "types": side.types, "heap": side.heap}


def outcome(side: Side, row: str) -> str:
    """What comes of an expression, or of `object | call | statement`.

    A NameError is the row's own fault: both sides have it.
    """
    first, *steps = row.split(" | ")
    try:
        names = names_for(side)
        names["thing"] = thing = eval(first, names)
        value = repr([did(step, names) for step in steps] if steps else thing)
    except NameError:
        raise
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
    except NameError:
        raise
    except Exception as error:
        return f"{type(error).__name__}: {error}"


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
    ours = {row: outcome(LEVERET, row) for row in rows}
    assert ours == {row: outcome(STANDARD, row) for row in rows}


def test_every_row_is_one_that_was_meant() -> None:
    """A row that is no Python has the same outcome on both sides, too."""
    odd = [row for row in all_rows() if "SyntaxError" in outcome(STANDARD, row)]
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


def test_a_list_that_is_assigned_may_be_any_sequence(side: Side) -> None:
    items = side.mp.Array("i", 4)
    for values in ([1, 2, 3, 4], (1, 2, 3, 4), range(1, 5), array.array("i", [1, 2, 3, 4])):
        items[:] = [0] * 4
        items[:] = values
        assert items[:] == [1, 2, 3, 4]
        items[::-1] = values
        assert items[:] == [4, 3, 2, 1]

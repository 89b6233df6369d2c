"""What is shown of objects in errors: of what is large its beginning, and no text of all of it."""

import collections
import dataclasses
import multiprocessing.pool as std
import threading
from typing import Any

import pytest
from leveret import faults, worker

MUCH = 1 << 20


class Loud:
    """Its whole text is not to be asked for."""

    def __init__(self) -> None:
        self.data = bytes(MUCH)

    def __repr__(self) -> str:
        raise AssertionError("somebody wants all of it")


class Plain:
    def __init__(self) -> None:
        self.data = bytes(MUCH)


class Silent:
    def __repr__(self) -> str:
        raise LookupError


class Sizeless:
    def __sizeof__(self) -> int:
        raise LookupError

    def __repr__(self) -> str:
        return "sizeless"


@dataclasses.dataclass
class Point:
    x: Any
    y: Any = None


def generate() -> Any:
    yield bytes(MUCH)


SMALL: list[Any] = [
    None,
    {"b": 1, "a": {3, 1, 2}},
    list(range(100)),
    "x" * 1000,
    b"x" * 1000,
    threading.Lock(),
    generate(),
    Plain(),
    Point(1, [Plain()]),
    ValueError("x" * 100, 7),
    collections.OrderedDict(a=1),
    pytest,
    print,
]


@pytest.mark.parametrize("value", SMALL, ids=lambda value: type(value).__name__)
def test_what_is_small_is_shown_as_it_is(value: Any) -> None:
    assert faults.shown(value) == repr(value)


LARGE = [
    ("x" * MUCH, "'xxx"),
    (b"x" * MUCH, "b'xxx"),
    (bytearray(MUCH), "bytearray(b'"),
    ([b"x" * MUCH], "[b'xxx"),
    ({"key": {"inner": bytes(MUCH)}}, r"{'key': {'inner': b'\x00"),
    (list(range(MUCH)), "[0, 1, 2, 3, 4, 5, ...]"),
    (Loud(), "<Loud object>"),
    ([Loud()], "[<Loud object>]"),
    (Point(bytes(MUCH)), "<Point object>"),
    (collections.OrderedDict(a=bytes(MUCH)), "<OrderedDict object>"),
    (ValueError("y" * MUCH, 7), "ValueError('yyy"),
    (Silent(), "<Silent "),
    (Sizeless(), "<Sizeless object>"),
]


@pytest.mark.parametrize(("value", "begin"), LARGE, ids=lambda value: type(value).__name__)
def test_of_what_is_large_the_beginning_is_shown(value: Any, begin: str) -> None:
    for how in (faults.shown, faults.short):
        assert how(value).startswith(begin)
        assert len(how(value)) < 400


def test_the_text_of_bytes() -> None:
    assert faults.short(b"0123456789") == "b'0123456789'"
    assert faults.short(b"x" * 100) == "b'xxxxxxxxxxx...xxxxxxxxxxxxx'"


@pytest.mark.parametrize("value", [Loud(), Silent(), b"x" * MUCH])
def test_a_result_that_cannot_be_sent_is_named_in_few_words(value: Any) -> None:
    _, kind, said, pickled = worker._unsendable_in_pool(TypeError("z" * MUCH), value)
    assert kind.endswith("MaybeEncodingError") and len(said) < 1000 > len(pickled)
    assert "Reason: 'TypeError('zzz" in said


def test_a_result_that_its_receiver_has_no_memory_for() -> None:
    error = faults.undecodable(MemoryError(), "work(7)")
    assert type(error) is MemoryError
    assert faults.undecodable(error, "work(7)").__notes__ == [
        "leveret: raised here, by unpickling the result of work(7): this process has too little "
        "memory"
    ]


def test_what_is_short_is_told_as_the_standard_library_does() -> None:
    value, error = {"b": 1, "a": Plain()}, TypeError("not me")
    _, _, said, _ = worker._unsendable_in_pool(error, value)
    assert said == str(std.MaybeEncodingError(error, value))

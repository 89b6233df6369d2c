"""Shared values and arrays without their locks: what one instruction does to a number."""

import ctypes
from typing import Any

import leveret
import leveret.sharedctypes
import pytest
from beside import OURS
from forked import Child, in_child
from shared import MyInt

INTEGERS = "iIlLqQ"  # of 4 and 8 bytes


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

"""The memory of shared values and arrays: how long it lasts, and who else may look at it."""

import ctypes
import gc
import os
import pickle
import weakref

import leveret
import leveret.heap
import leveret.sharedctypes
import pytest
from beside import OURS
from forked import in_child, until
from leveret import _core
from shared import Side


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


def test_many_values_are_given_back() -> None:
    before = objects()
    many = [OURS.Value("i", number) for number in range(3000)]
    assert sum(value.value for value in many) == 3000 * 2999 // 2
    del many
    until(lambda: objects() == before)


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

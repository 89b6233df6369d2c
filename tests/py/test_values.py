"""Shared values and arrays as objects: whose they are, and of which classes.

What they do has files of its own:

    test_values_conformance.py    what the standard library's do as well, to the letter
    test_values_memory.py         how long their memory lasts, and who else may look at it
    test_values_pickle.py         their way to other processes
    test_values_locks.py          who waits for whom, and for whom no longer
    test_values_atomic.py         what goes without a lock
"""

import ctypes
import multiprocessing
import multiprocessing.heap
import multiprocessing.sharedctypes
import os
import weakref
from typing import Any

import leveret
import leveret.heap
import leveret.sharedctypes
import pytest
from beside import OURS
from forked import in_child
from leveret import _core
from shared import Side, run

# What is whose


def test_whoever_imports_what_gets_ours() -> None:
    assert type(leveret.Value("i")) is leveret.sharedctypes.Synchronized
    assert leveret.sharedctypes.Synchronized is _core.Synchronized
    assert type(leveret.RawValue("i")._wrapper) is leveret.heap.BufferWrapper
    assert type(leveret.Value("i").get_lock()) is leveret.synchronize.RLock
    assert leveret.heap.Heap is multiprocessing.heap.Heap
    with pytest.raises(AttributeError):
        _ = leveret.sharedctypes.nothing


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


def test_settling_the_start_method_is_left_to_the_program() -> None:
    program = (
        "import leveret; leveret.RawValue('i'); leveret.set_start_method('spawn'); print('ok')"
    )
    assert run(program) == "ok\n"


# Objects


def test_a_bad_type_code_says_what_is_a_good_one() -> None:
    for bad in ("x", "", "ii", int, object(), None):
        with pytest.raises(TypeError, match=r"bad typecode .* c, b, B, u"):
            OURS.Value(bad)
        with pytest.raises(TypeError):
            OURS.Array(bad, 3)


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

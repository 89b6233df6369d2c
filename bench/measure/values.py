"""What it costs to use shared values and arrays, beside what is not shared."""

import array
import ctypes
import timeit
from collections.abc import Callable
from typing import Any

from bench import targets
from bench.measure.locks import LOOPS, PROCESSES, ROUNDS, contended
from bench.measure.sampling import samples_for

INDEX = 500
NUMBERS = list(range(1000))


def each_ns(statement: str, seconds: float, loops: int = LOOPS, **names: Any) -> list[float]:
    """Per run of the statement, in a loop that is part of the figure."""
    run = timeit.Timer(statement, globals=names).timeit
    return samples_for(seconds, lambda: run(loops) * 1e9 / loops)


def four_count_a_value(context: Any, _seconds: float) -> list[float]:
    counter = context.Value("q", 0)
    took = contended(context, targets.count_under_its_lock, counter)
    assert counter.value == PROCESSES * ROUNDS, "the lock does not exclude"
    return [took]


def value_add(context: Any, seconds: float) -> list[float]:
    return each_ns("v.value += 1", seconds, v=context.Value("i", 0))


def value_add_under_its_lock(context: Any, seconds: float) -> list[float]:
    return each_ns("with v.get_lock(): v.value += 1", seconds, v=context.Value("i", 0))


def value_fetch_add(context: Any, seconds: float) -> list[float]:
    return each_ns("v.fetch_add(1)", seconds, v=context.Value("i", 0))


def plain_value_add(_context: Any, seconds: float) -> list[float]:
    return each_ns("v.value += 1", seconds, v=ctypes.c_int(0))


def item_store(context: Any, seconds: float) -> list[float]:
    return each_ns(f"a[{INDEX}] = 7", seconds, a=context.Array("i", NUMBERS))


def item_load(context: Any, seconds: float) -> list[float]:
    return each_ns(f"a[{INDEX}]", seconds, a=context.Array("i", NUMBERS))


def plain_item_store(_context: Any, seconds: float) -> list[float]:
    return each_ns(f"a[{INDEX}] = 7", seconds, a=array.array("i", NUMBERS))


def plain_item_load(_context: Any, seconds: float) -> list[float]:
    return each_ns(f"a[{INDEX}]", seconds, a=array.array("i", NUMBERS))


def slice_store(context: Any, seconds: float) -> list[float]:
    return each_ns("a[:] = n", seconds, 200, a=context.Array("i", NUMBERS), n=NUMBERS)


def slice_load(context: Any, seconds: float) -> list[float]:
    return each_ns("a[:]", seconds, 200, a=context.Array("i", NUMBERS))


def slice_load_zeros(context: Any, seconds: float) -> list[float]:
    return each_ns("a[:]", seconds, 200, a=context.Array("i", len(NUMBERS)))


def plain_slice_load(_context: Any, seconds: float) -> list[float]:
    return each_ns("a[:].tolist()", seconds, 200, a=array.array("i", NUMBERS))


def new_value(context: Any, seconds: float) -> list[float]:
    return each_ns("make('i', 7)", seconds, 500, make=context.Value)


WORKS: dict[str, Callable[[Any, float], list[float]]] = {
    work.__name__: work
    for work in (
        four_count_a_value,
        value_add,
        value_add_under_its_lock,
        value_fetch_add,
        plain_value_add,
        item_store,
        item_load,
        plain_item_store,
        plain_item_load,
        slice_store,
        slice_load,
        slice_load_zeros,
        plain_slice_load,
        new_value,
    )
}

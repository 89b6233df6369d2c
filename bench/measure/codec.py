"""What it costs to turn an object into bytes and back, with no queue around it."""

import time
from collections.abc import Callable
from typing import Any

from bench import targets
from bench.measure.sampling import samples_for

LOOPS = 20_000


def recode_ns(context: Any, seconds: float, obj: Any, loops: int) -> list[float]:
    """For std as its queues and pipes do it."""
    if context.__class__.__module__.startswith("leveret"):
        from leveret import _core

        def recode() -> None:
            _core.recode(obj, loops)

    else:
        from multiprocessing.reduction import ForkingPickler

        def recode() -> None:
            dumps, loads = ForkingPickler.dumps, ForkingPickler.loads
            for _ in range(loops):
                loads(dumps(obj))

    def sample() -> float:
        begin = time.perf_counter_ns()
        recode()
        return (time.perf_counter_ns() - begin) / loops

    return samples_for(seconds, sample)


def recode_int(context: Any, seconds: float) -> list[float]:
    return recode_ns(context, seconds, 123_456, LOOPS)


def recode_dict(context: Any, seconds: float) -> list[float]:
    return recode_ns(context, seconds, {"name": "leveret", "id": 123_456, "score": 1.5}, LOOPS)


def recode_records(context: Any, seconds: float) -> list[float]:
    records = [{"name": f"n{i}", "id": i, "where": (i / 3, i / 7)} for i in range(100)]
    return recode_ns(context, seconds, records, LOOPS // 100)


def recode_ints(context: Any, seconds: float) -> list[float]:
    return recode_ns(context, seconds, list(range(1000)), LOOPS // 100)


def recode_object(context: Any, seconds: float) -> list[float]:
    return recode_ns(context, seconds, targets.Thing(1, "two"), LOOPS // 10)


WORKS: dict[str, Callable[[Any, float], list[float]]] = {
    work.__name__: work
    for work in (recode_int, recode_dict, recode_records, recode_ints, recode_object)
}

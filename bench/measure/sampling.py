"""How samples are taken."""

import time
from collections.abc import Callable

WARM_UP = 3


def samples_for(
    seconds: float, sample: Callable[[], float], at_least: int = 3, warm_up: int = WARM_UP
) -> list[float]:
    """Sample until the time is over, after a warm-up that is not counted."""
    for _ in range(warm_up):
        sample()
    found: list[float] = []
    end = time.monotonic() + seconds
    while len(found) < at_least or time.monotonic() < end:
        found.append(sample())
    return found


def calibrated(run: Callable[[int], float], first: int, seconds: float, most: int) -> int:
    """How many rounds of the work take RUN, which returns nanoseconds, about so long.

    So that what starts and ends a sample does not count, on neither side, whatever it can do.
    """
    count = first
    while count < most:
        took_s = run(count) / 1e9
        if took_s >= seconds / 2:
            break
        count = int(count * min(20.0, max(2.0, seconds / max(took_s, 1e-6))))
    return min(count, most)

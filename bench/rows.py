"""The table: what is measured, on which sides, and what it should be."""

import dataclasses

STD_METHODS = ("fork", "forkserver", "spawn")


@dataclasses.dataclass(frozen=True)
class Row:
    what: str
    work: str  # of bench.measure
    ours: str = "warm"  # start method
    std: tuple[str, ...] = STD_METHODS  # the best of these counts
    std_work: str = ""  # if it is another one
    factor: float = 0.0  # times faster than std; 0: no such aim
    aim: float = 0.0  # ns; 0: no such aim
    over_ns: float = 0.0  # at most this much slower than std; 0: no such aim
    rounds: int = 5


ROWS = (
    Row("start + join, warm", "start_join", factor=4, aim=0.6e6),
    Row("start + join, fork", "start_join", ours="fork", factor=4, aim=0.6e6),
    Row("start + join, 5 ms apart, warm", "start_join_apart", factor=4, aim=0.6e6),
    Row("start + join, 5 ms apart, fork", "start_join_apart", ours="fork", factor=4, aim=0.6e6),
    Row("target runs after start(), warm", "start_running", aim=0.15e6),
    Row("target runs after start(), fork", "start_running", ours="fork", aim=0.15e6),
    Row("32 at once, then join, each, warm", "many_at_once", factor=4, aim=0.5e6),
    Row("32 at once, then join, each, fork", "many_at_once", ours="fork", factor=4, aim=0.5e6),
    Row("start + join, 1 GiB in the parent", "start_join_1_gib", factor=8, rounds=3),
    Row("start + join, 100 idle threads", "start_join_100_threads", factor=8, rounds=3),
    Row("with lock", "with_lock", std=("fork",), factor=2),
    Row(
        "with lock, threading.Lock for std",
        "with_lock",
        std=("fork",),
        std_work="with_threading_lock",
        factor=1 / 1.3,
    ),
    Row("acquire() and release()", "acquire_release", std=("fork",), factor=1, aim=45),
    Row(
        "acquire() and release(), threading.Lock for std",
        "acquire_release",
        std=("fork",),
        std_work="acquire_release_threading",
    ),
    Row("holder killed, until the next has the lock", "holder_killed", std=("fork",), aim=5e6),
    Row(
        "4 processes, 250 000 rounds of one lock",
        "four_take_turns",
        std=("fork",),
        factor=2.5,
        aim=0.4e9,
    ),
    Row("the same, counting in a RawValue", "four_count", std=("fork",)),
    Row("one more Lock", "many_locks", std=("fork",), aim=2000, rounds=3),
    Row("import", "import_time", std=("none",), over_ns=5e6),
    Row("an empty program", "empty_program", std=("none",), over_ns=15e6),
)

"""The table: what is measured, on which sides, and what it should be."""

import dataclasses

STD_METHODS = ("fork", "forkserver", "spawn")
BOTH = ("warm", "fork")
FORK = ("fork",)


@dataclasses.dataclass(frozen=True)
class Row:
    what: str
    work: str  # of bench.measure
    ours: tuple[str, ...] = ("warm",)  # start methods; each is a line of its own
    std: tuple[str, ...] = STD_METHODS  # the best of these counts
    std_work: str = ""  # if it is another one
    factor: float = 0.0  # times faster than std; 0: no such aim
    aim: float = 0.0  # ns; 0: no such aim
    over_ns: float = 0.0  # at most this much slower than std; 0: no such aim
    rounds: int = 5
    needs: str = ""  # a module without which it cannot be measured
    unit: str = ""  # of what is measured, and of the aim; empty: ns


BIRTHS_AND_LOCKS = (
    Row("start + join", "start_join", ours=BOTH, factor=4, aim=0.6e6),
    Row(
        "start + join; a bare fork for std", "start_join", ours=BOTH, std=FORK, std_work="bare_fork"
    ),
    Row("start + join, 5 ms apart", "start_join_apart", ours=BOTH, factor=4, aim=0.6e6),
    Row("start + join, given a queue", "start_join_queue", ours=BOTH),
    Row("target runs after start()", "start_running", ours=BOTH, aim=0.15e6),
    Row("32 at once, then join, each", "many_at_once", ours=BOTH, factor=4, aim=0.5e6),
    Row("start + join, 1 GiB in the parent", "start_join_1_gib", factor=8, rounds=3),
    Row("start + join, 100 idle threads", "start_join_100_threads", factor=8, rounds=3),
    Row("with lock", "with_lock", std=FORK, factor=2),
    Row(
        "with lock, threading.Lock for std",
        "with_lock",
        std=FORK,
        std_work="with_threading_lock",
        factor=1 / 1.3,
    ),
    Row("acquire() and release()", "acquire_release", std=FORK, factor=1, aim=45),
    Row(
        "acquire() and release(), threading.Lock for std",
        "acquire_release",
        std=FORK,
        std_work="acquire_release_threading",
    ),
    Row("holder killed, until the next has the lock", "holder_killed", std=FORK, aim=5e6),
    Row(
        "4 processes, 250 000 rounds of one lock",
        "four_take_turns",
        std=FORK,
        factor=2.5,
        aim=0.4e9,
    ),
    Row("the same, counting in a RawValue", "four_count", std=FORK),
    Row("one more Lock", "many_locks", std=FORK, aim=2000, rounds=3),
    Row("codec: an int", "recode_int", std=FORK, factor=10, aim=60),
    Row("codec: a dict of 3", "recode_dict", std=FORK, factor=8, aim=300),
    Row("codec: a list of 100 dicts of 3", "recode_records", std=FORK),
    Row("codec: a list of 1000 ints", "recode_ints", std=FORK),
    Row("codec: an object, by pickle", "recode_object", std=FORK, factor=1),
    Row("import", "import_time", std=("none",), over_ns=5e6),
    Row("an empty program", "empty_program", std=("none",), over_ns=15e6),
)

MIB_COPY = 1.2  # what a large array may cost, in copies of it

# Forked on both sides: what a queue costs does not depend on how its users were born, and a figure
# that is the best of several start methods would only be the best of several throws.
MESSAGES = tuple(
    dataclasses.replace(row, ours=FORK, std=FORK)
    for row in (
        Row("Queue, 1 producer, 1 consumer, int", "queue_int", factor=18, aim=350),
        Row("Queue, the same, 8 bytes", "queue_8_bytes", factor=18, aim=350),
        Row("Queue, 4 producers, 1 consumer, int", "queue_4_to_1", factor=15, aim=500),
        Row("Queue, 2 and 2, a small dict", "queue_2_to_2_dict", factor=15, aim=1000),
        Row(
            "Queue, put_many and get_many in hundreds, int",
            "queue_hundreds",
            std_work="queue_int",
            factor=60,
            aim=100,
        ),
        Row("Queue, round trip", "queue_round_trip", factor=10, aim=8e3),
        Row("Queue, round trip, 99 of 100", "queue_round_trip_p99"),
        Row("Queue, round trip, all cores busy", "queue_round_trip_busy"),
        Row("Queue, round trip, busy, 99 of 100", "queue_round_trip_busy_p99"),
        Row("Pipe, round trip", "pipe_round_trip", factor=10, aim=8e3),
        Row("Pipe, 1 MiB there and back", "pipe_1_mib", factor=4, aim=0.35e6),
        Row("Queue, 1 MiB bytes", "queue_1_mib", factor=10, aim=0.2e6),
        Row("Queue, 8 MiB array, read", "queue_8_mib_array", factor=8, needs="numpy"),
        Row(
            "Queue, 8 MiB array, read; one copy of it for std",
            "queue_8_mib_array",
            std_work="copy_8_mib",
            factor=1 / MIB_COPY,
            needs="numpy",
        ),
        Row("Queue, 1 and 1 processes, per message of all", "queue_2_processes"),
        Row("Queue, 4 and 4 processes, per message of all", "queue_8_processes"),
        Row("Queue, 16 and 16 processes, per message of all", "queue_32_processes"),
        Row("idle for 10 s in Queue.get(), processor time", "idle_get", rounds=1),
        Row("idle for 10 s in Connection.poll()", "idle_poll", rounds=1),
        Row("idle for 10 s in JoinableQueue.join()", "idle_queue_join", rounds=1),
        Row("idle for 10 s in Process.join()", "idle_process_join", rounds=1),
    )
)

PLAIN = 1 / 1.5  # what sharing may cost beside what is not shared

VALUES = tuple(
    dataclasses.replace(row, ours=FORK, std=FORK)
    for row in (
        Row("value.value += 1", "value_add", factor=2.5),
        Row(
            "value.value += 1, of a bare c_int for std",
            "value_add",
            std_work="plain_value_add",
            factor=PLAIN,
        ),
        Row("value.value += 1, under its lock", "value_add_under_its_lock"),
        Row(
            "value.fetch_add(1), value.value += 1 for std",
            "value_fetch_add",
            std_work="value_add",
            factor=4,
        ),
        Row("4 processes, 250 000 value.value += 1", "four_count_a_value", factor=2.5, aim=0.4e9),
        Row("Array, store an item", "item_store", factor=6),
        Row(
            "Array, store an item, array.array for std",
            "item_store",
            std_work="plain_item_store",
            factor=PLAIN,
        ),
        Row("Array, load an item", "item_load", factor=6),
        Row(
            "Array, load an item, array.array for std",
            "item_load",
            std_work="plain_item_load",
            factor=PLAIN,
        ),
        Row("Array, store 1000 items", "slice_store", factor=6),
        Row("Array, load 1000 zeros", "slice_load_zeros", factor=6),
        Row("Array, load 1000 items", "slice_load", factor=6),
        Row(
            "Array, load 1000 items, array.array for std",
            "slice_load",
            std_work="plain_slice_load",
            factor=PLAIN,
        ),
        Row("one more Value", "new_value", rounds=3),
    )
)

TASK_COPIES = 2.5  # what a large array may cost there and back, in copies of it

# Beside what other packages have of the kind, too.
POOLS = tuple(
    dataclasses.replace(row, ours=BOTH, rounds=min(row.rounds, 3))
    for row in (
        Row("Pool(2): create, map, close", "pool_life", factor=7, aim=1.5e6),
        Row("Pool.map, chunksize 1", "pool_map_single", factor=18, aim=1500),
        Row("Pool.imap_unordered", "pool_imap_unordered", factor=18, aim=1500),
        Row("Pool.map of 10^6, default chunksize", "pool_map_million", factor=1, aim=250),
        Row(
            "Pool.map, 1 in 64 is slow, over perfect balance",
            "pool_scattered",
            aim=1.1,
            unit="times",
        ),
        Row(
            "Pool.map, the same, all of these at the end",
            "pool_at_the_end",
            factor=1.3,
            aim=1.1,
            unit="times",
        ),
        Row("Pool.apply, round trip", "pool_round_trip", factor=15, aim=15e3),
        Row("Pool.apply_async, 10^4 in flight", "pool_in_flight", factor=10, aim=4e3),
        Row("Pool.map, 8 MiB arrays", "pool_arrays", factor=4, needs="numpy"),
        Row("Pool(8).map, chunksize 1", "pool_map_single_8", std=FORK),
        Row("Pool(64).map, chunksize 1", "pool_map_single_64", std=FORK),
        Row("Pool, idle for 10 s, processor time", "pool_idle", std=FORK, aim=1e6, rounds=1),
        Row(
            "ProcessPoolExecutor.submit, 10^4 in flight",
            "executor_in_flight",
            factor=12,
            aim=8e3,
        ),
        Row("ProcessPoolExecutor.submit, round trip", "executor_round_trip", factor=10, aim=20e3),
        Row("ProcessPoolExecutor.map, chunksize 1", "executor_map_single", factor=20, aim=5e3),
        Row(
            "ProcessPoolExecutor, idle for 10 s, processor time",
            "executor_idle",
            std=FORK,
            aim=1e6,
            rounds=1,
        ),
    )
)
POOLS_ALONE = tuple(
    dataclasses.replace(row, ours=BOTH, std=FORK)
    for row in (
        Row(
            "Pool.map, 8 MiB arrays; one copy for std",
            "pool_arrays",
            std_work="copy_8_mib",
            factor=1 / TASK_COPIES,
            rounds=3,
            needs="numpy",
        ),
        Row("Pool(2); two bare forks for std", "pool_life", std_work="two_bare_forks", rounds=3),
        Row("Pool, worker killed, until another has a task", "pool_recovery", aim=5e6),
        Row("Pool.map, 10^6 tasks wait, each", "pool_queued_by_map", aim=200, unit="B", rounds=1),
        Row("Pool.apply_async, 10^5 wait, each", "pool_queued_by_apply", unit="B", rounds=1),
    )
)

ROWS = BIRTHS_AND_LOCKS + MESSAGES + VALUES + POOLS + POOLS_ALONE

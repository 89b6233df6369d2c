"""Two processes on a queue, one of them killed: the other goes on, nothing is lost or comes twice.
Of many that are put by one call some may be there, from the first on, each of them whole.

`LEVERET_KILLS=1000` for more than the usual number of kills; LEVERET_SEED repeats a run. The same
hunt by hand, and for the standard library, which fails: `python tests/py/killing.py --help`.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import killing
import leveret
import pytest
from forked import Child, DiedError
from leveret import _core
from queued import STREAM, drained, each

KILLS = int(os.environ.get("LEVERET_KILLS", "50"))
SECONDS = 60 + KILLS  # what a hunt may take on a busy machine

sizes = pytest.mark.parametrize("size", [4 << 10, 1 << 20], ids=["4KiB", "1MiB"])
victims = pytest.mark.parametrize("victim", ["producer", "consumer"])


def new_seed() -> int:
    return int(os.environ.get("LEVERET_SEED", random.SystemRandom().randrange(1 << 32)))


@pytest.mark.timeout(SECONDS)
@sizes
@victims
@pytest.mark.parametrize("method", ["fork", "warm"])
def test_the_other_goes_on(method: str, victim: str, size: int) -> None:
    seed = new_seed()
    print(f"{method}, {victim}, {size} bytes, seed {seed}")
    outcome = killing.hunt(leveret.get_context(method), victim, size, KILLS, seed)
    print(outcome)
    assert outcome.kills == KILLS
    assert max(outcome.stalls_s) < killing.WITHIN_S, outcome


@sizes
@victims
def test_the_standard_library_fails_there(victim: str, size: int) -> None:
    """It hangs, or what its put() returned from is lost: so this test can fail."""
    command = [
        *(sys.executable, killing.__file__, "--library", "multiprocessing", "--kills", "1000"),
        *("--victim", victim, "--size", str(size), "--patience", "3", "--seconds", "50"),
        *("--seed", str(new_seed())),
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as hunt:
        said, _ = hunt.communicate()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(hunt.pid, signal.SIGKILL)
    assert hunt.returncode == killing.FAILS, said


def until_killed(count: int) -> Iterator[Any]:
    yield from STREAM[:count]
    os.kill(os.getpid(), signal.SIGKILL)


@each
@pytest.mark.parametrize("count", [0, 1, 700, 1500])
def test_who_dies_in_put_many_leaves_whole_messages(kind: Any, count: int) -> None:
    queue = kind()
    with Child(queue.put_many, until_killed(count)) as child, pytest.raises(DiedError):
        child.result()
    got = drained(queue)
    assert got == STREAM[: len(got)] and len(got) >= min(count // 500 * 500, 1000)
    check_use(queue)


def test_who_dies_waiting_for_room_leaves_whole_messages() -> None:
    queue = leveret.SimpleQueue()
    with Child(queue.put_many, STREAM) as child:
        child.asleep()
        child.kill()
    got = drained(queue)
    assert len(got) > 1000 and got == STREAM[: len(got)]
    check_use(queue)


def test_who_dies_in_put_many_while_others_get_many() -> None:
    """Each is killed when that much has come of him: the rest, then the end."""
    rng = random.Random(new_seed())
    for _ in range(KILLS):
        queue = leveret.SimpleQueue()
        with Child(queue.put_many, STREAM) as child:
            queue._writer.close()
            got: list[Any] = []
            enough = rng.randrange(len(STREAM) - 2000)
            while len(got) <= enough:
                got += queue.get_many(timeout=20)
            child.kill()
            with contextlib.suppress(EOFError):
                while True:
                    got += queue.get_many(timeout=20)
        assert got == STREAM[: len(got)]
    _core.session_check()


def test_who_dies_getting_many_takes_no_more_than_he_got() -> None:
    queue = leveret.SimpleQueue()

    def get() -> None:
        queue.get_many(max=100)
        os.kill(os.getpid(), signal.SIGKILL)

    queue.put_many(STREAM[:400])
    with Child(get) as child, pytest.raises(DiedError):
        child.result()
    assert drained(queue) == STREAM[100:400]
    check_use(queue)


def check_use(queue: Any) -> None:
    assert queue.put_many("on") == 2
    assert queue.get_many() == ["o", "n"]
    _core.session_check()

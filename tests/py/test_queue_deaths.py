"""Two processes on a queue, one of them killed: the other goes on, nothing is lost or comes twice.

`LEVERET_KILLS=1000` for more than the usual number of kills; LEVERET_SEED repeats a run. The same
hunt by hand, and for the standard library, which fails: `python tests/py/killing.py --help`.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys

import killing
import leveret
import pytest

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

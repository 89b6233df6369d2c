"""For tests of what pools do about their workers: pools that are joined, and whole programs."""

import contextlib
import pathlib
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

from leveret.pool import Pool


@contextlib.contextmanager
def pool_of(ctx: Any, *args: Any, **options: Any) -> Iterator[Pool]:
    with ctx.Pool(*args, **options) as pool:
        yield pool
    pool.join()


def run_file(path: pathlib.Path, program: str) -> subprocess.CompletedProcess[str]:
    """A program in a terminal session of its own, and what it said."""
    path.write_text(textwrap.dedent(program))
    command = [sys.executable, str(path)]
    return subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=50, start_new_session=True
    )

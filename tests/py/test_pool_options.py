"""Pool: what it offers besides: its size, threads of workers; and after install()."""

import contextlib
import math
import os
import pathlib
import subprocess
import sys
import textwrap
import threading
import types
from collections.abc import Callable
from typing import Any

import leveret
import pytest
from crews import pool_of
from forked import PATIENCE_S, Child
from leveret import cpus, worker
from leveret.pool import Pool
from tasks import blas_threads, pool_of_its_own, square

pytestmark = [
    # The standard library's, of a fork beside threads: a pool forks when a worker has died.
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]


# How many.


def test_default_size(monkeypatch: pytest.MonkeyPatch) -> None:
    with leveret.get_context("fork").Pool() as pool:
        assert pool._processes == cpus.usable()
    pool.join()


@pytest.mark.parametrize(
    ("lines", "files", "expected"),
    [
        ("0::/a/b", {"a/b/cpu.max": "max 100000", "a/cpu.max": "150000 100000"}, 2),
        ("0::/a/b", {"a/b/cpu.max": "50000 100000", "a/cpu.max": "150000 100000"}, 1),
        ("0::/gone", {"cpu.max": "300000 100000"}, 3),
        ("3:cpu,cpuacct:/a", {"a/cpu.cfs_quota_us": "-1", "a/cpu.cfs_period_us": "100000"}, 9),
        (
            "3:cpu,cpuacct:/a\n2:memory:/",
            {"a/cpu.cfs_quota_us": "400000", "a/cpu.cfs_period_us": "100000"},
            4,
        ),
        ("0::/a", {"a/cpu.max": "what"}, 9),
    ],
)
def test_quotas_of_cgroups(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: pathlib.Path,
    lines: str,
    files: dict[str, str],
    expected: int,
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "cgroup").write_text(lines)
    monkeypatch.setattr(cpus, "OURS", str(tmp_path / "cgroup"))
    monkeypatch.setattr(cpus, "V1", str(tmp_path))
    monkeypatch.setattr(cpus, "V2", str(tmp_path))
    assert min([9, *map(math.ceil, cpus.quotas())]) == expected


def test_threads_of_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    share = str(max(1, cpus.usable() // 2))

    def told(**options: Any) -> Any:
        with leveret.get_context("fork").Pool(2, **options) as pool:
            return tuple(pool.apply(blas_threads).values())

    assert told() == (share, share)
    assert told(threads=3) == ("3", "3")
    assert told(threads=None) == (None, None)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "7")
    assert told(threads=3) == ("3", "7")
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert told(threads=3) == ("5", "7")


# After install().


def run(program: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    options = {"capture_output": True, "text": True, "timeout": 50, **options}
    text = textwrap.dedent(program)
    return subprocess.run([sys.executable, *arguments, "-c", text], check=False, **options)


def test_install_replaces_the_standard_pool() -> None:
    said = run(
        """
        import multiprocessing, sys
        from multiprocessing.pool import ThreadPool
        import leveret
        leveret.install()
        import multiprocessing.pool
        assert multiprocessing.pool.Pool.__module__ == "leveret.pool"
        assert multiprocessing.pool.ThreadPool is ThreadPool
        with ThreadPool(2) as threads:
            assert isinstance(threads, multiprocessing.pool.Pool)
            assert threads.map(abs, [-1, 2]) == [1, 2]
        with multiprocessing.get_context("fork").Pool(2, timeout=30) as pool:
            assert type(pool) is multiprocessing.pool.Pool
            assert pool.map(abs, [-1, 2]) == [1, 2]
        class Own(multiprocessing.pool.Pool):
            def _setup_queues(self):
                super()._setup_queues()
        with Own(2, context=multiprocessing.get_context("fork")) as pool:
            assert pool.map(abs, [-1, 2]) == [1, 2]
        """,
        "-W",
        "error",
    )
    assert (said.stderr, said.returncode) == ("", 0)


def test_importing_the_package_imports_no_pool() -> None:
    said = run(
        """
        import sys, leveret
        assert not {"multiprocessing", "leveret.pool", "leveret.crew"} & set(sys.modules)
        import leveret.pool
        assert "concurrent.futures" not in sys.modules
        """
    )
    assert (said.stderr, said.returncode) == ("", 0)


def test_contexts_make_pools(tmp_path: pathlib.Path) -> None:
    made: list[Callable[..., Any]] = [leveret.Pool, Pool, leveret.get_context("warm").Pool]
    for make in made:
        with make(1, timeout=30, retries=1) as pool:
            assert pool.apply(square, (3,)) == 9
        pool.join()


def test_a_child_that_waits_is_told() -> None:
    """A process that is forked while a thread of the pool sleeps can make a pool itself."""
    with leveret.get_context("fork").Pool(1) as pool, contextlib.ExitStack() as stack:
        pool.apply_async(square, (1,), callback=id).wait(PATIENCE_S)
        child = stack.enter_context(Child(pool_of_its_own, 3))
        assert child.result() == [0, 1, 4]
    pool.join()


# Functions that no file has.

AT_A_PROMPT = """
import leveret
context = leveret.get_context("warm")

def begin(): print("begun")

def double(number): return 2 * number

with context.Pool(1, initializer=begin) as pool: print(pool.map(double, [1, 2]))

count = context.Value("q", 0)
def add(number): return count.fetch_add(number) >= 0

with context.Pool(2) as pool: print(all(pool.map(add, range(100), 1)), count.value)

executor = leveret.ProcessPoolExecutor(1, context, lambda: print("ready"))
print(executor.submit(double, 3).result())
executor.shutdown()

"""


# Forked workers have what there was, and what an initializer has set; the rest is sent.
AT_A_PROMPT_OF_FORKS = """
import functools, threading, leveret
context = leveret.get_context("fork")
setting = "ours"

def begin(): global setting; setting = "theirs"

def old(x): return setting, x

def changed(x): return "before"

def run(put):
    for function in (old, changed, functools.partial(changed, 1)):
        try: print(put(function))
        except BaseException as error: print(type(error).__name__)

def check(put, put_many, end):
    global changed, late
    run(put)
    changed_then = changed
    def new(x=0, y=0): return "after"
    new.__qualname__ = new.__name__ = "changed"
    changed = new
    def later(x): return x + 1
    later.__qualname__ = later.__name__ = "late"
    late = later
    run(put)
    print(put(late), put_many(late), put(changed_then))
    end()
    changed = changed_then

"""
POOL = """
pool = context.Pool(1, begin)
check(lambda f: pool.apply(f, (1,) * (type(f) is not functools.partial)),
      lambda f: pool.map(f, [1]), pool.close)

pool.join()
"""
EXECUTOR = """
executor = leveret.ProcessPoolExecutor(1, context, begin)
check(lambda f: executor.submit(f, *(1,) * (type(f) is not functools.partial)).result(),
      lambda f: list(executor.map(f, [1])), executor.shutdown)

"""
REPLACED = """
def name(x): return "first"

first, pool = name, context.Pool(1, maxtasksperchild=1)
print(pool.apply(first, (1,)))
def name(x): return "second"

for _ in range(2): _ = pool.apply(abs, (1,))  # the second one by who was forked just now

print([pool.apply(f, (1,)) for f in (first, name, first, name)])
pool.close()
pool.join()
"""
UNSENDABLE = """
pool = context.Pool(1)
lock = threading.Lock()
def locked(x): return lock

try: pool.apply(locked, (1,))
except Exception as error: print(type(error).__name__, *error.__notes__)

pool.terminate()
pool.join()
"""


def at_a_prompt(lines: str, has_cloudpickle: bool = True) -> str:
    """What is written by a Python that is given these lines by hand."""
    others = pathlib.Path(sys.prefix, "cloudpickle")
    if has_cloudpickle and not others.exists():
        pytest.skip("cloudpickle is not installed")
    ended = subprocess.run(
        [sys.executable, "-i", "-q"],
        check=True,
        input=lines,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env=os.environ | ({"PYTHONPATH": str(others)} if has_cloudpickle else {}),
    )
    return ended.stdout or ended.stderr


def test_functions_of_a_prompt() -> None:
    assert at_a_prompt(AT_A_PROMPT) == "begun\n[2, 4]\nTrue 4950\nready\n6\n"


@pytest.mark.parametrize("kind", [POOL, EXECUTOR], ids=["pool", "executor"])
def test_functions_of_a_prompt_that_came_after_the_fork(kind: str) -> None:
    there = "('theirs', 1)"
    said = [there, "before", "before", there, "after", "after", "2 [2] before"]
    assert at_a_prompt(AT_A_PROMPT_OF_FORKS + kind).splitlines() == said


def test_a_name_that_means_something_else_in_another_worker() -> None:
    said = "first\n['first', 'second', 'first', 'second']\n"
    assert at_a_prompt(AT_A_PROMPT_OF_FORKS + REPLACED) == said


def test_functions_of_a_prompt_whose_code_cannot_be_sent() -> None:
    said = at_a_prompt(AT_A_PROMPT_OF_FORKS + UNSENDABLE)
    assert said.startswith("PicklingError leveret: cloudpickle raised TypeError: cannot pickle")


def test_functions_of_a_prompt_without_cloudpickle() -> None:
    """A new pool helps, too."""
    lines = "pool = context.Pool(1)\ndef late(x): pass\n\n" + UNSENDABLE.partition("\n\n")[2]
    said = at_a_prompt(AT_A_PROMPT_OF_FORKS + lines.replace("locked", "late"), False)
    assert said.startswith("AttributeError leveret: a worker finds in the main module what was")
    assert "of a new pool: make one, or install cloudpickle, which can send functions" in said


@pytest.mark.parametrize(("told", "expected"), [(None, 2), ("default", 2), ("8", 8)])
def test_processors_follow_the_quota_unless_the_user_has_said_how_many(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path, told: str | None, expected: int
) -> None:
    (tmp_path / "cgroup").write_text("0::/")
    (tmp_path / "cpu.max").write_text("150000 100000")
    monkeypatch.setattr(cpus, "OURS", str(tmp_path / "cgroup"))
    monkeypatch.setattr(cpus, "V2", str(tmp_path))
    monkeypatch.setattr(cpus, "_quota", cpus._quota.__wrapped__)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    monkeypatch.setattr(os, "process_cpu_count", lambda: 8, raising=False)
    monkeypatch.delenv("PYTHON_CPU_COUNT", raising=False)
    if told is not None:
        monkeypatch.setenv("PYTHON_CPU_COUNT", told)
    assert cpus.usable() == (expected if sys.version_info >= (3, 13) else 2)


def test_a_library_that_is_loaded_already_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[int] = []
    control = types.SimpleNamespace(threadpool_limits=limits.append)
    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setitem(sys.modules, "threadpoolctl", control)
    monkeypatch.setitem(sys.modules, "numpy", types.ModuleType("numpy"))
    worker._limit_threads(3)
    assert limits == [3]
    os.environ["OMP_NUM_THREADS"] = "8"  # the program's word
    worker._limit_threads(3)
    assert limits == [3] and os.environ["OMP_NUM_THREADS"] == "8"


def test_progress_that_raises_is_told_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[Any] = []
    told: list[int] = []
    monkeypatch.setattr(threading, "excepthook", reported.append)

    def refuse(done: int, total: int | None) -> None:
        told.append(done)
        raise KeyError(done)

    with pool_of(leveret.get_context("fork"), 1) as pool:
        assert list(pool.imap(square, range(5), progress=refuse)) == [0, 1, 4, 9, 16]
    assert told == [1] and len(reported) == 1

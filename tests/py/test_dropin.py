"""install(): whoever uses multiprocessing, in whichever process, imported whenever, has ours.

Each case runs in an interpreter of its own: installing cannot be undone.
"""

import pkgutil
import subprocess
import sys
from pathlib import Path

import leveret
import pytest
from alone import run

METHODS = ["warm", "fork", "spawn", "forkserver"]


def test_importing_changes_nothing() -> None:
    assert run("""
        import sys
        import leveret
        print("multiprocessing" in sys.modules)
        import multiprocessing
        leveret.Lock, leveret.get_context("warm"), leveret.pool
        print(multiprocessing.Process.__module__, type(multiprocessing.Lock.__self__).__module__)
        print("warm" in multiprocessing.get_all_start_methods())
    """) == ["False", "multiprocessing.context multiprocessing.context", "False"]


def test_submodules_have_the_standard_names_that_are_not_ours() -> None:
    assert run("""
        import importlib, leveret, multiprocessing
        for module, name in (
            ("context", "TimeoutError"), ("context", "BaseContext"), ("context", "assert_spawning"),
            ("process", "BaseProcess"), ("process", "current_process"), ("queues", "_sentinel"),
            ("popen_fork", "Popen"), ("popen_spawn_posix", "Popen"), ("popen_forkserver", "Popen"),
        ):
            theirs = importlib.import_module(f"multiprocessing.{module}")
            ours = importlib.import_module(f"leveret.{module}")
            assert getattr(ours, name) is getattr(theirs, name), name
        try:
            leveret.context.hare
        except AttributeError as error:
            print(error)
    """) == ["module 'multiprocessing.context' has no attribute 'hare'"]


def test_every_public_name() -> None:
    assert run("""
        import importlib, multiprocessing, pkgutil
        import leveret
        print([name for name in multiprocessing.__all__ if not hasattr(leveret, name)])
        print([name for name in multiprocessing.__all__ if name not in leveret.__all__])
        print([name for name in leveret.__all__ if name not in dir(leveret)])
        for module in pkgutil.iter_modules(multiprocessing.__path__):
            if not module.name.startswith(("popen_", "resource_sharer")):
                importlib.import_module("leveret." + module.name)
                getattr(leveret, module.name)
        import leveret.dummy.connection
        from leveret.shared_memory import SharedMemory
        print(SharedMemory is multiprocessing.shared_memory.SharedMemory)
        print(multiprocessing.shared_memory.__spec__.name)
        namespace = {}
        exec("from leveret import *", namespace)
        print(set(multiprocessing.__all__) - set(namespace))
        print(hasattr(leveret, "no_such_name"))
    """) == ["[]", "[]", "[]", "True", "multiprocessing.shared_memory", "set()", "False"]


SHOW_OURS = """
def ours(thing):
    return type(thing).__module__.split(".")[0] == "leveret"
def show():
    print(ours(Lock()), ours(RLock()), ours(Event()), ours(Condition()), ours(Semaphore()))
    print(ours(Barrier(1)), ours(Queue()), ours(JoinableQueue()), ours(Value("i").get_lock()))
    process = Process(target=print)
    process.start()
    process.join()
    print(ours(process._popen))
    with Pool(1) as pool:
        print(ours(pool._pool[0]), pool.apply(abs, (-3,)))
    from multiprocessing.pool import ThreadPool
    with ThreadPool(1) as pool:
        print(pool.apply(abs, (-4,)))
    with ProcessPoolExecutor(1) as executor:
        print(executor.submit(abs, -5).result(), {ours(p) for p in executor._processes.values()})
    with Manager() as manager:
        print(ours(getattr(manager, "_process", None)), manager.list([1])[0])
"""
IMPORTS = """
from multiprocessing import Barrier, Condition, Event, JoinableQueue, Lock, Manager, Pool
from multiprocessing import Process, Queue, RLock, Semaphore, Value
from concurrent.futures import ProcessPoolExecutor
"""
IMPORT_SUBMODULES = """
import concurrent.futures.process
import multiprocessing.synchronize, multiprocessing.queues, multiprocessing.pool
import multiprocessing.managers, multiprocessing.sharedctypes, multiprocessing.connection
"""
INSTALL = "\nimport leveret\nleveret.install()\n"
SHOWN = [
    "True True True True True",
    "True True True True",
    "",
    "True",
    "True 3",
    "4",
    "5 {True}",
]


@pytest.mark.parametrize("method", ["fork", "warm"])
@pytest.mark.parametrize(
    "start",
    [INSTALL + IMPORTS, IMPORTS + INSTALL, IMPORTS + IMPORT_SUBMODULES + INSTALL],
    ids=["before", "after", "after all"],
)
def test_names_that_programs_have(tmp_path: object, start: str, method: str) -> None:
    source = start + SHOW_OURS + "if __name__ == '__main__':\n"
    source += f"    leveret.set_start_method({method!r})\n    show()\n"
    lines = run(source, program=f"{tmp_path}/program.py")
    assert lines[: len(SHOWN)] == SHOWN
    assert lines[-1].endswith(" 1")


def test_names_in_submodules() -> None:
    assert run("""
        import multiprocessing.synchronize, multiprocessing.context
        held = multiprocessing.get_context("spawn"), multiprocessing.context._default_context
        Derived = type("Derived", (multiprocessing.Process,), {})
        captured = multiprocessing.get_context
        import leveret
        leveret.install()
        import multiprocessing.queues
        import leveret.synchronize, leveret.queues
        print(multiprocessing.synchronize.Lock is leveret.synchronize.Lock)
        print(multiprocessing.queues.Queue is leveret.queues.Queue)
        print(held[0] is multiprocessing.get_context("spawn"), held[0].Process.__module__)
        print(held[1] is multiprocessing.context._default_context, type(held[1]).__module__)
        print(multiprocessing.Lock.__func__ is leveret.Lock.__func__)
        print(captured("warm").get_start_method())
        print(issubclass(multiprocessing.Process, Derived.__base__))
        leveret.set_start_method("fork")
        process = Derived(target=print, args=("derived",))
        process.start()
        process.join()
        print(type(process._popen).__module__.split(".")[0])
    """) == [
        "True",
        "True",
        "True leveret.context",
        "True leveret.context",
        "True",
        "warm",
        "True",
        "derived",
        "leveret",
    ]


@pytest.mark.parametrize("method", ["fork", "warm"])
def test_names_imported_before_take_what_ours_take(tmp_path: Path, method: str) -> None:
    source = """
        import inspect, sys
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import Pool, get_all_start_methods, set_forkserver_preload
        from multiprocessing import active_children, get_context, set_start_method
        class Derived(ProcessPoolExecutor):
            pass
        import leveret
        leveret.install()
        if __name__ == "__main__":
            set_start_method(sys.argv[1])
            set_forkserver_preload(["json"], on_error="fail")
            print("warm" in get_all_start_methods(), get_context().get_start_method())
            with Pool(1, timeout=3, retries=1) as pool, get_context("fork").Pool(1) as forked:
                print(pool.map(abs, [-1]), type(pool).__module__, forked.map(abs, [-2]))
            print(len(active_children()))
            with ProcessPoolExecutor(1, timeout=3, retries=1) as ours:
                print(ours.submit(abs, -3).result(), type(ours) is leveret.ProcessPoolExecutor)
            with Derived(1) as derived:
                print(derived.submit(abs, -4).result())
                print(isinstance(derived._call_queue, leveret.queues.Queue))
            held = (Pool, leveret.Pool), (ProcessPoolExecutor, leveret.ProcessPoolExecutor)
            for theirs, ours in held:
                print(inspect.signature(theirs) == inspect.signature(ours))
                try:
                    theirs(1, hares=3)
                except TypeError as error:
                    print("unexpected keyword argument 'hares'" in str(error))
    """
    lines = run(source, method, program=f"{tmp_path}/program.py")
    assert lines == [
        f"True {method}",
        "[1] leveret.pool [2]",
        "0",
        "3 True",
        "4",
        *["True"] * 5,
    ]


@pytest.mark.parametrize("method", ["spawn", "warm"])
def test_objects_made_before(tmp_path: object, method: str) -> None:
    source = """
        import multiprocessing, sys
        from multiprocessing import Lock, Process, Queue
        def child(lock, queue):
            with lock:
                queue.put(type(lock).__module__)
        if __name__ == "__main__":
            held = multiprocessing.get_context("spawn")
            lock, queue, process = held.Lock(), held.Queue(), held.Process
            import leveret
            leveret.install()
            leveret.set_start_method(sys.argv[1])
            for kind in (Process, process):
                child_process = kind(target=child, args=(lock, queue))
                child_process.start()
                print(queue.get(), type(child_process._popen).__module__.split(".")[0])
                child_process.join()
    """
    lines = run(source, method, program=f"{tmp_path}/program.py")
    assert lines == ["multiprocessing.synchronize leveret"] * 2


EXECUTOR_MADE_BEFORE = """
import multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.pool import Pool
import leveret
def work(x):
    if x < 0:
        raise ValueError(x)
    return x, "leveret" in str(type(leveret.current_process()))
class Refused:
    def __reduce__(self):
        raise TypeError("refused")
class Derived(ProcessPoolExecutor):
    pass
if __name__ == "__main__":
    get_context = multiprocessing.get_context if "theirs" in sys.argv else leveret.get_context
    context = get_context(sys.argv[1])
    executors = [kind(2, context) for kind in (ProcessPoolExecutor, Derived)]
    pool = Pool(1, context=context, maxtasksperchild=1)
    leveret.install()
    for executor in executors:
        with executor:
            print(list(executor.map(work, range(3))))
            for wrong in (-4, Refused()):
                print(repr(executor.submit(work, wrong).exception(20)))
    with pool:
        print(pool.map(work, range(2), chunksize=1)[1])
"""


@pytest.mark.parametrize(
    "arguments", [*METHODS, "fork theirs", "spawn theirs", "forkserver theirs"]
)
def test_executors_made_before_start_workers_after(tmp_path: Path, arguments: str) -> None:
    lines = run(EXECUTOR_MADE_BEFORE, *arguments.split(), program=f"{tmp_path}/program.py")
    done = "[(0, True), (1, True), (2, True)]", "ValueError(-4)", "TypeError('refused')"
    assert lines == [*done, *done, "(1, True)"]


def test_install_is_idempotent() -> None:
    assert run("""
        import sys, leveret, leveret.dropin
        leveret.install()
        import multiprocessing
        lock, finders = multiprocessing.Lock, len(sys.meta_path)
        leveret.install()
        print(len(sys.meta_path) == finders, multiprocessing.Lock == lock)
        print(leveret.dropin.installed())
    """) == ["True True", "True"]


def test_choice_made_before_is_kept() -> None:
    assert run("""
        import multiprocessing
        multiprocessing.set_start_method("spawn")
        import leveret
        leveret.install()
        print(multiprocessing.get_start_method(), leveret.get_start_method())
        leveret.set_start_method("warm", force=True)
        print(multiprocessing.get_start_method(), leveret.get_start_method())
    """) == ["spawn spawn", "warm warm"]


CHILDREN = """
import sys
import multiprocessing
ours = multiprocessing.Process.__module__ == "leveret.context"
def child(depth):
    print(ours, multiprocessing.get_start_method(), flush=True)
    if depth:
        process = multiprocessing.Process(target=child, args=(depth - 1,))
        process.start()
        process.join()
if __name__ == "__main__":
    import leveret
    leveret.install()
    multiprocessing.set_start_method(sys.argv[1])
    process = multiprocessing.Process(target=child, args=(2,))
    process.start()
    process.join()
    print(process.exitcode)
"""


@pytest.mark.parametrize("method", METHODS)
def test_children_have_it_before_their_main_module(tmp_path: object, method: str) -> None:
    """In a forked child the main module is the parent's, which was imported before install()."""
    lines = run(CHILDREN, method, program=f"{tmp_path}/program.py")
    assert lines == [f"{method != 'fork'} {method}"] * 3 + ["0"]


UNINSTALLED = """
import multiprocessing, sys
import leveret
def child(lock):
    with lock:
        print(multiprocessing.Process.__module__, leveret.get_start_method(), flush=True)
if __name__ == "__main__":
    context = leveret.get_context(sys.argv[1])
    process = context.Process(target=child, args=(context.Lock(),))
    process.start()
    process.join()
    print(process.exitcode, multiprocessing.get_start_method())
    from concurrent.futures import ProcessPoolExecutor
    with ProcessPoolExecutor(2, mp_context=context) as executor:
        print(list(executor.map(abs, [-1, -2])))
"""


@pytest.mark.parametrize("method", METHODS)
def test_contexts_without_install(tmp_path: object, method: str) -> None:
    lines = run(UNINSTALLED, method, program=f"{tmp_path}/program.py")
    default = "fork" if sys.version_info < (3, 14) else "forkserver"
    assert lines == [f"multiprocessing.context {method}", f"0 {default}", "[1, 2]"]


@pytest.mark.parametrize("method", METHODS)
def test_lock_of_the_main_module(tmp_path: object, method: str) -> None:
    """It is made again wherever the module is imported; the one that is sent is the parent's."""
    source = """
        import sys
        import leveret
        lock = leveret.Lock()
        def child(sent):
            print(sent.acquire(False), lock.acquire(False), flush=True)
        if __name__ == "__main__":
            context = leveret.get_context(sys.argv[1])
            lock.acquire()
            process = context.Process(target=child, args=(lock,))
            process.start()
            process.join()
            print(process.exitcode)
    """
    lines = run(source, method, program=f"{tmp_path}/program.py")
    assert lines == [f"False {method != 'fork'}", "0"]


def test_subprocesses_are_plain() -> None:
    assert run("""
        import subprocess, sys, leveret
        leveret.install()
        code = "import multiprocessing; print(multiprocessing.Process.__module__)"
        subprocess.run([sys.executable, "-c", code], check=True)
    """) == ["multiprocessing.context"]


def test_start_methods() -> None:
    default = "fork" if sys.version_info < (3, 14) else "warm"
    assert run("""
        import leveret
        print(leveret.get_start_method(allow_none=True), leveret.get_all_start_methods()[0])
        print(sorted(leveret.get_all_start_methods()))
        for wrong in ("cold", "", 3):
            try:
                leveret.get_context(wrong)
            except ValueError as error:
                print(error)
        print(leveret.get_start_method(allow_none=True))
        leveret.set_start_method("spawn")
        try:
            leveret.set_start_method("warm")
        except RuntimeError as error:
            print(error)
        leveret.set_start_method(None, force=True)
        print(leveret.get_start_method())
        try:
            leveret.get_context("fork").set_start_method("warm")
        except ValueError as error:
            print(error)
    """) == [
        f"None {default}",
        "['fork', 'forkserver', 'spawn', 'warm']",
        *(
            f"cannot find context for {wrong!r}: "
            "the start methods are warm, fork, spawn, forkserver"
            for wrong in ("cold", "", 3)
        ),
        "None",
        "context has already been set",
        default,
        "cannot set start method of concrete context",
    ]


def test_preload_is_checked() -> None:
    assert (
        run("""
        import leveret
        for arguments, options in (([[1]], {}), ([["json"]], {"on_error": "perhaps"})):
            for offer in (leveret, leveret.get_context("forkserver")):
                try:
                    offer.set_forkserver_preload(*arguments, **options)
                except (TypeError, ValueError) as error:
                    print(type(error).__name__, error)
        leveret.set_forkserver_preload(["json"], on_error="fail")
    """)
        == ["TypeError module_names must be a list of strings"] * 2
        + ["ValueError on_error must be 'ignore', 'warn', or 'fail', not 'perhaps'"] * 2
    )


def test_queue_outlives_its_senders() -> None:
    """What a dead sender took of a bounded queue is not given back: its messages are there."""
    assert run("""
        import leveret
        from leveret.queues import Queue
        queue = leveret.get_context("fork").Queue(3)
        for number in range(3):
            process = leveret.get_context("fork").Process(target=queue.put, args=(number,))
            process.start()
            process.join()
        print(queue.full(), queue.qsize())
        print([queue.get() for _ in range(3)], queue.qsize(), queue.empty())
    """) == ["True 3", "[0, 1, 2] 0 True"]


EVERY_NAME = [
    *leveret.__all__,
    *(f"leveret.{name}" for name in leveret._STANDARD),
    *(
        module.name
        for module in pkgutil.walk_packages(leveret.__path__, "leveret.")
        if module.name != "leveret.__main__"
    ),
]
FIRST_USE = """
import os, sys
import leveret
import leveret.dropin
def use(name):
    import importlib
    if name.startswith("leveret."):
        module = importlib.import_module(name)
        assert sys.modules[name] is module
    else:
        exec(f"from leveret import {name}")
    import multiprocessing.queues
    assert type(multiprocessing.context._default_context) is leveret.context.DefaultContext
    for standard, (ours, names) in leveret.dropin.RENAMED.items():
        if standard in sys.modules:
            theirs, ours = vars(sys.modules[standard]), vars(sys.modules[ours])
            assert [n for n in names if theirs[n] is not ours[n]] == [], standard
    if "concurrent.futures.process" in sys.modules:
        from concurrent.futures import ProcessPoolExecutor
        assert ProcessPoolExecutor is leveret.ProcessPoolExecutor
assert "multiprocessing" not in sys.modules
for name in sys.argv[1:]:
    if os.fork():
        assert os.wait()[1] == 0, name
    else:
        use(name)
        os._exit(0)
"""


@pytest.mark.parametrize("first", range(0, len(EVERY_NAME), 24))
@pytest.mark.parametrize("way", ["install", "fork", "warm"])
def test_whatever_is_used_first(tmp_path: Path, way: str, first: int) -> None:
    """Any of our names and modules may be what `multiprocessing` is imported for."""
    names = EVERY_NAME[first : first + 24]
    if way == "install":
        run(FIRST_USE.replace("dropin\n", "dropin\nleveret.install()\n", 1), *names)
    else:
        (tmp_path / "program.py").write_text(FIRST_USE)
        command = ["-m", "leveret", "--start-method", way, f"{tmp_path}/program.py"]
        done = subprocess.run(
            [sys.executable, *command, *names], stderr=subprocess.PIPE, timeout=50, check=False
        )
        assert (done.returncode, done.stderr) == (0, b""), done.stderr.decode()


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("leveret.Lock()", "import multiprocessing; multiprocessing.Lock()"),
        ("import leveret.pool", "import multiprocessing.pool"),
        ("leveret.ProcessPoolExecutor(1)", "import concurrent.futures.process"),
    ],
)
def test_first_uses_by_two_threads(ours: str, theirs: str) -> None:
    """Each has locks of modules that the other one waits for, if it is theirs that imports ours.

    What both import besides is there: a `from collections.abc import` by two threads at once fails
    now and then in Python 3.13.0, without us, too.
    """
    source = f"""
        import os, sys, threading, time
        import collections.abc, logging, pickle, queue, selectors, signal, socket, tempfile
        import leveret
        leveret.install()
        failed = []
        threading.excepthook = failed.append
        def use(code, after):
            begin.wait()
            time.sleep(after)
            exec(code, {{"leveret": leveret}})
        for n in range(40):
            if os.fork():
                assert os.wait()[1] == 0, n
                continue
            begin = threading.Barrier(2)
            uses = ({ours!r}, 0.0), ({theirs!r}, n % 4 / 1000)
            threads = [threading.Thread(target=use, args=arguments) for arguments in uses]
            [thread.start() for thread in threads]
            [thread.join() for thread in threads]
            for failure in failed:
                sys.__excepthook__(*failure[:3])
            import multiprocessing
            os._exit(bool(failed) or multiprocessing.Process is not leveret.Process)
    """
    run(source)


@pytest.mark.parametrize("when", ["before", "after"])
def test_contexts_that_programs_register(when: str) -> None:
    """As loky does, in the standard module's dictionary."""
    install = "import leveret; leveret.install()"
    assert run(f"""
        {install if when == "after" else ""}
        import multiprocessing
        from multiprocessing import context
        class Mine(context.SpawnContext):
            _name = "mine"
        context._concrete_contexts["mine"] = mine = Mine()
        {install if when == "before" else ""}
        print(multiprocessing.get_context("mine") is leveret.get_context("mine") is mine)
        print(type(multiprocessing.get_context("spawn")).__module__)
        print(multiprocessing.get_all_start_methods()[1:][3:])
        process = mine.Process(target=print, args=("born",))
        process.start()
        process.join()
        with mine.Pool(1) as pool:
            print(pool.apply(abs, (-3,)))
        multiprocessing.set_start_method("mine", force=True)
        print(multiprocessing.get_start_method())
        try:
            multiprocessing.get_context("yours")
        except ValueError as error:
            print(error)
    """) == [
        "True",
        "leveret.context",
        "['mine']",
        "born",
        "3",
        "mine",
        "cannot find context for 'yours': the start methods are warm, fork, spawn, forkserver",
    ]


# What loky's queues do to the standard ones.
PRIVATE_QUEUES = """
import pickle, sys, threading
import multiprocessing.connection
from multiprocessing import context, queues
class Feeding(queues.Queue):
    def __init__(self, maxsize=0, note=None, *, ctx):
        super().__init__(maxsize, ctx=ctx)
        self.note = note
    def __getstate__(self):
        context.assert_spawning(self)
        locks = self._rlock, self._wlock, self._sem
        return self._maxsize, self._reader, self._writer, locks, self.note
    def __setstate__(self, state):
        self._maxsize, self._reader, self._writer, locks, self.note = state
        self._rlock, self._wlock, self._sem = locks
        self._reset()
    def _start_thread(self):
        self._buffer.clear()
        args = self._buffer, self._notempty, self._send_bytes, self._wlock
        self._thread = threading.Thread(target=self._feed, args=args, daemon=True)
        self._thread.start()
    @staticmethod
    def _feed(buffer, notempty, send_bytes, lock):
        while True:
            with notempty:
                while not buffer:
                    notempty.wait()
                obj = buffer.popleft()
            with lock:
                send_bytes(pickle.dumps(("fed", obj)))
class Simple(queues.SimpleQueue):
    def __getstate__(self):
        return self._reader, self._writer, self._rlock, self._wlock
    def __setstate__(self, state):
        self._reader, self._writer, self._rlock, self._wlock = state
    def put(self, obj):
        with self._wlock:
            self._writer.send_bytes(pickle.dumps(("put", obj)))
class Peeking(queues.JoinableQueue):
    def free(self):
        return self._sem.get_value()
class Ordinary(queues.Queue):
    def put(self, obj, block=True, timeout=None):
        super().put(("ordinary", obj), block, timeout)
def child(asked, answers):
    answers.put(asked.get())
"""


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_subclasses_with_private_parts(tmp_path: Path, when: str, method: str) -> None:
    """They get the standard class, over its pipes: their processes may be no children of ours."""
    install = "import leveret\nleveret.install()\n"
    source = f"""
if __name__ == "__main__":
    {install.replace(chr(10), "; ") if when == "before" else ""}
    ctx = multiprocessing.get_context(sys.argv[1])
    feeding, simple = Feeding(3, "noted", ctx=ctx), Simple(ctx=ctx)
    process = ctx.Process(target=child, args=(feeding, simple))
    process.start()
    feeding.put(7)
    print(simple.get(), feeding.note, feeding.qsize())
    process.join()
    connection = multiprocessing.connection.Connection
    print({{type(q._reader) is connection for q in (feeding, simple)}}, Peeking(5, ctx=ctx).free())
    ordinary = Ordinary(ctx=ctx)
    ordinary.put(8)
    print(ordinary.get())
    if {when == "after"}:
        print(isinstance(feeding, queues.Queue), isinstance(ordinary, queues.Queue))
        print(issubclass(Peeking, queues.Queue), issubclass(Simple, queues.SimpleQueue))
        print(issubclass(Feeding, queues.SimpleQueue), issubclass(Feeding, queues.JoinableQueue))
        print([issubclass(kind, leveret._core.Queue) for kind in (Ordinary, Feeding, Peeking)])
"""
    start = install if when == "after" else ""
    lines = run(start + PRIVATE_QUEUES + source, method, program=f"{tmp_path}/program.py")
    assert lines == [
        "('put', ('fed', 7)) noted 0",
        "{True} 5",
        "('ordinary', 8)",
        *(["True True", "True True", "False False", "[True, False, False]"] * (when == "after")),
    ]


OWN_CONTEXTS = """
import multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import context
import leveret
import leveret.pool as pools
if "install" in sys.argv:
    leveret.install()
spawn = leveret.get_context("spawn") if "ours" in sys.argv else context._concrete_contexts["spawn"]
class NoDaemonProcess(spawn.Process):
    @property
    def daemon(self):
        return False
    @daemon.setter
    def daemon(self, value):
        pass
class NoDaemonContext(type(spawn) if "ours" in sys.argv else context.SpawnContext):
    Process = NoDaemonProcess
def is_daemon():
    process = multiprocessing.current_process()
    return type(process).__name__, process.daemon
if __name__ == "__main__":
    kind = NoDaemonContext if "own" in sys.argv else lambda: spawn
    for make in (
        lambda: pools.Pool(1, context=kind()), lambda: leveret.ProcessPoolExecutor(1, kind())
    ):
        try:
            with make() as pool:
                submit = getattr(pool, "submit", None)
                print(*(submit(is_daemon).result() if submit else pool.apply(is_daemon)))
        except ValueError as error:
            print(error)
"""


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        ("", ["SpawnProcess True", "SpawnProcess False"]),
        ("install", ["SpawnProcess True", "SpawnProcess False"]),
        ("own ours", ["NoDaemonProcess False"] * 2),
        ("own install", ["NoDaemonProcess False"] * 2),
        (
            "own",
            [
                "NoDaemonProcess, the Process of NoDaemonContext, starts processes without "
                "leveret: derive both from a context of leveret.get_context() and its Process"
            ]
            * 2,
        ),
    ],
)
def test_standard_contexts_for_our_pools(tmp_path: Path, arguments: str, lines: list[str]) -> None:
    """Ours of the same method; a program's own keep their processes, or are refused."""
    assert run(OWN_CONTEXTS, *arguments.split(), program=f"{tmp_path}/program.py") == lines

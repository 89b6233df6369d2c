"""The runner: nothing in a program's main module, output or end tells that it was not `python`."""

import os
import pathlib
import re
import signal
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Sequence

import pytest
from filtered import FILTERED

PYTHON = [sys.executable]
MODULE = [sys.executable, "-m", "leveret"]
SCRIPT = [str(pathlib.Path(sys.executable).with_name("leveret"))]

SHOW_MAIN = """
import sys
main = sys.modules["__main__"]
print({k: v for k, v in sorted(vars(main).items()) if k not in ("main", "sys", "__builtins__")})
print(type(main.__builtins__), main.__dict__ is globals(), __name__)
print(sys.argv, sys.path, sys.flags)
"""


class Ended:
    """What is seen of a program from outside."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status = status
        self.out = re.sub(r" at 0x[0-9a-f]+", " at 0x", out)
        self.err = err

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ended) and vars(self) == vars(other)

    def __repr__(self) -> str:
        return f"status {self.status}\n{self.out}\n{self.err}"


def run(
    command: Sequence[str], folder: pathlib.Path, stdin: str = "", env: dict[str, str] | None = None
) -> Ended:
    done = subprocess.run(
        command,
        cwd=folder,
        input=stdin,
        env=os.environ | (env or {}),
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """The same program as a file, a module, a package, a folder, an archive and a compiled file."""
    for name in ("program.py", "package/__main__.py", "package/module.py", "folder/__main__.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(SHOW_MAIN)
    (tmp_path / "package/__init__.py").write_text("")
    (tmp_path / "empty").mkdir()
    (tmp_path / "link.py").symlink_to("package/module.py")
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        archive.write(tmp_path / "program.py", "__main__.py")
    return tmp_path


KINDS = [
    ["program.py", "a", "-b", "--start-method", "x"],
    ["./package/module.py"],
    ["link.py"],
    ["-m", "package", "a"],
    ["-m", "package.module", "-m"],
    ["-m", "program"],
    ["folder", "a"],
    ["archive.zip", "a"],
    ["-c", SHOW_MAIN, "a", "-c"],
    ["-", "a"],
    [],
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: " ".join(kind)[:12] or "stdin")
def test_main_module_is_as_under_python(folder: pathlib.Path, kind: list[str]) -> None:
    stdin = SHOW_MAIN if kind[:1] in ([], ["-"]) else ""
    expected = run([*PYTHON, *kind], folder, stdin)
    assert expected.status == 0
    assert run([*MODULE, *kind], folder, stdin) == expected
    assert run([*SCRIPT, *kind], folder, stdin) == expected


@pytest.mark.parametrize("flags", [["-O"], ["-X", "dev"], ["-W", "error"], ["-P"], ["-I"], ["-u"]])
def test_flags_of_the_interpreter(folder: pathlib.Path, flags: list[str]) -> None:
    for kind in (["program.py"], ["folder"]) if flags[0] in ("-P", "-I") else (["program.py"],):
        expected = run([sys.executable, *flags, *kind], folder)
        assert run([sys.executable, *flags, "-m", "leveret", *kind], folder) == expected


ENDS = {
    "error": "def f():\n    return 1 / 0\nf()",
    "chained": "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise KeyError(3) from e",
    "group": "raise ExceptionGroup('several', [ValueError(1), TypeError(2)])",
    "syntax": "x = 1\ndef f(:\n    pass",
    "status": "import sys; sys.exit(3)",
    "message": "import sys; sys.exit('no good')",
    "interrupt": "raise KeyboardInterrupt",
    "sigint": "import os, signal; os.kill(os.getpid(), signal.SIGINT)\nimport time; time.sleep(30)",
    "killed": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "at once": "import os; print('lost', end=''); os._exit(7)",
    "atexit": "import atexit; atexit.register(print, 'last'); print('first'); raise ValueError(1)",
    "thread": "import threading\nt = threading.Thread(target=abs, name='t'); t.start(); t.join()",
    "own hook": (
        "import sys, traceback\n"
        "def hook(*args):\n"
        "    traceback.print_exception(*args)\n"
        "    print(args[1].__traceback__ is args[2], len(traceback.extract_tb(args[2])))\n"
        "sys.excepthook = hook\n"
        "def f(): raise ValueError(1)\n"
        "f()"
    ),
    "last": (
        "import atexit, sys, traceback\n"
        "atexit.register(lambda: print(len(traceback.extract_tb(sys.last_traceback))))\n"
        "raise ValueError(1)"
    ),
    "streams": "import os, sys; print(sys.stdin.read()); os.write(1, b'written first\\n')",
    "warning": "import warnings as w; w.warn('careful'); w.warn('old', DeprecationWarning)",
    "finalizer": "class C:\n    def __del__(self): print('gone')\nc = C()",
}


WAYS = [(name, "file") for name in ENDS]
WAYS += [(name, kind) for name in ("error", "syntax", "interrupt") for kind in ("-c", "-m")]


@pytest.mark.parametrize(("name", "kind"), WAYS)
def test_end_is_as_under_python(tmp_path: pathlib.Path, name: str, kind: str) -> None:
    (tmp_path / "program.py").write_text(ENDS[name])
    command = {"file": ["program.py"], "-c": ["-c", ENDS[name]], "-m": ["-m", "program"]}[kind]
    expected = run([*PYTHON, *command], tmp_path, "some\ninput\n")
    assert run([*MODULE, *command], tmp_path, "some\ninput\n") == expected


def test_interrupted_program_dies_by_the_signal(tmp_path: pathlib.Path) -> None:
    (tmp_path / "program.py").write_text(ENDS["interrupt"])
    for runner in (MODULE, SCRIPT):
        assert run([*runner, "program.py"], tmp_path).status == -signal.SIGINT


@pytest.mark.parametrize(
    "command",
    [["missing.py"], ["empty"], ["program.py/x"], ["-m", "nothing"], ["-m", "empty"]],
    ids=" ".join,
)
def test_program_that_is_not_there(folder: pathlib.Path, command: list[str]) -> None:
    expected = run([*PYTHON, *command], folder)
    assert expected.status != 0
    assert run([*MODULE, *command], folder) == expected


def test_dedented_code(tmp_path: pathlib.Path) -> None:
    source = "\n    import sys\n    print(sys.argv)\n    1 / 0\n"
    assert run([*MODULE, "-c", source], tmp_path) == run([*PYTHON, "-c", source], tmp_path)


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        (
            ["--start-method", "cold", "program.py"],
            "the start methods are warm, fork, spawn, forkserver",
        ),
        (["--start-method"], "--start-method needs an argument"),
        (["--frobnicate", "program.py"], "unknown option --frobnicate"),
        (["-O", "program.py"], "python -O -m leveret"),
        (["-c"], "-c needs an argument"),
        (["-m"], "-m needs an argument"),
    ],
    ids=str,
)
def test_bad_command_line(folder: pathlib.Path, command: list[str], complaint: str) -> None:
    ended = run([*MODULE, *command], folder)
    assert ended.status == 2
    assert complaint in ended.err
    assert "Traceback" not in ended.err
    assert ended.out == ""


def test_bad_method_in_the_environment(folder: pathlib.Path) -> None:
    ended = run([*MODULE, "program.py"], folder, env={"LEVERET_START_METHOD": "cold"})
    assert (ended.status, ended.out) == (2, "")
    assert "the start methods are" in ended.err


def test_help_and_version(folder: pathlib.Path) -> None:
    from leveret import __version__

    for option in ("-h", "--help"):
        ended = run([*SCRIPT, option], folder)
        assert ended.status == 0 and ended.out.startswith("usage: leveret")
    for option in ("-V", "--version"):
        assert f"Leveret {__version__}" in run([*SCRIPT, option], folder).out


SHOW_METHOD = """
import multiprocessing
def show():
    print(multiprocessing.get_start_method())
if __name__ == "__main__":
    print(multiprocessing.get_start_method(allow_none=True))
    process = multiprocessing.Process(target=show)
    process.start()
    process.join()
    print(type(process).__module__, multiprocessing.get_start_method())
"""


@pytest.mark.parametrize(
    ("method", "way"),
    [("warm", "option"), ("fork", "option="), ("spawn", "environment"), ("forkserver", "option")],
)
def test_start_method(tmp_path: pathlib.Path, method: str, way: str) -> None:
    (tmp_path / "program.py").write_text(SHOW_METHOD)
    options = {"option": ["--start-method", method], "option=": [f"--start-method={method}"]}
    env = {"LEVERET_START_METHOD": method} if way == "environment" else {}
    ended = run([*MODULE, *options.get(way, []), "program.py"], tmp_path, env=env)
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.split() == ["None", method, "leveret.context", method]


def test_default_method_is_the_running_pythons(tmp_path: pathlib.Path) -> None:
    (tmp_path / "program.py").write_text(SHOW_METHOD)
    default = "fork" if sys.version_info < (3, 14) else "warm"
    env = {"LEVERET_START_METHOD": ""}
    assert run([*MODULE, "program.py"], tmp_path, env=env).out.split()[1] == default


def test_the_program_may_still_choose(tmp_path: pathlib.Path) -> None:
    guard = 'if __name__ == "__main__":\n'
    source = SHOW_METHOD.replace(guard, guard + "    multiprocessing.set_start_method('spawn')\n")
    (tmp_path / "program.py").write_text(source)
    ended = run([*MODULE, "--start-method", "warm", "program.py"], tmp_path)
    assert ended.out.split() == ["spawn", "spawn", "leveret.context", "spawn"]


CHILDREN = """
import multiprocessing, sys
class Kept:
    pass
def check(kept):
    print(type(kept).__qualname__, kept.value, __name__, flush=True)
if __name__ == "__main__":
    kept = Kept()
    kept.value = 5
    process = multiprocessing.Process(target=check, args=(kept,))
    process.start()
    process.join()
    print(process.exitcode)
"""


@pytest.mark.parametrize("method", ["warm", "spawn", "forkserver"])
@pytest.mark.parametrize(
    "kind", [["program.py"], ["-m", "package.module"], ["-m", "module"]], ids=" ".join
)
def test_children_find_the_main_module(
    tmp_path: pathlib.Path, method: str, kind: list[str]
) -> None:
    (tmp_path / "package").mkdir()
    for name in ("program.py", "module.py", "package/module.py", "package/__init__.py"):
        (tmp_path / name).write_text("" if "__init__" in name else CHILDREN)
    ended = run([*MODULE, "--start-method", method, *kind], tmp_path)
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.split() == ["Kept", "5", "__mp_main__", "0"]


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        (method, kind)
        for method in ("warm", "spawn")
        for kind in ("folder", "archive.zip", "-m package", "-c")
    ]
    + [("warm", "-")],
)
def test_main_that_children_do_not_import(tmp_path: pathlib.Path, method: str, kind: str) -> None:
    """A `__main__.py`, code and standard input run once; their children have what modules have."""
    source = (
        "import multiprocessing\nprint('once')\n"
        "p = multiprocessing.Process(target=print, args=('child',))\n"
        "p.start(); p.join(); print(p.exitcode)"
    )
    for name in ("folder", "package"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__main__.py").write_text(source)
        (tmp_path / name / "__init__.py").write_text("")
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        archive.writestr("__main__.py", source)
    command = ["-c", source] if kind == "-c" else kind.split()
    stdin = source if kind == "-" else ""
    ended = run([*MODULE, "--start-method", method, *command], tmp_path, stdin)
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.split() == ["once", "child", "0"]


@pytest.mark.parametrize("method", ["warm", "fork"])
def test_program_without_multiprocessing_pays_nothing(tmp_path: pathlib.Path, method: str) -> None:
    """Neither is the package imported for it, nor is there a zygote."""
    source = (
        "import sys; print([name for name in sys.modules if name.startswith('multiprocessing')])\n"
        "print(open('/proc/thread-self/children').read().split())"
    )
    ended = run([*MODULE, "--start-method", method, "-c", source], tmp_path)
    assert ended.out.splitlines() == ["[]", "[]"]


def test_zygote_warms_up_from_the_import_on(tmp_path: pathlib.Path) -> None:
    source = "import multiprocessing; print(len(open('/proc/thread-self/children').read().split()))"
    for method, expected in (("warm", "1"), ("fork", "0")):
        ended = run([*MODULE, "--start-method", method, "-c", source], tmp_path)
        assert ended.out.split() == [expected]


def test_program_runs_its_main_module_once(tmp_path: pathlib.Path) -> None:
    (tmp_path / "program.py").write_text("print('once')")
    for method in ("warm", "fork"):
        assert run([*MODULE, "--start-method", method, "program.py"], tmp_path).out == "once\n"


def test_subprocess_of_the_program_is_plain(tmp_path: pathlib.Path) -> None:
    source = (
        "import subprocess, sys, multiprocessing\n"
        "print(multiprocessing.Process.__module__, flush=True)\n"
        "code = 'import multiprocessing; print(multiprocessing.Process.__module__)'\n"
        "subprocess.run([sys.executable, '-c', code], check=True)"
    )
    ended = run([*MODULE, "-c", source], tmp_path)
    assert ended.out.split() == ["leveret.context", "multiprocessing.context"]


@pytest.mark.parametrize("runner", [MODULE, SCRIPT])
@pytest.mark.parametrize("arguments", [[], ["program.py", "leveret"], ["--version"]])
def test_machine_that_cannot_run_us(
    runner: list[str], arguments: list[str], tmp_path: pathlib.Path
) -> None:
    """One line, and no traceback of ours; the filter stays with the program that is executed."""
    (tmp_path / "program.py").write_text("print('has run')")
    source = (
        FILTERED
        + """
    import os, sys
    forbid(MEMFD, errno.EPERM)
    os.execv(sys.argv[1], sys.argv[1:])
    """
    )
    ended = run([*PYTHON, "-c", textwrap.dedent(source), *runner, *arguments], tmp_path)
    assert (ended.status, ended.out) == (1, "")
    assert ended.err.startswith("leveret: cannot run here: [Errno 1] cannot make an arena")
    assert ended.err.count("\n") == 1


def test_module_that_cannot_be_imported_says_so(tmp_path: pathlib.Path) -> None:
    """A program of another name gets the ImportError, whatever its arguments are."""
    (tmp_path / "module.py").write_text("import leveret")
    source = (
        FILTERED
        + """
    import os, sys
    forbid(MEMFD, errno.EPERM)
    os.execv(sys.executable, [sys.executable, "-m", "module", "leveret"])
    """
    )
    ended = run([*PYTHON, "-c", textwrap.dedent(source)], tmp_path)
    assert ended.status == 1
    assert "\nImportError: leveret cannot run here: " in ended.err

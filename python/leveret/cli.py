"""The runner: `leveret program.py` is `python program.py` with our multiprocessing in it.

What the program sees of itself is what it would see under `python`: its module `__main__`,
`sys.argv`, `sys.path[0]`, its tracebacks, its exit status. The order of things is the
interpreter's own: the main module is made, the path is set, the code is found, compiled and run;
an exception goes to `sys.excepthook` without our frames. Little is imported here, and
`multiprocessing` only if the program does.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import BuiltinImporter, SourceFileLoader, SourcelessFileLoader

from . import dropin, method

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any

__all__ = ["end_if_run", "main"]

USAGE = """\
usage: leveret [--start-method M] program.py [arguments]
       leveret [--start-method M] -m module [arguments]
       leveret [--start-method M] -c code [arguments]
       leveret [--start-method M] - [arguments]
"""

HELP = (
    USAGE
    + """
Runs a Python program as `python` does, with Leveret as its multiprocessing and concurrent.futures.
A program is a file, a folder or zip file with a __main__.py, or standard input (-).

  --start-method M   how processes are born unless the program says so: warm, fork, spawn or
                     forkserver (default: LEVERET_START_METHOD, else fork up to Python 3.13 and
                     warm from 3.14 on)
  --version          print the versions of Leveret and of Python
  -h, --help         print this

Options of the interpreter go before: python -X dev -m leveret program.py
"""
)


class UsageError(Exception):
    """The command line cannot be understood."""


def main() -> None:
    """Run the program that the command line names; returns when it ends."""
    try:
        kind, argv = _parse(sys.argv[1:])
        if kind in _ANSWERS:
            return _ANSWERS[kind]()
        default = method.default_method()
    except (UsageError, ValueError) as error:
        usage = USAGE if isinstance(error, UsageError) else ""
        sys.stderr.write(f"leveret: {error}\n{usage}")
        sys.exit(2)
    dropin.install()
    if default == "warm":
        dropin.when_used(_start_zygote)
    _run(_RUNNERS[kind](argv))


def end_if_run(error: Exception) -> None:
    """End by ERROR, for which the package cannot be imported, if it is for us that it is imported.

    That is before anything of ours could catch it.
    """
    argv = getattr(sys, "argv", None) or [""]
    by_name = sys.orig_argv[-len(argv)] if argv[0] == "-m" else argv[0].rpartition("/")[2]
    if by_name in ("leveret", "-mleveret"):
        sys.exit(f"leveret: cannot run here: {error}")


# The command line.


def _parse(argv: list[str]) -> tuple[str, list[str]]:
    """Which kind of program is to be run, and its arguments from its name on."""
    argv = list(argv)
    while argv:
        option = argv[0]
        if option in ("-h", "--help", "-V", "--version"):
            return option.lstrip("-")[0], argv
        if option.partition("=")[0] != "--start-method":
            break
        method.set_default_method(_value(argv))
    if not argv:
        return ("h" if sys.stdin is None or sys.stdin.isatty() else "-"), [""]
    if argv[0] in ("-m", "-c"):
        _need(argv, 2, f"{argv[0]} needs an argument")
        return argv[0], argv[1:]
    if argv[0].startswith("-") and argv[0] != "-":
        before = f"an option of the interpreter goes before: python {argv[0]} -m leveret ..."
        raise UsageError(f"unknown option {argv[0]} ({before})")
    return ("-" if argv[0] == "-" else "file"), argv


def _value(argv: list[str]) -> str:
    """Take `--option value` or `--option=value` off the front of ARGV; returns the value."""
    option, equals, value = argv.pop(0).partition("=")
    if not equals:
        _need(argv, 1, f"{option} needs an argument")
        value = argv.pop(0)
    return value


def _need(argv: list[str], count: int, message: str) -> None:
    if len(argv) < count:
        raise UsageError(message)


def _help() -> None:
    sys.stdout.write(HELP)


def _version() -> None:
    from . import __version__

    sys.stdout.write(f"Leveret {__version__} on Python {sys.version.split()[0]}\n")


_ANSWERS = {"h": _help, "V": _version, "v": _version}


# Kinds of programs. Each takes the arguments and returns a function that runs the program in its
# main module, with sys.argv and sys.path as the interpreter would have set them.


def _file(argv: list[str]) -> Callable[[], None]:
    path = os.path.join(os.getcwd(), argv[0])
    if _is_importable(path):
        return _of_folder(path, argv)
    try:
        with open(path, "rb") as file:
            source = b"" if path.endswith(".pyc") else file.read()
    except OSError as error:
        sys.stderr.write(
            f"{sys.executable}: can't open file {path!r}: [Errno {error.errno}] {error.strerror}\n"
        )
        sys.exit(2)
    loader: Any = SourcelessFileLoader if path.endswith(".pyc") else SourceFileLoader
    loader = loader("__main__", path)
    namespace = _prepare(argv, os.path.dirname(os.path.realpath(path)), loader, path)

    def run() -> None:
        if path.endswith(".pyc"):
            code = loader.get_code("__main__")
        else:
            code = compile(source, path, "exec", dont_inherit=True)
        exec(code, namespace)

    return run


def _is_importable(path: str) -> bool:
    """Whether PATH is a folder or an archive: whether sys.path_hooks can import from it."""
    for hook in sys.path_hooks:
        try:
            hook(path)
        except ImportError:
            continue
        return True
    return False


def _of_folder(path: str, argv: list[str]) -> Callable[[], None]:
    _prepare(argv, None, BuiltinImporter)
    sys.path.insert(0, path)

    return lambda: _run_module("__main__", False)


def _module(argv: list[str]) -> Callable[[], None]:
    _prepare(["-m", *argv[1:]], os.getcwd(), BuiltinImporter)

    return lambda: _run_module(argv[0], True)


def _run_module(name: str, alter_argv: bool) -> None:
    """What the interpreter itself calls for `-m`, folders and archives."""
    import runpy

    run: Any = vars(runpy)["_run_module_as_main"]
    run(name, alter_argv)


def _code(argv: list[str]) -> Callable[[], None]:
    namespace = _prepare(["-c", *argv[1:]], "", BuiltinImporter)

    def run() -> None:
        source = argv[0] + "\n"
        if sys.version_info >= (3, 14):
            import textwrap

            source = textwrap.dedent(source)
        code = compile(source, "<string>", "exec", dont_inherit=True)
        if sys.version_info >= (3, 13):
            import linecache

            known_by: Any = code if sys.version_info >= (3, 14) else "<string>"
            register: Any = vars(linecache)["_register_code"]
            register(known_by, source, "<string>")
        exec(code, namespace)

    return run


def _stdin(argv: list[str]) -> Callable[[], None]:
    namespace = _prepare(argv, "", BuiltinImporter, "<stdin>")

    def run() -> None:
        exec(compile(sys.stdin.buffer.read(), "<stdin>", "exec", dont_inherit=True), namespace)

    return run


_RUNNERS = {"file": _file, "-m": _module, "-c": _code, "-": _stdin}


def _prepare(
    argv: list[str], folder: str | None, loader: Any, path: str | None = None
) -> dict[str, Any]:
    """Put a fresh main module, sys.argv and sys.path[0] in place; returns the namespace."""
    main: Any = type(sys)("__main__")
    main.__loader__ = loader
    main.__builtins__ = sys.modules["builtins"]
    if sys.version_info < (3, 14):
        main.__annotations__ = {}
    if path is not None:
        main.__file__ = path
        if sys.version_info < (3, 15):
            main.__cached__ = None
    sys.modules["__main__"] = main
    if "__mp_main__" in sys.modules:
        sys.modules["__mp_main__"] = main
    sys.argv = argv
    if not sys.flags.safe_path:
        del sys.path[0]
        if folder is not None:
            sys.path.insert(0, folder)
    namespace: dict[str, Any] = vars(main)
    return namespace


# Running it.


def _start_zygote() -> None:
    """Have a zygote warm up while the program goes on; if it cannot, the first start() will say."""
    from . import zygote

    try:
        zygote.ensure_running()
    except (OSError, MemoryError):
        return


def _run(run: Callable[[], None]) -> None:
    """Run the program; its exception is reported as if none of our frames had been there."""
    try:
        run()
    except SystemExit:
        raise
    except BaseException as error:
        sys.excepthook = _Report(error)
        raise


class _Report:
    """The program's own sys.excepthook, shown the traceback as the program would know it."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.hook = getattr(sys, "excepthook", sys.__excepthook__)
        self.traceback = _theirs(error.__traceback__)

    def __call__(self, kind: Any, error: Any, traceback: Any) -> None:
        sys.excepthook = self.hook
        if error is self.error:
            traceback = sys.last_traceback = error.__traceback__ = self.traceback
        self.hook(kind, error, traceback)


def _theirs(traceback: TracebackType | None) -> TracebackType | None:
    """TRACEBACK from the first frame that is not ours."""
    while traceback is not None and traceback.tb_frame.f_code.co_filename == __file__:
        traceback = traceback.tb_next
    return traceback

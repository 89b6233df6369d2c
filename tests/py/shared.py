"""For tests of shared values and arrays: both sides, the types that they share, and programs."""

import ctypes
import multiprocessing
import multiprocessing.heap
import multiprocessing.sharedctypes
import subprocess
import sys
from typing import Any

import leveret
import leveret.heap
import leveret.sharedctypes
from beside import OURS, THEIRS

KEPT = THEIRS.RawArray("b", 1)  # the standard library's heap lets go of its file with the last


class Point(ctypes.Structure):
    _fields_ = (("x", ctypes.c_int), ("y", ctypes.c_double))


class Segment(Point):
    _fields_ = (("end", Point), ("name", ctypes.c_char * 4))


class MyInt(ctypes.c_int):
    pass


class AnyLock:
    """A lock with nothing but what is needed."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def acquire(self) -> None:
        self.calls.append("acquire")

    def release(self) -> None:
        self.calls.append("release")


class Side:
    """The standard library, or us."""

    def __init__(self, context: Any, types: Any, heap: Any) -> None:
        self.mp, self.types, self.heap = context, types, heap


STANDARD = Side(THEIRS, multiprocessing.sharedctypes, multiprocessing.heap)
LEVERET = Side(OURS, leveret.sharedctypes, leveret.heap)


def run(program: str, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, *options, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout

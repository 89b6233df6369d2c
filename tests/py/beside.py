"""For tests: the same calls of an object of the standard library's and of ours, side by side."""

import multiprocessing
import re
import threading
from collections.abc import Callable
from multiprocessing.context import BaseContext
from typing import Any

import leveret

THEIRS = multiprocessing.get_context("fork")
OURS = leveret.get_context("fork")


def attempt(function: Callable[..., object], *args: object) -> str:
    """What it returns or raises, in words. A NameError is the row's own fault: both have it."""
    try:
        return repr(function(*args))
    except NameError:
        raise
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def outcome(row: str, context: BaseContext) -> str:
    """What comes of an expression, or of `object | call | call`."""
    first, *calls = row.split(" | ")

    def value_of() -> object:
        thing = eval(first, {"mp": context, "threading": threading})
        return did(thing, calls) if calls else thing

    return re.sub(r" at 0x[0-9a-f]+", " at 0x", attempt(value_of)).replace(
        "leveret.", "multiprocessing."
    )


def did(thing: Any, calls: list[str]) -> list[object]:
    """What several calls of one object return."""
    return [eval(f"thing.{call}", {"thing": thing}) for call in calls]


def differences(rows: str) -> list[tuple[str, str, str]]:
    """Each row whose outcome is not the same, with what ours does and what theirs does."""
    all_rows = [
        (row, outcome(row, OURS), outcome(row, THEIRS)) for row in rows.strip().splitlines()
    ]
    return [row for row in all_rows if row[1] != row[2]]

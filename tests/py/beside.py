"""For tests: the same calls of an object of the standard library's and of ours, side by side."""

import multiprocessing
import re
import threading
from multiprocessing.context import BaseContext
from typing import Any

import leveret

THEIRS = multiprocessing.get_context("fork")
OURS = leveret.get_context("fork")


def outcome(row: str, context: BaseContext) -> str:
    """What comes of an expression, or of `object | call | call`."""
    first, *calls = row.split(" | ")
    try:
        thing = eval(first, {"mp": context, "threading": threading})
        value = repr(did(thing, calls) if calls else thing)
    except Exception as error:
        value = f"{type(error).__name__}: {error}"
    return re.sub(r" at 0x[0-9a-f]+", " at 0x", value).replace("leveret.", "multiprocessing.")


def did(thing: Any, calls: list[str]) -> list[object]:
    """What several calls of one object return."""
    return [eval(f"thing.{call}", {"thing": thing}) for call in calls]


def differences(rows: str) -> list[tuple[str, str, str]]:
    """Each row whose outcome is not the same, with what ours does and what theirs does."""
    all_rows = [
        (row, outcome(row, OURS), outcome(row, THEIRS)) for row in rows.strip().splitlines()
    ]
    return [row for row in all_rows if row[1] != row[2]]

"""Annotations: whoever evaluates those of what is public finds all names that are in them."""

import importlib
import inspect
import subprocess
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import leveret
import pytest

MODULES = [f"leveret.{name}" for name in leveret._OURS]

# What is public by what it is returned from.
RETURNED = ["leveret.jobs", "leveret.futures", "leveret.mapped"]


def _named() -> Iterator[tuple[str, Any]]:
    """All objects that are public by a name."""
    for name in leveret.__all__:
        yield f"leveret.{name}", getattr(leveret, name)
    for module in (*MODULES, *RETURNED):
        imported = importlib.import_module(module)
        yield module, imported
        for name in getattr(imported, "__all__", ()):
            yield f"{module}.{name}", getattr(imported, name)
    for method in ("warm", "fork", "spawn", "forkserver"):
        context = leveret.get_context(method)
        yield f"context {method}", type(context)
        yield f"process {method}", context.Process


def _is_ours(thing: Any) -> bool:
    return str(getattr(thing, "__module__", "")).partition(".")[0] == "leveret"


def annotated() -> Iterator[tuple[str, Any]]:
    """Public functions and classes of ours, with their methods, also those of their bases."""
    for name, thing in _named():
        if not isinstance(thing, type):
            yield name, thing
            continue
        for cls in filter(_is_ours, thing.__mro__):
            yield name, cls
            for method, member in vars(cls).items():
                function = getattr(member, "fget", getattr(member, "__func__", member))
                if inspect.isfunction(function):
                    yield f"{name}.{method}", function


def check() -> None:
    """Evaluate all of them."""
    missing = {}
    count = 0
    for name, thing in annotated():
        try:
            if inspect.isroutine(thing) or inspect.isclass(thing) or inspect.ismodule(thing):
                count += bool(typing.get_type_hints(thing))
            if inspect.isfunction(thing) or inspect.ismethod(thing):
                inspect.signature(thing, eval_str=True)
        except NameError as error:
            missing[name] = str(error)
    assert missing == {}
    assert count > 200


def test_annotations_can_be_evaluated() -> None:
    check()
    hints = typing.get_type_hints(leveret.Pool)
    assert hints["return"] is Any
    assert hints["processes"] == int | None


@pytest.mark.parametrize("name", ["leveret", *MODULES])
def test_nothing_is_imported_for_them(name: str) -> None:
    """And they can be evaluated all the same by who comes later."""
    code = f"""
import sys
import {name}
if "typing" in sys.modules:
    sys.exit("typing was imported")
import test_hints
test_hints.check()
"""
    command = [sys.executable, "-c", code]
    subprocess.run(command, check=True, timeout=50, cwd=Path(__file__).parent)

"""Where other packages lie, to which we are compared.

A folder of their own, which nobody but their benchmarks looks into: some bring packages that change
what Python's own suites, or ours, expect.
"""

import importlib.machinery
import pathlib
import sys

FOLDER = pathlib.Path(sys.prefix) / "rivals"


def is_here(module: str) -> bool:
    """Whether it was installed there."""
    return importlib.machinery.PathFinder.find_spec(module, [str(FOLDER)]) is not None

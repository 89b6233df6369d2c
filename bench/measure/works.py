"""All that can be measured, by name; and the work of a process that measures one of them."""

import importlib
import json
import sys
import warnings

from bench.measure import (
    births,
    codec,
    commands,
    locks,
    messages,
    pipes,
    pool_rivals,
    pools,
    rivals,
    values,
)
from bench.measure.channels import Side
from bench.measure.teams import Teams


def measure(work: str, side: str, method: str, seconds: float) -> list[float]:
    if work in commands.COMMANDS:
        return commands.COMMANDS[work](side, seconds)
    warnings.simplefilter("ignore")  # AbandonedLockWarning, fork from a threaded process
    if side in rivals.RIVALS:
        return messages.WORKS[work](rivals.RivalSide(side), seconds)
    if side in pool_rivals.RIVALS:
        return pools.measure(work, pool_rivals.RIVALS[side], seconds)
    context = importlib.import_module(commands.MODULES[side]).get_context(method)
    if work in pools.WORKS:
        return pools.measure(work, Teams(side, context), seconds)
    if found := {**messages.WORKS, **pipes.WORKS}.get(work):
        return found(Side(context), seconds)
    return {**births.WORKS, **codec.WORKS, **locks.WORKS, **values.WORKS}[work](context, seconds)


def main() -> None:
    work, side, method, seconds = sys.argv[1:]
    print(json.dumps(measure(work, side, method, float(seconds))))

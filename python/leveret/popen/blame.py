"""Which argument of a process is to blame where the process object cannot be pickled."""

from __future__ import annotations

from multiprocessing import reduction

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["culprit", "tell"]


def culprit(process_obj: Any) -> str | None:
    """What of it cannot be sent, in words.

    To be called with the child as what is being spawned: some things can be sent only then.
    """
    for label, value in _parts(process_obj):
        try:
            reduction.ForkingPickler.dumps(value)
        except Exception:
            return f"{label}: {_shown(value)}"
    return None


def tell(error: Exception, process_obj: Any, where: str, method: str) -> None:
    """Say in the error what cannot be sent, and what helps."""
    hint = (
        f"(in process {process_obj.name!r}, {where}; the start method {method!r} sends arguments "
        "by pickle: use what can be imported, or --start-method fork)"
    )
    if len(error.args) == 1 and isinstance(error.args[0], str):
        error.args = (f"{error.args[0]} {hint}",)
    else:
        error.add_note(hint)


def _parts(process_obj: Any) -> Iterator[tuple[str, Any]]:
    """What there is to pickle in a process object, with names."""
    yield "the target", process_obj._target
    for index, value in enumerate(process_obj._args):
        yield f"argument {index}", value
    for name, value in process_obj._kwargs.items():
        yield f"argument {name!r}", value
    known = {"_target", "_args", "_kwargs", "_config", "_popen"}
    for name, value in vars(process_obj).items():
        if name not in known:
            yield f"attribute {name!r}", value


def _shown(value: object) -> str:
    """Its repr, or the beginning of it."""
    try:
        return repr(value)[:200]
    except Exception:
        return f"<{type(value).__qualname__} object>"

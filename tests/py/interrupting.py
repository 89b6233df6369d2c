"""For tests: Ctrl-C at the nth place of a program where it can come.

The interpreter calls signal handlers where a function begins, a call has returned, or a loop jumps
back; so there, and nowhere else, KeyboardInterrupt is raised. What a call has returned is lost
then, and the `with` of a lock is whole.
"""

import contextlib
import dis
import functools
import gc
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from types import CodeType, FrameType
from typing import Any

TOOL = 4  # of those that sys.monitoring has; nobody's


@functools.cache
def places(code: CodeType) -> frozenset[int]:
    """Where it may come: the offsets of the instructions before which it is heeded."""
    found, after = set(), False
    for instruction in dis.get_instructions(code):
        if after:
            found.add(instruction.offset)
        name = instruction.opname
        after = name == "RESUME" or (name.startswith("CALL") and "INTRINSIC" not in name)
        if name.startswith("JUMP_BACKWARD"):
            found.add(instruction.argval)
    return frozenset(found)


def _whose() -> tuple[int, int]:
    return os.getpid(), threading.get_ident()


class Interrupt:
    """Raises KeyboardInterrupt at the nth place in one of the FILES, in this thread, once.

    In no other thread, and in no process that is forked meanwhile.
    """

    def __init__(self, nth: int, files: Iterable[str]) -> None:
        self._left, self._files = nth, frozenset(files)
        self._whose = _whose()
        self.where = ""

    @contextlib.contextmanager
    def armed(self) -> Iterator["Interrupt"]:
        """While this lasts. Finalizers of what is garbage by then are no place for it."""
        collects = gc.isenabled()
        gc.disable()
        arm, disarm = (
            (self._monitor, self._unmonitor)
            if sys.version_info >= (3, 12)
            else (self._trace, self._untrace)
        )
        arm()
        try:
            yield self
        finally:
            disarm()
            if collects:
                gc.enable()

    def _pass(self, code: CodeType, offset: int, line: int) -> None:
        if self.where or offset not in places(code) or self._whose != _whose():
            return
        self._left -= 1
        if self._left == 0:
            self.where = f"{code.co_qualname}(), line {line}"
            raise KeyboardInterrupt

    # --- by sys.monitoring: trace functions see no instructions of a frame's first run there ----

    def _monitor(self) -> None:
        monitoring: Any = vars(sys)["monitoring"]
        monitoring.use_tool_id(TOOL, "interrupting")
        monitoring.register_callback(TOOL, monitoring.events.INSTRUCTION, self._at_instruction)
        monitoring.set_events(TOOL, monitoring.events.INSTRUCTION)

    def _unmonitor(self) -> None:
        monitoring: Any = vars(sys)["monitoring"]
        monitoring.set_events(TOOL, 0)
        monitoring.free_tool_id(TOOL)

    def _at_instruction(self, code: CodeType, offset: int) -> Any:
        if code.co_filename not in self._files:
            return vars(sys)["monitoring"].DISABLE
        self._pass(
            code, offset, next(at for start, end, at in code.co_lines() if offset < end) or 0
        )
        return None

    # --- by a trace function -------------------------------------------------------------------

    def _trace(self) -> None:
        self._before = sys.gettrace()
        sys.settrace(self._at_call)

    def _untrace(self) -> None:
        sys.settrace(self._before)

    def _at_call(self, frame: FrameType, event: str, arg: object) -> Any:
        if frame.f_code.co_filename not in self._files:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._at_opcode

    def _at_opcode(self, frame: FrameType, event: str, arg: object) -> Any:
        if event == "opcode":
            self._pass(frame.f_code, frame.f_lasti, frame.f_lineno)
        return self._at_opcode

"""Pipe and its ends beside the standard library's: the same calls, the same outcome."""

import array
import contextlib
import pickle
import re
import weakref
from multiprocessing import connection as std
from multiprocessing.context import BaseContext
from multiprocessing.reduction import ForkingPickler

import pytest
from beside import OURS, THEIRS, attempt

# What rows may use, beside two ends of a pipe, and those of one that is not duplex.
NAMES = {
    "ForkingPickler": ForkingPickler,
    "array": array,
    "attempt": attempt,
    "pickle": pickle,
    "std": std,
    "weakref": weakref,
}

ROWS = """
one.send(1), two.recv()
one.send(None), two.poll(), two.recv(), two.poll()
one.send({'a': [1, (2.5, b'x', 'y')]}), two.recv()
one.send(obj=5), two.recv()
one.send()
one.send(1, 2)
one.send(lambda: 0)
one.send_bytes(b'hello'), two.recv_bytes()
one.send_bytes(b''), two.poll(), two.recv_bytes(), two.poll()
one.send_bytes(bytearray(b'hello'), 2), two.recv_bytes()
one.send_bytes(b'hello', 1, 3), two.recv_bytes()
one.send_bytes(b'hello', offset=5), two.recv_bytes()
one.send_bytes(b'hello', size=0), two.recv_bytes()
one.send_bytes(buf=b'hello', size=None), two.recv_bytes()
one.send_bytes(array.array('i', [1, 2])), two.recv_bytes()
one.send_bytes(array.array('i', [1, 2]), 4), two.recv_bytes()
one.send_bytes(memoryview(b'abc')), two.recv_bytes()
one.send_bytes('text')
one.send_bytes(None)
one.send_bytes(7)
one.send_bytes(b'hello', -1)
one.send_bytes(b'hello', 6)
one.send_bytes(b'hello', 5)
one.send_bytes(b'hello', 0, -1)
one.send_bytes(b'hello', 0, 6)
one.send_bytes(b'hello', 3, 3)
one.send_bytes(b'hello', 'a')
one.send_bytes(b'hello'), two.recv_bytes(5)
one.send_bytes(b'hello'), two.recv_bytes(maxlength=9)
one.send_bytes(b'hello'), two.recv_bytes(4)
one.send_bytes(b'hello'), attempt(two.recv_bytes, 4), two.readable, two.writable, two.closed
one.send_bytes(b'hello'), attempt(two.recv_bytes, 4), two.recv()
one.send_bytes(b'hello'), attempt(two.recv_bytes, 4), two.poll()
sender.send_bytes(b'hello'), attempt(receiver.recv_bytes, 4), receiver.closed, receiver.readable
two.recv_bytes(-1)
two.recv_bytes('a')
one.send_bytes(b'hello'), two.recv_bytes_into(ten), ten
one.send_bytes(b'hello'), two.recv_bytes_into(ten, 5), ten
one.send_bytes(b'hello'), two.recv_bytes_into(buf=ten, offset=1), ten
one.send_bytes(b'hello'), two.recv_bytes_into(ten, 6)
one.send_bytes(b'hello'), attempt(two.recv_bytes_into, ten, 6), two.poll(), two.closed
one.send_bytes(b''), two.recv_bytes_into(ten, 10)
one.send_bytes(b'12345678'), two.recv_bytes_into(numbers), numbers
one.send_bytes(b'1234'), two.recv_bytes_into(numbers, 4), numbers
two.recv_bytes_into(ten, -1)
two.recv_bytes_into(ten, 11)
two.recv_bytes_into('text')
one.poll()
one.poll(0), one.poll(0.01), one.poll(-1), one.poll(timeout=0)
one.send(1), two.poll(None), two.poll(), two.recv()
one.poll('soon')
one.readable, one.writable, one.closed
sender.readable, sender.writable, receiver.readable, receiver.writable
receiver.send(1)
receiver.send_bytes(b'')
sender.recv()
sender.recv_bytes()
sender.recv_bytes_into(ten)
sender.poll()
sender.send(1), receiver.recv()
one.close(), one.closed, one.close(), one.readable, one.writable
one.close(), one.send(1)
one.close(), one.send_bytes(b'')
one.close(), one.recv()
one.close(), one.recv_bytes()
one.close(), one.recv_bytes_into(ten)
one.close(), one.poll()
one.close(), one.fileno()
one.close(), one.__enter__() is one
two.close(), one.recv()
two.close(), one.recv_bytes()
two.close(), one.poll(), one.poll(None)
two.close(), one.send(1)
two.close(), one.send_bytes(b'x')
two.send(1), two.send(2), two.close(), one.recv(), one.poll(), one.recv(), one.poll(), one.recv()
sender.close(), receiver.recv()
receiver.close(), sender.send(1)
one.__enter__() is one, one.__exit__(None, None, None), one.closed
isinstance(one.fileno(), int), one.fileno() == one.fileno(), one.fileno() > 2
isinstance(one, std.Connection)
one == two, one == one, isinstance(hash(one), int)
weakref.ref(one)() is one
one.send_bytes(ForkingPickler.dumps([1, 2])), two.recv()
one.send([1, 2]), pickle.loads(two.recv_bytes())
one.send({1}), pickle.loads(two.recv_bytes())
one.send_bytes(b'no pickle'), two.recv()
one.send_bytes(b'no pickle'), attempt(two.recv), one.send(3), two.recv()
len(mp.Pipe()), type(mp.Pipe()).__name__
mp.Pipe(duplex=False)[0].readable, mp.Pipe(False)[0].writable, mp.Pipe(0)[1].readable
mp.Pipe(1, 2)
std.wait([one], 0), std.wait([], 0), std.wait([one, two], 0.01)
one.send(1), [c is two for c in std.wait([one, two])]
two.close(), [c is one for c in std.wait([one])]
one.close(), std.wait([one], 0)
std.wait([one, one], 0)
std.wait(['text'], 0)
std.wait([one], 'soon')
"""


def outcome(row: str, context: BaseContext) -> str:
    """What comes of an expression."""
    with contextlib.ExitStack() as stack:
        one, two = (stack.enter_context(c) for c in context.Pipe())
        receiver, sender = (stack.enter_context(c) for c in context.Pipe(duplex=False))
        names = {
            **NAMES,
            "mp": context,
            "one": one,
            "two": two,
            "receiver": receiver,
            "sender": sender,
            "ten": bytearray(10),
            "numbers": array.array("i", [0, 0]),
        }
        value = attempt(lambda: eval(row, names))
    value = value.replace("PipeConnection", "Connection")
    return re.sub(r" at 0x[0-9a-f]+|connection\.py line \d+", "", value).replace(
        "leveret.", "multiprocessing."
    )


# What a text says differently, and why that is fine.
TEXTS = {
    "one.send()": "counts arguments, not names",
    "one.send(1, 2)": "the same",
    "one.send(lambda: 0)": "the way to the culprit differs between versions",
    "one.send_bytes(b'hello', 'a')": "an int is wanted, in other words",
    "two.recv_bytes('a')": "the same",
    "one.poll('soon')": "the same",
    "std.wait([one], 'soon')": "the same",
    "mp.Pipe(1, 2)": "counts arguments",
    "std.wait([one, one], 0)": "shows the object",
}


@pytest.mark.parametrize("row", ROWS.strip().splitlines())
def test_what_the_standard_connection_does(row: str) -> None:
    theirs, ours = outcome(row, THEIRS), outcome(row, OURS)
    if row in TEXTS:
        theirs, ours = theirs.partition(":")[0], ours.partition(":")[0]
    assert ours == theirs

"""What the codec refuses: what cannot be sent, by its name and place, and hostile input."""

import functools
import gc
import importlib.util
import pickle
import sys
import threading
import types
from typing import Any

import pytest
from coded import TREES, Point, Raising, Thing, arrived, failure, plainly, recoded
from leveret import CorruptMessage, _core

# Errors


@pytest.fixture
def no_cloudpickle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cloudpickle", None)


def notes(error: BaseException) -> str:
    found = getattr(error, "__notes__", ())
    return "\n".join(note for note in found if note.startswith("leveret: "))


class Slotted:
    __slots__ = ("inner",)

    def __init__(self, inner: Any) -> None:
        self.inner = inner


@pytest.mark.parametrize(
    ("wrap", "way"),
    [
        (lambda obj: obj, None),
        (lambda obj: [0, {"x": (1, obj)}], "message[1]['x'][1]"),
        (lambda obj: Thing(1, obj), "message.parts[1]"),
        (lambda obj: {"a": Slotted([obj])}, "message['a'].inner[0]"),
        (lambda obj: functools.partial(arrived, key=obj), "message.keywords['key']"),
        (lambda obj: (Thing(obj).__eq__,), "message[0].__self__.parts[0]"),
    ],
)
@pytest.mark.parametrize("culprit", [threading.Lock(), lambda: None, (i for i in ())], ids=repr)
def test_an_error_is_pickles_own_and_names_the_culprit(
    no_cloudpickle: None, wrap: Any, way: str, culprit: Any
) -> None:
    obj = wrap(culprit)
    error = failure(obj)
    assert type(error) is plainly(obj)
    expected = f"leveret: cannot send {culprit!r}" + (f", which is {way}" if way else "")
    advice = "(define it at the top level of a module, or install cloudpickle, which can send it)"
    helps = f" {advice}" if isinstance(culprit, types.FunctionType) else ""
    assert notes(error) == expected + helps


def test_no_advice_to_install_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setitem(sys.modules, "cloudpickle", types.ModuleType("cloudpickle"))
    culprit = lambda: None  # noqa: E731
    assert notes(failure(culprit)) == f"leveret: cannot send {culprit!r}"


def test_the_way_may_not_be_seen() -> None:
    class Hidden:
        def __reduce__(self) -> Any:
            return arrived, (threading.Lock(),)

    text = notes(failure([Hidden()]))
    assert "cannot send <unlocked _thread.lock" in text and "somewhere in [<" in text


def test_a_culprit_is_not_searched_for_without_end() -> None:
    """Beside its pickling the search would take as long again, several times."""
    culprit = lambda: None  # noqa: E731
    assert "cannot send" in notes(failure([list(range(50_000)), culprit]))
    assert notes(failure([list(range(200_000)), culprit])) == ""


@pytest.mark.parametrize(
    "error", [ZeroDivisionError("x"), KeyboardInterrupt(), SystemExit(3), MemoryError("m")]
)
def test_what_an_object_raises_comes_through(error: BaseException) -> None:
    assert failure([Raising(error)]) is error


def interrupted() -> None:
    raise KeyboardInterrupt


class Interrupting:
    def __reduce__(self) -> Any:
        return interrupted, ()


def test_what_unpickling_raises_comes_through() -> None:
    with pytest.raises(KeyboardInterrupt):
        recoded(Interrupting())
    stream = _core.encode(Point(1, 2))[0].replace(b"Point", b"Joint")
    with pytest.raises(AttributeError, match="Joint"):
        _core.decode(stream)
    with pytest.raises((pickle.UnpicklingError, EOFError)):
        _core.decode(_core.encode(Thing())[0][:-5])


# Hostile input

HUGE = "ff ff ff ff ff ff ff ff 0f"


WRONG = [
    ("", "ends too early"),
    ("e5", "nothing that is known"),
    ("ff", "nothing that is known"),
    ("00 00", "left over"),
    ("d4", "within an int"),
    ("d7 00 00 00 00 00 00 00", "within an int"),
    ("d3 00", "within a float"),
    ("82 61", "within a str"),
    ("81 80", "not ASCII"),
    ("d9 08 61 61 61 61 61 61 61 ff", "not ASCII"),
    ("d9 03 61 61", "larger than all"),
    ("da 01 61", "another width"),
    ("db 02 ff 00 61 00", "another width"),
    ("dc 01 ff ff 00 00", "another width"),
    ("dc 01 00 00 11 00", "another width"),
    ("dc 01 ff ff ff ff", "another width"),
    ("dc 01 00 00 01", "larger than all"),
    (f"dc {HUGE}", "larger than all"),
    (f"db {HUGE} 00", "larger than all"),
    (f"dd {HUGE}", "larger than all"),
    (f"de {HUGE}", "larger than all"),
    (f"d8 {HUGE}", "larger than all"),
    (f"df {HUGE} 00 00 00", "larger than all"),
    (f"e0 {HUGE} 00 00 00", "larger than all"),
    (f"e1 {HUGE} 00 00 00", "larger than all"),
    ("e0 ff 00 00 00 00 00 00 00 10 00 00 00", "larger than all"),
    ("b3 00 00", "larger than all"),
    ("c2 00 00 01", "larger than all"),
    ("dd fd 00", "within a size"),
    ("dd fe 00 00 00", "within a size"),
    ("dd ff 00", "within a size"),
    ("dd", "where a size"),
    ("e2 00", "did not come"),
    ("b2 81 61 e2 01", "did not come"),
    (f"b2 81 61 e2 {HUGE}", "did not come"),
    ("b1 a1 e2 00", "did not come"),
    ("b2 a1 00 c1 e2 00 00", "names a tuple"),
    ("b2 a1 00 c1 a1 e2 00 00", "names a tuple"),
    ("c2 00 00 00 00", "comes twice"),
    ("c2 00 00 d1 00", "comes twice"),
    ("c1 b0 00", "a list or a dict"),
    ("c1 a1 c0 00", "a list or a dict"),
    ("c1 a1 b1 00 00", "a list or a dict"),
    ("b1 e3", "nothing that is known"),
    ("e4", "how many buffers"),
    ("e4 00 00 00", "how many buffers"),
    ("e4 00 00 00 00", "how many buffers"),
    ("e4 00 02 00 00 00", "how many buffers"),
    ("e4 4e 2e ff ff ff ff", "how many buffers"),
]


def test_a_wrong_shape_is_refused() -> None:
    for stream, why in WRONG:
        with pytest.raises(CorruptMessage, match=why):
            _core.decode(bytes.fromhex(stream))
    assert issubclass(CorruptMessage, ValueError)


def test_a_bytearray_is_no_key() -> None:
    with pytest.raises(TypeError, match="unhashable"):
        _core.decode(bytes.fromhex("c1 de 00 00"))


def test_what_is_cut_short_is_refused() -> None:
    for obj in TREES:
        stream = _core.encode(obj)[0]
        for end in range(0, len(stream), 1 + len(stream) // 200):
            with pytest.raises(CorruptMessage):
                _core.decode(stream[:end])


def test_nothing_is_allocated_for_what_did_not_come() -> None:
    code = bytes.fromhex("e0 ff 00 00 00 00 01 00 00 00")  # 2^32 items
    before = sys.getallocatedblocks()
    for _ in range(100):
        with pytest.raises(CorruptMessage):
            _core.decode(code + b"\xb1" * 1000)
    gc.collect()
    assert sys.getallocatedblocks() - before < 50

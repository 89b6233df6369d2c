"""For tests of the codec: there and back, what can be sent in either way, and how it fails."""

import collections
from multiprocessing.reduction import ForkingPickler
from typing import Any

import pytest
from leveret import _core


def recoded(obj: Any) -> Any:
    stream, buffers, _ = _core.encode(obj)
    return _core.decode(stream, buffers)


Point = collections.namedtuple("Point", "x y")


class Thing:
    def __init__(self, *parts: Any) -> None:
        self.parts = parts

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Thing) and self.parts == other.parts

    __hash__ = None  # type: ignore[assignment]


class Raising:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        raise self.error

    def __repr__(self) -> str:
        raise self.error


def arrived(*args: Any) -> Any:
    return ("arrived", *args)


TREES = [
    (),
    [],
    {},
    (1,),
    [None, True, False],
    {"a": 1, "b": 2.5, 3: "x", (1, ("k", None)): [()], None: {}, True: b"", 2.0: "f", b"k": 0},
    [[[[]]], ({},), [[], []]],
    list(range(300)),
    tuple(range(16)),
    tuple(range(15)),
    {i: str(i) for i in range(1000)},
    [{"name": f"n{i}", "id": i, "tags": ("x", "y")} for i in range(50)],
    [(i, [i, {i: (i,)}]) for i in range(500)],
]


def failure(obj: Any) -> BaseException:
    with pytest.raises(BaseException) as caught:
        _core.encode(obj)
    return caught.value


def plainly(obj: Any) -> type[BaseException]:
    with pytest.raises(Exception) as caught:
        ForkingPickler.dumps(obj)
    return caught.type

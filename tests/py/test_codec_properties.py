"""The codec against pickle, over arbitrary trees; and over streams that something wrote into."""

import pickle
import struct
from typing import Any

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from leveret import CorruptMessage, _core

KEYS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=())),
    st.binary(),
)
LEAVES = st.one_of(
    KEYS, st.floats(), st.binary().map(bytearray), st.integers(-(1 << 300), 1 << 300)
)
HASHABLE = st.recursive(KEYS, lambda inner: st.lists(inner, max_size=4).map(tuple), max_leaves=6)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner),
        st.lists(inner).map(tuple),
        st.dictionaries(HASHABLE, inner),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: [*parts, parts[0], parts]),
    ),
    max_leaves=30,
)

often = settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def recoded(obj: Any) -> Any:
    stream, buffers, _ = _core.encode(obj)
    return _core.decode(stream, buffers)


def portrait(obj: Any) -> Any:
    """Types, values, bits of floats; and which container is which."""
    met: dict[int, int] = {}

    def of(part: Any) -> Any:
        kind = type(part)
        if id(part) in met:
            return "met", met[id(part)]
        if kind in (list, tuple, dict, bytearray) and part != ():
            met[id(part)] = len(met)
        if kind in (list, tuple):
            return kind, [of(each) for each in part]
        if kind is dict:
            return kind, [(of(key), of(value)) for key, value in part.items()]
        return kind, struct.pack("d", part) if kind is float else part

    return of(obj)


@often
@given(TREES)
def test_what_comes_out_is_what_pickle_would_give(obj: Any) -> None:
    assert portrait(recoded(obj)) == portrait(pickle.loads(pickle.dumps(obj)))


@often
@given(TREES, st.data())
def test_a_damaged_stream_is_refused_or_read_as_another(obj: Any, data: st.DataObject) -> None:
    stream = bytearray(_core.encode(obj)[0])
    assume(stream[0] < 0xE3)  # a damaged pickle may do anything
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(stream)))
        change = data.draw(st.binary(max_size=3))
        stream[at : at + data.draw(st.integers(0, 3))] = change
    assume(not stream or stream[0] < 0xE3)
    try:
        came = _core.decode(stream)
    except (CorruptMessage, TypeError) as error:
        assert type(error) is CorruptMessage or "unhashable" in str(error)
    else:
        assert portrait(recoded(came)) == portrait(came)


@often
@given(st.binary(max_size=64))
def test_any_bytes_are_refused_or_read(data: bytes) -> None:
    assume(not data or data[0] not in (0xE3, 0xE4))
    try:
        came = _core.decode(data)
    except (CorruptMessage, TypeError):
        return
    assert portrait(recoded(came)) == portrait(came)

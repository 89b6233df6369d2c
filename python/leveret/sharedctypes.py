"""ctypes objects in memory that processes share, with locks around them.

    process A                       the arena                        process B
    v = Value("i") -------------->  4 bytes, and a lock
    v.value += 1  --- lock, load, unlock; lock, store, unlock ---
    v.fetch_add(1)  --------------  one instruction
    queue.put(v), Process(args=[v]) ------------------------------->  v: the same 4 bytes
    v.get_obj()                     c_int over these bytes           v.get_obj()

What `RawValue` and `RawArray` return are plain ctypes objects; what `Value` and `Array` return are
wrappers, written in C, in `leveret._core`, that hold the lock while they read and write. Either
can be pickled at any time, into any process of the session, and the memory lasts as long as
anything over it does: an object, a memoryview, a numpy array.
"""

from __future__ import annotations

import ctypes
import weakref
from multiprocessing.reduction import ForkingPickler

from ._core import Synchronized, SynchronizedArray, SynchronizedBase, SynchronizedString
from .context import default_context
from .heap import BufferWrapper
from .hints import Any

__all__ = ["Array", "RawArray", "RawValue", "Value", "copy", "synchronized"]

typecode_to_type: dict[str, Any] = {
    "c": ctypes.c_char,
    "u": ctypes.c_wchar,
    "b": ctypes.c_byte,
    "B": ctypes.c_ubyte,
    "h": ctypes.c_short,
    "H": ctypes.c_ushort,
    "i": ctypes.c_int,
    "I": ctypes.c_uint,
    "l": ctypes.c_long,
    "L": ctypes.c_ulong,
    "q": ctypes.c_longlong,
    "Q": ctypes.c_ulonglong,
    "f": ctypes.c_float,
    "d": ctypes.c_double,
}

_any: Any = ctypes  # what is a type here, its stubs say only of what they know


def _type_of(typecode_or_type: Any) -> Any:
    return typecode_to_type.get(typecode_or_type, typecode_or_type)


def _new_value(type_: Any) -> Any:
    """A ctypes object of zeros in memory of its own."""
    try:
        size = ctypes.sizeof(type_)
    except TypeError as error:
        raise TypeError(
            "bad typecode (must be a ctypes type or one of "
            "c, b, B, u, h, H, i, I, l, L, q, Q, f or d)"
        ) from error
    return rebuild_ctype(type_, BufferWrapper(size), None)


def RawValue(typecode_or_type: Any, *args: Any) -> Any:
    """Return a ctypes object in shared memory."""
    obj = _new_value(_type_of(typecode_or_type))
    obj.__init__(*args)
    return obj


def RawArray(typecode_or_type: Any, size_or_initializer: Any) -> Any:
    """Return a ctypes array in shared memory: so many zeros, or what the initializer has."""
    type_ = _type_of(typecode_or_type)
    if isinstance(size_or_initializer, int):
        return _new_value(type_ * size_or_initializer)
    obj = _new_value(type_ * len(size_or_initializer))
    obj.__init__(*size_or_initializer)
    return obj


def Value(typecode_or_type: Any, *args: Any, lock: Any = True, ctx: Any = None) -> Any:
    """Return a ctypes object in shared memory, with a lock around it (or without: lock=False)."""
    return _locked(RawValue(typecode_or_type, *args), lock, ctx)


def Array(
    typecode_or_type: Any, size_or_initializer: Any, *, lock: Any = True, ctx: Any = None
) -> Any:
    """Return a ctypes array in shared memory, with a lock around it (or without: lock=False)."""
    return _locked(RawArray(typecode_or_type, size_or_initializer), lock, ctx)


def _locked(obj: Any, lock: Any, ctx: Any) -> Any:
    if lock is False:
        return obj
    if lock in (True, None):
        ctx = ctx or default_context.get_context()
        lock = ctx.RLock()
    if not hasattr(lock, "acquire"):
        raise AttributeError(f"{lock!r} has no method 'acquire'")
    return synchronized(obj, lock, ctx=ctx)


def copy(obj: Any) -> Any:
    """Return a copy of OBJ, a ctypes object, in shared memory."""
    new_obj = _new_value(type(obj))
    ctypes.pointer(new_obj)[0] = obj
    return new_obj


def synchronized(obj: Any, lock: Any = None, ctx: Any = None) -> Any:
    """Return OBJ, a ctypes object, with LOCK or a new lock around it."""
    if isinstance(obj, SynchronizedBase):
        raise AssertionError("object already synchronized")
    ctx = ctx or default_context.get_context()
    if isinstance(obj, _any._SimpleCData):
        return Synchronized(obj, lock, ctx)
    if isinstance(obj, ctypes.Array):
        array = SynchronizedString if obj._type_ is ctypes.c_char else SynchronizedArray
        return array(obj, lock, ctx)
    return _class_for(type(obj))(obj, lock, ctx)


# Structures: a class of wrappers for each, whose properties are the fields.

prop_cache: dict[str, property] = {}
class_cache: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


def _class_for(cls: Any) -> Any:
    if cls not in class_cache:
        fields = {field[0]: make_property(field[0]) for field in cls._fields_}
        class_cache[cls] = type("Synchronized" + cls.__name__, (SynchronizedBase,), fields)
    return class_cache[cls]


def make_property(name: str) -> property:
    """A property of a wrapper: that attribute of its object, read and written under the lock."""
    if name not in prop_cache:

        def get(self: Any) -> Any:
            self.acquire()
            try:
                return getattr(self._obj, name)
            finally:
                self.release()

        def set(self: Any, value: Any) -> None:
            self.acquire()
            try:
                setattr(self._obj, name, value)
            finally:
                self.release()

        prop_cache[name] = property(get, set)
    return prop_cache[name]


# Pickling: a ctypes object that lies in memory of ours travels as that memory, with the picklers of
# queues, pipes and processes. Others of its type are copied, as they are where nobody shares any.
# A wrapper names the memory itself, so that any pickler will do.


def reduce_ctype(obj: Any) -> Any:
    """What goes into a pickle for OBJ."""
    return (rebuild_ctype, _description(obj)) if _is_shared(obj) else obj.__reduce__()


def _is_shared(obj: Any) -> bool:
    """Whether it lies in its memory: a copy of such an object says so, too, and does not."""
    wrapper = getattr(obj, "_wrapper", None)
    return wrapper is not None and (not isinstance(wrapper, BufferWrapper) or wrapper.holds(obj))


def _description(obj: Any) -> Any:
    """The arguments of rebuild_ctype()."""
    wrapper = obj._wrapper
    if isinstance(obj, ctypes.Array):
        return obj._type_, wrapper, obj._length_
    return type(obj), wrapper, None


def reduce_synchronized(obj: Any, lock: Any) -> Any:
    """What goes into a pickle for a wrapper of OBJ and LOCK."""
    if _is_shared(obj):
        return rebuild_synchronized, (lock, *_description(obj))
    return synchronized, (obj, lock)


def rebuild_synchronized(lock: Any, type_: Any, wrapper: Any, length: int | None) -> Any:
    """The wrapper of that LOCK and of the object that rebuild_ctype() makes."""
    return synchronized(rebuild_ctype(type_, wrapper, length), lock)


def rebuild_ctype(type_: Any, wrapper: Any, length: int | None) -> Any:
    """The ctypes object of TYPE_, or the array of LENGTH of them, in the memory of WRAPPER."""
    if length is not None:
        type_ = type_ * length
    ForkingPickler.register(type_, reduce_ctype)
    obj = type_.from_buffer(wrapper.create_memoryview())
    obj._wrapper = wrapper
    return obj


def __getattr__(name: str) -> Any:
    """The standard module's, for what is not ours."""
    if name.startswith("__"):  # asked for by the import system: nobody wants the module for that
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from multiprocessing import sharedctypes as std

    return getattr(std, name)

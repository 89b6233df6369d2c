"""Our classes beside those of multiprocessing.synchronize: the same calls, the same outcome.

Two kinds of test. Each row of the tables is evaluated with either context, and the outcomes, be
they values, texts or exceptions, must be equal to the letter. Each scenario runs with either
context, too, and asserts what both must do.
"""

import gc
import re
import threading
import time
import weakref
from multiprocessing.context import BaseContext
from typing import Any

import leveret
import pytest
from beside import OURS, THEIRS, did, differences, outcome
from forked import Child, Thread, in_child, in_thread, say

KEPT = THEIRS.RawArray("b", 1)  # the standard library's heap lets go of its file with the last


@pytest.fixture(params=[THEIRS, OURS], ids=["stdlib", "leveret"])
def mp(request: pytest.FixtureRequest) -> BaseContext:
    return request.param


LOCKS = """
mp.KIND() | acquire() | acquire(False) | release() | release()
mp.KIND() | acquire(block=True) | release()
mp.KIND() | acquire(True, None) | release()
mp.KIND() | acquire(True, 1e9) | release()
mp.KIND() | acquire(True, 1) | release()
mp.KIND() | acquire(timeout=0) | release()
mp.KIND() | acquire(timeout=-1) | release()
mp.KIND() | acquire(False, 3.5) | release()
mp.KIND() | acquire(block=False, timeout=None) | release()
mp.KIND() | __enter__() | __exit__()
mp.KIND() | __enter__() | __exit__(None, None, None)
mp.KIND() | _semlock._get_value() | acquire() | _semlock._get_value()
mp.KIND() | _semlock._is_zero() | acquire() | _semlock._is_zero()
mp.KIND() | _semlock._is_mine() | acquire() | _semlock._is_mine()
mp.KIND() | _semlock._count() | acquire() | _semlock._count()
mp.KIND() | _semlock.acquire() | _semlock.release()
mp.KIND().release()
mp.KIND().__exit__()
mp.KIND().acquire(timeout='soon')
mp.KIND().acquire(1, 2, 3)
mp.KIND().acquire(True, block=True)
mp.KIND().acquire(True, 1, timeout=1)
repr(mp.KIND())
str(mp.KIND())
mp.KIND() == mp.KIND()
bool(mp.KIND())
callable(mp.KIND().acquire)
type(mp.KIND()).__name__
type(mp.KIND()).__qualname__
isinstance(hash(mp.KIND()), int)
"""

TWO_LOCKS = """
mp.Lock() | acquire() | acquire(True, 0) | acquire(True, -5) | acquire(timeout=0.01)
mp.Lock() | acquire() | acquire(False, -5) | acquire(block=0)
mp.RLock() | acquire() | acquire() | release() | release() | release()
mp.RLock() | acquire() | acquire() | acquire() | release() | release() | release() | release()
mp.RLock() | acquire() | acquire() | _semlock._count() | __repr__()
mp.Lock() | acquire() | __repr__() | release() | __repr__()
"""

SEMAPHORES = """
mp.Semaphore()
mp.Semaphore(3)
mp.Semaphore(value=0)
mp.Semaphore(True)
mp.Semaphore(2**31 - 1)
mp.Semaphore(2**31 - 1).release()
mp.Semaphore('a')
mp.Semaphore(1.5)
mp.Semaphore(None)
mp.BoundedSemaphore()
mp.BoundedSemaphore(0)
mp.BoundedSemaphore(0).release()
mp.BoundedSemaphore(7).release()
mp.BoundedSemaphore(2**31 - 1).release()
mp.Semaphore(2) | get_value() | acquire() | get_value() | acquire() | acquire(False) | get_value()
mp.Semaphore(2) | release() | release() | get_value() | __repr__()
mp.Semaphore(0) | acquire(timeout=0.01) | acquire(True, -1.0) | _semlock._is_zero()
mp.Semaphore(1) | __enter__() | get_value() | __exit__() | get_value()
mp.BoundedSemaphore(2) | acquire() | __repr__() | release() | __repr__() | get_value()
mp.BoundedSemaphore(1) | __enter__() | get_value() | __exit__() | get_value()
mp.BoundedSemaphore(2) | acquire() | acquire() | acquire(False) | release() | release() | release()
"""

CONDITIONS = """
mp.Condition()
mp.Condition(mp.Lock())
mp.Condition(lock=mp.RLock())
mp.Condition().wait()
mp.Condition().wait(0)
mp.Condition().wait_for(lambda: False, 0)
mp.Condition().wait_for(lambda: 7)
mp.Condition().wait_for(lambda: [])
mp.Condition().notify()
mp.Condition().notify(3)
mp.Condition().notify_all()
mp.Condition().release()
mp.Condition() | acquire() | wait(0) | wait(0.01) | wait(-1) | wait(timeout=0) | release()
mp.Condition() | acquire() | notify() | notify(n=2) | notify(0) | notify(-1) | wait(0)
mp.Condition() | acquire() | notify_all() | wait(0)
mp.Condition() | acquire() | notify(2**70) | wait(0)
mp.Condition() | acquire() | acquire() | wait(0.01) | __repr__() | release() | release()
mp.Condition() | acquire() | wait_for(lambda: 'yes') | wait_for(lambda: None, 0.01)
mp.Condition() | acquire() | wait_for(list, timeout=0)
mp.Condition() | acquire() | wait_for(lambda: 1 // 0)
mp.Condition() | acquire() | wait('soon')
mp.Condition() | acquire(False) | release()
mp.Condition() | acquire(True, 1) | __repr__() | release()
mp.Condition(mp.Lock()) | __enter__() | wait(0) | notify() | __exit__() | __repr__()
mp.Condition(mp.Lock()) | acquire(block=True, timeout=1) | acquire(False) | release() | release()
"""

EVENTS = """
mp.Event() | is_set() | wait(0) | set() | is_set() | wait() | wait(0) | wait(-1)
mp.Event() | set() | clear() | is_set()
mp.Event() | wait(0.01) | set() | set() | wait(timeout=1) | __repr__()
mp.Event() | set() | clear() | clear() | __repr__()
mp.Event().wait('soon')
mp.Event()
"""

BARRIERS = """
mp.Barrier(3)
mp.Barrier(1) | wait() | wait() | wait(0) | wait(timeout=1) | broken | n_waiting | parties
mp.Barrier(2) | parties | n_waiting | broken | abort() | broken | __repr__()
mp.Barrier(2) | abort() | reset() | broken | __repr__()
mp.Barrier(2) | abort() | wait()
mp.Barrier(2) | wait(0.01)
mp.Barrier(2, None, 0.01) | wait()
mp.Barrier(2, timeout=0.01) | wait()
mp.Barrier(1, lambda: 1 // 0) | wait()
mp.Barrier(1, action=lambda: 7) | wait()
"""

CLASSES = """
isinstance(mp.Barrier(1), threading.Barrier)
isinstance(mp.BoundedSemaphore(1), type(mp.Semaphore(1)))
isinstance(mp.Lock(), type(mp.RLock()).__bases__[0])
"""

TABLES = {
    "Lock": LOCKS.replace("KIND", "Lock"),
    "RLock": LOCKS.replace("KIND", "RLock"),
    "each lock for itself": TWO_LOCKS,
    "semaphores": SEMAPHORES,
    "conditions": CONDITIONS,
    "events": EVENTS,
    "barriers": BARRIERS,
    "classes": CLASSES,
}


@pytest.mark.parametrize("about", TABLES)
def test_each_expression_has_the_same_outcome(about: str) -> None:
    assert differences(TABLES[about]) == []


def test_a_negative_value_is_the_same_kind_of_error() -> None:
    for context in (THEIRS, OURS):
        for kind in (context.Semaphore, context.BoundedSemaphore):
            with pytest.raises(OSError, match="Errno 22"):
                kind(-1)


@pytest.mark.parametrize(
    "expression",
    [
        "mp.Lock().acquire(wait=True)",
        "mp.RLock().release(1)",
        "len(mp.Lock())",
        "mp.Event().set(1)",
    ],
)
def test_a_wrong_call_is_a_type_error(mp: BaseContext, expression: str) -> None:
    """In words that differ from one Python to the next."""
    assert outcome(expression, mp).startswith("TypeError: ")


# Locks


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_with_yields_true_and_lets_exceptions_pass(mp: BaseContext, kind: str) -> None:
    lock = getattr(mp, kind)()
    with pytest.raises(KeyError), lock as got:
        assert got is True
        raise KeyError
    assert in_thread(lock.acquire, False)


def test_a_lock_may_be_released_by_anybody(mp: BaseContext) -> None:
    lock = mp.Lock()
    lock.acquire()
    in_thread(lock.release)
    lock.acquire()
    in_child(lock.release)
    assert lock.acquire(False)


def test_an_rlock_is_released_by_its_holder_alone(mp: BaseContext) -> None:
    lock = mp.RLock()
    lock.acquire()
    for elsewhere in (in_thread, in_child):
        assert not elsewhere(lock.acquire, False)
        with pytest.raises(
            AssertionError, match="attempt to release recursive lock not owned by thread"
        ):
            elsewhere(lock.release)
    lock.release()


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_waiting_for_a_lock_ends_with_its_release(mp: BaseContext, kind: str) -> None:
    lock = getattr(mp, kind)()
    lock.acquire()
    waiter = Thread(lambda: (lock.acquire(), lock.release()))
    waiter.asleep()
    lock.release()
    assert waiter.result() == (True, None)

    def in_a_process() -> bool:
        say()
        return lock.acquire(True, 10)

    lock.acquire()
    with Child(in_a_process) as child:
        child.heard()
        child.asleep()
        lock.release()
        assert child.result() is True


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_a_timeout_is_about_as_long_as_asked_for(mp: BaseContext, kind: str) -> None:
    lock = getattr(mp, kind)()
    lock.acquire()

    def waited() -> float:
        begin = time.monotonic()
        assert lock.acquire(timeout=0.1) is False
        return time.monotonic() - begin

    assert 0.1 <= in_thread(waited) < 5


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_a_forked_child_does_not_hold_what_its_parent_holds(mp: BaseContext, kind: str) -> None:
    lock = getattr(mp, kind)()
    lock.acquire()

    def look() -> tuple[Any, ...]:
        return lock._semlock._is_mine(), lock._semlock._count(), lock.acquire(False), repr(lock)

    mine, count, got, text = in_child(look)
    assert (mine, count, got) == (False, 0, False)
    assert "SomeOtherProcess" in text
    assert lock._semlock._is_mine()
    lock.release()


def test_the_owner_in_the_repr_of_a_lock(mp: BaseContext) -> None:
    lock = mp.Lock()
    assert repr(lock) == "<Lock(owner=None)>"
    with lock:
        assert repr(lock) == "<Lock(owner=MainProcess)>"
        assert in_thread(repr, lock) == "<Lock(owner=SomeOtherThread)>"
        assert in_child(repr, lock) == "<Lock(owner=SomeOtherProcess)>"

    def locked() -> str:
        with lock:
            return repr(lock)

    assert in_thread(locked, name="Fred") == "<Lock(owner=MainProcess|Fred)>"


def test_the_owner_in_the_repr_of_an_rlock(mp: BaseContext) -> None:
    lock = mp.RLock()
    assert repr(lock) == "<RLock(None, 0)>"
    with lock, lock:
        assert repr(lock) == "<RLock(MainProcess, 2)>"
        assert in_thread(repr, lock) == "<RLock(SomeOtherThread, nonzero)>"
        assert in_child(repr, lock) == "<RLock(SomeOtherProcess, nonzero)>"

    def locked() -> str:
        with lock, lock, lock:
            return repr(lock)

    assert in_thread(locked, name="Fred") == "<RLock(MainProcess|Fred, 3)>"
    assert repr(lock) == "<RLock(None, 0)>"


def test_the_repr_of_a_lock_whose_holder_left_with_it(mp: BaseContext) -> None:
    for kind, text in (("Lock", "<Lock(owner={})>"), ("RLock", "<RLock({}, nonzero)>")):
        lock = getattr(mp, kind)()
        in_thread(lock.acquire)
        assert repr(lock) == text.format("SomeOtherThread")
        lock = getattr(mp, kind)()
        in_child(lock.acquire)
        assert repr(lock) == text.format("SomeOtherProcess")


def count_in(lock: Any, memory: Any, rounds: int) -> None:
    for _ in range(rounds):
        with lock:
            memory[0] = memory[0] + 1


@pytest.mark.parametrize("kind", ["Lock", "RLock", "BoundedSemaphore", "Semaphore", "Condition"])
def test_nobody_is_in_a_critical_section_with_another(mp: BaseContext, kind: str) -> None:
    lock = getattr(mp, kind)()
    memory = mp.RawArray("l", 1)
    with (
        Child(count_in, lock, memory, 3000) as one,
        Child(count_in, lock, memory, 3000) as two,
    ):
        threads = [Thread(count_in, lock, memory, 1000) for _ in range(3)]
        for worker in (one, two, *threads):
            worker.result()
    assert memory[0] == 9000


# Semaphores


@pytest.mark.parametrize("kind", ["Semaphore", "BoundedSemaphore"])
def test_a_semaphore_counts_across_processes(mp: BaseContext, kind: str) -> None:
    semaphore = getattr(mp, kind)(2)

    def take_and_look() -> tuple[bool, int]:
        return semaphore.acquire(), semaphore.get_value()

    with Child(lambda: (take_and_look(), say(), in_thread(semaphore.release))) as child:
        child.heard()
        assert child.result()[0] == (True, 1)
    assert semaphore.get_value() == 2


def test_a_release_wakes_one_who_waits(mp: BaseContext) -> None:
    semaphore = mp.Semaphore(0)

    def wait() -> bool:
        say()
        return semaphore.acquire(True, 10)

    with Child(wait) as one, Child(wait) as two:
        one.heard(), two.heard()
        one.asleep(), two.asleep()
        semaphore.release()
        semaphore.release()
        assert one.result() and two.result()
    assert semaphore.get_value() == 0


def test_a_unit_released_by_another_process_counts(mp: BaseContext) -> None:
    def scenario(kind: Any) -> int:
        semaphore = kind(1)
        semaphore.acquire()
        in_child(semaphore.release)
        return semaphore.get_value()

    assert in_child(scenario, mp.Semaphore) == 1
    assert in_child(scenario, mp.BoundedSemaphore) == 1


# Conditions


@pytest.mark.parametrize("lock", ["Lock", "RLock"])
def test_a_notification_reaches_a_process(mp: BaseContext, lock: str) -> None:
    condition = mp.Condition(getattr(mp, lock)())
    memory = mp.RawArray("i", 1)

    def wait() -> bool:
        with condition:
            say()
            got = condition.wait(10)
            assert condition._lock._semlock._is_mine()
            memory[0] = 7
            return got

    with Child(wait) as child:
        child.heard()
        with condition:  # it waits by now: the lock is free
            condition.notify()
        assert child.result() is True
    assert memory[0] == 7


def test_a_wait_gives_back_a_lock_taken_often_and_takes_it_as_often(mp: BaseContext) -> None:
    condition = mp.Condition()

    def wait() -> tuple[bool, int]:
        with condition, condition, condition:
            say()
            return condition.wait(10), condition._lock._semlock._count()

    with Child(wait) as child:
        child.heard()
        with condition:
            condition.notify()
        assert child.result() == (True, 3)


def waiting(condition: Any) -> int:
    with condition:
        return int(re.search(r", (\d+)\)>$", repr(condition))[1])


def test_notify_wakes_as_many_as_it_says(mp: BaseContext) -> None:
    condition, woken = mp.Condition(), mp.Semaphore(0)

    def wait() -> None:
        with condition:
            say()
            condition.wait()
            woken.release()

    children = [Child(wait) for _ in range(5)]
    for child in children:
        child.heard()
    assert waiting(condition) == 5
    for count, left in ((2, 3), (0, 3), (1, 2)):
        with condition:
            condition.notify(count)
        for _ in range(count):
            assert woken.acquire(True, 10)
        assert waiting(condition) == left
        assert not woken.acquire(False)
    with condition:
        condition.notify_all()
    for child in children:
        child.result()
        child.__exit__(None, None, None)
    assert waiting(condition) == 0


def test_wait_for_looks_again_after_each_notification(mp: BaseContext) -> None:
    condition, memory = mp.Condition(), mp.RawArray("i", 1)

    def wait() -> int:
        with condition:
            say()
            return condition.wait_for(lambda: memory[0] if memory[0] == 4 else 0, 10)

    with Child(wait) as child:
        child.heard()
        for value in range(1, 5):
            with condition:
                memory[0] = value
                condition.notify()
        assert child.result() == 4


def test_wait_for_gives_up_when_the_time_is_up(mp: BaseContext) -> None:
    condition = mp.Condition()
    with condition:
        begin = time.monotonic()
        assert condition.wait_for(lambda: "", timeout=0.1) == ""
        assert time.monotonic() - begin >= 0.1


# Events


def test_an_event_wakes_all_who_wait(mp: BaseContext) -> None:
    event = mp.Event()

    def wait() -> bool:
        say()
        return event.wait(10)

    with Child(wait) as one, Child(wait) as two:
        one.heard(), two.heard()
        one.asleep(), two.asleep()
        thread = Thread(event.wait)
        event.set()
        assert one.result() and two.result() and thread.result()


def test_an_event_set_in_a_child_is_set_here(mp: BaseContext) -> None:
    event = mp.Event()
    in_child(event.set)
    assert event.is_set() and event.wait()
    in_child(event.clear)
    assert not event.wait(0)


# Barriers


def test_a_barrier_lets_all_through_at_once(mp: BaseContext) -> None:
    barrier, memory = mp.Barrier(4), mp.RawArray("i", 4)

    def pass_often() -> list[int]:
        indices = []
        for _ in range(20):
            indices.append(barrier.wait(10))
            memory[indices[-1]] += 1
            barrier.wait(10)
        return indices

    with Child(pass_often) as one, Child(pass_often) as two:
        threads = [Thread(pass_often), Thread(pass_often)]
        rounds = zip(*(worker.result() for worker in (one, two, *threads)), strict=True)
        assert all(sorted(indices) == [0, 1, 2, 3] for indices in rounds)
    assert list(memory) == [20] * 4
    assert barrier.n_waiting == 0 and not barrier.broken


def test_the_action_runs_once_before_anybody_passes(mp: BaseContext) -> None:
    memory = mp.RawArray("i", 1)

    def act() -> None:
        memory[0] += 1

    barrier = mp.Barrier(3, act)

    def enter() -> int:
        barrier.wait(10)
        return memory[0]

    with Child(enter) as one, Child(enter) as two:
        assert enter() == one.result() == two.result() == 1


def broken(barrier: Any, timeout: float = 10) -> bool:
    say()
    try:
        barrier.wait(timeout)
    except threading.BrokenBarrierError:
        return True
    return False


@pytest.mark.parametrize("how", ["abort", "reset"])
def test_abort_and_reset_break_the_wait_of_others(mp: BaseContext, how: str) -> None:
    barrier = mp.Barrier(3)
    with Child(broken, barrier) as one, Child(broken, barrier) as two:
        one.heard(), two.heard()
        one.asleep(), two.asleep()
        assert barrier.n_waiting == 2
        getattr(barrier, how)()
        assert one.result() and two.result()
    assert barrier.broken is (how == "abort")
    assert barrier.n_waiting == 0


def test_one_who_gives_up_breaks_the_barrier_for_the_others(mp: BaseContext) -> None:
    barrier = mp.Barrier(3)
    with Child(broken, barrier) as patient, Child(broken, barrier, 0.1) as hasty:
        assert patient.result() and hasty.result()
    assert barrier.broken


def test_an_action_that_raises_breaks_the_barrier(mp: BaseContext) -> None:
    barrier = mp.Barrier(2, lambda: 1 // 0)
    with Child(broken, barrier) as child:
        child.heard()
        child.asleep()
        with pytest.raises(ZeroDivisionError):
            barrier.wait(10)
        assert child.result()
    assert barrier.broken
    barrier.reset()
    assert not barrier.broken


# Objects


KINDS = ["Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition", "Event"]


@pytest.mark.parametrize("kind", KINDS)
def test_classes_can_be_extended(mp: BaseContext, kind: str) -> None:
    base = type(getattr(mp, kind)())

    class Mine(base):
        def __init__(self, colour: str) -> None:
            super().__init__(ctx=mp)
            self.colour = colour

        def set_colour(self, colour: str) -> None:
            self.colour = colour

    mine = Mine("red")
    mine.set_colour("blue")
    assert mine.colour == "blue"
    assert "Mine" in repr(mine)
    assert isinstance(mine, base)


@pytest.mark.parametrize("kind", KINDS)
def test_objects_take_attributes_and_weak_references(mp: BaseContext, kind: str) -> None:
    thing = getattr(mp, kind)()
    thing.note = [thing]  # a cycle
    gone = weakref.ref(thing)
    assert gone() is thing
    del thing
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("kind", [*KINDS, "Queue", "JoinableQueue", "SimpleQueue"])
def test_attributes_are_in_a_dict(mp: BaseContext, kind: str) -> None:
    class Named(type(getattr(mp, kind)())):
        def __init__(self, **names: Any) -> None:
            super().__init__(ctx=mp)
            self.__dict__.update(names)

    named = Named(colour="red")
    vars(named)["size"] = 7
    assert (named.colour, named.size) == ("red", 7)
    assert vars(named)["colour"] == "red"
    plain = getattr(mp, kind)()
    plain.note = 5
    assert vars(plain)["note"] == 5


def test_attributes_of_barriers_and_values_are_in_a_dict(mp: BaseContext) -> None:
    for thing in (mp.Barrier(1), mp.Value("i"), mp.Array("i", 1), mp.Pipe()[0]):
        thing.note = 5
        assert vars(thing)["note"] == 5
        vars(thing)["size"] = 7
        assert thing.size == 7


def test_methods_that_a_subclass_overrides_are_called(mp: BaseContext) -> None:
    class Counting(type(mp.Lock())):
        entered = 0

        def __enter__(self) -> bool:
            self.entered += 1
            return super().__enter__()

    class Waiting(type(mp.Condition())):
        waits = 0

        def wait(self, timeout: float | None = None) -> bool:
            self.waits += 1
            return super().wait(timeout)

    lock = Counting(ctx=mp)
    condition = Waiting(lock, ctx=mp)
    with condition:
        condition.wait_for(lambda: condition.waits == 2, 10 if condition.waits else 0.01)
    assert lock.entered == 1
    assert condition.waits >= 1


def test_a_shared_value_works_with_the_locks(mp: BaseContext) -> None:
    value = mp.Value("i", 5)

    def add() -> None:
        with value.get_lock():
            value.value += 1

    in_child(add)
    assert value.value == 6
    assert mp.Value("i", 1, lock=mp.Lock()).value == 1


def test_a_queue_works_with_the_locks(mp: BaseContext) -> None:
    queue = mp.JoinableQueue(2)
    with Child(lambda: [(queue.get(timeout=10), queue.task_done())[0] for _ in range(3)]) as child:
        for number in range(3):
            queue.put(number, timeout=10)
        queue.join()
        assert child.result() == [0, 1, 2]
    assert queue.qsize() == 0 and queue.empty() and not queue.full()
    queue.close()
    queue.join_thread()


@pytest.mark.skipif(not hasattr(type(THEIRS.Lock()), "locked"), reason="came with 3.14")
@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore", "BoundedSemaphore"])
def test_locked(kind: str) -> None:
    calls = ["locked()", "acquire()", "locked()", "release()", "locked()"]
    assert did(getattr(OURS, kind)(), calls) == did(getattr(THEIRS, kind)(), calls)


def test_locked_is_there_on_every_python() -> None:
    lock = OURS.Lock()
    with lock:
        assert lock.locked()
        assert in_child(lock.locked)
    assert not lock.locked()


@pytest.mark.parametrize("kind", KINDS)
def test_public_names_are_those_of_the_standard_class(kind: str) -> None:
    def public(context: BaseContext) -> set[str]:
        return {name for name in dir(getattr(context, kind)()) if not name.startswith("_")}

    ours, theirs = public(OURS), public(THEIRS)
    assert theirs - ours == set()
    assert ours - theirs <= {"abandoned", "abandoned_pid", "locked"}


def test_the_memory_of_a_freed_object_is_found_again() -> None:
    before = leveret._core.session_stats()["objects"]
    things = [getattr(OURS, kind)() for kind in KINDS for _ in range(100)]
    assert leveret._core.session_stats()["objects"] > before
    del things
    assert leveret._core.session_stats()["objects"] == before

"""Processes that are asked for one after the other, and waited for together."""

import contextlib
import os
import signal
import sys
from pathlib import Path

import leveret
import pytest
from births import METHODS, eventually, is_there, live, nothing, run_program, stand_still, warm
from leveret import _core, popen, zygote
from leveret.popen import AT_ONCE, together


def start(count: int, target=nothing, context=warm) -> list:
    children = [context.Process(target=target) for _ in range(count)]
    for child in children:
        child.start()
    return children


def end_all(children: list) -> None:
    for child in children:
        child.kill()
        child.join()
        child.close()


def test_none_is_waited_for_before_the_end() -> None:
    with together():
        children = start(8)
        assert not any(child._popen.is_born() for child in children)
    assert len({child.pid for child in children}) == 8
    for child in children:
        child.join()
        assert child.exitcode == 0
        child.close()


@pytest.mark.parametrize("method", [name for name in METHODS if name != "warm"])
def test_other_methods_have_them_born_at_once(method: str) -> None:
    with together():
        children = start(2, context=leveret.get_context(method))
        assert None not in [child.pid for child in children]
    for child in children:
        child.join()
        child.close()


def test_one_within_another_waits_for_its_own() -> None:
    with together():
        (outer,) = start(1)
        with together():
            (inner,) = start(1)
        assert inner._popen.is_born()
        (last,) = start(1)
        assert not (outer._popen.is_born() or last._popen.is_born())
    for child in (outer, inner, last):
        child.join()
        assert child.exitcode == 0
        child.close()


def test_one_that_is_over_before_is_born_first() -> None:
    with together():
        (child,) = start(1)
        until_it_is_over = warm.Process(target=nothing)
        until_it_is_over.start()
        until_it_is_over.join()  # waits for its birth
        eventually(lambda: _core.proc_poll(child._popen._id, 0, 0) is not None)
        assert child.is_alive() and not child._popen.is_born()
        leveret.active_children()
    assert child.pid is not None
    child.join()
    assert child.exitcode == 0
    child.close()
    until_it_is_over.close()


def test_whoever_asks_for_it_waits_for_its_birth() -> None:
    with together():
        joined, killed, watched, named = start(4)
        joined.join()
        killed.kill()
        assert watched.sentinel >= 0
        assert all(child._popen.is_born() for child in (joined, killed, watched))
        assert str(named.pid) in repr(named)
    for child in (killed, watched, named):
        child.join()
    assert joined.exitcode == 0 and killed.exitcode in (0, -signal.SIGKILL)
    for child in (joined, killed, watched, named):
        child.close()


def test_no_more_are_under_way_than_the_kernel_has_room_for() -> None:
    with together():
        children = start(AT_ONCE + 4)
        assert [child._popen.is_born() for child in children] == [True] * 4 + [False] * AT_ONCE
    for child in children:
        child.join()
        child.close()


def have_a_child() -> bool:
    child = warm.Process(target=nothing)
    child.start()
    there = child.pid is not None
    child.join()
    return there and child.exitcode == 0


def test_a_worker_that_was_forked_in_there_is_not_in_there() -> None:
    with leveret.get_context("fork").Pool(1) as pool:
        assert pool.apply(have_a_child)
    pool.join()


def test_a_zygote_that_dies_meanwhile_is_replaced() -> None:
    live()
    mother = zygote.ensure_running().pid
    os.kill(mother, signal.SIGSTOP)
    with together():
        children = start(12, stand_still)
        os.kill(mother, signal.SIGKILL)
    assert all(is_there(child.pid) for child in children)
    end_all(children)
    while zygote.ensure_running().pid == mother:  # its last spares gave birth to all
        live()


def test_an_interrupt_gives_up_who_is_not_born() -> None:
    live()
    mother = zygote.ensure_running().pid
    os.kill(mother, signal.SIGSTOP)
    with pytest.raises(KeyboardInterrupt), together():
        children = start(12, stand_still)
        raise KeyboardInterrupt
    os.kill(mother, signal.SIGCONT)
    assert [child.exitcode for child in children] == [255] * 12
    for child in children:
        child.kill()
        child.join()
        child.close()
    live()  # who was withdrawn is born to nobody


@pytest.mark.skipif(sys.version_info < (3, 12), reason="interrupting.py needs sys.monitoring")
def test_a_pool_that_is_interrupted_anywhere_in_there_leaves_nothing() -> None:
    from interrupting import Interrupt

    live()
    places = 0
    while True:
        interrupt = Interrupt(places + 1, [popen.__file__, contextlib.__file__])
        pool = None
        try:
            with interrupt.armed():
                pool = warm.Pool(3)
        except KeyboardInterrupt:
            assert popen._asked.births is None
        if pool is not None:
            pool.terminate()
            pool.join()
        if not interrupt.where:
            break
        places += 1
    assert places > 50


def test_one_that_is_not_born_is_raised_and_the_others_are_given_up(monkeypatch) -> None:
    births = []

    def refuse(self, *args: object) -> int:
        births.append(args)
        raise OSError(11, "no more processes")

    with monkeypatch.context() as patch:
        patch.setattr(zygote.Zygote, "birth", refuse)
        with pytest.raises(OSError, match="no more processes"), together():
            children = start(3, stand_still)
    assert len(births) == 1
    assert [child.exitcode for child in children] == [255] * 3
    live()
    assert not any(child.is_alive() for child in children)
    for child in children:
        child.close()


def test_a_pool_whose_workers_are_not_born_leaves_nothing(monkeypatch) -> None:
    def refuse(self, *args: object) -> int:
        raise OSError(11, "no more processes")

    with monkeypatch.context() as patch:
        patch.setattr(zygote.Zygote, "birth", refuse)
        with pytest.raises(OSError, match="no more processes"):
            warm.Pool(3)
    live()


def test_children_find_what_they_live_on(tmp_path: Path) -> None:
    """Each would import it for itself: the zygote has it, though the program came to it later."""
    done = run_program(
        tmp_path,
        """
        import sys
        import leveret

        def look():
            print(*sorted(name for name in sys.modules if name.startswith("leveret.")), flush=True)

        def first():
            pass

        if __name__ == "__main__":
            context = leveret.get_context("warm")
            child = context.Process(target=first)
            child.start()
            child.join()
            assert "leveret.queues" not in sys.modules and "leveret.worker" not in sys.modules
            child = context.Process(target=look)
            child.start()
            child.join()
        """,
    )
    assert done.returncode == 0, done.stderr
    assert {"leveret.queues", "leveret.worker", "leveret.synchronize"} <= set(done.stdout.split())

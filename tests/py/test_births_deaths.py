"""Births while others die: zygotes, spares, and children at every age."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from multiprocessing.connection import wait
from pathlib import Path

import leveret
import pytest
from births import (
    GONE_WITHIN_S,
    METHODS,
    PATIENCE_S,
    children_of,
    eventually,
    is_over,
    is_there,
    live,
    nothing,
    stand_still,
    warm,
)
from leveret import zygote


def zygote_pid() -> int:
    live()
    return zygote.ensure_running().pid


# The zygote and its spares


def test_the_next_start_after_the_zygotes_death_works() -> None:
    before = zygote_pid()
    os.kill(before, signal.SIGKILL)
    eventually(lambda: not is_there(before))
    live()
    assert zygote.ensure_running().pid != before


def test_the_zygotes_spares_die_with_it() -> None:
    mother = zygote_pid()
    eventually(lambda: len(children_of(mother)) >= 2)
    spares = children_of(mother)
    os.kill(mother, signal.SIGKILL)
    eventually(lambda: not any(map(is_there, spares)), GONE_WITHIN_S)
    live()


def test_a_child_outlives_the_zygote() -> None:
    mother = zygote_pid()
    child = warm.Process(target=stand_still)
    child.start()
    os.kill(mother, signal.SIGKILL)
    eventually(lambda: not is_there(mother))
    assert child.is_alive()
    child.terminate()
    child.join()
    assert child.exitcode in (-signal.SIGTERM, 255)  # its reaper is gone: only some kernels tell
    child.close()
    live()


def hunting(shoot, times: int, pause_s: float) -> threading.Thread:
    """A thread that shoots so many times; shoot() says whether it had something to shoot at."""

    def hunt() -> None:
        shots = 0
        while shots < times:
            threading.Event().wait(pause_s)
            with contextlib.suppress(ProcessLookupError):
                shots += shoot()

    hunter = threading.Thread(target=hunt)
    hunter.start()
    return hunter


def test_starts_while_zygotes_are_killed() -> None:
    shot: set[int] = set()

    def shoot() -> bool:
        mother = zygote._current
        if mother is None or mother.pid in shot or not mother.desk.ready:
            return False
        os.kill(mother.pid, signal.SIGKILL)
        shot.add(mother.pid)
        return True

    hunter = hunting(shoot, times=5, pause_s=0.1)
    while hunter.is_alive():
        live()
    while zygote_pid() in shot:  # a last spare of it may still have given birth
        pass
    assert len(shot) == 5


def test_starts_while_spares_are_killed() -> None:
    mother = zygote_pid()
    ours: set[int] = set()

    def shoot() -> bool:
        for pid in children_of(mother)[-1:]:
            if pid not in ours:
                os.kill(pid, signal.SIGKILL)
                return True
        return False

    hunter = hunting(shoot, times=40, pause_s=0.01)
    codes = []
    while hunter.is_alive():
        child = warm.Process(target=nothing)
        child.start()
        ours.add(child.pid)
        child.join()
        codes.append(child.exitcode)
        child.close()
    # The hunter may have shot one that was born and that we did not know of yet.
    assert set(codes) <= {0, -signal.SIGKILL} and codes.count(0) > len(codes) // 2
    live()


def test_a_stopped_zygote_delays_births_but_loses_none() -> None:
    mother = zygote_pid()
    os.kill(mother, signal.SIGSTOP)
    children = [warm.Process(target=nothing) for _ in range(6)]
    starters = [threading.Thread(target=child.start) for child in children]
    for starter in starters:
        starter.start()
    os.kill(mother, signal.SIGCONT)
    for starter in starters:
        starter.join()
    for child in children:
        child.join()
        assert child.exitcode == 0
        child.close()


def test_a_zygote_that_somebody_else_reaped_is_replaced() -> None:
    first = zygote_pid()
    os.kill(first, signal.SIGKILL)
    os.waitpid(first, 0)
    live()
    assert zygote_pid() != first


# Children of every method


def test_how_a_killed_child_ended_is_known() -> None:
    for number in (signal.SIGKILL, signal.SIGUSR1, signal.SIGTERM):
        child = warm.Process(target=stand_still)
        child.start()
        os.kill(child.pid, number)
        child.join()
        assert child.exitcode == -number
        child.close()


@pytest.mark.parametrize("method", METHODS)
def test_many_children_killed_at_random_ages(method: str) -> None:
    context = leveret.get_context(method)
    children = [context.Process(target=stand_still) for _ in range(12)]
    for age, child in enumerate(children):
        child.start()
        threading.Event().wait(0.0005 * age)
        child.kill()
    for child in children:
        child.join()
        assert child.exitcode == -signal.SIGKILL
        child.close()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("order", ["terminate", "kill", "interrupt"])
def test_who_has_ended_can_be_told_to_end(method: str, order: str) -> None:
    child = leveret.get_context(method).Process(target=nothing)
    child.start()
    eventually(lambda: is_over(child.pid))
    getattr(child, order)()
    child.join()
    assert child.exitcode == 0
    child.close()


@pytest.mark.parametrize("method", ["warm", "fork"])
def test_signals_are_sent_without_a_free_descriptor(method: str) -> None:
    child = leveret.get_context(method).Process(target=stand_still)
    child.start()
    taken = []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))
        child.kill()
    finally:
        for fd in taken:
            os.close(fd)
    child.join()
    assert child.exitcode == -signal.SIGKILL
    child.close()


@pytest.mark.parametrize("method", ["warm", "fork"])
@pytest.mark.parametrize("status", [2**40, 2**80, -(2**80)])
def test_an_exit_status_beyond_all_bounds(method: str, status: int) -> None:
    child = leveret.get_context(method).Process(target=sys.exit, args=(status,))
    child.start()
    child.join(PATIENCE_S)
    assert child.exitcode == (0 if status == 2**40 else 255)
    child.close()


# Forked children


def test_forked_children_leave_no_zombie_behind_for_long() -> None:
    context = leveret.get_context("fork")
    for _ in range(20):
        child = context.Process(target=nothing)
        child.start()
        child.join()
        child.close()
    eventually(lambda: not leveret.active_children() and not zombies())


def zombies() -> list[int]:
    return [pid for pid in children_of(os.getpid()) if not is_there(pid)]


def test_the_pid_of_a_forked_child_is_noted(monkeypatch) -> None:
    """So that its slot waits for it, should it be stopped before its first instruction."""
    from leveret import _core

    noted = []
    monkeypatch.setattr(_core, "proc_forked", lambda _, pid: noted.append(pid))
    child = leveret.get_context("fork").Process(target=nothing)
    child.start()
    child.join()
    assert noted == [child.pid]
    child.close()


def test_others_children_are_not_reaped() -> None:
    other = subprocess.Popen([sys.executable, "-c", "raise SystemExit(5)"])
    context = leveret.get_context("fork")
    for _ in range(5):
        child = context.Process(target=nothing)
        child.start()
        child.join()
        child.close()
    assert other.wait(PATIENCE_S) == 5


def test_a_child_that_somebody_else_reaps() -> None:
    child = leveret.get_context("fork").Process(target=nothing)
    child.start()
    assert os.waitpid(child.pid, 0)[0] == child.pid
    child.join()
    assert child.exitcode == 0
    child.close()


# Children that become another program


@pytest.mark.parametrize("method", METHODS)
def test_a_child_that_becomes_another_program_is_alive(method: str) -> None:
    child = leveret.get_context(method).Process(
        target=os.execv, args=("/bin/sleep", ["sleep", "60"])
    )
    child.start()
    eventually(lambda: Path(f"/proc/{child.pid}/comm").read_text() == "sleep\n")
    assert child.is_alive()
    began = time.monotonic()
    child.join(0.05)
    assert time.monotonic() - began < PATIENCE_S / 4
    assert child.exitcode is None
    os.kill(child.pid, signal.SIGTERM)
    child.join()
    assert child.exitcode == -signal.SIGTERM
    child.close()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("order", ["terminate", "kill"])
def test_a_child_that_became_another_program_can_be_ended(method: str, order: str) -> None:
    child = leveret.get_context(method).Process(
        target=os.execv, args=("/bin/sleep", ["sleep", "60"])
    )
    child.start()
    eventually(lambda: Path(f"/proc/{child.pid}/comm").read_text() == "sleep\n")
    assert not wait([child.sentinel], 0.05)
    getattr(child, order)()
    child.join(PATIENCE_S)
    assert child.exitcode == -(signal.SIGTERM if order == "terminate" else signal.SIGKILL)
    child.close()

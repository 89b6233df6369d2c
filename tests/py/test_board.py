"""A board's workers and its owner: rows, orders, waits, and who may do what.

    owner                           the board                        worker
    look, order, settle, bury  -->  row: who, what it claimed,  <--  enlist, work: until there is
    wait, watch: for results        what it runs, since when         nothing more, or enough
    and deaths

What a task is: test_board_tasks.py; whose its result is: test_board_jobs.py; and what goes wrong:
test_board_errors.py, _deaths.py, _memory.py, _reentry.py.
"""

import os
import signal
import threading
import time
from typing import Any

import leveret
import pytest
from boards import (
    MIB,
    alone,
    call_hook,
    calling,
    fail,
    results_of,
    same,
    square,
    told,
    unsendable,
)
from forked import PATIENCE_S, Child, Thread, in_child, say
from leveret import _core
from leveret._core import (
    FAILED,
    ITEM,
    READY,
    UNFIT,
    VALUE,
    Batch,
    Board,
    Function,
)

# Workers


def test_ready_and_unfit() -> None:
    board = Board(4)
    with pytest.raises(RuntimeError, match="enlist"):
        board.ready(1)
    board.enlist(2)
    board.ready({"pid": 5})
    board.unfit([b"x" * 10_000])
    assert told(board) == [
        (None, 2, READY, {"pid": 5}),
        (None, 2, UNFIT, [b"x" * 10_000]),
    ]
    assert board.look(2).finished == 0  # type: ignore[union-attr]


def test_rows() -> None:
    board = Board(2)
    assert board.look(0) is None and board.over() == []
    for call in (board.look, board.settle, board.bury, board.enlist):
        with pytest.raises(IndexError, match="no row 2 on a board of 2"):
            call(2)
        with pytest.raises((OverflowError, TypeError)):
            call(-1)
    with pytest.raises(ValueError, match="nobody has row 1"):
        board.bury(1)
    board.enlist(1)
    with pytest.raises(ValueError, match="is a worker of this board already"):
        board.enlist(0)
    with pytest.raises(ValueError, match="row 1 has a worker"):
        in_child(board.enlist, 1)
    with pytest.raises(ValueError, match="the worker of row 1 lives"):
        board.bury(1)
    with pytest.raises(ValueError, match="the worker of row 1 lives"):
        board.settle(1)
    for rows in (0, _core.ROWS_MAX + 1):
        with pytest.raises(ValueError, match="a board has 1 to"):
            Board(rows)


def hold(board: Board, row: int) -> None:
    """Enlist, run a task that says so, and never end it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    board.enlist(row)
    board.work(fail, unsendable)


def say_and_wait(x: Any) -> None:
    say(x)
    threading.Event().wait()


def test_a_row_tells_what_its_worker_does_and_did() -> None:
    board = Board(2)
    before = time.monotonic()
    board.put(Function(square), ITEM, 1, "a")
    number = board.put(Function(say_and_wait), ITEM, "!", "b")
    with Child(hold, board, 1) as child:
        assert child.heard() == "!"
        looked = board.look(1)
        assert looked is not None
        assert looked.pid == child.pid
        assert looked.running == number and looked.first <= number < looked.first + looked.claimed
        assert before < looked.since < time.monotonic()
        assert looked[5:] == (1, 0, False)
        board.order(1, number, 3)
        assert board.look(1).order == (1 << 2 | 3) << 32 | number  # type: ignore[union-attr]
        assert board.over() == [] and not board.watch(0)
    assert board.watch(PATIENCE_S) and board.wait(PATIENCE_S)
    assert board.over() == [1]
    board.settle(1)
    assert board.take() == [("a", 0, VALUE, 1)]
    buried = board.bury(1)
    assert buried[1:4] == looked[1:4] and board.look(1) is None
    assert board.find(number) == ("b", 0) and board.strike(number)


def test_most_and_between() -> None:
    board, batch = Board(1), Batch(10)
    board.put_many(Function(square), ITEM, range(10), batch)
    board.enlist(0)
    assert board.work(fail, unsendable, most=3) == "enough"
    assert board.waiting() == 7
    answers = iter([False, 0, [1]])
    assert board.work(fail, unsendable, between=lambda: next(answers)) == "between"
    assert board.waiting() == 4
    with pytest.raises(StopIteration):
        board.work(fail, unsendable, between=lambda: next(answers))
    assert board.waiting() == 3
    board.close()
    assert board.work(fail, unsendable) == "closed"
    assert board.take() == [batch]
    with pytest.raises(ValueError, match="the board is closed"):
        board.put(Function(square), ITEM, 1, "job")
    with pytest.raises(ValueError, match="the board is closed"):
        board.put_many(Function(square), ITEM, [1], "job")
    for kwargs in ({"most": -1}, {"workers": 0}, {"workers": 1 << 20}):
        with pytest.raises(ValueError, match="most is at least 0"):
            board.work(fail, unsendable, **kwargs)


def test_cancelled_tasks_are_not_run() -> None:
    board, function, ran = Board(1), Function(call_hook), []
    numbers = [board.put(function, ITEM, n, n) for n in range(4)]
    numbers.append(board.put(function, ITEM, bytes(MIB), 4))
    assert board.cancel(numbers[1]) and board.cancel(numbers[3]) and board.cancel(numbers[4])
    assert not board.cancel(numbers[1]) and not board.strike(numbers[1])  # it was this one's
    assert not board.cancel(99)
    assert board.outstanding() == 2
    with calling(lambda: ran.append(board.running())):
        assert alone(board) == [(n, 0, VALUE, None) for n in (0, 2)]
    assert ran == [numbers[0], numbers[2]]
    assert board.look(0).finished == 2  # type: ignore[union-attr]
    assert not board.cancel(numbers[0])


def test_orders_and_what_runs() -> None:
    board = Board(1)
    board.close()
    assert board.ordered() == (0, 0, 0) and board.running() is None
    board = Board(1)
    number = board.put(Function(call_hook), ITEM, 0, "job")
    with calling(lambda: (board.running(), board.ordered(), in_child(board.running))):
        [(_, _, _, value)] = alone(board)
    assert value == (number, (0, 0, 0), None)
    assert board.running() is None


def test_each_order_has_its_signal() -> None:
    """Also where who gives it was interrupted, and does it again."""
    board, signals = Board(1), list[tuple[int, int, int]]()
    board.order(0, 5, 1)  # nobody is there
    board.put(Function(call_hook), ITEM, 0, "job")

    def order() -> None:
        for number in (5, 5, 6, 6, 5):
            board.order(0, number, 2)

    before = signal.signal(signal.SIGINT, lambda *_: signals.append(board.ordered()))
    try:
        with calling(order):
            alone(board)
    finally:
        signal.signal(signal.SIGINT, before)
    assert signals == [(5, 2, 1), (6, 2, 2), (5, 2, 3)]
    for why in (0, 4):
        with pytest.raises(ValueError, match=f"why is 1 to 3, not {why}"):
            board.order(0, 5, why)


def enlist_and_stay(board: Board) -> None:
    board.enlist(0)
    say()
    signal.pause()


def ordered_of_a_new_worker(board: Board) -> Any:
    board.enlist(0)
    return board.ordered()


def test_a_new_worker_has_no_orders_of_the_last_one() -> None:
    """Else its first Ctrl-C would be taken for that of an order, and be lost."""
    board = Board(1)
    with Child(enlist_and_stay, board) as child:
        child.heard()
        board.order(0, 5, 1)
    board.settle(0)
    assert board.bury(0).order != 0
    with Child(ordered_of_a_new_worker, board) as child:
        assert child.result() == (0, 0, 0)


def test_a_claim_is_a_share_of_half_of_those_that_wait() -> None:
    """So nobody is without work at the end while another one has much of it."""
    board, count, workers = Board(1), 2000, 4
    board.put_many(Function(call_hook), ITEM, range(count), Batch(count))
    board.close()
    board.enlist(0)
    seen: list[tuple[int, int]] = []  # what is left of the claim, what waits
    with calling(lambda: seen.append((board.look(0).claimed, board.waiting()))):
        board.work(fail, unsendable, workers=workers)
    assert len(seen) == count and max(seen)[0] > 1
    assert all(left == 1 or left * 2 * workers <= left + waiting for left, waiting in seen)


# Waiting


def test_waits_end_with_a_timeout() -> None:
    board = Board(1)
    begin = time.monotonic()
    assert not board.wait(0.05) and not board.watch(0.05)
    assert time.monotonic() - begin >= 0.1
    assert not board.wait(0) and not board.watch(0)
    for wrong in ("x", float("nan")):
        with pytest.raises((TypeError, ValueError)):
            board.wait(wrong)  # type: ignore[arg-type]


def test_an_interrupt_ends_waits_of_all_threads() -> None:
    board = Board(1)
    threads = [Thread(board.wait, None), Thread(board.watch, None)]
    for thread in threads:
        thread.asleep()
    board.interrupt()
    assert [thread.result() for thread in threads] == [False, False]


def test_an_interrupt_that_is_early_ends_the_next_wait() -> None:
    board = Board(1)
    board.interrupt()
    assert not board.wait(None)


def test_a_signal_handler_runs_while_it_waits() -> None:
    board = Board(1)

    def handler(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, handler)
    try:
        for call in (board.wait, board.watch):
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(KeyboardInterrupt):
                call(PATIENCE_S)
    finally:
        signal.signal(signal.SIGALRM, before)


def wait_for_a_signal(_: Any) -> None:
    say("!")
    threading.Event().wait()


def idle(board: Board) -> str:
    board.enlist(0)
    try:
        return board.work(fail, unsendable)
    except KeyboardInterrupt:
        return "interrupted"


def test_an_interrupt_in_a_task_is_the_tasks() -> None:
    board = Board(1)
    board.put(Function(wait_for_a_signal), ITEM, 0, "job")
    with Child(idle, board) as child:
        assert child.heard() == "!"
        child.asleep()  # one that comes between its last look and its sleep is heeded behind it
        child.signal(signal.SIGINT)
        assert results_of(board, 1) == [("job", 0, FAILED, ("KeyboardInterrupt", ""))]
        child.asleep()
        child.signal(signal.SIGINT)
        assert child.result() == "interrupted"


# Processes that are not the owner, and the owner's end


def test_others_than_the_owner_are_told_so() -> None:
    board = Board(1)
    function = Function(square)
    board.put(function, ITEM, 1, "job")
    text = f"this board belongs to process {os.getpid()}"
    for call in (
        lambda: board.put(function, ITEM, 1, "job"),
        lambda: board.put_many(function, ITEM, [1], "job"),
        board.take,
        lambda: board.wait(0),
        lambda: board.watch(0),
        lambda: board.cancel(0),
        lambda: board.bury(0),
    ):
        with pytest.raises(RuntimeError, match=text):
            in_child(call)
    assert board.outstanding() == 1


def own_and_die(answers: Any) -> None:
    board = Board(2)
    child = Child(idle_telling, board, answers, 0)
    busy = Child(idle_telling, board, answers, 1)
    assert child.heard() == busy.heard() == "."
    child.asleep()
    for _ in range(1000):
        board.put(Function(same), ITEM, 0, "job")
    os._exit(0)


def idle_telling(board: Board, answers: Any, row: int) -> None:
    import ctypes

    ctypes.CDLL(None).prctl(1, 0)  # it is to notice by itself
    board.enlist(row)
    say()
    answers.put(board.work(fail, unsendable))


def test_workers_notice_that_the_owner_is_gone() -> None:
    answers = leveret.Queue()
    with Child(own_and_die, answers) as owner:
        os.waitpid(owner.pid, 0)
        owner._over = True
        assert [answers.get(timeout=PATIENCE_S) for _ in range(2)] == ["closed"] * 2


def work_in_step(boards: list[Board], rounds: Any, row: int) -> set[str]:
    """Work on each board when the other one begins to."""
    answers = set()
    for number, board in enumerate(boards, 1):
        board.enlist(row)
        rounds[row] = number
        while rounds[1 - row] < number:
            pass
        answers.add(board.work(fail, unsendable))
    return answers


def test_a_large_task_that_another_one_has_taken() -> None:
    """Two see it and one has it: the other finds nothing, as if it had looked a little later."""
    boards, function = [Board(2) for _ in range(300)], Function(len)
    for board in boards:
        board.put(function, ITEM, bytes(10_000), "job")
        board.close()
    rounds = leveret.RawArray("i", 2)
    with (
        Child(work_in_step, boards, rounds, 0) as one,
        Child(work_in_step, boards, rounds, 1) as other,
    ):
        assert one.result() == other.result() == {"closed"}


def never() -> bool:
    return False


def work_one_by_one(board: Board) -> None:
    board.enlist(0)
    board.work(fail, unsendable, between=never)


def keep_going(pid: int) -> None:
    """Let a stopped process go on, now and then."""
    while True:
        time.sleep(2.0)
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("what", ["revoke", "cancel"])
def test_a_worker_that_is_stopped_as_it_claims_holds_up_one_thread(what: str) -> None:
    """Sooner or later it is stopped with the mutex."""
    board, function = Board(1), Function(len)
    number = board.put(function, ITEM, "", "job")
    with Child(work_one_by_one, board) as child, Child(keep_going, child.pid):
        for _ in range(1000):
            board.take()
            board.put_many(function, ITEM, [""] * 2000, "job")
            child.signal(signal.SIGSTOP)
            os.waitpid(child.pid, os.WUNTRACED)
            before = time.monotonic()
            thread = Thread(getattr(board, what), 0 if what == "revoke" else number)
            thread._thread.join(0.05)
            waits = thread._thread.is_alive()
            child.signal(signal.SIGCONT)
            assert time.monotonic() - before < 1.0, "all threads were held up"
            thread.result()
            if waits:
                break
        assert waits

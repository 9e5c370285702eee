from __future__ import annotations

import gc
import threading
import weakref

import pytest
import trio

from chatmail.adapters.system.threads import OneThread, ThreadPool
from chatmail.domain.model.errors import Overloaded


async def test_runs_in_a_named_thread_and_passes_results_and_errors() -> None:
    pool = ThreadPool("hash", 1, 4)
    name = await pool.run(lambda: threading.current_thread().name)
    assert "hash" in name
    assert await pool.run(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await pool.run(divmod, 7, 0)


async def test_no_more_calls_at_once_than_slots() -> None:
    pool = ThreadPool("hash", 2, 100)
    running, most = set(), 0
    lock = threading.Lock()

    def work(number: int) -> None:
        nonlocal most
        with lock:
            running.add(number)
            most = max(most, len(running))
        with lock:
            running.discard(number)

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(pool.run, work, number)
    assert most <= 2


async def test_full_line_is_refused_and_frees_again() -> None:
    pool = ThreadPool("hash", 1, 2)
    release = trio.Event()

    async def hold() -> None:
        async with pool.slot():
            await release.wait()

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(hold)
        await trio.testing.wait_all_tasks_blocked()
        assert pool.waiting == 2
        with pytest.raises(Overloaded):
            await pool.run(int)
        release.set()
    assert await pool.run(int) == 0


async def test_cancelled_waiter_leaves_the_line() -> None:
    pool = ThreadPool("hash", 1, 5)
    async with pool.slot():
        with trio.move_on_after(0):
            await pool.run(int)
        assert pool.waiting == 0


async def test_one_thread_makes_all_calls_and_passes_results_and_errors() -> None:
    one = OneThread("chatmail writer")
    first = await one.run(threading.current_thread)
    assert first.name == "chatmail writer"
    assert await one.run(threading.current_thread) is first
    assert await one.run(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await one.run(divmod, 7, 0)
    one.close()
    await trio.to_thread.run_sync(first.join)


async def test_a_call_that_was_begun_is_waited_for() -> None:
    one, begun, end = OneThread("x"), trio.Event(), threading.Event()
    token, ended = trio.lowlevel.current_trio_token(), []

    def work() -> None:
        token.run_sync_soon(begun.set)
        end.wait()
        ended.append(True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run, work)
        await begun.wait()
        nursery.cancel_scope.cancel()
        end.set()
    assert ended
    one.close()


async def test_after_closing_a_call_begins_another_thread() -> None:
    one = OneThread("x")
    one.close()
    first = await one.run(threading.current_thread)
    one.close()
    second = await one.run(threading.current_thread)
    assert first is not second
    one.close()
    await trio.to_thread.run_sync(first.join)
    await trio.to_thread.run_sync(second.join)


async def test_what_a_call_was_given_does_not_live_on() -> None:
    one = OneThread("x")

    class Thing:
        pass

    thing = Thing()
    seen = weakref.ref(thing)
    await one.run(lambda _: None, thing)
    del thing
    await one.run(int)  # the thread has left the first call
    gc.collect()
    assert seen() is None
    one.close()

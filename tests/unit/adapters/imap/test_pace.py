"""Long commands are fair to others and never silent for long."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from chatmail.adapters.imap.pace import SILENT_S
from tests.unit.adapters.imap.test_search import LETTER
from tests.unit.adapters.imap.world import MESSAGE, Client, World


def slow(world: World, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Make every read of content take its time."""
    for name in ("read", "read_many"):
        run: Callable[..., Awaitable[Any]] = getattr(world.store, name)

        def delayed(*arguments: Any, run: Any = run) -> Awaitable[Any]:
            async def wait() -> Any:
                await trio.sleep(seconds)
                return await run(*arguments)

            return wait()

        monkeypatch.setattr(world.store, name, delayed)


async def pauses(client: Client, command: bytes) -> tuple[list[bytes], list[float]]:
    """Run a command; return its lines and how long each was waited for."""
    await client.send(b"a " + command + b"\r\n")
    lines, gaps = [], []
    while not lines or not lines[-1].startswith(b"a "):
        before = trio.current_time()
        lines.append(await client.line())
        gaps.append(trio.current_time() - before)
    assert lines[-1].startswith(b"a OK"), lines[-1]
    return lines, gaps


@pytest.mark.parametrize("item", [b"BODYSTRUCTURE", b"(ENVELOPE BODY)", b"BODY.PEEK[1.MIME]"])
async def test_lines_of_cold_messages_leave_as_they_come(
    item: bytes, monkeypatch: pytest.MonkeyPatch, autojump_clock: object
) -> None:
    world = World()
    for _ in range(50):
        world.deliver(LETTER)
    async with world.session() as client:
        slow(world, monkeypatch, 0.25)
        lines, gaps = await pauses(client, b"FETCH 1:* " + item)
        assert len(lines) == 51
        assert max(gaps) <= 1.5


async def test_a_large_cold_message_is_announced_as_work(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: object
) -> None:
    world = World()
    world.deliver(LETTER.replace(b"--b--", b"x" * 2_000_000 + b"\r\n--b--"))
    async with world.session() as client:
        slow(world, monkeypatch, 2.0)
        lines, gaps = await pauses(client, b"FETCH 1 BODYSTRUCTURE")
        assert max(gaps) < SILENT_S + 5
        assert lines[0] == b"* OK Still working"
        assert set(lines[:-2]) == {b"* OK Still working"}
        assert lines[-2].startswith(b"* 1 FETCH (BODYSTRUCTURE (")


@pytest.mark.parametrize("key", [b"TEXT nowhere", b"SUBJECT nowhere", b"NOT BODY hello"])
async def test_a_search_over_cold_messages_is_never_silent_for_long(
    key: bytes, monkeypatch: pytest.MonkeyPatch, autojump_clock: object
) -> None:
    world = World()
    for _ in range(640):
        world.deliver(MESSAGE)
    async with world.session() as client:
        slow(world, monkeypatch, 4.0)
        *lines, _, _ = (await pauses(client, b"SEARCH " + key))[0]
        assert lines
        assert set(lines) == {b"* OK Still working"}


async def test_a_quick_command_says_nothing_more() -> None:
    world = World()
    for _ in range(30):
        world.deliver(LETTER)
    async with world.session() as client:
        before = len(client.server.writes)
        assert len(await client.ok(b"FETCH 1:* BODYSTRUCTURE")) == 30
        assert len(client.server.writes) == before + 1


async def test_others_have_their_turn_while_one_searches(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.deliver(LETTER.replace(b"--b--", b"--b\r\n\r\n" + b"x \r\n" * 250_000 + b"--b--"))
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with world.session() as client, trio.open_nursery() as nursery:
        nursery.start_soon(count)
        await client.ok(b"NOOP")
        for command in (b"SEARCH BODY nowhere", b"FETCH 1 BODYSTRUCTURE"):
            before = turns
            await client.ok(command)
            assert turns - before > 16
        nursery.cancel_scope.cancel()

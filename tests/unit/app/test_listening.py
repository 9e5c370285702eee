from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import attrs
import pytest
import trio
import trio.testing

from chatmail.adapters.net.crowds import ConnectionLimits, Crowd
from chatmail.adapters.net.errors import BindError
from chatmail.adapters.net.listeners import Face, FaceListener, TlsMode
from chatmail.adapters.net.streams import Stream
from chatmail.adapters.net.turns import Turns
from chatmail.app.config_keys import BootConfig
from chatmail.app.config_sections import ListenSection
from chatmail.app.config_values import listen_addresses
from chatmail.app.listening import Listening

FREE = "127.0.0.1:0"


async def _hang_up(stream: Stream) -> None:
    """Serve nobody."""


def configured(**faces: list[str]) -> BootConfig:
    texts = {"smtp": [], "imap": [], "http": [], "https": [], **faces}
    addresses = {face: listen_addresses(text) for face, text in texts.items()}
    return BootConfig(listen=attrs.evolve(ListenSection(), **addresses))


class World:
    """Three faces in clear, and what the web face was told of their ports."""

    def __init__(self) -> None:
        crowd = Crowd(lambda: ConnectionLimits(10))
        face = Face(handler=_hang_up, crowd=crowd)
        self.ports: dict[str, int] = {}
        relay = SimpleNamespace(
            listeners={
                name: FaceListener(name=name, tls=TlsMode.NONE, face=face)
                for name in ("smtp", "imap", "http")
            },
            keeper=None,
            turns=Turns(),
            log=None,
            site=SimpleNamespace(bound=self.ports.update),
            federation=SimpleNamespace(reach=SimpleNamespace(bound=list)),
        )
        self.listening = Listening(cast("Any", relay))

    async def follow(self, **faces: list[str]) -> list[tuple[str, str, int]]:
        await self.listening.follow(configured(**faces))
        return self.listening.addresses()


@asynccontextmanager
async def open_world() -> AsyncIterator[World]:
    world = World()
    async with trio.open_nursery() as sessions, trio.open_nursery() as accept:
        world.listening.live_in(accept, sessions)
        yield world
        accept.cancel_scope.cancel()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def is_open(port: int) -> bool:
    """Ask the kernel, so that no task of ours runs meanwhile."""
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


async def test_follows_the_file_one_listener_at_a_time() -> None:
    async with open_world() as world:
        ((_, _, port),) = await world.follow(imap=[FREE])
        both = await world.follow(imap=[FREE], smtp=[FREE])
        assert [face for face, _, _ in both] == ["smtp", "imap"]
        assert both[1] == ("imap", "127.0.0.1", port)
        assert world.ports == {"smtp": both[0][2], "imap": port}
        assert await world.follow(smtp=[FREE]) == both[:1]
        assert not is_open(port)
        assert is_open(both[0][2])


async def test_an_address_written_in_another_way_is_not_bound_anew() -> None:
    async with open_world() as world:
        before = await world.follow(imap=[FREE])
        port = before[0][2]
        assert await world.follow(imap=[f"127.0.0.1:{port}"]) == before
        assert is_open(port)
        # It is the same listener under its new name: it can be closed by that.
        assert await world.follow() == []
        assert not is_open(port)


async def test_a_new_web_port_opens_early_and_the_old_one_goes_with_the_reload() -> None:
    async with open_world() as world:
        ((_, _, old),) = await world.follow(http=[FREE])
        early = f"127.0.0.1:{free_port()}"
        assert await world.listening.open_early(configured(http=[early], imap=[FREE])) == ()
        assert [face for face, _, _ in world.listening.addresses()] == ["http", "http"]
        assert await world.listening.open_early(configured(http=[early])) == ()
        new = world.listening.addresses()[1][2]
        assert is_open(old)
        assert is_open(new)
        assert await world.follow(http=[early]) == [("http", "127.0.0.1", new)]
        assert not is_open(old)
        assert is_open(new)


async def test_a_web_port_that_is_taken_is_told_and_opens_nothing() -> None:
    async with open_world() as world:
        before = await world.follow(http=[FREE])
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            wanted = f"127.0.0.1:{taken.getsockname()[1]}"
            (problem,) = await world.listening.open_early(configured(http=[wanted]))
        assert wanted.rpartition(":")[2] in problem
        assert world.listening.addresses() == before


async def test_an_address_named_twice_is_opened_once() -> None:
    async with open_world() as world:
        assert len(await world.follow(imap=[FREE, FREE])) == 1


async def test_a_taken_port_leaves_everything_as_it_was() -> None:
    async with open_world() as world:
        before = await world.follow(imap=[FREE])
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            with pytest.raises(BindError):
                await world.follow(smtp=[FREE, f"127.0.0.1:{taken.getsockname()[1]}"])
        assert world.listening.addresses() == before
        assert is_open(before[0][2])

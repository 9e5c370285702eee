"""Receiving: what is held, what is spooled, and what trouble leaves behind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from chatmail.domain.formats.body_digest import BodyDigests, Canonicalization
from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.model.message import Door
from chatmail.domain.usecases.collect import Collect, Collector
from tests.builders import make_message
from tests.unit.fakes.intake import MemoryBlobStore, MemorySpool
from tests.unit.fakes.mailstate import MemoryState

MAX_BYTES = 4 * 1024 * 1024


class FullDisk(MemoryBlobStore):
    """Takes `room` writes, then no more."""

    def __init__(self, room: int) -> None:
        super().__init__(MemoryState())
        self.room = room
        self.opened = 0
        self.open = 0

    @asynccontextmanager
    async def spool(self) -> AsyncIterator[MemorySpool]:
        if self.room < 0:
            raise TransientFailure("no room for a file")
        async with super().spool() as spool:
            self.opened += 1
            self.open += 1
            write = spool.write

            async def limited(chunk: bytes | memoryview) -> None:
                self.room -= 1
                if self.room < 0:
                    self.room = 1000  # it heals at once: nothing may be stored all the same
                    raise TransientFailure("no room")
                await write(chunk)

            spool.write = limited  # type: ignore[method-assign]
            try:
                yield spool
            finally:
                self.open -= 1


def collector(blobs: MemoryBlobStore | None = None) -> Collector:
    return Collect(blobs or MemoryBlobStore(MemoryState()))(Door.SUBMISSION, MAX_BYTES)


async def test_a_peer_that_sends_single_octets_costs_no_more_memory_than_others() -> None:
    octets = make_message(size=40_000)
    async with collector() as message:
        for place in range(len(octets)):
            await message.feed(octets[place : place + 1])
        body = await message.body(message.header())
        assert body.header + b"".join(body.chunks) == octets
        assert len(body.chunks) < 40


async def test_a_peer_that_changes_its_step_loses_nothing() -> None:
    octets = make_message(size=170_000)
    async with collector() as message:
        place = step = 1
        await message.feed(octets[:1])
        while place < len(octets):
            await message.feed(octets[place : place + step])
            place, step = place + step, step * 7 % 8191 + 1
        body = await message.body(message.header())
        assert body.header + b"".join(body.chunks) == octets


@pytest.mark.parametrize("room", [-1, 0, 2, 6])
async def test_after_trouble_with_the_spool_nothing_is_kept_and_nothing_can_be_stored(
    room: int,
) -> None:
    blobs = FullDisk(room)
    octets = make_message(size=1_000_000)
    failures = 0
    async with collector(blobs) as message:
        for place in range(0, len(octets), 65536):
            try:
                await message.feed(octets[place : place + 65536])
            except TransientFailure:
                failures += 1
                assert blobs.open == 0
        assert failures == 1
        assert blobs.opened <= 1
        assert message.size == len(octets)
        assert not message._held
        message.facts()
        with pytest.raises(TransientFailure):
            await message.body(message.header())


@pytest.mark.parametrize("step", [1, 100, 65536])
async def test_without_room_in_memory_a_message_is_spooled_from_its_header_on(step: int) -> None:
    blobs = MemoryBlobStore(MemoryState())
    octets = make_message(size=3000)
    async with Collect(blobs)(Door.APPEND, MAX_BYTES, 0) as message:
        for at in range(0, len(octets), step):
            assert message.is_spooled == (at > octets.index(b"\r\n\r\n") + 3)
            await message.feed(octets[at : at + step])
        assert message.is_spooled
        assert message.facts().size == len(octets)
        body = await message.body(message.header())
        assert isinstance(body.spooled, MemorySpool)
        assert body.header + b"".join(body.spooled.chunks) == octets
    assert blobs.open_spools == 0


@pytest.mark.parametrize("step", [1, 7, 100, 65536])
async def test_the_content_is_hashed_as_it_arrives_without_the_header(step: int) -> None:
    octets = make_message(size=3000)
    digests = BodyDigests(Canonicalization.SIMPLE)
    async with Collect(MemoryBlobStore(MemoryState()))(
        Door.SUBMISSION, MAX_BYTES, digests=digests
    ) as message:
        for place in range(0, len(octets), step):
            await message.feed(octets[place : place + step])
        assert message.digests is digests
        content = octets[len(message.header()) :]
    expected = BodyDigests(Canonicalization.SIMPLE)
    expected.feed(content)
    assert digests.sha256(Canonicalization.SIMPLE) == expected.sha256(Canonicalization.SIMPLE)


async def test_the_forms_of_the_hashes_may_be_chosen_when_the_header_is_complete() -> None:
    octets = make_message(size=1000)
    seen: list[bytes] = []

    def choose(header: bytes) -> BodyDigests:
        seen.append(header)
        return BodyDigests(Canonicalization.RELAXED)

    collect = Collect(MemoryBlobStore(MemoryState()), choose)
    async with collect(Door.SMTP_INBOUND, MAX_BYTES) as message:
        for place in range(0, len(octets), 10):
            await message.feed(octets[place : place + 10])
        assert seen == [message.header()]
        assert message.digests is not None
        assert message.digests.sha256(Canonicalization.RELAXED)
    async with collect(Door.SUBMISSION, MAX_BYTES, digests=BodyDigests()) as message:
        await message.feed(octets)
        assert len(seen) == 1


async def test_a_message_without_end_of_header_is_not_hashed() -> None:
    collect = Collect(MemoryBlobStore(MemoryState()), lambda header: pytest.fail("no header"))
    async with collect(Door.SMTP_INBOUND, MAX_BYTES) as message:
        await message.feed(b"From: x\r\n")
        assert message.digests is None

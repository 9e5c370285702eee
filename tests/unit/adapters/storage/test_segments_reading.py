"""Reading records back: damage is never served, and proof costs no more than it has to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from chatmail.adapters.storage.segments import RECORD_HEADER_BYTES
from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.model.mailbox import MailboxEntry
from tests.unit.adapters.storage.conftest import Opener
from tests.unit.adapters.storage.faults import BROKEN, FaultyFiles
from tests.unit.ports.world import HEADER, Stores


async def one_message(stores: Stores, content: bytes = b"hello\r\n") -> MailboxEntry:
    account = await stores.account()
    await stores.deliver(account.inbox, content=content)
    opened = await stores.mail.open(account.id, "INBOX")
    assert opened is not None
    entry = opened.entry(opened.info().uid_next - 1)
    assert entry is not None
    return entry


def flip(tmp_path: Path, offset: int) -> None:
    path = next((tmp_path / "mail").iterdir())
    raw = bytearray(path.read_bytes())
    raw[offset] ^= 4
    path.write_bytes(raw)


@pytest.mark.parametrize(
    "offset",
    [
        pytest.param(0, id="magic"),
        pytest.param(9, id="blob id"),
        pytest.param(RECORD_HEADER_BYTES + 3, id="header block"),
        pytest.param(RECORD_HEADER_BYTES + len(HEADER) + 2, id="body"),
    ],
)
async def test_a_flipped_bit_is_never_served(opener: Opener, tmp_path: Path, offset: int) -> None:
    async with opener() as stores:
        entry = await one_message(stores)
        flip(tmp_path, offset)
        with pytest.raises(TransientFailure):
            await stores.mail.read(entry, 0, entry.size)
        assert stores.log.events == ["content_damaged"]
        flip(tmp_path, offset)
        assert await stores.mail.read(entry, 0, entry.size) == HEADER + b"hello\r\n"


async def test_a_damaged_header_block_is_not_served_alone(opener: Opener, tmp_path: Path) -> None:
    async with opener() as stores:
        entry = await one_message(stores)
        flip(tmp_path, RECORD_HEADER_BYTES + 3)
        with pytest.raises(TransientFailure):
            await stores.mail.read(entry, 0, entry.header_size)


async def test_resident_content_takes_no_thread(opener: Opener) -> None:
    files = FaultyFiles()
    async with opener(files=files) as stores:
        entry = await one_message(stores)
        await stores.mail.read(entry, 0, entry.size)
        assert "read" not in files.calls


async def test_cold_content_is_read_in_one_hop(opener: Opener) -> None:
    files = FaultyFiles()
    async with opener(files=files) as stores:
        entry = await one_message(stores, b"x" * 100_000)
        files.fail["cold"] = 0
        wanted = [(entry, 0, entry.header_size), (entry, 0, entry.size)]
        parts = await stores.mail.read_many(wanted)
        assert parts == [HEADER, HEADER + b"x" * 100_000]
        assert files.calls.count("read") == 2


def flip_octet(state_dir: Path, octet: bytes) -> None:
    """Change one octet in the middle of the only segment."""
    (path,) = (state_dir / "mail").iterdir()
    raw = bytearray(path.read_bytes())
    raw[raw.rindex(octet)] ^= 1
    path.write_bytes(raw)


@pytest.mark.parametrize("size", [10, 100_000, 2_500_000])
async def test_a_flipped_bit_is_noticed_before_the_first_piece_is_shown(
    opener: Opener, tmp_path: Path, size: int
) -> None:
    async with opener() as stores:
        entry = await one_message(stores, b"x" * size + b"!")
        flip_octet(tmp_path, b"!")
        for start, length in [(0, 40), (5, 3), (entry.header_size, 5), (entry.size - 1, 1)]:
            with pytest.raises(TransientFailure):
                await stores.mail.read(entry, start, length)
        assert set(stores.log.events) == {"content_damaged"}
        assert await stores.mail.read(entry, 0, entry.header_size) == HEADER


async def test_a_record_is_proven_once_for_all_its_pieces(opener: Opener) -> None:
    files = FaultyFiles()
    async with opener(files=files) as stores:
        entry = await one_message(stores, b"x" * 100_000)
        for start in range(0, entry.size, 30_000):
            piece = await stores.mail.read(entry, start, 30_000)
            assert piece == (HEADER + b"x" * 100_000)[start : start + 30_000]
        assert files.calls.count("read") == 2  # header, body; the pieces came from memory


async def test_what_was_read_whole_needs_no_other_proof(opener: Opener) -> None:
    files = FaultyFiles()
    async with opener(files=files) as stores:
        entry = await one_message(stores, b"x" * 1000)
        await stores.mail.read(entry, 0, entry.size)
        await stores.mail.read(entry, 100, 10)
        assert "read" not in files.calls


async def test_a_message_without_a_body_can_be_proven(opener: Opener) -> None:
    async with opener() as stores:
        entry = await one_message(stores, b"")
        assert await stores.mail.read(entry, 1, 5) == HEADER[1:6]


@pytest.mark.parametrize("operation", ["read", "missing"])
async def test_an_unreadable_segment_is_a_transient_failure(
    opener: Opener, tmp_path: Path, operation: str
) -> None:
    files = FaultyFiles()
    async with opener(files=files) as stores:
        entry = await one_message(stores)
        files.fail["cold"] = 0
        files.fail["read"] = BROKEN
        if operation == "missing":
            next((tmp_path / "mail").iterdir()).unlink()
        with pytest.raises(TransientFailure):
            await stores.mail.read(entry, 0, entry.size)
        assert stores.log.events == ["content_unreadable"]


async def test_a_segment_cut_short_is_damaged(opener: Opener, tmp_path: Path) -> None:
    async with opener() as stores:
        entry = await one_message(stores)
        os.truncate(next((tmp_path / "mail").iterdir()), 60)
        with pytest.raises(TransientFailure):
            await stores.mail.read(entry, entry.size - 5, 5)

"""Spools: one record each, nothing left of those that were not committed."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from chatmail.adapters.storage.errors import StoreFailed
from chatmail.adapters.storage.segments import RECORD_HEADER_BYTES, RecordHeader, crc_of
from chatmail.adapters.storage.spool import RESERVED_BYTES
from chatmail.domain.model.errors import LocalProtocolError, PermanentFailure, TransientFailure
from chatmail.domain.model.message import Body
from chatmail.domain.ports.intake import Delivery, IntakeBatch
from tests.unit.adapters.storage.conftest import Opener
from tests.unit.adapters.storage.faults import FULL, FaultyDatabase, FaultyFiles, sqlite_error
from tests.unit.ports.world import HEADER, NOW_S


async def test_a_sealed_spool_is_one_contiguous_record(opener: Opener, tmp_path: Path) -> None:
    async with opener() as stores:
        account = await stores.account()
        async with stores.blobs.spool() as spool:
            await spool.write(b"y" * 200_000)
            body = await spool.seal(HEADER)
            batch = IntakeBatch(
                body=body, internal_date_s=NOW_S, deliveries=(Delivery(account.inbox),)
            )
            await stores.intake.commit(batch)
            assert list((tmp_path / "spool").iterdir()) == []
        (path,) = (tmp_path / "mail").iterdir()
        raw = path.read_bytes()
        start = RESERVED_BYTES - len(HEADER) - RECORD_HEADER_BYTES
        assert raw[start + RECORD_HEADER_BYTES :] == HEADER + b"y" * 200_000
        header = RecordHeader.decode(raw[start:])
        assert header is not None
        assert header.body_crc == crc_of([b"y" * 200_000])
        assert path.stat().st_mode & 0o777 == 0o600


async def test_leaving_a_spool_removes_what_was_not_committed(
    opener: Opener, tmp_path: Path
) -> None:
    async with opener() as stores:
        async with stores.blobs.spool() as spool:
            await spool.write(b"y" * 1000)
            assert len(list((tmp_path / "spool").iterdir())) == 1
            await spool.seal(HEADER)
        with trio.CancelScope() as scope:
            async with stores.blobs.spool() as spool:
                scope.cancel()
                await spool.write(b"y" * 1000)
        assert list((tmp_path / "spool").iterdir()) == []
        assert list((tmp_path / "mail").iterdir()) == []


async def test_a_spool_whose_commit_failed_leaves_nothing(opener: Opener, tmp_path: Path) -> None:
    files = FaultyFiles()
    async with opener(files=files) as stores:
        account = await stores.account()
        async with stores.blobs.spool() as spool:
            await spool.write(b"y" * 1000)
            body = await spool.seal(HEADER)
            batch = IntakeBatch(
                body=body, internal_date_s=NOW_S, deliveries=(Delivery(account.inbox),)
            )
            files.fail["rename"] = FULL
            with pytest.raises(TransientFailure):
                await stores.intake.commit(batch)
            files.fail.clear()
            await stores.intake.commit(batch)
            with pytest.raises(LocalProtocolError):
                await stores.intake.commit(batch)
        assert (await stores.mail.info(account.id, "INBOX")).messages == 1


async def test_a_spool_of_mailboxes_that_are_gone_leaves_nothing(
    opener: Opener, tmp_path: Path
) -> None:
    async with opener() as stores:
        account = await stores.account()
        other = await stores.mail.create(account.id, "Other", None, NOW_S)
        await stores.mail.delete(account.id, "Other")
        async with stores.blobs.spool() as spool:
            await spool.write(b"y" * 1000)
            body = await spool.seal(HEADER)
            batch = IntakeBatch(body=body, internal_date_s=NOW_S, deliveries=(Delivery(other.id),))
            assert await stores.intake.commit(batch) == (None,)
        assert list((tmp_path / "mail").iterdir()) == []
        await stores.store.sweep()


async def test_a_full_disk_while_spooling_is_a_transient_failure(opener: Opener) -> None:
    files = FaultyFiles()
    async with opener(files=files) as stores, stores.blobs.spool() as spool:
        files.fail["write_at"] = FULL
        with pytest.raises(TransientFailure):
            await spool.write(b"y" * 1000)
        with pytest.raises(TransientFailure):
            await spool.seal(HEADER)
        assert stores.store.failed is None


async def test_a_header_block_beyond_its_room_is_refused(opener: Opener) -> None:
    async with opener() as stores, stores.blobs.spool() as spool:
        with pytest.raises(PermanentFailure):
            await spool.seal(b"x" * RESERVED_BYTES)


async def test_an_unsealed_spool_cannot_be_committed(opener: Opener) -> None:
    async with opener() as stores, stores.blobs.spool() as spool:
        account = await stores.account()
        body = Body(HEADER, (), 0, spooled=spool)
        batch = IntakeBatch(body=body, internal_date_s=NOW_S, deliveries=(Delivery(account.inbox),))
        with pytest.raises(LocalProtocolError):
            await stores.intake.commit(batch)
        await stores.deliver(account.inbox)


async def test_a_spool_whose_commit_is_in_doubt_keeps_its_octets(
    opener: Opener, tmp_path: Path
) -> None:
    class Doubtful(FaultyDatabase):
        def commit(self) -> None:
            error, self.commit_error = self.commit_error, None
            super().commit()
            if error is not None:
                raise error  # the rows are durable, and nobody was told

    with pytest.RaisesGroup(StoreFailed):
        async with opener(new_database=Doubtful) as stores:
            account = await stores.account()
            async with stores.blobs.spool() as spool:
                await spool.write(b"y" * 1000)
                body = await spool.seal(HEADER)
                stores.store._writer._committer._database.commit_error = sqlite_error(10)
                with pytest.raises(TransientFailure):
                    await stores.intake.commit(
                        IntakeBatch(
                            body=body, internal_date_s=NOW_S, deliveries=(Delivery(account.inbox),)
                        )
                    )
    async with opener() as stores:
        assert "content_missing" not in stores.log.events
        opened = await stores.mail.open(account.id, "INBOX")
        entry = opened.entry(1)
        assert await stores.mail.read(entry, 0, entry.size) == HEADER + b"y" * 1000


async def test_a_spool_adopted_for_a_batch_that_failed_leaves_nothing(
    opener: Opener, tmp_path: Path
) -> None:
    async with opener(new_database=FaultyDatabase) as stores:
        account = await stores.account()
        database = stores.store._writer._committer._database
        async with stores.blobs.spool() as spool:
            await spool.write(b"y" * 1000)
            body = await spool.seal(HEADER)
            batch = IntakeBatch(
                body=body, internal_date_s=NOW_S, deliveries=(Delivery(account.inbox),)
            )
            database.commit_error = sqlite_error(13)
            with pytest.raises(TransientFailure):
                await stores.intake.commit(batch)
        assert list((tmp_path / "mail").iterdir()) == []

"""The way into a `MemoryState`: spools, blobs, the intake."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import attrs
import trio

from chatmail.domain.model.mailbox import AppendReceipt, MailboxEntry, MailboxId, Modseq, Uid
from chatmail.domain.model.message import Body
from chatmail.domain.ports.intake import IntakeBatch
from tests.unit.fakes.mailstate import MemoryMailbox, MemoryState
from tests.unit.fakes.queued import MemoryBlob, MemoryOutbound


class MemorySpool:
    """`Spool` that keeps the content in memory."""

    def __init__(self, state: MemoryState) -> None:
        self._state = state
        self.chunks: list[bytes] = []

    async def write(self, chunk: bytes | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        self._state.check()
        self.chunks.append(bytes(chunk))

    async def seal(self, header: bytes) -> Body:
        await trio.lowlevel.checkpoint()
        return Body(header, (), sum(map(len, self.chunks)), spooled=self)


class MemoryBlobStore:
    """`BlobStore` whose spools are lists. `open_spools` counts what was not left yet."""

    def __init__(self, state: MemoryState) -> None:
        self._state = state
        self.open_spools = 0

    @asynccontextmanager
    async def spool(self) -> AsyncIterator[MemorySpool]:
        self.open_spools += 1
        spool = MemorySpool(self._state)
        try:
            yield spool
        finally:
            self.open_spools -= 1
            spool.chunks = []


class MemoryIntake:
    """`Intake` into the shared state. Batches are kept in `batches` in commit order."""

    def __init__(self, state: MemoryState) -> None:
        self._state = state
        self.batches: list[IntakeBatch] = []

    async def commit(self, batch: IntakeBatch) -> tuple[AppendReceipt | None, ...]:
        await trio.lowlevel.checkpoint()
        self._state.check()
        return self.commit_now(batch)

    async def commit_all(
        self, batches: Sequence[IntakeBatch]
    ) -> tuple[tuple[AppendReceipt | None, ...], ...]:
        await trio.lowlevel.checkpoint()
        self._state.check()
        return tuple(self.commit_now(batch) for batch in batches)

    def commit_now(self, batch: IntakeBatch) -> tuple[AppendReceipt | None, ...]:
        """Do what `commit` does, without a checkpoint."""
        body = batch.body
        content = body.spooled.chunks if isinstance(body.spooled, MemorySpool) else body.chunks
        blob = MemoryBlob(body.header + b"".join(content))
        template = MailboxEntry(
            uid=Uid(0),
            modseq=Modseq(0),
            flags=frozenset(),
            size=len(blob.octets),
            header_size=len(body.header),
            internal_date_s=batch.internal_date_s,
            blob=blob,
        )
        receipts: list[AppendReceipt | None] = []
        touched: dict[MailboxId, MemoryMailbox] = {}
        is_owed = batch.settles is None or self._state.settle(batch.settles)
        now_s = batch.internal_date_s if self._state.now_s is None else self._state.now_s()
        for delivery in batch.deliveries:
            box = self._state.mailboxes.get(delivery.mailbox)
            if box is None or not is_owed or not self._state.is_first(delivery, now_s):
                receipts.append(None)
                continue
            if box.id not in touched:
                box.modseq += 1
                touched[box.id] = box
            uid = box.add(attrs.evolve(template, flags=delivery.flags))
            receipts.append(AppendReceipt(box.id, box.uid_validity, uid))
        self._state.reports.extend(batch.reports)
        if batch.outbound is not None and batch.outbound.recipients and is_owed:
            queued = MemoryOutbound.of(batch.outbound, blob, len(body.header))
            self._state.outbound[batch.outbound.id] = queued
            if not batch.outbound.leased_until_s:
                self._state.outbound_added.set()
        self.batches.append(batch)
        self._state.hint(*touched.values())
        return tuple(receipts)

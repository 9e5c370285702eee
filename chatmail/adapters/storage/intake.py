"""The commit of messages: content once, one row per copy, reports owed, all in one batch."""

from __future__ import annotations

from typing import Final

from chatmail.adapters.storage.flags import encode_flags, spell
from chatmail.adapters.storage.index import StoreIndex
from chatmail.adapters.storage.queue import ReportBoard, report_row
from chatmail.adapters.storage.segments import Place
from chatmail.adapters.storage.spool import SegmentSpool
from chatmail.adapters.storage.transaction import Transaction
from chatmail.adapters.storage.writer import Job, Writer
from chatmail.domain.model.errors import LocalProtocolError
from chatmail.domain.model.mailbox import (
    AppendReceipt,
    MailboxEntry,
    MailboxId,
    Modseq,
    Uid,
    UidValidity,
)
from chatmail.domain.model.message import Body
from chatmail.domain.ports.intake import IntakeBatch

ENTRY_OVERHEAD_BYTES: Final = 1024


class DeliveryJob(Job):
    """One message on its way into mailboxes."""

    __slots__ = ("_batch", "_board", "_landed", "_place", "receipts")

    def __init__(self, batch: IntakeBatch, board: ReportBoard) -> None:
        self._batch = batch
        self._board = board
        self._place: Place | None = None
        self._landed: list[tuple[MailboxId, MailboxEntry]] = []
        self.receipts: tuple[AppendReceipt | None, ...] = ()

    @property
    def body(self) -> Body | None:
        """Return the message; a report alone has no content to store."""
        return self._batch.body if self._batch.deliveries else None

    @property
    def octets(self) -> int:
        """Return what the chunks hold in memory."""
        body = self._batch.body
        return ENTRY_OVERHEAD_BYTES + (len(body.header) if body.spooled else body.size)

    def place(self, place: Place) -> None:
        """Take note where the message is."""
        self._place = place

    def undone(self) -> None:
        """Let the spool go: no row points there."""
        if isinstance(self._batch.body.spooled, SegmentSpool):
            self._batch.body.spooled.withdraw()

    def plan(self, tx: Transaction) -> None:
        """Assign UIDs; rows are gathered and written with those of the whole batch."""
        batch = self._batch
        self._landed = []
        receipts: list[AppendReceipt | None] = []
        place = self._place
        if place is not None:
            self._deliver(tx, place, receipts)
        for report in batch.reports:
            tx.sql.add_report.run(*report_row(tx.new_id(), report))
        self.receipts = tuple(receipts)

    def _deliver(self, tx: Transaction, place: Place, receipts: list[AppendReceipt | None]) -> None:
        batch = self._batch
        # Before the row is visible: whoever loads it meanwhile has to share this very object.
        tx.index.places.add(place)
        size = batch.body.size
        header_size = len(batch.body.header)
        bumped: set[MailboxId] = set()
        for delivery in batch.deliveries:
            head = tx.find(delivery.mailbox)
            if head is None:
                receipts.append(None)
                continue
            if head.id not in bumped:
                bumped.add(head.id)
                head.highest_modseq += 1
            flags, bits, keywords = delivery.flags, 0, ""
            if flags:
                flags, head.keywords = spell(flags, head.keywords, learn=True)
                bits, keywords = encode_flags(flags)
            modseq = head.highest_modseq
            uid = Uid(tx.add_message(head, bits, keywords, place.blob, size))
            entry = MailboxEntry(
                uid, Modseq(modseq), flags, size, header_size, batch.internal_date_s, place
            )
            self._landed.append((head.id, entry))
            receipts.append(AppendReceipt(head.id, UidValidity(head.uid_validity), uid))
        tx.add_blob(place, size, header_size, batch.internal_date_s, len(self._landed))

    def publish(self, index: StoreIndex) -> None:
        """Show the copies in the mailboxes that are in memory."""
        spooled = self._batch.body.spooled
        if isinstance(spooled, SegmentSpool):
            if self._landed:
                spooled.is_committed = True
            else:
                spooled.withdraw()
        for mailbox, entry in self._landed:
            index.arrive(mailbox, entry)
        if self._batch.reports:
            self._board.ring()


class SegmentIntake:
    """`Intake` of the segment store."""

    def __init__(self, writer: Writer, board: ReportBoard) -> None:
        self._writer = writer
        self._board = board

    async def commit(self, batch: IntakeBatch) -> tuple[AppendReceipt | None, ...]:
        """Store every local copy and report of one message, all or nothing.

        Raises:  Overloaded: the write queue or the disk is full. TransientFailure: nothing was
            stored. LocalProtocolError: the spool is not sealed, or was committed before.
        """
        spooled = batch.body.spooled
        if isinstance(spooled, SegmentSpool) and (spooled.blob is None or spooled.is_committed):
            raise LocalProtocolError("the spool is not sealed, or was committed")
        return (await self._writer.do(DeliveryJob(batch, self._board))).receipts

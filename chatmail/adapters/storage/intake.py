"""The commit of messages: content once, a row per copy and queue entry, reports, in one batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from chatmail.adapters.storage.boards import Board
from chatmail.adapters.storage.flags import encode_flags, spell
from chatmail.adapters.storage.index import StoreIndex
from chatmail.adapters.storage.notices import OUTBOUND, REPORTS
from chatmail.adapters.storage.queue import report_row
from chatmail.adapters.storage.segments import Place
from chatmail.adapters.storage.spool import SegmentSpool
from chatmail.adapters.storage.transaction import Transaction
from chatmail.adapters.storage.writer import Job, Touches, Writer
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
from chatmail.domain.ports.intake import Delivery, IntakeBatch

ENTRY_OVERHEAD_BYTES: Final = 1024
ONCE_S: Final = 48 * 3600  # spec federation-web B7.5


class _Landed:
    """What became of one message: its copies, and whether it was queued for other relays."""

    __slots__ = ("copies", "is_queued")

    def __init__(self) -> None:
        self.copies: list[tuple[MailboxId, MailboxEntry]] = []
        self.is_queued = False


class DeliveryJob(Job):
    """Messages on their way into mailboxes, all of them in one transaction."""

    __slots__ = ("_batches", "_board", "_landed", "_outbound_board", "_places", "receipts")

    def __init__(self, batches: Sequence[IntakeBatch], board: Board, outbound_board: Board) -> None:
        self._batches = batches
        self._board = board
        self._outbound_board = outbound_board
        self._places: Sequence[Place] = ()
        self._landed: list[_Landed] = []
        self.receipts: tuple[tuple[AppendReceipt | None, ...], ...] = ()

    @property
    def bodies(self) -> Sequence[Body]:
        """Return the messages; a report alone has no content to store."""
        return [batch.body for batch in self._batches if _has_content(batch)]

    @property
    def octets(self) -> int:
        """Return what the chunks hold in memory."""
        bodies = [batch.body for batch in self._batches]
        held = sum(len(body.header) if body.spooled else body.size for body in bodies)
        return ENTRY_OVERHEAD_BYTES * len(bodies) + held

    @property
    def touches(self) -> Touches:
        """Return the mailboxes of all copies."""
        return Touches(
            tuple(delivery.mailbox for batch in self._batches for delivery in batch.deliveries)
        )

    def place(self, places: Sequence[Place]) -> None:
        """Take note where the messages are."""
        self._places = places

    def undone(self) -> None:
        """Let the spools go: no row points there."""
        for batch in self._batches:
            if isinstance(batch.body.spooled, SegmentSpool):
                batch.body.spooled.withdraw()

    def plan(self, tx: Transaction) -> None:
        """Assign UIDs; rows are gathered and written with those of the whole batch."""
        self._landed = []
        places = iter(self._places)
        self.receipts = tuple(
            self._deliver(tx, batch, next(places) if _has_content(batch) else None)
            for batch in self._batches
        )

    def _deliver(
        self, tx: Transaction, batch: IntakeBatch, place: Place | None
    ) -> tuple[AppendReceipt | None, ...]:
        receipts: tuple[AppendReceipt | None, ...] = ()
        landed = _Landed()
        # The entry ends even if its mailbox is gone; without the entry nothing is owed.
        is_owed = batch.settles is None or bool(tx.sql.remove_report.run(batch.settles).rowcount)
        if place is not None:
            receipts = _copies(tx, batch, place, landed.copies, is_owed=is_owed)
            landed.is_queued = is_owed and _enqueue(tx, batch, place)
            refs = len(landed.copies) + landed.is_queued
            body = batch.body
            tx.add_blob(place, body.size, len(body.header), batch.internal_date_s, refs)
        for report in batch.reports:
            tx.sql.add_report.run(*report_row(tx.new_id(), report))
            tx.tell(REPORTS)
        self._landed.append(landed)
        return receipts

    def publish(self, index: StoreIndex) -> None:
        """Show the copies in the mailboxes that are in memory."""
        for batch, landed in zip(self._batches, self._landed, strict=True):
            spooled = batch.body.spooled
            if isinstance(spooled, SegmentSpool):
                if landed.copies or landed.is_queued:
                    spooled.is_committed = True
                else:
                    spooled.withdraw()
            for mailbox, entry in landed.copies:
                index.arrive(mailbox, entry)
            if batch.reports:
                self._board.ring()
            if landed.is_queued and batch.outbound and not batch.outbound.leased_until_s:
                self._outbound_board.ring()


def _has_content(batch: IntakeBatch) -> bool:
    """Say whether the octets have to be kept; those of a report alone have not."""
    return bool(batch.deliveries) or batch.outbound is not None


def _enqueue(tx: Transaction, batch: IntakeBatch, place: Place) -> bool:
    """Queue a message for its recipients elsewhere; False: it has none."""
    new = batch.outbound
    if new is None or not new.recipients:
        return False
    tx.add_outbound(new, place.blob, batch.body.size)
    if not new.leased_until_s:
        tx.tell(OUTBOUND)
    return True


def _copies(
    tx: Transaction,
    batch: IntakeBatch,
    place: Place,
    landed: list[tuple[MailboxId, MailboxEntry]],
    *,
    is_owed: bool,
) -> tuple[AppendReceipt | None, ...]:
    """Add one row per copy; tells in `landed` what is to be published."""
    # Before the row is visible: whoever loads it meanwhile has to share this very object.
    tx.index.places.add(place)
    receipts: list[AppendReceipt | None] = []
    size = batch.body.size
    header_size = len(batch.body.header)
    bumped: set[MailboxId] = set()
    for delivery in batch.deliveries:
        head = tx.find(delivery.mailbox) if is_owed else None
        if head is None or not _is_first(tx, delivery):
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
        landed.append((head.id, entry))
        receipts.append(AppendReceipt(head.id, UidValidity(head.uid_validity), uid))
    return tuple(receipts)


def _is_first(tx: Transaction, delivery: Delivery) -> bool:
    """Say whether this copy was not delivered before, and note that it is now."""
    if delivery.once is None:
        return True
    return bool(tx.sql.outbound.once.run(delivery.once, tx.now_s + ONCE_S, tx.now_s).rowcount)


class SegmentIntake:
    """`Intake` of the segment store."""

    def __init__(self, writer: Writer, board: Board, outbound_board: Board) -> None:
        self._writer = writer
        self._board = board
        self._outbound_board = outbound_board

    async def commit(self, batch: IntakeBatch) -> tuple[AppendReceipt | None, ...]:
        """Store every local copy, queue entry and report of one message, all or nothing.

        Raises:  Overloaded: the write queue or the disk is full. TransientFailure: nothing was
            stored. LocalProtocolError: the spool is not sealed, or was committed before.
        """
        return (await self.commit_all((batch,)))[0]

    async def commit_all(
        self, batches: Sequence[IntakeBatch]
    ) -> tuple[tuple[AppendReceipt | None, ...], ...]:
        """Store several messages in one transaction, in their order; raises as `commit` does."""
        for batch in batches:
            spooled = batch.body.spooled
            if isinstance(spooled, SegmentSpool) and (spooled.blob is None or spooled.is_committed):
                raise LocalProtocolError("the spool is not sealed, or was committed")
        job = DeliveryJob(batches, self._board, self._outbound_board)
        return (await self._writer.do(job)).receipts

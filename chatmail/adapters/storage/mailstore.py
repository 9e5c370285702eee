"""Mailboxes: opened into memory, read from segments, changed through the writer."""

from __future__ import annotations

import builtins
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import trio
from sqlalchemy import Connection, select

from chatmail.adapters.storage.accounts import LookUpAccount
from chatmail.adapters.storage.changes import CopyJob, ExpungeJob, FlagJob
from chatmail.adapters.storage.index import AccountRecord, LoadTicket, StoreIndex
from chatmail.adapters.storage.loaded import LoadedMailbox
from chatmail.adapters.storage.names import CreateJob, DeleteJob, RenameJob, SubscribeJob
from chatmail.adapters.storage.reader import Reader
from chatmail.adapters.storage.retention import Trimmer
from chatmail.adapters.storage.schema import blobs
from chatmail.adapters.storage.segment_reader import Damaged, Proof, SegmentReader, Wanted
from chatmail.adapters.storage.segments import Place
from chatmail.adapters.storage.shared_mailbox import SharedMailbox, Source
from chatmail.adapters.storage.writer import Log, Nothing, Writer
from chatmail.adapters.system.redaction import Public
from chatmail.domain.model.account import AccountId
from chatmail.domain.model.errors import MailboxGone, TransientFailure
from chatmail.domain.model.mailbox import (
    CopyReceipt,
    Flags,
    MailboxChanges,
    MailboxEntry,
    MailboxId,
    MailboxInfo,
    Modseq,
    Uid,
)
from chatmail.domain.model.retention import TrimGoal
from chatmail.domain.ports.mailstore import FlagOperation, FlagOutcome, MailboxProblem


class SqlMailStore:
    """`MailStore` over rows; where the octets are is up to those who inherit."""

    def __init__(self, writer: Writer, reader: Reader, index: StoreIndex, log: Log) -> None:
        self._writer = writer
        self._reader = reader
        self._index = index
        self._log = log
        self._trim = Trimmer(writer, reader)
        self._source = Source(index, reader, self._settle)

    async def open(self, account: AccountId, name: str) -> SharedMailbox | None:
        """Open a mailbox by its exact name; None: there is none.

        Raises:  TransientFailure: it could not be read.
        Cost:  none when the mailbox is in memory, else one read of all its rows, or of the UIDs
            of a large one.
        """
        record = await self._record(account)
        head = None if record is None else record.heads.get(name)
        if head is None:
            return None
        loaded = self._index.loaded.get(head.id)
        if loaded is None:
            loaded = await self._load(head.id)
        if loaded is None:
            return None
        mailbox = SharedMailbox(loaded, self._source)
        try:
            await mailbox.find_unseen()
        except MailboxGone:
            mailbox.close()
            return None
        except BaseException:
            mailbox.close()
            raise
        return mailbox

    async def _settle(self, account: AccountId) -> None:
        """Wait until all that was committed before is published."""
        await self._writer.do(Nothing())

    async def _load(self, mailbox: MailboxId) -> LoadedMailbox | None:
        """Read a mailbox into the index; what is published meanwhile makes the read stale."""
        index = self._index
        ticket = index.loading.setdefault(mailbox, LoadTicket())
        ticket.users += 1
        try:
            while True:
                read = await self._reader.mailbox(mailbox)
                other = index.loaded.get(mailbox)
                if other is not None:
                    return other
                published = index.heads.get(mailbox, ticket.head)
                if read is None or (published is not None and published.is_gone):
                    return None
                if published is None or published.highest_modseq <= read.head.highest_modseq:
                    break
        finally:
            ticket.users -= 1
            if not ticket.users:
                del index.loading[mailbox]
        if published is not None and published.highest_modseq == read.head.highest_modseq:
            read.head = published  # a name may have changed without a change set
        index.install(read)
        return read

    async def read(self, entry: MailboxEntry, offset: int, length: int) -> bytes:
        """Return `length` octets of a message from `offset` (fewer at its end).

        Raises:  TransientFailure: the octets could not be read or are damaged.
        """
        return (await self.read_many(((entry, offset, length),)))[0]

    async def read_many(
        self, wanted: Sequence[tuple[MailboxEntry, int, int]]
    ) -> builtins.list[bytes]:
        """`read` for several parts."""
        raise NotImplementedError

    async def set_flags(
        self,
        mailbox: MailboxId,
        uids: Sequence[Uid],
        operation: FlagOperation,
        flags: Flags,
        unchanged_since: Modseq | None = None,
    ) -> FlagOutcome:
        """Change flags in one transaction; a change set takes one new modseq."""
        job = FlagJob(mailbox, uids, operation, flags, unchanged_since)
        return (await self._writer.do(job)).outcome

    async def expunge(self, mailbox: MailboxId, uids: Sequence[Uid] | None) -> MailboxChanges:
        """Remove the messages marked \\Deleted, all or only those among `uids`."""
        head = self._index.heads.get(mailbox)
        if head is not None and not head.deleted:
            # Every receive cycle of a client ends in CLOSE: nothing to do must cost nothing.
            await trio.lowlevel.checkpoint()
            return MailboxChanges(
                highest_modseq=Modseq(head.highest_modseq),
                uid_next=Uid(head.uid_next),
                arrived=(),
                changed=(),
                expunged=(),
            )
        return (await self._writer.do(ExpungeJob(mailbox, uids))).changes

    async def copy(
        self,
        source: MailboxId,
        uids: Sequence[Uid],
        account: AccountId,
        target: str,
        *,
        limit_bytes: int | None,
        limit_messages: int | None = None,
    ) -> CopyReceipt | MailboxProblem:
        """Copy messages, all or none; octets are shared."""
        job = CopyJob(
            source,
            uids,
            account,
            target,
            limit_bytes=limit_bytes,
            limit_messages=limit_messages,
        )
        return (await self._writer.do(job)).outcome

    async def move(
        self, source: MailboxId, uids: Sequence[Uid], account: AccountId, target: str
    ) -> CopyReceipt | MailboxProblem:
        """Copy and expunge in one transaction."""
        return (await self._writer.do(CopyJob(source, uids, account, target, moves=True))).outcome

    async def list(self, account: AccountId) -> builtins.list[MailboxInfo]:
        """Return all mailboxes of an account, by name."""
        record = await self._record(account)
        if record is None:
            return []
        return [record.heads[name].info() for name in sorted(record.heads)]

    async def info(self, account: AccountId, name: str) -> MailboxInfo | None:
        """Return one mailbox's counters."""
        record = await self._record(account)
        head = None if record is None else record.heads.get(name)
        return None if head is None else head.info()

    async def create(
        self, account: AccountId, name: str, special_use: str | None, now_s: int
    ) -> MailboxInfo | MailboxProblem:
        """Create a mailbox; its UIDVALIDITY exceeds every earlier one of this account."""
        return (await self._writer.do(CreateJob(account, name, special_use, now_s))).outcome

    async def delete(self, account: AccountId, name: str) -> MailboxProblem | None:
        """Delete a mailbox with its messages; children stay."""
        return (await self._writer.do(DeleteJob(account, name))).outcome

    async def rename(
        self, account: AccountId, old: str, new: str, now_s: int
    ) -> MailboxProblem | None:
        """Rename a mailbox and its children; INBOX instead moves its messages into `new`."""
        return (await self._writer.do(RenameJob(account, old, new, now_s))).outcome

    async def subscribe(self, account: AccountId, name: str, subscribed: bool) -> bool:
        """Set the subscription mark; False: no such mailbox."""
        return (await self._writer.do(SubscribeJob(account, name, subscribed))).exists

    async def usage(self, account: AccountId) -> int:
        """Return the sum of message sizes over all mailboxes, as of the last commit."""
        record = await self._record(account)
        return 0 if record is None else record.used_bytes()

    async def trim(
        self,
        account: AccountId,
        target_bytes: int,
        older_than_s: int,
        *,
        target_messages: int | None = None,
    ) -> int:
        """Expunge oldest messages until at most `target_bytes` are used.

        Returns:  octets in use afterwards.
        """
        goal = TrimGoal(
            octets=target_bytes,
            messages=sys.maxsize if target_messages is None else target_messages,
            older_than_s=older_than_s,
        )
        return (await self._trim(account, goal))[0]

    async def _record(self, account: AccountId) -> AccountRecord | None:
        record = self._index.record_of(account)
        if record is None:
            record = (await self._writer.do(LookUpAccount(account))).record
        return record


class SegmentMailStore(SqlMailStore):
    """`MailStore` of the segment store."""

    def __init__(
        self, writer: Writer, reader: Reader, index: StoreIndex, content: SegmentReader, log: Log
    ) -> None:
        super().__init__(writer, reader, index, log)
        self._content = content

    async def read_many(
        self, wanted: Sequence[tuple[MailboxEntry, int, int]]
    ) -> builtins.list[bytes]:
        """`read` for several parts; no checkpoint when all of it is in memory."""
        try:
            return await self._read(wanted)
        except (Damaged, OSError) as first:
            problem: Damaged | OSError = first
        # The row may have been read just before compaction moved the record.
        if await self._have_moved({entry.blob.blob: entry.blob for entry, _, _ in wanted}):
            try:
                return await self._read(wanted)
            except (Damaged, OSError) as second:
                problem = second
        if isinstance(problem, Damaged):
            self._log.warning("content_damaged", reason=Public(str(problem)))
            raise TransientFailure("the message is damaged") from problem
        self._log.warning("content_unreadable", errno=problem.errno)
        raise TransientFailure("the message cannot be read") from problem

    async def _read(self, wanted: Sequence[tuple[MailboxEntry, int, int]]) -> builtins.list[bytes]:
        parts = [Wanted(*one) for one in wanted]
        if any([part.needs_proof for part in parts]):
            for one in wanted:
                await self._prove(Wanted(*one))
            parts = [Wanted(*one) for one in wanted]  # a record may have moved meanwhile
        found = [self._content.read_now(part) for part in parts]
        cold = [place for place, octets in enumerate(found) if octets is None]
        if cold:
            raw = await self._read_cold([parts[place] for place in cold])
            for place, octets in zip(cold, raw, strict=True):
                found[place] = self._content.checked(octets, parts[place])
        return [octets or b"" for octets in found]

    async def _prove(self, part: Wanted) -> None:
        """Check a whole record before a piece of it is shown: a piece has no checksum."""
        if not part.needs_proof:
            return
        proof = Proof(part)
        self._content.hold(part)
        try:
            while not proof.is_done:
                await self._reader.run(self._content.prove, proof)
        finally:
            self._content.release(part)
        part.place.is_proven = True

    async def _have_moved(self, places: dict[int, Place]) -> bool:
        """Look the places of records up again; say whether one of them was wrong."""
        known = {blob: (place.segment, place.offset) for blob, place in places.items()}
        rows = await self._reader.query(partial(_places, tuple(known)))
        moved = [
            Place(blob, segment, offset)
            for blob, segment, offset in rows
            if (segment, offset) != known[blob]
        ]
        for place in moved:
            self._index.places.move(place)
        return bool(moved)

    async def _read_cold(self, parts: Sequence[Wanted]) -> builtins.list[bytes]:
        held = []
        try:
            for part in parts:
                self._content.hold(part)
                held.append(part)
            return await self._reader.run(lambda: [self._content.read_held(part) for part in parts])
        finally:
            for part in held:
                self._content.release(part)


def _places(wanted: Sequence[int], connection: Connection) -> Sequence[Any]:
    query = select(blobs.c.id, blobs.c.segment, blobs.c.place).where(blobs.c.id.in_(wanted))
    return connection.execute(query).fetchall()

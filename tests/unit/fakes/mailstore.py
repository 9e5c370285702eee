"""Mailboxes, messages and device tokens in dictionaries: the memory side of the store ports.

All stores of one test share one `MemoryState`. Commits happen in one step, without a checkpoint
inside, so nobody ever sees half of one.
"""

from __future__ import annotations

import bisect
import itertools
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

import attrs
import trio

from chatmail.domain.model.account import AccountId
from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.errors import MailboxGone, TransientFailure
from chatmail.domain.model.mailbox import (
    DELETED,
    SEEN,
    AppendReceipt,
    CopyReceipt,
    Flags,
    MailboxChanges,
    MailboxEntry,
    MailboxHint,
    MailboxId,
    MailboxInfo,
    Modseq,
    Uid,
    UidValidity,
)
from chatmail.domain.model.message import Body
from chatmail.domain.model.outbound import (
    LastAttempt,
    NewOutbound,
    OutboundMessageId,
    QueuedMessage,
)
from chatmail.domain.model.queue import NewReport, QueueId
from chatmail.domain.model.retention import TrimGoal
from chatmail.domain.ports.intake import Delivery, IntakeBatch
from chatmail.domain.ports.mailstore import FlagOperation, FlagOutcome, MailboxProblem

INBOX = "INBOX"
TOKEN_LIFE_S = 90 * 86400
MAX_TOKENS = 30
ONCE_S = 48 * 3600


class MemoryHints:
    """`MailboxHints` in a dictionary."""

    def __init__(self) -> None:
        self._wakers: dict[MailboxId, dict[int, Callable[[], None]]] = {}
        self._numbers = itertools.count()
        self.published: list[MailboxHint] = []

    def publish(self, hint: MailboxHint) -> None:
        self.published.append(hint)
        for wake in list(self._wakers.get(hint.mailbox, {}).values()):
            wake()

    @contextmanager
    def subscribe(self, mailbox: MailboxId, wake: Callable[[], None]) -> Iterator[None]:
        number = next(self._numbers)
        self._wakers.setdefault(mailbox, {})[number] = wake
        try:
            yield
        finally:
            del self._wakers[mailbox][number]

    def subscribers(self, mailbox: MailboxId) -> int:
        """How many wakers listen to a mailbox (for tests)."""
        return len(self._wakers.get(mailbox, {}))


@attrs.define(eq=False)
class MemoryBlob:
    """Stored octets, shared by every copy. `is_damaged` makes reads fail."""

    octets: bytes
    is_damaged: bool = False


@attrs.define(eq=False, kw_only=True)
class MemoryQueued:
    """One recipient of a queued message."""

    message: OutboundMessageId
    recipient: EmailAddress
    due_s: float
    leased_until_s: float = 0.0
    attempts: int = 0
    is_held: bool = False
    last: LastAttempt | None = None


@attrs.define(eq=False, kw_only=True)
class MemoryOutbound:
    """A queued message; it ends with its last entry."""

    new: NewOutbound
    blob: MemoryBlob
    header_size: int
    entries: dict[EmailAddress, MemoryQueued]

    @staticmethod
    def of(new: NewOutbound, blob: MemoryBlob, header_size: int) -> MemoryOutbound:
        entries = {
            recipient: MemoryQueued(
                message=new.id,
                recipient=recipient,
                due_s=new.due_s,
                leased_until_s=new.leased_until_s,
            )
            for recipient in new.recipients
        }
        return MemoryOutbound(new=new, blob=blob, header_size=header_size, entries=entries)

    @property
    def size(self) -> int:
        return len(self.blob.octets)

    def facts(self) -> QueuedMessage:
        return QueuedMessage(
            id=self.new.id,
            reverse_path=self.new.reverse_path,
            created_s=self.new.created_s,
            prefix=self.new.prefix,
            is_report=self.new.is_report,
            size=self.size,
            header_size=self.header_size,
        )


@attrs.define(eq=False, kw_only=True)
class MemoryMailbox:
    """One mailbox."""

    id: MailboxId
    account: AccountId
    name: str
    uid_validity: UidValidity
    special_use: str | None = None
    is_subscribed: bool = False
    uid_next: int = 1
    modseq: int = 1
    uids: list[Uid] = attrs.field(factory=list)
    entries: dict[Uid, MailboxEntry] = attrs.field(factory=dict)
    journal: list[tuple[int, Uid]] = attrs.field(factory=list)
    keywords: list[str] = attrs.field(factory=list)
    is_gone: bool = False

    def info(self) -> MailboxInfo:
        entries = self.entries.values()
        return MailboxInfo(
            id=self.id,
            name=self.name,
            uid_validity=self.uid_validity,
            uid_next=Uid(self.uid_next),
            highest_modseq=Modseq(self.modseq),
            messages=len(self.entries),
            unseen=sum(SEEN not in entry.flags for entry in entries),
            deleted=sum(DELETED in entry.flags for entry in entries),
            octets=sum(entry.size for entry in entries),
            special_use=self.special_use,
            is_subscribed=self.is_subscribed,
        )

    def spell(self, flags: Flags, *, learn: bool = True) -> Flags:
        """Give keywords the spelling that was used first."""
        spelt = set()
        known = {keyword.lower(): keyword for keyword in self.keywords}
        for flag in sorted(flags):
            if not flag.startswith("\\"):
                if flag.lower() not in known:
                    known[flag.lower()] = flag
                    if learn:
                        self.keywords.append(flag)
                flag = known[flag.lower()]
            spelt.add(flag)
        return frozenset(spelt)

    def add(self, entry: MailboxEntry) -> Uid:
        """Append an entry under the next UID; the modseq is that of the current change."""
        uid = Uid(self.uid_next)
        self.uid_next += 1
        self.entries[uid] = attrs.evolve(
            entry, uid=uid, modseq=Modseq(self.modseq), flags=self.spell(entry.flags)
        )
        self.uids.append(uid)
        return uid

    def remove(self, uids: Sequence[Uid]) -> None:
        for uid in uids:
            del self.entries[uid]
            self.journal.append((self.modseq, uid))
        self.uids = sorted(self.entries)


class MemoryState:
    """What the memory stores share. `fail` makes the next calls raise TransientFailure.

    `are_large`: mailboxes have only those entries in memory that they were asked to load.
    """

    def __init__(
        self, hints: MemoryHints | None = None, now_s: Callable[[], float] | None = None
    ) -> None:
        """Args:  now_s: the clock for `Delivery.once`; else the date of the message counts."""
        self.hints = hints if hints is not None else MemoryHints()
        self.now_s = now_s
        self.mailboxes: dict[MailboxId, MemoryMailbox] = {}
        self.reports: list[NewReport] = []
        self.entries: dict[QueueId, NewReport] = {}  # of the queue over this state
        self.outbound: dict[OutboundMessageId, MemoryOutbound] = {}
        self.outbound_added = trio.Event()
        self.once: dict[bytes, float] = {}  # key → when it is forgotten
        self.fail = 0
        self.are_large = False
        self.shown: dict[MailboxId, int] = {}
        self._ids = itertools.count(1)
        self._validities: dict[AccountId, int] = {}

    def add_account(self, account: AccountId, now_s: int = 1_700_000_000) -> MailboxId:
        """Give an account its INBOX; returns its id."""
        return self.add_mailbox(account, INBOX, None, now_s, is_subscribed=True).id

    def add_mailbox(
        self,
        account: AccountId,
        name: str,
        special_use: str | None,
        now_s: int,
        is_subscribed: bool = False,
    ) -> MemoryMailbox:
        validity = max(now_s, self._validities.get(account, 0) + 1)
        self._validities[account] = validity
        mailbox = MemoryMailbox(
            id=MailboxId(next(self._ids)),
            account=account,
            name=name,
            uid_validity=UidValidity(validity),
            special_use=special_use,
            is_subscribed=is_subscribed,
        )
        self.mailboxes[mailbox.id] = mailbox
        return mailbox

    def named(self, account: AccountId, name: str) -> MemoryMailbox | None:
        for mailbox in self.of(account):
            if mailbox.name == name:
                return mailbox
        return None

    def of(self, account: AccountId) -> list[MemoryMailbox]:
        mine = [box for box in self.mailboxes.values() if box.account == account]
        return sorted(mine, key=lambda box: box.name)

    def by_id(self, mailbox: MailboxId) -> MemoryMailbox:
        found = self.mailboxes.get(mailbox)
        if found is None:
            raise MailboxGone("mailbox was deleted")
        return found

    def check(self) -> None:
        if self.fail > 0:
            self.fail -= 1
            raise TransientFailure("store is told to fail")

    def hint(self, *mailboxes: MemoryMailbox) -> None:
        for mailbox in mailboxes:
            self.hints.publish(MailboxHint(mailbox.id, Modseq(mailbox.modseq)))

    def drop(self, mailbox: MemoryMailbox) -> None:
        mailbox.is_gone = True
        del self.mailboxes[mailbox.id]
        mailbox.modseq += 1
        self.hint(mailbox)

    def delete_account(self, account: AccountId) -> None:
        """Drop all mailboxes of an account."""
        for mailbox in self.of(account):
            self.drop(mailbox)

    def is_first(self, delivery: Delivery, now_s: float) -> bool:
        """Say whether a copy may be delivered, and note that it was."""
        key = delivery.once
        if key is None:
            return True
        if self.once.get(key, 0.0) > now_s:
            return False
        self.once[key] = now_s + ONCE_S
        return True

    def drop_queued(self, sender: EmailAddress) -> None:
        """Forget what an account has on its way."""
        for id, message in list(self.outbound.items()):
            if message.new.reverse_path == sender:
                del self.outbound[id]

    def settle(self, entry: QueueId) -> bool:
        """End an entry of the queue; False: there is none."""
        report = self.entries.pop(entry, None)
        for place, one in enumerate(self.reports):
            if one is report:
                del self.reports[place]
                return True
        return False

    def oldest(self, account: AccountId, goal: TrimGoal) -> list[tuple[MailboxId, Uid]]:
        """Return what has to go for a goal, oldest first."""
        candidates = sorted(
            (entry.internal_date_s, box.id, uid, entry.size)
            for box in self.of(account)
            for uid, entry in box.entries.items()
            if entry.internal_date_s < goal.older_than_s
        )
        octets, held = self.usage(account), self.held(account)
        doomed = []
        for _, box, uid, size in candidates:
            if octets <= goal.octets and held <= goal.messages:
                break
            octets -= size
            held -= 1
            doomed.append((box, uid))
        return doomed

    def remove(self, doomed: list[tuple[MailboxId, Uid]]) -> None:
        """Expunge messages; one change set per mailbox."""
        for mailbox in dict.fromkeys(box for box, _ in doomed):
            box = self.by_id(mailbox)
            box.modseq += 1
            box.remove(sorted(uid for owner, uid in doomed if owner == mailbox))
            self.hint(box)

    def usage(self, account: AccountId) -> int:
        return sum(box.info().octets for box in self.of(account))

    def held(self, account: AccountId) -> int:
        return sum(len(box.entries) for box in self.of(account))


class MemoryOpenMailbox:
    """`OpenMailbox` over a `MemoryMailbox`."""

    def __init__(self, mailbox: MemoryMailbox, state: MemoryState) -> None:
        self._mailbox = mailbox
        self._state = state
        self._cold = set(mailbox.uids) if state.are_large else set()
        self.is_closed = False

    @property
    def id(self) -> MailboxId:
        return self._live().id

    @property
    def name(self) -> str:
        return self._live().name

    @property
    def uid_validity(self) -> UidValidity:
        return self._live().uid_validity

    def info(self) -> MailboxInfo:
        return self._live().info()

    def uids(self) -> tuple[Sequence[Uid], int]:
        uids = self._live().uids
        self._state.shown[self._mailbox.id] = self._mailbox.uid_next
        return uids, len(uids)

    async def load(self, uids: Iterable[Uid]) -> None:
        self._live()
        self._cold.difference_update(uids)

    def entry(self, uid: Uid) -> MailboxEntry | None:
        entry = self._live().entries.get(uid)
        if entry is not None and uid in self._cold:
            raise LookupError("the message was not loaded")
        return entry

    def first_unseen(self) -> Uid | None:
        mailbox = self._live()
        return next((uid for uid in mailbox.uids if SEEN not in mailbox.entries[uid].flags), None)

    def keywords(self) -> Sequence[str]:
        return list(self._live().keywords)

    def has_news(self, modseq: Modseq, uid_next: Uid) -> bool:
        mailbox = self._live()
        return modseq < mailbox.modseq or uid_next < mailbox.uid_next

    async def changes_since(self, modseq: Modseq, uid_next: Uid) -> MailboxChanges:
        return self.changes_now(modseq, uid_next)

    def changes_now(self, modseq: Modseq, uid_next: Uid) -> MailboxChanges:
        mailbox = self._live()
        self._state.shown[mailbox.id] = mailbox.uid_next
        start = bisect.bisect_left(mailbox.uids, uid_next)
        return MailboxChanges(
            highest_modseq=Modseq(mailbox.modseq),
            uid_next=Uid(mailbox.uid_next),
            arrived=[mailbox.entries[uid] for uid in mailbox.uids[start:]],
            changed=[
                mailbox.entries[uid]
                for uid in mailbox.uids[:start]
                if mailbox.entries[uid].modseq > modseq
            ],
            expunged=sorted(uid for changed, uid in mailbox.journal if changed > modseq),
        )

    def close(self) -> None:
        self.is_closed = True

    def _live(self) -> MemoryMailbox:
        if self._mailbox.is_gone:
            raise MailboxGone("mailbox was deleted")
        return self._mailbox


def _combine(operation: FlagOperation, old: Flags, flags: Flags) -> Flags:
    if operation is FlagOperation.REPLACE:
        return flags
    if operation is FlagOperation.ADD:
        return old | flags
    return old - flags


class MemoryMailStore:
    """`MailStore` in dictionaries. `reads` counts the batches read."""

    def __init__(self, state: MemoryState | None = None) -> None:
        self.state = state if state is not None else MemoryState()
        self.reads = 0

    async def open(self, account: AccountId, name: str) -> MemoryOpenMailbox | None:
        await trio.lowlevel.checkpoint()
        self.state.check()
        mailbox = self.state.named(account, name)
        return None if mailbox is None else MemoryOpenMailbox(mailbox, self.state)

    async def read(self, entry: MailboxEntry, offset: int, length: int) -> bytes:
        return (await self.read_many([(entry, offset, length)]))[0]

    async def read_many(self, wanted: Sequence[tuple[MailboxEntry, int, int]]) -> list[bytes]:
        await trio.lowlevel.checkpoint()
        self.state.check()
        self.reads += 1
        found = []
        for entry, offset, length in wanted:
            blob: MemoryBlob = entry.blob
            if blob.is_damaged:
                raise TransientFailure("octets are damaged")
            found.append(blob.octets[offset : offset + length])
        return found

    async def set_flags(
        self,
        mailbox: MailboxId,
        uids: Sequence[Uid],
        operation: FlagOperation,
        flags: Flags,
        unchanged_since: Modseq | None = None,
    ) -> FlagOutcome:
        await trio.lowlevel.checkpoint()
        self.state.check()
        box = self.state.by_id(mailbox)
        found = [uid for uid in sorted(set(uids)) if uid in box.entries]
        modified = [
            uid
            for uid in found
            if unchanged_since is not None and box.entries[uid].modseq > unchanged_since
        ]
        refused = set(modified)
        granted = [uid for uid in found if uid not in refused]
        wanted = box.spell(flags, learn=False)
        changed = False
        for uid in granted:
            entry = box.entries[uid]
            combined = _combine(operation, entry.flags, wanted)
            if combined != entry.flags:
                if not changed:
                    box.modseq += 1
                    changed = True
                box.entries[uid] = attrs.evolve(entry, flags=combined, modseq=Modseq(box.modseq))
        if changed:
            if operation is not FlagOperation.REMOVE:
                box.spell(flags)
            self.state.hint(box)
        return FlagOutcome([box.entries[uid] for uid in granted], modified)

    async def expunge(self, mailbox: MailboxId, uids: Sequence[Uid] | None) -> MailboxChanges:
        await trio.lowlevel.checkpoint()
        self.state.check()
        box = self.state.by_id(mailbox)
        among = set(box.uids if uids is None else uids)
        doomed = [uid for uid in box.uids if uid in among and DELETED in box.entries[uid].flags]
        if doomed:
            box.modseq += 1
            box.remove(doomed)
            self.state.hint(box)
        return MailboxChanges(
            highest_modseq=Modseq(box.modseq),
            uid_next=Uid(box.uid_next),
            arrived=(),
            changed=(),
            expunged=doomed,
        )

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
        await trio.lowlevel.checkpoint()
        self.state.check()
        held = self.state.held(account) + len(set(uids) & self.state.by_id(source).entries.keys())
        if limit_messages is not None and held > limit_messages:
            return MailboxProblem.OVER_QUOTA
        return self._copy(self.state.by_id(source), uids, account, target, limit_bytes, move=False)

    async def move(
        self, source: MailboxId, uids: Sequence[Uid], account: AccountId, target: str
    ) -> CopyReceipt | MailboxProblem:
        await trio.lowlevel.checkpoint()
        self.state.check()
        return self._copy(self.state.by_id(source), uids, account, target, None, move=True)

    def _copy(
        self,
        source: MemoryMailbox,
        uids: Sequence[Uid],
        account: AccountId,
        target: str,
        limit_bytes: int | None,
        move: bool,
    ) -> CopyReceipt | MailboxProblem:
        destination = self.state.named(account, target)
        if destination is None:
            return MailboxProblem.TRY_CREATE
        found = [uid for uid in sorted(set(uids)) if uid in source.entries]
        size = sum(source.entries[uid].size for uid in found)
        if limit_bytes is not None and self.state.usage(account) + size > limit_bytes:
            return MailboxProblem.OVER_QUOTA
        if not found:
            return CopyReceipt(destination.uid_validity, (), ())
        destination.modseq += 1
        landed = tuple(destination.add(source.entries[uid]) for uid in found)
        if move:
            if source is not destination:
                source.modseq += 1
            source.remove(found)
        self.state.hint(destination)
        if move and source is not destination:
            self.state.hint(source)
        return CopyReceipt(destination.uid_validity, tuple(found), landed)

    async def list(self, account: AccountId) -> list[MailboxInfo]:
        await trio.lowlevel.checkpoint()
        self.state.check()
        return [box.info() for box in self.state.of(account)]

    async def info(self, account: AccountId, name: str) -> MailboxInfo | None:
        await trio.lowlevel.checkpoint()
        self.state.check()
        mailbox = self.state.named(account, name)
        return None if mailbox is None else mailbox.info()

    async def create(
        self, account: AccountId, name: str, special_use: str | None, now_s: int
    ) -> MailboxInfo | MailboxProblem:
        await trio.lowlevel.checkpoint()
        self.state.check()
        if self.state.named(account, name) is not None:
            return MailboxProblem.ALREADY_EXISTS
        return self.state.add_mailbox(account, name, special_use, now_s).info()

    async def delete(self, account: AccountId, name: str) -> MailboxProblem | None:
        await trio.lowlevel.checkpoint()
        self.state.check()
        if name == INBOX:
            return MailboxProblem.CANNOT
        mailbox = self.state.named(account, name)
        if mailbox is None:
            return MailboxProblem.NONEXISTENT
        self.state.drop(mailbox)
        return None

    async def rename(
        self, account: AccountId, old: str, new: str, now_s: int
    ) -> MailboxProblem | None:
        await trio.lowlevel.checkpoint()
        self.state.check()
        mailbox = self.state.named(account, old)
        if mailbox is None:
            return MailboxProblem.NONEXISTENT
        if self.state.named(account, new) is not None:
            return MailboxProblem.ALREADY_EXISTS
        if old == INBOX:
            self.state.add_mailbox(account, new, None, now_s)
            self._copy(mailbox, list(mailbox.uids), account, new, None, move=True)
            return None
        renamed = {
            box: new + box.name[len(old) :]
            for box in self.state.of(account)
            if box.name == old or box.name.startswith(old + "/")
        }
        taken = {box.name for box in self.state.of(account)} - {box.name for box in renamed}
        if taken & set(renamed.values()):
            return MailboxProblem.ALREADY_EXISTS
        for box, name in renamed.items():
            box.name = name
        return None

    async def subscribe(self, account: AccountId, name: str, subscribed: bool) -> bool:
        await trio.lowlevel.checkpoint()
        self.state.check()
        mailbox = self.state.named(account, name)
        if mailbox is not None:
            mailbox.is_subscribed = subscribed
        return mailbox is not None

    async def usage(self, account: AccountId) -> int:
        await trio.lowlevel.checkpoint()
        self.state.check()
        return self.state.usage(account)

    async def trim(
        self,
        account: AccountId,
        target_bytes: int,
        older_than_s: int,
        *,
        target_messages: int | None = None,
    ) -> int:
        await trio.lowlevel.checkpoint()
        self.state.check()
        goal = TrimGoal(
            octets=target_bytes,
            messages=sys.maxsize if target_messages is None else target_messages,
            older_than_s=older_than_s,
        )
        self.state.remove(self.state.oldest(account, goal))
        return self.state.usage(account)


class MemoryObjectIds:
    """`ObjectIds` that name things by what they are."""

    def mailbox(self, info: MailboxInfo) -> str:
        return f"F{info.id}-{info.uid_validity}"

    def email(self, account: AccountId, entry: MailboxEntry) -> str:
        return f"M{account}_{id(entry.blob)}"


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


class MemoryDeviceTokens:
    """`DeviceTokens` in a dictionary, in order of first registration."""

    def __init__(self) -> None:
        self._tokens: dict[AccountId, dict[str, int]] = {}

    async def add(self, account: AccountId, token: str, now_s: int) -> None:
        await trio.lowlevel.checkpoint()
        tokens = self._tokens.setdefault(account, {})
        tokens[token] = now_s
        while len(tokens) > MAX_TOKENS:
            del tokens[min(tokens, key=lambda known: tokens[known])]

    async def remove(self, account: AccountId, token: str) -> None:
        await trio.lowlevel.checkpoint()
        self._tokens.get(account, {}).pop(token, None)

    async def of(self, account: AccountId, now_s: int) -> list[str]:
        await trio.lowlevel.checkpoint()
        return [
            token
            for token, updated_s in self._tokens.get(account, {}).items()
            if now_s - TOKEN_LIFE_S < updated_s <= now_s + 60
        ]

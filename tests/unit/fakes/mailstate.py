"""The one memory behind all memory stores of a test: mailboxes, the queue, hints.

All stores of one test share one `MemoryState`. Commits happen in one step, without a checkpoint
inside, so nobody ever sees half of one.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import attrs
import trio

from chatmail.domain.model.account import AccountId
from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.errors import MailboxGone, TransientFailure
from chatmail.domain.model.mailbox import (
    DELETED,
    SEEN,
    Flags,
    MailboxEntry,
    MailboxHint,
    MailboxId,
    MailboxInfo,
    Modseq,
    Uid,
    UidValidity,
)
from chatmail.domain.model.outbound import OutboundMessageId
from chatmail.domain.model.queue import NewReport, QueueId
from chatmail.domain.model.retention import TrimGoal
from chatmail.domain.ports.intake import Delivery
from tests.unit.fakes.queued import MemoryOutbound

INBOX = "INBOX"
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

"""`MailStore` over a `MemoryState`, and names for what is in it."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import attrs
import trio

from chatmail.domain.model.account import AccountId
from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.model.mailbox import (
    DELETED,
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
from tests.unit.fakes.mailstate import INBOX, MemoryMailbox, MemoryState
from tests.unit.fakes.open_mailbox import MemoryOpenMailbox
from tests.unit.fakes.queued import MemoryBlob


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

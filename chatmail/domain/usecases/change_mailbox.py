"""Changes of mailboxes and of what is in them: names, copies, moves, flags.

The rules about names, room and keywords live here; the store only knows what exists.
Source:  spec mail 4.4 (CREATE, COPY, STORE), 5.9.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import attrs

from chatmail.domain.model.account import AccountId
from chatmail.domain.model.mailbox import (
    DELIMITER,
    INBOX,
    CopyReceipt,
    Flags,
    MailboxId,
    Modseq,
    Uid,
)
from chatmail.domain.model.settings import SettingsSnapshot
from chatmail.domain.ports.mailstore import FlagOperation, FlagOutcome, MailboxProblem, MailStore
from chatmail.domain.ports.system import Clock

MAX_MAILBOXES: Final = 100
MAX_NAME_OCTETS: Final = 200
MAX_LEVELS: Final = 8
MAX_KEYWORD_OCTETS: Final = 64
MAX_KEYWORDS: Final = 128

_FORBIDDEN: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff%*]")


def is_good_name(name: str) -> bool:
    """Say whether a new mailbox may have this name (INBOX is no new name).

    Refuses empty levels, `.` and `..`, control characters, LIST wildcards, more than 8 levels,
    more than 200 octets of UTF-8.
    """
    if _FORBIDDEN.search(name) or len(name.encode("utf-8")) > MAX_NAME_OCTETS:
        return False
    levels = name.split(DELIMITER)
    return len(levels) <= MAX_LEVELS and not {"", ".", ".."} & set(levels)


def has_room_for_keywords(known: Iterable[str], flags: Iterable[str]) -> bool:
    """Say whether flags keep the limits of keywords: 64 octets each, 128 in a mailbox."""
    keywords = {flag.lower() for flag in flags if not flag.startswith("\\")}
    if any(len(keyword.encode("utf-8")) > MAX_KEYWORD_OCTETS for keyword in keywords):
        return False
    there = {keyword.lower() for keyword in known}
    return keywords <= there or len(there | keywords) <= MAX_KEYWORDS


@attrs.frozen
class ChangeMailbox:
    """The verbs. Each is one transaction of the store; problems are values.

    All raise TransientFailure when nothing was changed.
    """

    store: MailStore
    settings: Callable[[], SettingsSnapshot]
    clock: Clock

    async def create(
        self, account: AccountId, name: str, special_use: str | None
    ) -> MailboxProblem | None:
        """Create a mailbox. A delimiter at the end announces children and is dropped."""
        name = name.removesuffix(DELIMITER)
        # Case again: `inbox/` reads as INBOX only once its delimiter is gone (RFC 3501 §5.1).
        if name.upper() == INBOX or not is_good_name(name):
            return MailboxProblem.CANNOT
        if len(await self.store.list(account)) >= MAX_MAILBOXES:
            return MailboxProblem.LIMIT
        created = await self.store.create(account, name, special_use, int(self.clock.now_s()))
        return created if isinstance(created, MailboxProblem) else None

    async def delete(self, account: AccountId, name: str) -> MailboxProblem | None:
        """Delete a mailbox with its messages; its children stay."""
        if name == INBOX:
            return MailboxProblem.CANNOT
        return await self.store.delete(account, name)

    async def rename(self, account: AccountId, old: str, new: str) -> MailboxProblem | None:
        """Rename a mailbox with its children; INBOX gives its messages to a new mailbox."""
        new = new.removesuffix(DELIMITER)
        if new.upper() == INBOX:
            return MailboxProblem.ALREADY_EXISTS
        if not is_good_name(new) or new.startswith(old + DELIMITER):
            return MailboxProblem.CANNOT
        names = [info.name for info in await self.store.list(account)]
        if old == INBOX:
            if len(names) >= MAX_MAILBOXES:
                return MailboxProblem.LIMIT
        elif not all(
            is_good_name(new + name[len(old) :])
            for name in names
            if name.startswith(old + DELIMITER)
        ):
            return MailboxProblem.CANNOT
        return await self.store.rename(account, old, new, int(self.clock.now_s()))

    async def subscribe(self, account: AccountId, name: str, subscribed: bool) -> bool:
        """Set the subscription mark; False: no such mailbox."""
        return await self.store.subscribe(account, name, subscribed)

    async def copy(
        self, source: MailboxId, uids: Sequence[Uid], account: AccountId, target: str
    ) -> CopyReceipt | MailboxProblem:
        """Copy messages, all or none. A copy counts for the quota and never trims (mail 4.4)."""
        limits = self.settings().limits
        return await self.store.copy(
            source,
            uids,
            account,
            target,
            limit_bytes=limits.max_mailbox_bytes,
            limit_messages=limits.max_messages_per_account,
        )

    async def move(
        self, source: MailboxId, uids: Sequence[Uid], account: AccountId, target: str
    ) -> CopyReceipt | MailboxProblem:
        """Move messages, all or none."""
        return await self.store.move(source, uids, account, target)

    async def set_flags(
        self,
        mailbox: MailboxId,
        uids: Sequence[Uid],
        operation: FlagOperation,
        flags: Flags,
        *,
        known_keywords: Iterable[str],
        unchanged_since: Modseq | None = None,
    ) -> FlagOutcome | MailboxProblem:
        """Change flags; LIMIT when a keyword is too long or one too many."""
        if operation is not FlagOperation.REMOVE and not has_room_for_keywords(
            known_keywords, flags
        ):
            return MailboxProblem.LIMIT
        return await self.store.set_flags(mailbox, uids, operation, flags, unchanged_since)

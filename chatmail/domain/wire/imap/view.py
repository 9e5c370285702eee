"""SelectedView: what one session was told about its mailbox, and what it has to be told next.

Theory of operation. The store keeps one ascending sequence of UIDs per mailbox, shared by every
session, and only ever appends to it; an expunge starts a new one. A view is a reference to such a
sequence, a count, and a cursor (modseq, uid_next), so it costs the same for ten messages and for
ten thousand, and it is never copied. Sequence numbers are positions found by bisection.

News is computed from `MailboxChanges` after the cursor and is told either in full or not at all:
when a command forbids part of it (RFC 3501 §7.4.1, spec mail 4.6), the cursor stays where it is and
the next command that may tells everything. Nothing is queued, nothing can be lost.
"""

from __future__ import annotations

import enum
from bisect import bisect_left
from collections.abc import Iterable, Sequence

from chatmail.domain.model.mailbox import MailboxChanges, MailboxEntry, Modseq, Uid
from chatmail.domain.wire.imap.fetch import flags_line
from chatmail.domain.wire.imap.responses import exists, vanished


class Permit(enum.Enum):
    """What may be told now. Each level includes the ones before it."""

    ARRIVALS = 1  # FETCH, SEARCH: message numbers and flags must not change under the client
    FLAGS = 2  # STORE
    ALL = 3  # NOOP, IDLE, COPY, EXPUNGE and everything else


class SelectedView:
    """The view of one session. Sync; knows no port.

    Invariant: `uids[:count]` are the messages the client numbers 1 to count, all below `uid_next`.
    """

    __slots__ = ("_told", "count", "modseq", "uid_next", "uids")

    def __init__(self, uids: Sequence[Uid], count: int, modseq: Modseq, uid_next: Uid) -> None:
        self.uids = uids
        self.count = count
        self.modseq = modseq
        self.uid_next = uid_next
        self._told: dict[Uid, Modseq] | None = None

    def sequence_of(self, uid: Uid) -> int:
        """Return the message number of a UID, 0 when it is not in the view."""
        index = bisect_left(self.uids, uid, 0, self.count)
        return index + 1 if index < self.count and self.uids[index] == uid else 0

    def tell(self, entries: Iterable[MailboxEntry]) -> None:
        """Note entries as this session's own change: they are no news (spec mail 4.6 rule 4)."""
        if self._told is None:
            self._told = {}
        for entry in entries:
            self._told[entry.uid] = entry.modseq

    def is_only_flags(self, changes: MailboxChanges) -> bool:
        """Say whether the news is nothing but flags: IDLE may gather those for a while."""
        if changes.arrived or not self._news(changes.changed):
            return False
        return not self._gone(changes)

    def update(
        self,
        changes: MailboxChanges,
        uids: Sequence[Uid],
        count: int,
        permit: Permit,
        *,
        with_uid: bool = False,
        with_modseq: bool = False,
        by_vanished: bool = False,
        with_flags: bool = True,
    ) -> bytes | None:
        """Take over changes and return what tells the client of them, b"" for no news.

        Args:
            changes: since (`modseq`, `uid_next`) of this view.
            uids, count: the shared sequence of the store, read after the changes.
            with_uid: put the UID into FETCH lines (never inside a UID command, spec mail 4.6).
            by_vanished: tell expunges by UID (RFC 7162 §3.2.10).
            with_flags: False: changes of flags alone are no news to this client (RFC 5465).
        Returns:  None when `uids` is newer than `changes`: ask for the changes again. Otherwise
            whole response lines; nothing was taken over when they may not be told now.
        """
        gone = self._gone(changes)
        if count != self.count - len(gone) + len(changes.arrived):
            return None
        if count and uids[count - 1] >= changes.uid_next:
            return None
        changed = self._news(changes.changed) if with_flags else []
        if (gone and permit is not Permit.ALL) or (changed and permit is Permit.ARRIVALS):
            return b""
        lines = [self._expunges(gone, by_vanished)] if gone else []
        self.uids, self.count = uids, count
        self.modseq, self.uid_next = changes.highest_modseq, changes.uid_next
        self._told = None
        if changes.arrived:
            lines.append(exists(count))
        lines.extend(
            flags_line(
                self.sequence_of(entry.uid), entry, with_uid=with_uid, with_modseq=with_modseq
            )
            for entry in changed
        )
        return b"".join(lines)

    def _expunges(self, gone: list[int], by_vanished: bool) -> bytes:
        if by_vanished:
            return vanished(self.uids[index] for index in gone)
        return b"".join(b"* %d EXPUNGE\r\n" % (index + 1) for index in reversed(gone))

    def _gone(self, changes: MailboxChanges) -> list[int]:
        """Return the indexes in the view of expunged messages, ascending."""
        found = []
        for uid in changes.expunged:
            number = self.sequence_of(uid)
            if number:
                found.append(number - 1)
        return found

    def _news(self, changed: Sequence[MailboxEntry]) -> list[MailboxEntry]:
        told = self._told
        if told is None:
            return list(changed)
        return [entry for entry in changed if told.get(entry.uid) != entry.modseq]

"""One mailbox in memory: its UIDs, the entries that were asked for, a journal of recent changes.

Changed only by publishing, on the loop's thread and in commit order. A large mailbox begins with
its UIDs alone; the rest is read in pages when somebody asks. What is published goes to the entries
whether their page is in memory or not, so a page that is still `cold` holds nothing that has
changed since the mailbox was loaded.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Container, Iterable, Sequence
from typing import Final

from chatmail.adapters.storage.head import MailboxHead
from chatmail.domain.model.mailbox import (
    SEEN,
    MailboxChanges,
    MailboxEntry,
    Modseq,
    Uid,
)

JOURNAL_LENGTH: Final = 4096
PAGE_MESSAGES: Final = 256
UIDS_PER_ENTRY: Final = 128
"""A bare UID takes 4 octets, an entry with all that hangs on it some 500."""
BEYOND: Final = 1 << 32
"""Above every UID."""


class LoadedMailbox:
    """UIDs, entries by UID, and all changes after `journal_floor`.

    Args:
        head: the mailbox as of the commit that the rest was read at.
        entries: all of them; or none, when `uids` is given and they are to be read in pages.
        lowest_unseen: no message below this UID is unseen; with `uids`, the one at it is.
    """

    __slots__ = (
        "_bounds",
        "_journal",
        "_lowest_unseen",
        "_seen_below",
        "cold",
        "entries",
        "head",
        "is_gone",
        "journal_floor",
        "pins",
        "uids",
    )

    def __init__(
        self,
        head: MailboxHead,
        entries: Iterable[MailboxEntry] = (),
        uids: array[int] | None = None,
        lowest_unseen: int = 0,
    ) -> None:
        self.head = head
        self.entries: dict[int, MailboxEntry] = {entry.uid: entry for entry in entries}
        self._bounds = array("I") if uids is None else uids[::PAGE_MESSAGES]
        self.cold: set[int] = set(range(len(self._bounds)))  # pages that were not read yet
        self.uids: array[int] = array("I", self.entries) if uids is None else uids
        self.journal_floor: int = head.highest_modseq
        self.pins = 0
        self.is_gone = False
        self._journal: deque[tuple[int, int, bool]] = deque()  # modseq, UID, was expunged
        self._lowest_unseen = lowest_unseen  # no message below this UID is unseen
        # Of the messages without an entry, those below are seen and the one at it is not.
        self._seen_below = lowest_unseen

    @property
    def weight(self) -> int:
        """Return what it takes of memory, in entries."""
        return len(self.entries) + len(self.uids) // UIDS_PER_ENTRY

    def holds(self, uid: int) -> bool:
        """Say whether there is a message with this UID, read or not."""
        uids = self.uids
        place = bisect_left(uids, uid)
        return place < len(uids) and uids[place] == uid

    def cold_pages(self, uids: Iterable[int]) -> list[int]:
        """Return the pages to be read before the entries of these UIDs can be asked for."""
        if not self.cold:
            return []
        missing = (uid for uid in uids if uid not in self.entries)
        return sorted(
            self.cold.intersection(bisect_right(self._bounds, uid) - 1 for uid in missing)
        )

    def span(self, page: int) -> tuple[int, int]:
        """Return the first UID of a page and the first one behind it."""
        behind = page + 1
        return self._bounds[page], self._bounds[behind] if behind < len(self._bounds) else BEYOND

    def take_in(self, entries: Iterable[MailboxEntry], pages: Iterable[int]) -> None:
        """Put entries in place as they were read, at a commit not later than `head`.

        What was published since that commit has its entry already, or is not there any more.
        """
        for entry in entries:
            if entry.uid not in self.entries and self.holds(entry.uid):
                self.entries[entry.uid] = entry
        self.cold.difference_update(pages)

    def arrive(self, entry: MailboxEntry) -> None:
        """Append a message. One that the load has already seen is left alone."""
        if entry.modseq > self.head.highest_modseq:
            self.entries[entry.uid] = entry
            self.uids.append(entry.uid)

    def replace(self, entries: Iterable[MailboxEntry]) -> None:
        """Put entries with other flags in the place of the old ones."""
        for entry in entries:
            if entry.modseq <= self.head.highest_modseq:
                return
            self._put(entry)
            self._note(entry.modseq, entry.uid, was_expunged=False)

    def remove(self, uids: Iterable[int], modseq: int) -> None:
        """Remove messages; the old sequence of UIDs stays as it is for those who hold it."""
        if modseq <= self.head.highest_modseq:
            return
        gone = [uid for uid in uids if self.holds(uid)]
        self._drop(gone)
        for uid in gone:
            self._note(modseq, uid, was_expunged=True)

    def catch_up(
        self,
        head: MailboxHead,
        entries: Sequence[MailboxEntry],
        expunged: Iterable[tuple[int, int]],
        present: Container[int] | None,
    ) -> None:
        """Apply all that happened between the present head and a later one.

        Args:  entries: new and changed ones, ascending UID. expunged: (modseq, UID).
            present: all UIDs there are, when `expunged` may be incomplete.
        """
        since = self.head.highest_modseq
        gone = [one for one in expunged if one[0] > since]
        if present is not None:
            missing = [uid for uid in self.uids if uid not in present]
            gone = [(head.highest_modseq, uid) for uid in missing]
        news = [(entry.modseq, entry.uid, False) for entry in entries if entry.modseq > since]
        for entry in entries:
            if entry.modseq <= since:
                continue
            if not self.holds(entry.uid):
                self.uids.append(entry.uid)
            self._put(entry)
        lost = [one for one in gone if self.holds(one[1])]
        self._drop([uid for _, uid in lost])
        # Arrivals are noted too: which modseq they came with is not known any more.
        for modseq, uid, was_expunged in sorted([*news, *((*one, True) for one in lost)]):
            self._note(modseq, uid, was_expunged=was_expunged)
        self.head = head

    def first_unseen(self) -> tuple[Uid | None, bool]:
        """Return the lowest unseen UID (None: there is none), and whether that is known.

        A walk never goes over the same message twice.
        """
        if self.head.unseen == 0:
            return None, True
        uids = self.uids
        for place in range(bisect_left(uids, self._lowest_unseen), len(uids)):
            uid = uids[place]
            entry = self.entries.get(uid)
            if entry is None and uid > self._seen_below:
                self._lowest_unseen = uid
                return None, False
            is_seen = uid < self._seen_below if entry is None else SEEN in entry.flags
            if not is_seen:
                self._lowest_unseen = uid
                return Uid(uid), True
        return None, True

    def settle_unseen(self, modseq: int, lowest: int) -> None:
        """Take note of the lowest unseen UID as of a commit not later than `head`."""
        self._seen_below = lowest
        if modseq == self.head.highest_modseq:
            self._lowest_unseen = lowest

    def changes(
        self, modseq: int, uid_next: int, older_expunges: Sequence[int] = ()
    ) -> MailboxChanges:
        """Return the changes after `modseq`.

        What changed after it must have its entry: in a cold page that is so for what changed
        since the load.
        Args:  older_expunges: what the journal has forgotten, when `modseq` is below its floor.
        """
        head = self.head
        if modseq >= head.highest_modseq and uid_next >= head.uid_next:
            return _nothing_new(
                head
            )  # two looks of three, in a session that is told of one message
        uids = self.uids
        first_new = bisect_left(uids, uid_next)
        arrived = [self.entries[uid] for uid in uids[first_new:]]
        changed: set[int] = set()
        gone = set(older_expunges)
        for changed_at, uid, was_expunged in reversed(self._journal):
            if changed_at <= modseq:
                break
            (gone if was_expunged else changed).add(uid)
        # Arrivals are not journalled. One below `uid_next` counts as changed (QRESYNC asks so);
        # they arrived in order, so the first one that is old enough ends the walk.
        for place in range(first_new - 1, -1, -1):
            entry = self.entries.get(uids[place])
            if entry is None or entry.modseq <= modseq:
                break
            changed.add(uids[place])
        if modseq < self.journal_floor:
            changed.update(uid for uid, entry in self.entries.items() if entry.modseq > modseq)
        entries = [
            self.entries[uid] for uid in sorted(changed) if uid < uid_next and uid in self.entries
        ]
        return MailboxChanges(
            highest_modseq=Modseq(head.highest_modseq),
            uid_next=Uid(head.uid_next),
            arrived=arrived,
            changed=entries,
            expunged=[Uid(uid) for uid in sorted(gone)],
        )

    def _put(self, entry: MailboxEntry) -> None:
        self.entries[entry.uid] = entry
        if entry.uid < self._lowest_unseen and SEEN not in entry.flags:
            self._lowest_unseen = entry.uid

    def _drop(self, gone: Sequence[int]) -> None:
        """Take messages out; the new sequence is put together from what lies between them."""
        if not gone:
            return
        old = self.uids
        uids = old[:0]
        start = 0
        for uid in sorted(gone):
            self.entries.pop(uid, None)
            place = bisect_left(old, uid, start)
            uids += old[start:place]
            start = place + 1
        self.uids = uids + old[start:]

    def _note(self, modseq: int, uid: int, *, was_expunged: bool) -> None:
        journal = self._journal
        if len(journal) >= JOURNAL_LENGTH:
            self.journal_floor = journal.popleft()[0]
        journal.append((modseq, uid, was_expunged))


def _nothing_new(head: MailboxHead) -> MailboxChanges:
    return MailboxChanges(
        highest_modseq=Modseq(head.highest_modseq),
        uid_next=Uid(head.uid_next),
        arrived=(),
        changed=(),
        expunged=(),
    )

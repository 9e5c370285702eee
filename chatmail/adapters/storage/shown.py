"""Which messages sessions were shown, until that is written down.

A SELECT must not cost a write, so marks gather in memory and are saved in batches. A crash forgets
them, which only means that a large message stays until its mailbox is opened again.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from chatmail.domain.model.mailbox import MailboxId

MAX_MARKS: Final = 100_000


class Shown:
    """Mailbox → UIDNEXT when it was last shown; beyond the bound the oldest marks go."""

    def __init__(self, max_marks: int = MAX_MARKS) -> None:
        self._marks: OrderedDict[MailboxId, int] = OrderedDict()
        self._max_marks = max_marks

    def __len__(self) -> int:
        return len(self._marks)

    def note(self, mailbox: MailboxId, uid_next: int) -> None:
        """Note that all messages below `uid_next` were shown."""
        marks = self._marks
        if marks.get(mailbox, 0) < uid_next:
            marks[mailbox] = uid_next
            if len(marks) > self._max_marks:
                marks.popitem(last=False)

    def some(self, limit: int) -> list[tuple[MailboxId, int]]:
        """Return up to `limit` marks to be saved."""
        return [mark for mark, _ in zip(self._marks.items(), range(limit), strict=False)]

    def forget(self, saved: list[tuple[MailboxId, int]]) -> None:
        """Forget marks that were saved, unless they have grown since."""
        for mailbox, uid_next in saved:
            if self._marks.get(mailbox) == uid_next:
                del self._marks[mailbox]

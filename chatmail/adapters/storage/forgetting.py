"""What every store forgets after a time, whatever database it lives in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from chatmail.adapters.storage.transaction import Transaction
from chatmail.adapters.storage.writer import Job, Touches
from chatmail.domain.model.mailbox import MailboxId

EXPUNGED_KEPT_S: Final = 30 * 86400  # spec mail 4.4, QRESYNC


class ForgetExpunges(Job):
    """Forget the expunges of mailboxes up to a modseq; what is older counts as any gap."""

    __slots__ = ("_found",)

    def __init__(self, found: Sequence[tuple[MailboxId, int]]) -> None:
        self._found = sorted(found)

    @property
    def touches(self) -> Touches:
        """Return what it changes."""
        return Touches(tuple(mailbox for mailbox, _ in self._found))

    def plan(self, tx: Transaction) -> None:
        """Remove the rows."""
        tx.sql.save_floor.run_many([(floor, mailbox) for mailbox, floor in self._found])
        tx.sql.forget_expunged.run_many(list(self._found))


class ForgetTombstones(Job):
    """Forget the deleted addresses whose time is over."""

    __slots__ = ("_now_s",)

    def __init__(self, now_s: int) -> None:
        self._now_s = now_s

    def plan(self, tx: Transaction) -> None:
        """Remove the rows."""
        tx.sql.forget_tombstones.run(self._now_s)

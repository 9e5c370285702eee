"""What every store forgets after a time, whatever database it lives in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from chatmail.adapters.storage.transaction import Transaction
from chatmail.adapters.storage.writer import Job, Touches, Writer
from chatmail.domain.model.mailbox import MailboxId

EXPUNGED_KEPT_S: Final = 30 * 86400  # spec mail 4.4, QRESYNC
FORGOTTEN_AT_ONCE: Final = 1000


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


class ForgetDelivered(Job):
    """Forget some of what was delivered long enough ago to be welcome again."""

    __slots__ = ("_now_s", "is_done")

    def __init__(self, now_s: int) -> None:
        self._now_s = now_s
        self.is_done = False

    def plan(self, tx: Transaction) -> None:
        """Remove a piece of the rows."""
        removed = tx.sql.outbound.forget_once.run(self._now_s, FORGOTTEN_AT_ONCE).rowcount
        self.is_done = removed < FORGOTTEN_AT_ONCE


async def forget_expired(writer: Writer, now_s: int) -> None:
    """Forget deleted addresses and deliveries whose time is over. Raises:  TransientFailure."""
    await writer.do(ForgetTombstones(now_s))
    while not (await writer.do(ForgetDelivered(now_s))).is_done:
        pass


class ForgetTombstones(Job):
    """Forget the deleted addresses whose time is over."""

    __slots__ = ("_now_s",)

    def __init__(self, now_s: int) -> None:
        self._now_s = now_s

    def plan(self, tx: Transaction) -> None:
        """Remove the rows."""
        tx.sql.forget_tombstones.run(self._now_s)

"""Reads that may take long: mailboxes and old expunges from SQL, cold content from disk.

One thread, one read at a time: more threads only fight over the interpreter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TypeVar

import trio
from sqlalchemy import Connection

from chatmail.adapters.storage.database import translated
from chatmail.adapters.storage.errors import StorageFault
from chatmail.adapters.storage.head import MailboxHead
from chatmail.adapters.storage.index import StoreIndex
from chatmail.adapters.storage.loaded import BEYOND, LoadedMailbox
from chatmail.adapters.storage.mailbox_rows import MailboxRows
from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.model.mailbox import MailboxEntry, MailboxId

T = TypeVar("T")


class ReadDatabase(Protocol):
    """What a reader needs: one consistent view at a time."""

    @property
    def reader(self) -> Connection: ...

    def snapshot(self) -> AbstractContextManager[Connection]: ...


class Reader:
    """The reader connection and its thread."""

    def __init__(self, database: ReadDatabase, index: StoreIndex) -> None:
        self._database = database
        self._index = index
        self._limiter = trio.CapacityLimiter(1)
        self._rows = MailboxRows(database.reader)

    @property
    def is_at_work(self) -> bool:
        """Say whether the thread reads now."""
        return self._limiter.borrowed_tokens > 0

    async def mailbox(self, mailbox: MailboxId) -> LoadedMailbox | None:
        """Read a mailbox as of one commit, a large one without its entries; None: there is none.

        Raises:  TransientFailure: the database could not be read.
        """
        return await self.run(self._read_mailbox, mailbox)

    async def pages(
        self, mailbox: MailboxId, spans: Sequence[tuple[int, int]]
    ) -> tuple[MailboxHead | None, list[MailboxEntry]]:
        """Read messages from a UID to below another, and the head as of the same commit.

        Raises:  TransientFailure: the database could not be read.
        """
        return await self.run(self._read_pages, mailbox, spans)

    async def changed_since(self, mailbox: MailboxId, modseq: int) -> Sequence[int]:
        """Return the UIDs of what came or changed after `modseq`.

        Raises:  TransientFailure: the database could not be read.
        """
        return await self.run(self._read_changed, mailbox, modseq)

    async def lowest_unseen(self, mailbox: MailboxId) -> tuple[MailboxHead | None, int]:
        """Read the lowest unseen UID, and the head as of the same commit.

        Raises:  TransientFailure: the database could not be read.
        """
        return await self.run(self._read_unseen, mailbox)

    async def expunged_since(self, mailbox: MailboxId, modseq: int) -> tuple[int, list[int]]:
        """Return (modseq up to which expunges were forgotten, UIDs expunged after `modseq`).

        Raises:  TransientFailure: the database could not be read.
        """
        return await self.run(self._read_expunged, mailbox, modseq)

    async def query(self, function: Callable[[Connection], T]) -> T:
        """Run a query of one's own on a consistent view.

        Raises:  TransientFailure: the database could not be read.
        """
        return await self.run(self._on_snapshot, function)

    async def run(self, function: Callable[..., T], *args: object) -> T:
        """Run something in the reader's thread. Raises:  TransientFailure."""
        try:
            return await trio.to_thread.run_sync(
                function, *args, limiter=self._limiter, thread_name="chatmail reader"
            )
        except StorageFault as fault:
            raise TransientFailure("the store could not be read") from fault

    def _on_snapshot(self, function: Callable[[Connection], T]) -> T:
        with translated(), self._database.snapshot() as connection:
            return function(connection)

    def _read_mailbox(self, mailbox: MailboxId) -> LoadedMailbox | None:
        with self._mailbox_rows() as rows:
            return rows.load(mailbox, self._index)

    def _read_pages(
        self, mailbox: MailboxId, spans: Sequence[tuple[int, int]]
    ) -> tuple[MailboxHead | None, list[MailboxEntry]]:
        with self._mailbox_rows() as rows:
            return rows.head(mailbox), rows.pages(mailbox, spans, self._index)

    def _read_changed(self, mailbox: MailboxId, modseq: int) -> Sequence[int]:
        with self._mailbox_rows() as rows:
            return rows.changed_since(mailbox, modseq)

    def _read_unseen(self, mailbox: MailboxId) -> tuple[MailboxHead | None, int]:
        with self._mailbox_rows() as rows:
            head = rows.head(mailbox)
            return head, BEYOND if head is None else rows.lowest_unseen(head)

    def _read_expunged(self, mailbox: MailboxId, modseq: int) -> tuple[int, list[int]]:
        with self._mailbox_rows() as rows:
            return rows.expunged_since(mailbox, modseq)

    @contextmanager
    def _mailbox_rows(self) -> Iterator[MailboxRows]:
        with translated(), self._database.snapshot() as connection:
            if self._rows.connection is not connection:  # the old one was lost
                self._rows = MailboxRows(connection)
            yield self._rows

"""Reads that may take long: whole mailboxes and old expunges from SQL, cold content from disk.

One thread, one read at a time: more threads only fight over the interpreter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

import trio
from sqlalchemy import BindParameter, Connection, bindparam, select

from chatmail.adapters.storage.database import Prepared, translated
from chatmail.adapters.storage.errors import StorageFault
from chatmail.adapters.storage.head import MailboxHead
from chatmail.adapters.storage.index import StoreIndex
from chatmail.adapters.storage.loaded import LoadedMailbox
from chatmail.adapters.storage.schema import expunged, mailboxes, messages
from chatmail.adapters.storage.statements import HEAD_COLUMNS, select_messages
from chatmail.adapters.storage.transaction import StoredMessage
from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.model.mailbox import MailboxId

T = TypeVar("T")


class ReadDatabase(Protocol):
    """What a reader needs: one consistent view at a time."""

    @property
    def reader(self) -> Connection: ...

    def snapshot(self) -> AbstractContextManager[Connection]: ...


class _Queries:
    """The reader's statements, compiled for one connection."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        mailbox: BindParameter[int] = bindparam("p_mailbox")
        self.head = Prepared(
            connection, select(*HEAD_COLUMNS).where(mailboxes.c.id == mailbox), ["p_mailbox"]
        )
        self.messages = Prepared(
            connection,
            select_messages().where(messages.c.mailbox == mailbox).order_by(messages.c.uid),
            ["p_mailbox"],
        )
        self.floor = Prepared(
            connection,
            select(mailboxes.c.expunged_floor).where(mailboxes.c.id == mailbox),
            ["p_mailbox"],
        )
        self.expunged = Prepared(
            connection,
            select(expunged.c.uid)
            .where(expunged.c.mailbox == mailbox)
            .where(expunged.c.modseq > bindparam("p_modseq")),
            ["p_mailbox", "p_modseq"],
        )


class Reader:
    """The reader connection and its thread."""

    def __init__(self, database: ReadDatabase, index: StoreIndex) -> None:
        self._database = database
        self._index = index
        self._limiter = trio.CapacityLimiter(1)
        self._queries = _Queries(database.reader)

    @property
    def is_at_work(self) -> bool:
        """Say whether the thread reads now."""
        return self._limiter.borrowed_tokens > 0

    async def mailbox(self, mailbox: MailboxId) -> LoadedMailbox | None:
        """Read a whole mailbox as of one commit; None: there is none.

        Raises:  TransientFailure: the database could not be read.
        """
        return await self.run(self._read_mailbox, mailbox)

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
        with translated(), self._database.snapshot() as connection:
            queries = self._on(connection)
            row = queries.head.one(mailbox)
            rows: Sequence[Sequence[object]] = [] if row is None else queries.messages.all(mailbox)
        if row is None:
            return None
        entries = [StoredMessage(one).entry(self._index) for one in rows]
        return LoadedMailbox(MailboxHead.of_row(row), entries)

    def _read_expunged(self, mailbox: MailboxId, modseq: int) -> tuple[int, list[int]]:
        with translated(), self._database.snapshot() as connection:
            queries = self._on(connection)
            floor = queries.floor.one(mailbox)
            rows = queries.expunged.all(mailbox, modseq)
        return (0 if floor is None else floor[0]), [row[0] for row in rows]

    def _on(self, connection: Connection) -> _Queries:
        if self._queries.connection is not connection:  # the old one was lost
            self._queries = _Queries(connection)
        return self._queries

"""Hears what other processes commit, and brings memory up to date.

A connection of its own waits for notices; they are gathered while the last ones are followed. A
connection that lives has lost nothing. One that died may have: then everything in memory is
looked at again. A slow look at what sessions have open is the last resort.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

import psycopg
import trio

from chatmail.adapters.storage.boards import Board
from chatmail.adapters.storage.errors import StorageFault
from chatmail.adapters.storage.federation.peers import Peers
from chatmail.adapters.storage.notices import PING, News
from chatmail.adapters.storage.postgresql.index import SharedIndex
from chatmail.adapters.storage.postgresql.link import Outage, connect, driving
from chatmail.adapters.storage.postgresql.transaction import CHANNEL
from chatmail.adapters.storage.postgresql.writer import (
    Availability,
    ForgetAccounts,
    LookAtMailboxes,
    Refresh,
    SharedWriter,
)
from chatmail.adapters.storage.store import Ears
from chatmail.adapters.storage.tokens import TokenCache
from chatmail.domain.model.account import AccountId
from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.model.mailbox import MailboxId

POLL_S: Final = 30.0
RETRY_S: Final = 1.0
LOOK_BATCH: Final = 500
PART: Final = "listener"


class Listener:
    """The task behind a shared store's memory."""

    def __init__(
        self,
        url: str,
        process: int,
        outage: Outage,
        writer: SharedWriter,
        index: SharedIndex,
        tokens: TokenCache,
        board: Board,
        outbound_board: Board,
        peers: Peers,
        availability: Availability,
        connect: Callable[[str], psycopg.Connection[Any]] = connect,
    ) -> None:
        self._url = url
        self._process = str(process)
        self._outage = outage
        self._writer = writer
        self._index = index
        self._tokens = tokens
        self._board = board
        self._outbound_board = outbound_board
        self._peers = peers
        self._availability = availability
        self._connect = connect
        self._limiter = trio.CapacityLimiter(1)
        self.ears: Ears | None = None
        self.is_listening = False

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen until cancelled, on one connection after the other."""
        task_status.started()
        while True:
            try:
                connection = await self._in_thread(self._open, can_be_left=False)
            except StorageFault:
                self._availability.lost(PART)
                await trio.sleep(self._outage.failed())
                continue
            # Whoever found the server away may try at once.
            self._outage.is_over()
            try:
                await self._follow(connection)
            except StorageFault:
                self._availability.lost(PART)
            finally:
                self.is_listening = False
                connection.close()

    def _open(self) -> psycopg.Connection[Any]:
        with driving():
            connection = self._connect(self._url)
            try:
                connection.execute(f"LISTEN {CHANNEL}".encode())
            except psycopg.Error:
                connection.close()
                raise
            return connection

    async def _follow(self, connection: psycopg.Connection[Any]) -> None:
        """Follow notices until the connection is lost. Raises:  StorageFault."""
        news = News()
        await self._until_done(connection, news, self.look_at_everything)
        self._availability.found(PART)
        self.is_listening = True
        while True:
            has_news = news != News()
            if not has_news:
                with trio.move_on_after(POLL_S):
                    await trio.lowlevel.wait_readable(_descriptor(connection))
                    has_news = True
            if not has_news:
                await self._in_thread(self._ping, connection)
            self._gather(connection, news)
            if not has_news:
                news.mailboxes.update(id for id, one in self._index.loaded.items() if one.pins)
                if self._availability.is_down:  # a job that succeeds says that it is back
                    await self._until_done(connection, news, self._writer.do, ForgetAccounts(()))
            told, news = news, News()
            await self._until_done(connection, news, self.heed, told)

    def _gather(self, connection: psycopg.Connection[Any], news: News) -> None:
        with driving():
            for notice in connection.notifies(timeout=0):
                news.add(notice.payload, self._process)

    def _ping(self, connection: psycopg.Connection[Any]) -> None:
        """Fail if the connection died without a word."""
        with driving():
            connection.execute(b"SELECT pg_notify(%s, %s)", (CHANNEL, f"{self._process} {PING}"))

    async def _until_done(
        self,
        connection: psycopg.Connection[Any],
        news: News,
        function: Callable[..., Any],
        *args: object,
    ) -> None:
        """Repeat what the server's absence cuts short: what was told is told once.

        What comes between two tries goes to `news`. A connection that is lost as well is noticed
        there, not when the writer has a new one: one absence is told of once, and nobody listens
        to a dead connection meanwhile.

        Raises:  StorageFault: it is lost. Then everything is looked at again.
        """
        while True:
            try:
                await function(*args)
            except TransientFailure:
                with trio.move_on_after(RETRY_S):
                    while True:
                        await trio.lowlevel.wait_readable(_descriptor(connection))
                        self._gather(connection, news)
            else:
                return

    async def heed(self, news: News) -> None:
        """Bring memory up to date with what others have told.

        Raises:  TransientFailure: the database is away; nothing of the news is used up.
        """
        await self._heed_accounts(news)
        known = {MailboxId(id) for id in news.mailboxes if self._index.is_known(MailboxId(id))}
        known |= self._index.mailboxes_of(news.names | news.accounts)
        await self._look_at(known)
        if news.reports:
            self._board.ring()
        if news.peers:
            await self._peers.directory.reload()
        if news.learned:
            await self._peers.memory.reload(news.learned)
        if news.outbound:  # after what it depends on
            self._outbound_board.ring()
        if news.settings and self.ears is not None:
            self.ears.settings_changed()

    async def look_at_everything(self) -> None:
        """Compare all that is in memory with the database. Raises:  TransientFailure."""
        await self._writer.do(ForgetAccounts(None))
        self._tokens.clear()
        await self._look_at({*self._index.loaded, *self._index.loading})
        await self._peers.directory.reload()
        await self._peers.memory.reload()
        self._board.ring()
        self._outbound_board.ring()
        if self.ears is not None:
            self.ears.settings_changed()

    async def _heed_accounts(self, news: News) -> None:
        dropped = [AccountId(id) for id in news.names | news.accounts]
        if dropped:
            await self._writer.do(ForgetAccounts(dropped))
        for id in news.tokens | news.accounts:
            self._tokens.forget(AccountId(id))
        for id in news.accounts:
            account = AccountId(id)
            if self.ears is not None:
                self.ears.account_changed(account)
            record = (await self._writer.do(Refresh(account))).record
            if self.ears is not None and (record is None or record.stored.is_blocked):
                self.ears.account_closed(account)

    async def _look_at(self, mailboxes: Iterable[MailboxId]) -> None:
        for some in _batches(sorted(mailboxes)):
            await self._writer.do(LookAtMailboxes(some))

    async def _in_thread(
        self, function: Callable[..., Any], *args: object, can_be_left: bool = True
    ) -> Any:
        return await trio.to_thread.run_sync(
            function,
            *args,
            limiter=self._limiter,
            thread_name="chatmail listener",
            abandon_on_cancel=can_be_left,  # a silent server must not hold up a stop
        )


def _descriptor(connection: psycopg.Connection[Any]) -> int:
    with driving():
        return connection.fileno()


def _batches(mailboxes: Sequence[MailboxId]) -> Iterator[Sequence[MailboxId]]:
    for start in range(0, len(mailboxes), LOOK_BATCH):
        yield mailboxes[start : start + LOOK_BATCH]

"""SMTP to other relays: the client machine on a connection, kept for the next message.

Source:  spec federation-web.md A6.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import trio

from chatmail.adapters.outbound.connect import (
    STREAM_ERRORS,
    ByteStream,
    Connector,
    HopError,
    TlsClient,
)
from chatmail.adapters.outbound.patience import Patience
from chatmail.adapters.outbound.pieces import Pieces
from chatmail.adapters.outbound.pool import ConnectionPool, close_now, has_input
from chatmail.domain.formats.dot_stuffing import DotStuffer
from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.errors import LocalProtocolError
from chatmail.domain.model.federation import (
    Hop,
    HopFault,
    HopResult,
    RecipientOutcome,
    TlsRule,
)
from chatmail.domain.ports.remote import Letter
from chatmail.domain.wire.smtp.client import SmtpClient
from chatmail.domain.wire.smtp.client_events import (
    MAX_RECIPIENTS,
    NEED_DATA,
    SEND_CONTENT,
    UPGRADE,
    ClientEvent,
    Phase,
    Send,
    SessionEnd,
    TlsUse,
    Transaction,
    TransactionEnd,
)

_READ_OCTETS: Final = 16384

_TLS_USE: Final = {
    TlsRule.VERIFY: TlsUse.REQUIRED,
    TlsRule.ENCRYPT: TlsUse.REQUIRED,
    TlsRule.OPTIONAL: TlsUse.WHEN_OFFERED,
    TlsRule.NONE: TlsUse.NEVER,
}


class SmtpConnection:
    """One session. Whoever holds it is the only one who speaks on it."""

    def __init__(
        self, stream: ByteStream, machine: SmtpClient, hop: Hop, tls: TlsClient, patience: Patience
    ) -> None:
        self._stream = stream
        self._machine = machine
        self._hop = hop
        self._tls = tls
        self._patience = patience
        self._is_kept = False

    @property
    def has_room(self) -> bool:
        """Another message may be sent on it."""
        machine = self._machine
        return machine.phase is Phase.READY and machine.transactions < self._patience.smtp_messages

    @property
    def is_stale(self) -> bool:
        """It was kept, and ended before the server accepted so much as a sender.

        It may have been idle for too long, or have carried enough messages for the server's taste.
        """
        return self._is_kept and self._machine.is_pristine

    def is_usable(self) -> bool:
        """Say whether the server has neither closed nor spoken meanwhile."""
        return not has_input(self._stream)

    def abort(self) -> None:
        """Close at once."""
        close_now(self._stream)

    async def open(self) -> None:
        """Speak up to where a transaction may begin. Raises:  HopError."""
        event = await self._pump()
        if isinstance(event, SessionEnd):
            raise HopError(event.fault, event.reply)

    async def transact(
        self, letter: Letter, transaction: Transaction, deadline: float
    ) -> TransactionEnd | SessionEnd:
        """Hand over one letter. Raises:  TransientFailure: `letter.read` did."""
        self._machine.begin(transaction, with_reset=self._is_kept)
        with trio.CancelScope(deadline=deadline):
            return await self._transact(letter)
        self._machine.time_out()
        return await self._transact(letter)

    async def _transact(self, letter: Letter) -> TransactionEnd | SessionEnd:
        while True:
            event = await self._pump()
            if event is SEND_CONTENT:
                await self._send_content(letter)
            elif isinstance(event, TransactionEnd | SessionEnd):
                return event

    def kept(self) -> None:
        """It goes into the pool: a reset comes before its next transaction."""
        if not self._is_kept:
            self._tls.remember(self._stream, self._hop.host, self._hop.port, self._hop.tls)
        self._is_kept = True

    async def say_goodbye(self) -> None:
        """Send QUIT if that is possible at once, and close."""
        if self._machine.phase is Phase.READY:
            with trio.move_on_after(1.0, shield=True):
                await self._send(self._machine.quit())
        self.abort()

    async def _pump(self) -> ClientEvent:
        """Do what the machine asks for until somebody else has to act."""
        deadline, replies = math.inf, -1
        while True:
            event = self._machine.next_event()
            if isinstance(event, Send):
                await self._send(event.octets)
            elif event is NEED_DATA:
                if replies != self._machine.replies:
                    # Per reply, not per octet: a trickle of octets is no progress.
                    replies = self._machine.replies
                    deadline = trio.current_time() + self._patience_now()
                await self._receive(deadline)
            elif event is UPGRADE:
                await self._start_tls()
            else:
                return event

    def _patience_now(self) -> float:
        if self._machine.phase is Phase.VERDICT:
            return self._patience.smtp_verdict
        return self._patience.smtp_command

    async def _receive(self, deadline: float) -> None:
        octets = None
        try:
            with trio.CancelScope(deadline=deadline):
                octets = await self._stream.receive_some(_READ_OCTETS)
        except STREAM_ERRORS:
            octets = b""
        if octets is None:
            self._machine.time_out()
        elif octets:
            self._machine.receive_data(bytes(octets))
        else:
            self._machine.receive_eof()

    async def _send(self, octets: bytes) -> None:
        try:
            with trio.fail_after(self._patience.smtp_stall):
                await self._stream.send_all(octets)
        except trio.TooSlowError:
            self._machine.time_out()
        except STREAM_ERRORS:
            self._machine.receive_eof()

    async def _start_tls(self) -> None:
        if isinstance(self._stream, trio.SSLStream):
            raise LocalProtocolError("TLS inside TLS")
        self._stream = await self._tls.start(
            self._stream,
            self._hop.host,
            self._hop.port,
            self._hop.tls,
            alpn=None,
            timeout_s=self._patience.tls,
        )
        self._machine.tls_started()

    async def _send_content(self, letter: Letter) -> None:
        stuffer = DotStuffer()
        pieces = Pieces(letter)
        while not pieces.is_over:
            stuffed = stuffer.feed(await pieces.take())
            await self._send(stuffed + stuffer.finish() if pieces.is_over else stuffed)
            if self._machine.phase is Phase.CLOSED:
                return
        self._machine.content_sent()


class SmtpTransport:
    """`RemoteTransport` for hops of kind SMTP."""

    def __init__(
        self,
        connector: Connector,
        tls: TlsClient,
        hello_name: Callable[[], str],
        patience: Patience,
    ) -> None:
        self._connector = connector
        self._tls = tls
        self._hello_name = hello_name
        self._patience = patience
        self.pool: ConnectionPool[SmtpConnection] = ConnectionPool(
            idle_s=patience.smtp_idle, per_key=patience.smtp_idle_connections
        )

    async def attempt(self, hop: Hop, letter: Letter) -> HopResult:
        """Hand a letter to a host, in as many transactions as it takes."""
        outcomes: list[RecipientOutcome] = []
        deadline = trio.current_time() + self._patience.smtp_total(letter.size)
        try:
            await self._deliver(hop, letter, outcomes, deadline)
        except HopError as error:
            return HopResult(
                hop=hop, outcomes=tuple(outcomes), fault=error.fault, reply=error.reply
            )
        return HopResult(hop=hop, outcomes=tuple(outcomes))

    async def _deliver(
        self, hop: Hop, letter: Letter, outcomes: list[RecipientOutcome], deadline: float
    ) -> None:
        """Run transactions until every recipient was judged; outcomes are added as they come.

        Raises:  HopError.
        """
        waiting = letter.recipients
        connection: SmtpConnection | None = None
        may_reuse = True
        try:
            while waiting:
                if connection is None:
                    connection = await self._connection(hop, may_reuse=may_reuse)
                batch, rest = waiting[:MAX_RECIPIENTS], waiting[MAX_RECIPIENTS:]
                end = await connection.transact(letter, _transaction(letter, batch), deadline)
                if connection.is_stale:
                    # The server had given up on it; on a new one it is asked for the first time.
                    connection.abort()
                    connection, may_reuse = None, False
                    continue
                outcomes.extend(end.outcomes)
                if isinstance(end, SessionEnd):
                    raise HopError(end.fault, end.reply)
                waiting = end.postponed + rest
                if not waiting or not connection.has_room:
                    leaving, connection = connection, None
                    await self._leave(hop, leaving)
        finally:
            if connection is not None:
                connection.abort()

    async def _connection(self, hop: Hop, *, may_reuse: bool) -> SmtpConnection:
        """Take a kept connection, or open one. Raises:  HopError."""
        if may_reuse and (kept := self.pool.take(_key(hop))) is not None:
            return kept
        try:
            return await self._open(hop, _TLS_USE[hop.tls])
        except HopError as error:
            if error.fault is not HopFault.TLS or hop.tls is not TlsRule.OPTIONAL:
                raise
        # Where TLS is optional, one that does not work is as good as none.
        return await self._open(hop, TlsUse.NEVER)

    async def _open(self, hop: Hop, use: TlsUse) -> SmtpConnection:
        """Raises:  HopError."""
        stream = await self._connector.connect(
            hop.host,
            hop.port,
            is_operators_word=hop.is_operators_word,
            timeout_s=self._patience.smtp_connect,
        )
        machine = SmtpClient(self._hello_name(), use)
        connection = SmtpConnection(stream, machine, hop, self._tls, self._patience)
        try:
            await connection.open()
        except BaseException:
            connection.abort()
            raise
        return connection

    async def _leave(self, hop: Hop, connection: SmtpConnection) -> None:
        if connection.has_room:
            connection.kept()
            self.pool.put(_key(hop), connection)
        else:
            await connection.say_goodbye()


def _key(hop: Hop) -> tuple[str, int, TlsRule, bool]:
    return hop.host, hop.port, hop.tls, hop.is_operators_word


def _transaction(letter: Letter, recipients: tuple[EmailAddress, ...]) -> Transaction:
    return Transaction(
        reverse_path=letter.reverse_path,
        recipients=recipients,
        size=len(letter.prefix) + letter.size,
        is_eight_bit=letter.is_eight_bit,
    )

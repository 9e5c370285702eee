"""The shell around the SMTP machine: octets in, events out, use cases in between.

One task and one cancel scope per connection; the scope's deadline is moved at each wait. Replies
gather and leave in one write when the input is exhausted (RFC 2920). However a session is cut
short, the peer reads why: idle, draining, account blocked, or too slow a store. An unfinished
message is always discarded.
"""

from __future__ import annotations

from typing import Final

import attrs
import trio

from chatmail.adapters.smtp.replies import accepted, reply_to
from chatmail.adapters.smtp.services import ByteStream, MessageSink, SmtpServices
from chatmail.domain.formats.body_digest import BodyDigests
from chatmail.domain.model.account import Account
from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.errors import LocalProtocolError, Overloaded, TransientFailure
from chatmail.domain.model.federation import Source, TransportKind
from chatmail.domain.model.message import Door, Envelope
from chatmail.domain.model.settings import SettingsSnapshot
from chatmail.domain.model.verdict import RefusalReason, Refuse
from chatmail.domain.policy.inbound import MAX_RECIPIENTS
from chatmail.domain.wire.smtp import replies
from chatmail.domain.wire.smtp.commands import Data, Hello, Mail, Rcpt, StartTls
from chatmail.domain.wire.smtp.data import ContentFault
from chatmail.domain.wire.smtp.events import (
    CLOSED,
    NEED_DATA,
    PAUSED,
    Answered,
    ContentChunk,
    ContentEnd,
    Event,
    Login,
)
from chatmail.domain.wire.smtp.replies import Reply
from chatmail.domain.wire.smtp.sequence import Role, State
from chatmail.domain.wire.smtp.server import SmtpServer

IDLE_S: Final = 300.0
"""RFC 5321 §4.5.3.2: silence that ends a session, in commands and in content."""
DEADLINE_SLACK_S: Final = 10.0
"""How late silence may be noticed: moving a deadline costs more than the rest of a wait."""
STALLED_S: Final = 900.0
"""A peer that drips octets without ever finishing anything (spec federation-web B1.7)."""
COMMIT_S: Final = 45.0
"""Core gives up after 60 s and sends the message again (spec mail 6.5, T26)."""
FAREWELL_S: Final = 5.0
HOPELESS_LOGIN_DELAY_S: Final = 2.0

_TEMPORARY: Final = reply_to(Refuse(RefusalReason.TEMPORARY))
_BUSY: Final = reply_to(Refuse(RefusalReason.QUEUE_FULL))
_LOGIN_UNAVAILABLE: Final = reply_to(Refuse(RefusalReason.LOGIN_UNAVAILABLE))
_BAD_CREDENTIALS: Final = reply_to(Refuse(RefusalReason.BAD_CREDENTIALS))
_TOO_MANY_SESSIONS: Final = reply_to(Refuse(RefusalReason.TOO_MANY_SESSIONS))
_TOO_BIG: Final = reply_to(Refuse(RefusalReason.TOO_BIG))
_BAD_LINE: Final = reply_to(Refuse(RefusalReason.BAD_LINE))
_RELAY_DENIED: Final = reply_to(Refuse(RefusalReason.RELAY_DENIED))

_CONTENT_FAULTS: Final = {
    ContentFault.BAD_LINE: _BAD_LINE,
    ContentFault.TOO_BIG: _TOO_BIG,
    ContentFault.ENDLESS: _TOO_BIG,
}


async def serve_connection(stream: ByteStream, services: SmtpServices, role: Role) -> None:
    """Speak SMTP on one stream until the peer leaves, errs, or is told to go.

    Raises:  what the stream raises when the peer is gone; a bug of ours.
    Cancellation:  safe at every await; replies that are due and a 421 are still tried.
    """
    session = _Session(stream, services, role)
    with services.drain.subscribe(session.drain):
        await session.run()


@attrs.define
class _Transaction:
    """One envelope in the making. `verdict` is what is said of its sender at every RCPT."""

    reverse_path: EmailAddress | None
    recipients: dict[EmailAddress, None] = attrs.field(factory=dict)
    is_judged: bool = False
    verdict: Reply | None = None


class _Session:
    """The state of one connection that is not the machine's."""

    def __init__(self, stream: ByteStream, services: SmtpServices, role: Role) -> None:
        self._stream = stream
        self._services = services
        self._role = role
        needs_tls = role is Role.SUBMISSION or services.settings().federation.require_tls
        self._machine = SmtpServer(role, is_tls=stream.is_tls, needs_tls=needs_tls)
        self._scope = trio.CancelScope()
        self._replies: list[bytes] = []
        self._at_deadline = replies.IDLE_TOO_LONG
        self._told_to_go: Reply | None = None
        self._account: Account | None = None
        self._ticket: object = None
        self._transaction = _Transaction(None)
        self._progress_at = trio.current_time()
        self._has_progress = False
        self._is_draining = services.drain.is_set()
        self._is_waiting = False
        self._is_writing = False

    # --- life ---------------------------------------------------------------------------------

    async def run(self) -> None:
        """Hold the dialogue; see `serve_connection`."""
        try:
            with self._scope:
                await self._converse()
                return
        except trio.Cancelled:
            self._told_to_go = self._told_to_go or replies.SHUTTING_DOWN
            await self._say_farewell()
            raise
        finally:
            if self._ticket is not None:
                self._services.sessions.leave(self._ticket)
        await self._say_farewell()

    def drain(self) -> None:
        """The server is going down: end the wait for a command, but let a message finish."""
        self._is_draining = True
        if self._is_waiting and self._machine.state is not State.CONTENT:
            self._told_to_go = replies.SHUTTING_DOWN
            self._scope.cancel()

    def _block(self) -> None:
        """The account was blocked or deleted: end whatever goes on."""
        self._told_to_go = replies.SESSION_ENDED
        self._scope.cancel()

    async def _say_farewell(self) -> None:
        """Tell a peer that was cut off what it is still owed, and why it is cut off."""
        if self._is_writing:
            return  # what of the broken write went out is unknown
        farewell = self._told_to_go or self._at_deadline
        octets = b"".join((*self._replies, farewell.octets))
        with trio.move_on_after(FAREWELL_S, shield=True):
            await self._stream.send_all(octets)

    async def _converse(self) -> None:
        if self._is_draining:
            await self._stream.send_all(replies.SHUTTING_DOWN.octets)
            return
        self._replies.append(replies.greeting(self._settings().identity.hostname).octets)
        while (event := await self._next_event()) is not CLOSED:
            await self._handle(event)
        await self._flush()

    # --- input and output ---------------------------------------------------------------------

    async def _next_event(self) -> Event:
        """Return the machine's next event, reading as needed; the peer's leaving is CLOSED."""
        while (event := self._machine.next_event()) is NEED_DATA:
            await self._flush()
            if self._is_draining and self._machine.state is not State.CONTENT:
                self._answer(replies.SHUTTING_DOWN)
            elif octets := await self._receive():
                self._machine.receive_data(octets)
            else:
                self._machine.receive_eof()
        self._has_progress = True
        return event

    async def _receive(self) -> bytes:
        now = trio.current_time()
        if self._has_progress:
            self._has_progress, self._progress_at = False, now
        deadline = min(now + IDLE_S, self._progress_at + STALLED_S)
        if not deadline <= self._scope.deadline <= deadline + DEADLINE_SLACK_S:
            self._move_deadline(deadline + DEADLINE_SLACK_S)
        self._is_waiting = True
        octets = await self._stream.receive_some()
        self._is_waiting = False
        # Told to go just as octets came: they are not looked at any more.
        await trio.lowlevel.checkpoint_if_cancelled()
        return octets

    def _move_deadline(self, deadline: float, farewell: Reply = replies.IDLE_TOO_LONG) -> None:
        """Set when the session ends by itself, and what the peer reads then."""
        self._scope.deadline = deadline
        self._at_deadline = farewell

    async def _flush(self) -> None:
        if self._replies:
            # Cut short meanwhile: what is due leaves whole, with the farewell. Otherwise the 250 of
            # a message that was stored could be lost in a broken write.
            await trio.lowlevel.checkpoint_if_cancelled()
            octets = b"".join(self._replies)
            self._replies.clear()
            self._is_writing = True
            await self._stream.send_all(octets)
            self._is_writing = False

    def _answer(self, reply: Reply) -> None:
        self._replies.append(self._machine.send(reply))

    # --- commands -----------------------------------------------------------------------------

    async def _handle(self, event: Event) -> None:
        match event:
            case Answered():
                self._replies.append(event.octets)
            case Rcpt():
                self._answer(self._reply_to_rcpt(event))
            case Mail():
                self._answer(self._reply_to_mail(event))
            case Data():
                await self._receive_message()
            case Hello():
                settings = self._settings()
                limit = self._max_bytes(settings)
                self._replies.append(self._machine.hello(settings.identity.hostname, limit))
            case Login():
                await self._login(event)
            case StartTls():
                await self._start_tls()
            case _:
                raise LocalProtocolError("event out of place")

    async def _start_tls(self) -> None:
        self._answer(replies.READY_FOR_TLS)
        if self._machine.next_event() is not PAUSED:
            # Cleartext was waiting behind STARTTLS: closed without a reply (spec mail 1.5).
            self._replies.clear()
            return
        await self._flush()
        self._is_writing = True  # the handshake: no reply can go out before its end
        await self._stream.start_tls()
        self._is_writing = False
        self._machine.tls_started()

    def _settings(self) -> SettingsSnapshot:
        return self._services.settings()

    def _max_bytes(self, settings: SettingsSnapshot) -> int:
        limits = settings.limits
        if self._role is Role.SUBMISSION:
            return limits.max_message_bytes
        return min(limits.max_message_bytes, limits.max_federation_bytes)

    # --- login --------------------------------------------------------------------------------

    async def _login(self, event: Login) -> None:
        delay_s, refused = HOPELESS_LOGIN_DELAY_S, _BAD_CREDENTIALS
        if event.credentials is not None:
            try:
                outcome = await self._services.authenticate(
                    event.credentials, self._stream.peer_host
                )
            except TransientFailure:
                self._answer(_LOGIN_UNAVAILABLE)
                return
            if isinstance(outcome, Account):
                self._answer(self._admit(outcome))
                return
            delay_s, refused = outcome.delay_s, reply_to(Refuse(outcome.reason))
            self._services.log.info("smtp_login_refused", reason=outcome.reason.value)
        await self._flush()
        self._is_waiting = True
        await trio.sleep(delay_s)
        self._is_waiting = False
        self._answer(refused)

    def _admit(self, account: Account) -> Reply:
        limit = self._settings().limits.smtp_sessions_per_account
        self._ticket = self._services.sessions.admit(account.id, "smtp", limit, self._block)
        if self._ticket is None:
            return _TOO_MANY_SESSIONS
        self._account = account
        return replies.LOGGED_IN

    # --- envelope -----------------------------------------------------------------------------

    def _reply_to_mail(self, event: Mail) -> Reply:
        if self._is_draining:
            return replies.SHUTTING_DOWN
        if event.size is not None and event.size > self._max_bytes(self._settings()):
            return _TOO_BIG
        if not self._services.has_room():
            return replies.NO_ROOM
        self._transaction = _Transaction(event.reverse_path)
        return replies.MAIL_OK

    def _reply_to_rcpt(self, event: Rcpt) -> Reply:
        """Answer one recipient. What is wrong with the sender is said here (spec mail 6.4)."""
        transaction, settings = self._transaction, self._settings()
        if not transaction.is_judged:
            transaction.is_judged = True
            transaction.verdict = self._verdict_on_sender()
        if transaction.verdict is not None:
            return transaction.verdict
        recipient = event.forward_path
        if recipient.domain in settings.identity.local_domains:
            recipient = recipient.without_detail()
        elif self._role is Role.INBOUND:
            return _RELAY_DENIED
        if recipient in transaction.recipients:
            return replies.RCPT_OK
        if len(transaction.recipients) >= self._max_recipients(settings):
            return replies.TOO_MANY_RECIPIENTS
        transaction.recipients[recipient] = None
        return replies.RCPT_OK

    def _verdict_on_sender(self) -> Reply | None:
        reverse_path = self._transaction.reverse_path
        if self._account is not None:
            refused = self._services.submit.admit(self._account, reverse_path)
        else:
            refused = self._services.receive.admit(reverse_path)
        return None if refused is None else reply_to(refused)

    def _max_recipients(self, settings: SettingsSnapshot) -> int:
        if self._role is Role.INBOUND:
            return MAX_RECIPIENTS
        return settings.limits.max_recipients

    # --- content ------------------------------------------------------------------------------

    async def _receive_message(self) -> None:
        """Take the content and answer it; a peer that leaves before its end leaves nothing."""
        max_bytes = self._max_bytes(self._settings())
        door = Door.SUBMISSION if self._role is Role.SUBMISSION else Door.SMTP_INBOUND
        envelope = Envelope(self._transaction.reverse_path, tuple(self._transaction.recipients))
        # Signing needs hashes of the content; they are made as it comes, only when it leaves us.
        digests = None if self._account is None else self._services.submit.digests(envelope)
        options = {} if digests is None else {"digests": digests}
        self._replies.append(self._machine.accept_content(max_bytes))
        async with self._services.collect(door, max_bytes, **options) as message:
            failure: Reply | None = None
            while isinstance(event := await self._next_event(), ContentChunk):
                if failure is None:
                    failure = await self._keep(message, event.octets)
            if isinstance(event, ContentEnd):
                if event.fault is not None:
                    failure = _CONTENT_FAULTS[event.fault]
                self._answer(failure or await self._hand_over(envelope, message, digests))
                self._move_deadline(trio.current_time() + IDLE_S + DEADLINE_SLACK_S)

    async def _keep(self, message: MessageSink, octets: bytes) -> Reply | None:
        """Feed the sink; after trouble the rest is read to its end and dropped."""
        try:
            await message.feed(octets)
        except Overloaded:
            return _BUSY
        except TransientFailure:
            return _TEMPORARY
        return None

    async def _hand_over(
        self, envelope: Envelope, message: MessageSink, digests: BodyDigests | None
    ) -> Reply:
        """Let the use case judge and store."""
        self._move_deadline(trio.current_time() + COMMIT_S, _TEMPORARY)
        try:
            if self._account is not None:
                self._account = await self._services.authenticate.touch_daily(self._account)
                outcome = await self._services.submit(self._account, envelope, message, digests)
            else:
                source = Source(self._stream.peer_host, TransportKind.SMTP)
                outcome = await self._services.receive(envelope, message, source)
        except Overloaded:
            return _BUSY
        except TransientFailure:
            return _TEMPORARY
        if isinstance(outcome, Refuse):
            self._services.log.info(
                "smtp_message_refused", reason=outcome.reason.value, rule=outcome.rule or None
            )
            return reply_to(outcome)
        return accepted(outcome.queue_id)

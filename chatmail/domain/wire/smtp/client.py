"""The SMTP client as a state machine without I/O: greeting to QUIT.

Theory of operation. The shell gives octets to `receive_data` and asks `next_event` until it says
NEED_DATA; the machine says what to send (`Send`), when to shake hands (UPGRADE, answered by
`tls_started`), when a transaction may begin (READY, answered by `begin`), when the content is due
(SEND_CONTENT, answered by `content_sent`). A transaction ends in `TransactionEnd`, the session in
`SessionEnd`, which may come at any time:

    GREETING --220--> HELLO --STARTTLS--> UPGRADE --> HELLO --> READY --begin--> ENVELOPE
                                                                  ^                 |354
                                                                  '--- VERDICT <- CONTENT

Commands wait in a script: with PIPELINING all of them leave at once, else one after each reply.
Every command that left has a step in the list of replies that are owed; a reply without a step is
a fault, save 421, which may come at any time. What a recipient's own reply said holds for that
recipient, what DATA or the end of data said for those accepted before.
Invariant: for any octets, cut anywhere, the events are the same and no exception leaves; after
SEND_CONTENT nothing but the verdict's 2xx makes a recipient delivered.
Source:  RFC 5321 §3, §4; RFC 2920, 1870, 6152, 3207; spec federation-web.md A6.
"""

from __future__ import annotations

import enum
import re
from collections import deque
from collections.abc import Iterable, Mapping

from chatmail.domain.formats.reply_line import reply_line
from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.errors import LocalProtocolError, RemoteProtocolError
from chatmail.domain.model.federation import HopFault, RecipientFate, RecipientOutcome
from chatmail.domain.wire.smtp.client_commands import mail_command, parse_capabilities, path
from chatmail.domain.wire.smtp.client_events import (
    LOST,
    NEED_DATA,
    NO_TLS,
    NONSENSE,
    READY,
    SEND_CONTENT,
    TIMED_OUT,
    TOO_LARGE,
    UNANSWERED,
    UPGRADE,
    ClientEvent,
    Phase,
    Send,
    SessionEnd,
    TlsUse,
    Transaction,
    TransactionEnd,
)
from chatmail.domain.wire.smtp.client_replies import PeerReply, ReplyReader


class _Step(enum.Enum):
    """What a reply is owed for."""

    GREETING = enum.auto()
    EHLO = enum.auto()
    HELO = enum.auto()
    STARTTLS = enum.auto()
    RSET = enum.auto()
    ABANDON = enum.auto()  # also a reset, at the end of a transaction without content
    MAIL = enum.auto()
    RCPT = enum.auto()
    DATA = enum.auto()
    LONE_DOT = enum.auto()
    VERDICT = enum.auto()
    QUIT = enum.auto()


class SmtpClient:
    """One connection to a server."""

    def __init__(self, hello_name: str, tls: TlsUse) -> None:
        self.phase = Phase.GREETING
        self.transactions = 0
        """Begun so far."""
        self.replies = 0
        """Replies taken so far: progress, for whoever measures patience."""
        self._hello_name = hello_name
        self._tls = tls
        self._is_tls = False
        self._reader = ReplyReader()
        self._ready: deque[ClientEvent] = deque()
        self._owed: deque[_Step] = deque([_Step.GREETING])
        self._script: deque[tuple[_Step, str]] = deque()
        self._capabilities: Mapping[str, str] = {}
        self._end: SessionEnd | None = None
        # Of the transaction under way.
        self._asked: deque[EmailAddress] = deque()  # their replies are owed, in this order
        self._accepted: list[EmailAddress] = []
        self._postponed: list[EmailAddress] = []
        self._outcomes: list[RecipientOutcome] = []
        self._is_pristine = False

    @property
    def is_pristine(self) -> bool:
        """Not even the sender of the transaction under way was accepted yet."""
        return self._is_pristine

    # --- what the shell says -----------------------------------------------------------------

    def receive_data(self, octets: bytes) -> None:
        """Take octets of the stream; those that come before a TLS handshake are thrown away.

        Source:  A6.1: what an attacker puts behind `220` in clear is not from the TLS peer.
        """
        if self.phase not in (Phase.UPGRADE, Phase.CLOSED):
            self._reader.receive(octets)

    def receive_eof(self) -> None:
        """The peer closed, or the connection is lost."""
        self._lose(LOST)

    def time_out(self) -> None:
        """The peer did not answer in time."""
        self._lose(TIMED_OUT)

    def tls_started(self) -> None:
        """The handshake is done: forget what was said in clear and begin again."""
        if self.phase is not Phase.UPGRADE:
            raise LocalProtocolError("STARTTLS was not granted")
        self._is_tls = True
        self._capabilities = {}
        self._reader.clear()
        self._say_hello(_Step.EHLO)

    def begin(self, transaction: Transaction, *, with_reset: bool = False) -> None:
        """Begin a transaction.

        Args:  with_reset: send RSET first: the connection was kept for a while.
        """
        if self.phase is not Phase.READY or not transaction.recipients:
            raise LocalProtocolError("no transaction can begin")
        self.transactions += 1
        self._forget_transaction()
        self._asked.extend(transaction.recipients)
        announced = self._capabilities.get("SIZE", "")
        limit = int(announced) if re.fullmatch("[0-9]{1,18}", announced) else 0
        if 0 < limit < transaction.size:
            self._judge_rest(transaction.recipients, RecipientFate.PERMANENT, TOO_LARGE)
            self._finish_transaction()
            return
        self.phase = Phase.ENVELOPE
        self._is_pristine = True
        if with_reset:
            self._script.append((_Step.RSET, "RSET"))
        self._script.append((_Step.MAIL, mail_command(transaction, self._capabilities)))
        for recipient in transaction.recipients:
            self._script.append((_Step.RCPT, f"RCPT TO:<{path(recipient)}>"))
        self._script.append((_Step.DATA, "DATA"))
        self._speak()

    def content_sent(self) -> None:
        """The content and its end left; from here on a silence is ambiguous."""
        if self.phase is not Phase.CONTENT:
            raise LocalProtocolError("no content was asked for")
        self.phase = Phase.VERDICT
        self._owed.append(_Step.VERDICT)

    def quit(self) -> bytes:
        """Say goodbye; the reply is not waited for."""
        self.phase = Phase.CLOSED
        return b"QUIT\r\n"

    def next_event(self) -> ClientEvent:
        """Return what happens next; after `SessionEnd` the same for ever."""
        while not self._ready:
            if self._end is not None:
                return self._end
            try:
                reply = self._reader.next_reply()
            except RemoteProtocolError:
                self._break(NONSENSE)
                continue
            if reply is None:
                return NEED_DATA
            self.replies += 1
            self._take(reply)
        return self._ready.popleft()

    # --- replies -----------------------------------------------------------------------------

    def _take(self, reply: PeerReply) -> None:
        if reply.code == 421:
            self._dismissed(reply)
            return
        if not self._owed:
            self._break(NONSENSE)
            return
        step = self._owed.popleft()
        match step:
            case _Step.GREETING | _Step.EHLO | _Step.HELO | _Step.STARTTLS:
                self._take_opening(step, reply)
            case _Step.RCPT:
                self._take_rcpt(self._asked.popleft(), reply)
            case _:
                self._take_transaction(step, reply)
        if not self._owed:
            self._speak()

    def _take_opening(self, step: _Step, reply: PeerReply) -> None:
        match step:
            case _Step.STARTTLS:
                self._take_starttls(reply)
            case _Step.EHLO if reply.kind == 5 and self._tls is not TlsUse.REQUIRED:
                self._say_hello(_Step.HELO)
            case _ if reply.kind != 2:
                self._refused(reply)
            case _Step.GREETING:
                self._say_hello(_Step.EHLO)
            case _:
                if step is _Step.EHLO:
                    self._capabilities = parse_capabilities(reply.lines[1:])
                self._introduced()

    def _introduced(self) -> None:
        wants_tls = not self._is_tls and self._tls is not TlsUse.NEVER
        if wants_tls and "STARTTLS" in self._capabilities:
            self._script.append((_Step.STARTTLS, "STARTTLS"))
        elif wants_tls and self._tls is TlsUse.REQUIRED:
            self._end_session(HopFault.TLS, NO_TLS)
        else:
            self.phase = Phase.READY
            self._ready.append(READY)

    def _take_starttls(self, reply: PeerReply) -> None:
        if reply.code == 220:
            self.phase = Phase.UPGRADE
            self._reader.clear()
            self._ready.append(UPGRADE)
        elif self._tls is TlsUse.REQUIRED:
            self._end_session(HopFault.TLS, NO_TLS)
        else:
            self.phase = Phase.READY
            self._ready.append(READY)

    def _take_rcpt(self, recipient: EmailAddress, reply: PeerReply) -> None:
        if reply.kind == 2:
            self._accepted.append(recipient)
        elif reply.kind == 3:
            self._break(NONSENSE)
        elif self._is_too_many(reply) and self._accepted:
            self._postponed.append(recipient)
        else:
            is_too_many = self._is_too_many(reply)
            fate = RecipientFate.TEMPORARY if is_too_many else _fate(reply)
            line = reply.line.replace("552 5.5.3", "452 4.5.3", 1) if is_too_many else reply.line
            self._outcomes.append(RecipientOutcome(recipient, fate, line))
        is_last = not any(step is _Step.RCPT for step, _ in self._script)
        if is_last and self._script and not self._accepted and not self._owed:
            # Without PIPELINING there is no need to ask for DATA.
            self._script.clear()
            self._script.append((_Step.ABANDON, "RSET"))

    @staticmethod
    def _is_too_many(reply: PeerReply) -> bool:
        # RFC 5321 §4.5.3.1.10: 452, and 552 from old servers. A full mailbox is 452 4.2.2.
        if reply.subject:
            return reply.subject == "5.3"
        return reply.code == 452

    def _take_transaction(self, step: _Step, reply: PeerReply) -> None:
        match step:
            case _Step.RSET | _Step.ABANDON if reply.kind != 2:
                self._break(NONSENSE)
            case _Step.ABANDON | _Step.LONE_DOT:
                self._finish_transaction()
            case _Step.MAIL if reply.kind != 2:
                self._take_refusal_of_mail(reply)
            case _Step.MAIL:
                self._is_pristine = False
            case _Step.DATA:
                self._take_data(reply)
            case _Step.VERDICT:
                self._take_verdict(reply)
            case _:
                pass  # a reset at the beginning, done

    def _take_refusal_of_mail(self, reply: PeerReply) -> None:
        """Judge the message where the reply is about it; else the session is refused (A6.8)."""
        # RFC 1870 §6.1: too large for this server, as its SIZE would have said.
        is_size = reply.subject == "3.4" or (reply.code, reply.subject) == (552, "")
        if reply.kind == 4 or (reply.kind == 5 and is_size):
            line = reply_line(reply.code, reply.lines, absent="5.3.4" if reply.kind == 5 else "")
            self._judge_rest(self._asked, _fate(reply), line)
            self._ready.append(TransactionEnd(tuple(self._outcomes), ()))
            self._outcomes = []
            # What was sent behind it is not worth waiting for.
            self._end_session(HopFault.BUSY, line)
        else:
            self._refused(reply)

    def _take_data(self, reply: PeerReply) -> None:
        if reply.code == 354:
            if self._accepted:
                self.phase = Phase.CONTENT
                self._ready.append(SEND_CONTENT)
            else:
                # RFC 2920 §3.1: the server believes in a recipient that it refused.
                self._owed.append(_Step.LONE_DOT)
                self._ready.append(Send(b".\r\n"))
        elif reply.kind in (4, 5):
            self._judge_rest(self._accepted, _fate(reply), reply.line)
            self._script.append((_Step.ABANDON, "RSET"))
        else:
            self._break(NONSENSE)

    def _take_verdict(self, reply: PeerReply) -> None:
        if reply.kind == 3:
            self._break(NONSENSE)
            return
        self._judge_rest(self._accepted, _fate(reply), reply.line)
        self._finish_transaction()

    # --- ends --------------------------------------------------------------------------------

    def _dismissed(self, reply: PeerReply) -> None:
        """421: the server closes (RFC 5321 §3.8)."""
        if self.phase is Phase.VERDICT:
            self._judge_rest(self._accepted, RecipientFate.TEMPORARY, reply.line)
            self._finish_transaction()
        self._end_session(HopFault.BUSY, reply.line)

    def _refused(self, reply: PeerReply) -> None:
        """Banner, EHLO or MAIL met with a no."""
        if reply.kind == 3:
            self._break(NONSENSE)
        else:
            fault = HopFault.BROKEN if reply.kind == 5 else HopFault.BUSY
            self._end_session(fault, reply.line)

    def _lose(self, why: str) -> None:
        if self._end is None:
            self._break(why)

    def _break(self, why: str) -> None:
        if self.phase is Phase.VERDICT:
            self._end_session(HopFault.AMBIGUOUS, UNANSWERED)
        else:
            self._end_session(HopFault.BROKEN, why)

    def _end_session(self, fault: HopFault, reply: str) -> None:
        self.phase = Phase.CLOSED
        self._end = SessionEnd(fault, reply, tuple(self._outcomes))
        self._outcomes = []
        self._reader.clear()
        self._script.clear()
        self._owed.clear()
        # READY is void now; what a transaction came to is not.
        self._ready = deque(event for event in self._ready if isinstance(event, TransactionEnd))

    def _judge_rest(
        self, recipients: Iterable[EmailAddress], fate: RecipientFate, line: str
    ) -> None:
        self._outcomes.extend(RecipientOutcome(recipient, fate, line) for recipient in recipients)

    def _finish_transaction(self) -> None:
        self._ready.append(TransactionEnd(tuple(self._outcomes), tuple(self._postponed)))
        self._forget_transaction()
        self.phase = Phase.READY
        self._ready.append(READY)

    def _forget_transaction(self) -> None:
        self._asked = deque()
        self._accepted = []
        self._postponed = []
        self._outcomes = []
        self._is_pristine = False

    # --- commands ----------------------------------------------------------------------------

    def _say_hello(self, step: _Step) -> None:
        self.phase = Phase.HELLO
        self._script.append((step, f"{step.name} {self._hello_name}"))
        self._speak()

    def _speak(self) -> None:
        """Send what may be sent now: all, or without PIPELINING the next command."""
        if not self._script or self._end is not None:
            return
        lines = []
        while self._script:
            step, line = self._script.popleft()
            self._owed.append(step)
            lines.append(line + "\r\n")
            if "PIPELINING" not in self._capabilities:
                break
        self._ready.append(Send("".join(lines).encode("ascii")))


def _fate(reply: PeerReply) -> RecipientFate:
    if reply.kind == 2:
        return RecipientFate.DELIVERED
    return RecipientFate.PERMANENT if reply.kind == 5 else RecipientFate.TEMPORARY

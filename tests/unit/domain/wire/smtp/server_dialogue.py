"""The server machine with a shell that says yes, save to wrong passwords."""

from __future__ import annotations

import base64

from chatmail.domain.wire.smtp import replies
from chatmail.domain.wire.smtp.commands import Data, Hello, Mail, Rcpt, StartTls
from chatmail.domain.wire.smtp.events import CLOSED, Answered, ContentEnd, Event, Login, Signal
from chatmail.domain.wire.smtp.replies import Reply
from chatmail.domain.wire.smtp.sequence import Role
from chatmail.domain.wire.smtp.server import SmtpServer

PLAIN = b"AUTH PLAIN " + base64.b64encode(b"\0u@relay.example\0secret") + b"\r\n"
WRONG = Reply(535, "5.7.8", "no")


def answer(machine: SmtpServer, event: Event, login: Reply) -> bytes:
    """Answer an event positively (a login as told); return what goes out."""
    match event:
        case Answered():
            return event.octets
        case Hello():
            return machine.hello("relay.example", 1000)
        case Mail():
            return machine.send(replies.MAIL_OK)
        case Rcpt():
            return machine.send(replies.RCPT_OK)
        case Data():
            return machine.accept_content(1000)
        case Login():
            return machine.send(login if event.credentials else WRONG)
        case StartTls():
            return machine.send(replies.READY_FOR_TLS)
        case ContentEnd():
            return machine.send(replies.OK if event.fault is None else replies.BARE_LINE_END)
        case _:
            return b""


class Dialogue:
    """A machine with a shell that says yes."""

    def __init__(
        self, role: Role = Role.SUBMISSION, *, tls: bool = True, login: Reply = replies.LOGGED_IN
    ) -> None:
        self.machine = SmtpServer(role, is_tls=tls)
        self.login = login
        self.events: list[Event] = []

    def say(self, octets: bytes) -> bytes:
        """Feed octets; return the replies and keep the events."""
        out = []
        self.machine.receive_data(octets)
        while not isinstance(event := self.machine.next_event(), Signal):
            self.events.append(event)
            out.append(answer(self.machine, event, self.login))
        return b"".join(out)

    @property
    def is_closed(self) -> bool:
        return self.machine.next_event() is CLOSED


def logged_in() -> Dialogue:
    dialogue = Dialogue()
    dialogue.say(b"EHLO [127.0.0.1]\r\n" + PLAIN)
    dialogue.events.clear()
    return dialogue

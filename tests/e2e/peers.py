"""Scripted peers: SMTP and HTTPS servers that answer as told, and remember everything."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

from tests.e2e.listener import Listener
from tests.e2e.relay import wait_until
from tests.patience import PATIENCE_S

# --- SMTP ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Delivery:
    """One message that a peer was given; `octets` without the dots that were stuffed."""

    reverse_path: str
    recipients: tuple[str, ...]
    octets: bytes
    raw: bytes
    is_encrypted: bool
    server_name: str | None
    at: float


@dataclass
class SmtpScript:
    """How an SMTP peer behaves. Replies are whole lines; an empty one: the connection is closed.

    Attributes:
        tls: None offers no STARTTLS. `strips_tls`: STARTTLS is offered, and refused.
        injected: octets in clear behind the 220 of STARTTLS, in the same segment.
        recipients: replies to RCPT by address; others get `recipient`.
        reply: after the final dot; a function is given the delivery.
        keeps: whether what is answered 2xx counts as delivered.
        stalls: the command, or GREETING, that is never answered; TLS: the handshake; CONTENT: what
            is not read any more; DOT: the final dot.
        octets_per_s: how slowly the content is read; 0: as fast as it comes.
    """

    tls: ssl.SSLContext | None = None
    greeting: str = "220 peer ESMTP"
    strips_tls: bool = False
    injected: bytes = b""
    keywords: Sequence[str] = ("PIPELINING", "SIZE 52428800", "8BITMIME", "ENHANCEDSTATUSCODES")
    hello: str = "250"
    mail: str = "250 2.1.0 Ok"
    recipient: str = "250 2.1.5 Ok"
    recipients: Mapping[str, str] = field(default_factory=dict)
    data: str = "354 go on"
    reply: str | Callable[[Delivery], str] = "250 2.0.0 Ok"
    stalls: str = ""
    octets_per_s: int = 0


class SmtpPeer(Listener):
    """An SMTP server on its own address. `script` may be changed while it runs."""

    def __init__(self, address: str, port: int, script: SmtpScript | None = None) -> None:
        self.script = script or SmtpScript()
        self.deliveries: list[Delivery] = []
        self.commands: list[str] = []
        super().__init__(address, port)

    def serve(self, connection: socket.socket) -> None:
        """Speak SMTP."""
        conversation = _SmtpConversation(self, connection)
        try:
            conversation.run()
        finally:
            conversation.close()

    def await_deliveries(self, wanted: int, timeout_s: float = PATIENCE_S) -> list[Delivery]:
        """Wait until so many messages were taken; returns them."""
        wait_until(
            f"{wanted} messages arrived, not {len(self.deliveries)}",
            lambda: len(self.deliveries) >= wanted,
            timeout_s,
        )
        return self.deliveries


class _Over(EOFError):
    """The conversation ends here."""


class _SmtpConversation:
    def __init__(self, peer: SmtpPeer, connection: socket.socket) -> None:
        self.peer = peer
        self.socket = connection
        self.stream: BinaryIO = connection.makefile("rb")
        self.server_name: str | None = None
        self.is_encrypted = False
        self.reverse_path = ""
        self.recipients: list[str] = []

    @property
    def script(self) -> SmtpScript:
        return self.peer.script  # a kept connection follows a change as well

    def run(self) -> None:
        self.say("GREETING", self.script.greeting)
        while line := self.stream.readline():
            text = line.decode("ascii", "replace").strip()
            self.peer.commands.append(text)
            verb, _, argument = text.partition(" ")
            handler = getattr(self, f"on_{verb.lower()}", None)
            if handler is None:
                self.say(verb, "500 5.5.2 what")
            else:
                handler(argument)

    def close(self) -> None:
        self.stream.close()
        self.socket.close()

    def say(self, verb: str, *lines: str) -> None:
        if self.script.stalls == verb:
            self.peer.stall(self.socket)
            raise _Over
        if not lines[-1]:
            raise _Over
        self.socket.sendall("".join(f"{line}\r\n" for line in lines).encode())
        if lines[-1].startswith("421"):
            raise _Over

    def on_ehlo(self, _argument: str) -> None:
        keywords = list(self.script.keywords)
        if (self.script.tls or self.script.strips_tls) and not self.is_encrypted:
            keywords.append("STARTTLS")
        if not self.script.hello.startswith("2"):
            return self.say("EHLO", self.script.hello)
        texts = ["peer", *keywords]
        lines = [f"250-{text}" for text in texts[:-1]]
        return self.say("EHLO", *lines, f"250 {texts[-1]}")

    def on_helo(self, _argument: str) -> None:
        self.say("HELO", "250 peer")

    def on_starttls(self, _argument: str) -> None:
        if self.script.tls is None:
            return self.say("STARTTLS", "454 4.7.0 TLS not available")
        self.say("STARTTLS", "220 2.0.0 ready" + self._injected())
        if self.script.stalls == "TLS":
            self.say("TLS", "")
        self.stream.close()
        self.socket, self.server_name = self.peer.secure(self.socket, self.script.tls)
        self.stream = self.socket.makefile("rb")
        self.is_encrypted = True
        return None

    def _injected(self) -> str:
        injected = self.script.injected.decode()
        return f"\r\n{injected.removesuffix(chr(13) + chr(10))}" if injected else ""

    def on_mail(self, argument: str) -> None:
        self.reverse_path, self.recipients = _path(argument), []
        self.say("MAIL", self.script.mail)

    def on_rcpt(self, argument: str) -> None:
        address = _path(argument)
        reply = self.script.recipients.get(address, self.script.recipient)
        if reply.startswith("2"):
            self.recipients.append(address)
        self.say("RCPT", reply)

    def on_rset(self, _argument: str) -> None:
        self.recipients = []
        self.say("RSET", "250 2.0.0 Ok")

    def on_noop(self, _argument: str) -> None:
        self.say("NOOP", "250 2.0.0 Ok")

    def on_quit(self, _argument: str) -> None:
        self.say("QUIT", "221 2.0.0 Bye")
        raise _Over

    def on_data(self, _argument: str) -> None:
        if not self.recipients:
            return self.say("DATA", "554 5.5.1 No valid recipients")
        self.say("DATA", self.script.data)
        if not self.script.data.startswith("354"):
            return None
        if self.script.stalls == "CONTENT":
            self.say("CONTENT", "")
        raw = self._content()
        delivery = Delivery(
            self.reverse_path,
            tuple(self.recipients),
            b"".join(line[1:] if line.startswith(b".") else line for line in _lines(raw)),
            raw,
            self.is_encrypted,
            self.server_name,
            time.monotonic(),
        )
        reply = self.script.reply
        text = reply if isinstance(reply, str) else reply(delivery)
        is_answered = self.script.stalls != "DOT"
        with self.peer.owing() if is_answered else contextlib.nullcontext():
            if text.startswith("2"):
                self.peer.deliveries.append(delivery)
            return self.say("DOT", text)

    def _content(self) -> bytes:
        pieces: list[bytes] = []
        last, rate = b"\r\n", self.script.octets_per_s
        while True:
            line = self.stream.readline(65536)
            if not line:
                raise _Over
            if line == b".\r\n" and last.endswith(b"\r\n"):
                return b"".join(pieces)
            pieces.append(line)
            last = line
            if rate:
                time.sleep(len(line) / rate)


def _path(argument: str) -> str:
    return argument.partition("<")[2].partition(">")[0]


def _lines(octets: bytes) -> list[bytes]:
    return [line + b"\r\n" for line in octets.split(b"\r\n")[:-1]]


# --- HTTPS ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Request:
    """One request; `headers` in order, names in lower case."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    server_name: str | None
    at: float

    def all(self, name: str) -> list[str]:
        """Return the values of all header lines of a name."""
        return [value for key, value in self.headers if key == name.lower()]


@dataclass(frozen=True)
class Answer:
    """What is answered. `status` 0: the connection is closed without a word."""

    status: int = 200
    body: bytes = b"OK"
    headers: tuple[tuple[str, str], ...] = ()
    stalls: bool = False


OK = Answer()
WEB_PAGE = Answer(200, b"<!doctype html><title>hello</title>", (("Content-Type", "text/html"),))
REDIRECT = Answer(301, b"", (("Location", "/"),))


class HttpPeer(Listener):
    """A web server on its own address, with TLS unless `tls` is None.

    `answer`: what every POST gets, or a function of the request. `pages` are what GET finds.
    """

    def __init__(
        self,
        address: str,
        port: int,
        tls: ssl.SSLContext | None,
        answer: Answer | Callable[[Request], Answer] = OK,
    ) -> None:
        self.tls, self.answer = tls, answer
        self.pages: dict[str, Answer] = {}
        self.requests: list[Request] = []
        self.octets_per_s = 0
        self.octets_read = 0
        self.reads_bodies = True
        super().__init__(address, port)

    @property
    def posts(self) -> list[Request]:
        """Return what was posted."""
        return [request for request in self.requests if request.method == "POST"]

    def await_posts(self, wanted: int, timeout_s: float = PATIENCE_S) -> list[Request]:
        """Wait until so many messages were posted; returns the requests."""
        wait_until(f"{wanted} requests came", lambda: len(self.posts) >= wanted, timeout_s)
        return self.posts

    def serve(self, connection: socket.socket) -> None:
        """Speak HTTP/1.1, one request after the other."""
        name = None
        if self.tls is not None:
            connection, name = self.secure(connection, self.tls)
        with connection, connection.makefile("rb") as stream:
            while (request := self._read(stream, name)) is not None:
                answer = self._answer(request)
                with self.owing():
                    self.requests.append(request)
                    if answer.status and not answer.stalls:
                        connection.sendall(_response(answer))
                        continue
                if answer.stalls:
                    self.stall(connection)
                break

    def _read(self, stream: BinaryIO, server_name: str | None) -> Request | None:
        first = stream.readline(65536).decode("latin-1").split()
        if len(first) != 3:
            return None
        headers: list[tuple[str, str]] = []
        while line := stream.readline(65536).decode("latin-1").strip():
            name, _, value = line.partition(":")
            headers.append((name.lower(), value.strip()))
        length = int(next((value for name, value in headers if name == "content-length"), "0"))
        body = self._body(stream, length)
        return Request(first[0], first[1], tuple(headers), body, server_name, time.monotonic())

    def _body(self, stream: BinaryIO, length: int) -> bytes:
        if not self.reads_bodies:
            self.stall(stream)
            raise EOFError
        pieces: list[bytes] = []
        while length > 0 and (piece := stream.read(min(length, 16384))):
            pieces.append(piece)
            length -= len(piece)
            self.octets_read += len(piece)
            if self.octets_per_s:
                time.sleep(len(piece) / self.octets_per_s)
        if length > 0:
            raise EOFError  # torn: no request
        return b"".join(pieces)

    def _answer(self, request: Request) -> Answer:
        if request.method != "POST":
            return self.pages.get(request.path, Answer(404, b"nothing here"))
        return self.answer(request) if callable(self.answer) else self.answer


def _response(answer: Answer) -> bytes:
    headers = [("Content-Length", str(len(answer.body))), *answer.headers]
    if not any(name.lower() == "content-type" for name, _ in headers):
        headers.append(("Content-Type", "text/plain"))
    reason = http.client.responses.get(answer.status, "Odd")
    head = f"HTTP/1.1 {answer.status} {reason}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in headers)
    return head.encode("latin-1") + b"\r\n" + answer.body


class Mute(Listener):
    """Takes connections and says nothing: half open, or dead behind a firewall."""

    def serve(self, connection: socket.socket) -> None:
        """Wait until the other side gives up."""
        self.stall(connection)

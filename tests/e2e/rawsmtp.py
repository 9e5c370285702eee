"""An SMTP client without manners: it sends the octets a test names and reads what comes back."""

from __future__ import annotations

import base64
import re
import socket
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tests.e2e import wire
from tests.e2e.relay import Relay
from tests.patience import PATIENCE_S

TIMEOUT_S = PATIENCE_S
FACES_WITH_TLS = ("submissions", "https")

_LINE = re.compile(rb"(\d{3})([ -])([\x20-\x7e]+)\r\n\Z")


class Lost(AssertionError):
    """The server closed the connection where a reply was due."""


@dataclass(frozen=True)
class Reply:
    """One reply; `text` is that of its last line, `lines` are the texts of all."""

    code: int
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        return self.lines[-1]

    @property
    def whole(self) -> str:
        """Code and last text, as the tables of the specification write replies."""
        return f"{self.code} {self.text}"


class RawSmtp:
    """One connection to a face; the greeting is read unless the caller wants to see it.

    `https` is spoken to as Delta Chat core does: TLS with the ALPN id `smtp`.
    """

    def __init__(self, relay: Relay, face: str = "submissions", *, greeted: bool = True) -> None:
        self._plain = socket.create_connection(("127.0.0.1", relay.ports[face]), TIMEOUT_S)
        self._plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket: socket.socket = self._plain
        self.face = face
        self._buffer = b""
        try:
            if face in FACES_WITH_TLS:
                self.handshake("smtp" if face == "https" else None)
            if greeted:
                assert self.reply().code == 220
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave without a word, as a lost client does."""
        self.socket.close()
        self._plain.close()

    def handshake(self, alpn: str | None = None) -> None:
        """Start TLS on the client's side; what was buffered in clear is forgotten."""
        context = wire.tls()
        if alpn is not None:
            context.set_alpn_protocols([alpn])
        self._buffer = b""
        self.socket = context.wrap_socket(self.socket)

    # --- octets -------------------------------------------------------------------------------

    def send(self, octets: bytes) -> None:
        """Send octets in one write: one segment, one TLS record where they fit."""
        self.socket.sendall(octets)

    def line(self) -> bytes:
        """Read one line with its end; what is there when the peer closes."""
        while b"\n" not in self._buffer:
            try:
                octets = self.socket.recv(65536)
            except (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError):
                octets = b""
            if not octets:
                rest, self._buffer = self._buffer, b""
                return rest
            self._buffer += octets
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line + b"\n"

    def reply(self) -> Reply:
        """Read one reply; every line is held to the grammar Delta Chat core insists on."""
        lines: list[str] = []
        code = None
        while True:
            line = self.line()
            if not line:
                raise Lost
            parsed = _LINE.match(line)
            assert parsed is not None, f"not a reply line: {line!r}"
            assert code in (None, parsed[1]), "codes of one reply differ"
            code = parsed[1]
            lines.append(parsed[3].decode())
            if parsed[2] == b" ":
                return Reply(int(code), tuple(lines))

    def replies(self, count: int) -> list[Reply]:
        return [self.reply() for _ in range(count)]

    def is_closed(self) -> bool:
        """Say whether the peer closes now without another word."""
        return self.line() == b""

    # --- commands -----------------------------------------------------------------------------

    def command(self, line: str | bytes) -> Reply:
        """Send one command line and read its reply."""
        self.send((line.encode() if isinstance(line, str) else line) + b"\r\n")
        return self.reply()

    def ehlo(self) -> Reply:
        reply = self.command("EHLO [127.0.0.1]")
        assert reply.code == 250
        return reply

    def starttls(self) -> None:
        assert self.command("STARTTLS").whole == "220 2.0.0 Ready to start TLS"
        self.handshake()

    def secure(self) -> Self:
        """Say EHLO under TLS, whatever way this face has to it."""
        self.ehlo()
        if self.face not in FACES_WITH_TLS:
            self.starttls()
            self.ehlo()
        return self

    def log_in(self, account: tuple[str, str]) -> Self:
        """Say EHLO and AUTH PLAIN, under TLS."""
        self.secure()
        assert self.command(b"AUTH PLAIN " + plain(*account)).code == 235
        return self

    def envelope(self, sender: str, recipients: Iterable[str]) -> Reply:
        """Begin a transaction that succeeds up to DATA; returns the reply to DATA."""
        assert self.command(f"MAIL FROM:<{sender}>").whole == "250 2.1.0 Ok"
        for recipient in recipients:
            assert self.command(f"RCPT TO:<{recipient}>").whole == "250 2.1.5 Ok"
        return self.command("DATA")

    def content(self, octets: bytes) -> Reply:
        """Send a whole content, dots stuffed, and read the verdict."""
        stuffed = octets.replace(b"\r\n.", b"\r\n..")
        if stuffed.startswith(b"."):
            stuffed = b"." + stuffed
        end = b".\r\n" if stuffed.endswith(b"\r\n") else b"\r\n.\r\n"
        self.send(stuffed + end)
        return self.reply()

    def submit(self, sender: str, recipients: Iterable[str], octets: bytes) -> Reply:
        """Do a whole transaction; returns the verdict on the content."""
        assert self.envelope(sender, recipients).code == 354
        return self.content(octets)


def plain(address: str, password: str, authzid: str = "") -> bytes:
    """Return the SASL PLAIN response in base64."""
    return base64.b64encode(f"{authzid}\0{address}\0{password}".encode())


def submitter(relay: Relay, account: tuple[str, str], face: str = "submissions") -> RawSmtp:
    """Return a logged-in connection."""
    return RawSmtp(relay, face).log_in(account)

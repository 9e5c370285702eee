"""An IMAP client that hides nothing: octets out, whole responses in, every one of them judged.

The judge is the grammar that Delta Chat core's parser accepts (spec mail 4.2), not the RFC's.
"""

from __future__ import annotations

import base64
import contextlib
import re
import secrets
import smtplib
import socket
import ssl
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from tests.e2e import wire
from tests.e2e.relay import Relay
from tests.patience import PATIENCE_S

TIMEOUT_S = PATIENCE_S

# --- what core's parser takes ------------------------------------------------------------------

_LITERAL_END = re.compile(rb"\{(\d+)\}\r\n\Z")
_TEXT = rb"[\x20-\x7e]+"
_STRING = rb'(?:"[^"\\\x00-\x1f\x7f-\xff]*"|\x00)'  # \x00 stands for a literal
_NSTRING = rb"(?:NIL|" + _STRING + rb")"
_FLAG = rb"\\?[^(){ %*\"\\\]\x00-\x1f\x7f-\xff]+"
_FLAGS = rb"\((?:%b(?: %b)*)?\)" % (_FLAG, _FLAG)
_CODE = (
    rb"\[(?:CAPABILITY(?: [!-Z^-~]+)+|PERMANENTFLAGS \((?:(?:%b|\\\*)(?: (?:%b|\\\*))*)?\)"
    rb"|[A-Z][A-Z\-]*(?: [!-Z^-~ ]+)?)\] " % (_FLAG, _FLAG)
)
_STATUS_ITEM = rb"(?:MESSAGES|RECENT|UIDNEXT|UIDVALIDITY|UNSEEN|HIGHESTMODSEQ) \d+"
_NESTED = rb"[^\r\n]*"
_ITEM = (
    rb"(?:FLAGS %b|UID \d+|RFC822\.SIZE \d+|INTERNALDATE \"[ 0-9A-Za-z:+\-]+\"|MODSEQ \(\d+\)"
    rb"|RFC822(?:\.HEADER|\.TEXT)? %b|BODY\[[A-Z0-9.]*(?: \([!-~ ]+\))?\](?:<\d+>)? %b"
    rb"|(?:ENVELOPE|BODY|BODYSTRUCTURE) \(%b\))" % (_FLAGS, _NSTRING, _NSTRING, _NESTED)
)
_ACCEPTED = re.compile(
    rb"(?:\+ [^\r\n]*"
    rb"|\* (?:OK|NO|BAD|BYE|PREAUTH) (?:%(code)b)?(?!\[)%(text)b"
    rb"|\* \d+ (?:EXISTS|RECENT|EXPUNGE)"
    rb"|\* FLAGS %(flags)b"
    rb"|\* \d+ FETCH \(%(item)b(?: %(item)b)*\)"
    rb"|\* (?:LIST|LSUB) \([^()]*\) (?:\"/\"|NIL) %(string)b"
    rb"|\* STATUS %(string)b \(%(status)b(?: %(status)b)*\)"
    rb"|\* SEARCH(?: \d+)*"
    rb"|\* CAPABILITY(?: [!-~]+)+|\* ENABLED(?: [!-~]+)*"
    rb"|\* METADATA \"[^\"\\]*\" \((?:/[a-z/]+ (?:NIL|\x00)(?: (?=/)|(?=\))))+\)"
    rb"|\* QUOTAROOT \"[^\"\\]*\" \"[^\"\\]*\"|\* QUOTA \"[^\"\\]*\" \(STORAGE \d+ \d+\)"
    rb"|\* ID (?:NIL|\(%(string)b %(nstring)b(?: %(string)b %(nstring)b)*\))"
    rb"|\* VANISHED(?: \(EARLIER\))? [\d:,]+"
    rb"|[A-Za-z0-9]+ (?:OK|NO|BAD) (?:%(code)b)?(?!\[)%(text)b)\r\n\Z"
    % {
        b"code": _CODE,
        b"text": _TEXT,
        b"flags": _FLAGS,
        b"item": _ITEM,
        b"string": _STRING,
        b"nstring": _NSTRING,
        b"status": _STATUS_ITEM,
    }
)
_CAPABILITIES = re.compile(rb"\[CAPABILITY ([^\]]+)\]")


@dataclass(frozen=True)
class Response:
    """One whole response: its lines with the literals cut out, and those literals."""

    octets: bytes
    skeleton: bytes
    literals: tuple[bytes, ...]

    def check(self) -> None:
        """Fail unless core's parser would take it."""
        assert _ACCEPTED.match(self.skeleton), self.skeleton[:400]
        assert not any(b"\0" in literal for literal in self.literals)


@dataclass
class Answer:
    """All responses to one command."""

    untagged: list[Response] = field(default_factory=list)
    tagged: bytes = b""

    @property
    def lines(self) -> list[bytes]:
        """The untagged responses without their literals and line ends."""
        return [response.skeleton[:-2] for response in self.untagged]

    @property
    def literals(self) -> list[bytes]:
        """All literals in order."""
        return [literal for response in self.untagged for literal in response.literals]

    def find(self, pattern: bytes) -> list[tuple[bytes, ...]]:
        """The groups of a pattern in every untagged line that holds it, and in the tagged one."""
        found = (re.search(pattern, line) for line in [*self.lines, self.tagged])
        return [match.groups() for match in found if match]

    def number(self, pattern: bytes) -> int:
        """The one number that a pattern with one group finds."""
        [[number]] = self.find(pattern)
        return int(number)

    @property
    def is_ok(self) -> bool:
        """Whether the tagged response is OK."""
        return self.tagged.split(b" ", 2)[1] == b"OK"


class Closed(AssertionError):
    """The server closed the connection."""


# --- the client ----------------------------------------------------------------------------------


class RawImap:
    """One connection; tags count from A0001 as core's do."""

    def __init__(
        self,
        relay: Relay,
        face: str = "imaps",
        *,
        alpn: Iterable[str] = (),
        buffer_octets: int = 0,
    ) -> None:
        """Args:  face: `imap` is cleartext. buffer_octets: of the kernel, for slow readers."""
        self.sent = b""
        self._buffer = b""
        self._inflate: zlib._Decompress | None = None
        self._deflate: zlib._Compress | None = None
        self._tags = 0
        raw = socket.socket()
        if buffer_octets:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_octets)
        raw.settimeout(TIMEOUT_S)
        try:
            raw.connect(("127.0.0.1", relay.ports[face]))
        except OSError:
            raw.close()
            raise
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket: socket.socket = raw
        if face != "imap":
            self.start_tls(alpn)

    def start_tls(self, alpn: Iterable[str] = ()) -> None:
        """Do the handshake on the connection as it is."""
        context = wire.tls()
        if names := list(alpn):
            context.set_alpn_protocols(names)
        try:
            self.socket = context.wrap_socket(self.socket)
        except OSError:
            self.socket.close()
            raise

    def __enter__(self) -> RawImap:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave as core does: without a word."""
        self.socket.close()

    def start_deflate(self) -> None:
        """Both directions are compressed from here on; what is buffered is thrown away (T12)."""
        assert not self._buffer, "octets behind the OK of COMPRESS"
        self._inflate = zlib.decompressobj(-15)
        self._deflate = zlib.compressobj(wbits=-15)
        self._tags = 0

    # --- octets ------------------------------------------------------------------------------

    def send(self, octets: bytes) -> None:
        """Send octets, compressed if that is on."""
        self.sent += octets if len(octets) < 65536 else b""
        if self._deflate is not None:
            octets = self._deflate.compress(octets) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        self.socket.sendall(octets)

    def _fill(self) -> None:
        try:
            octets = self.socket.recv(65536)
        except (ConnectionError, ssl.SSLError) as error:
            raise Closed from error
        if not octets:
            raise Closed
        self._buffer += octets if self._inflate is None else self._inflate.decompress(octets)

    def line(self) -> bytes:
        """The next line with its CRLF."""
        while (end := self._buffer.find(b"\n")) < 0:
            self._fill()
        line, self._buffer = self._buffer[: end + 1], self._buffer[end + 1 :]
        return line

    def exactly(self, size: int) -> bytes:
        """That many octets."""
        pieces, have = [self._buffer], len(self._buffer)
        while have < size:
            self._buffer = b""
            self._fill()
            pieces.append(self._buffer)
            have += len(self._buffer)
        octets = b"".join(pieces)
        self._buffer = octets[size:]
        return octets[:size]

    def is_silent(self, seconds: float) -> bool:
        """Whether nothing arrives for a while."""
        if self._buffer:
            return False
        self.socket.settimeout(seconds)
        try:
            self._fill()
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(TIMEOUT_S)
        return not self._buffer

    def rest(self) -> bytes:
        """All that comes until the server closes."""
        with contextlib.suppress(Closed):
            while True:
                self._fill()
        octets, self._buffer = self._buffer, b""
        return octets

    # --- responses and commands ----------------------------------------------------------------

    def response(self) -> Response:
        """The next response, judged."""
        octets = skeleton = self.line()
        literals = []
        while found := _LITERAL_END.search(skeleton):
            literals.append(self.exactly(int(found[1])))
            line = self.line()
            octets += literals[-1] + line
            skeleton = skeleton[: found.start()] + b"\0" + line
        response = Response(octets, skeleton, tuple(literals))
        response.check()
        return response

    def until(self, start: bytes) -> list[Response]:
        """All responses up to one that starts so, that one included."""
        responses = [self.response()]
        while not responses[-1].octets.startswith(start):
            responses.append(self.response())
        return responses

    def tag(self) -> bytes:
        """The next tag."""
        self._tags += 1
        return b"A%04d" % self._tags

    def answer(self, tag: bytes) -> Answer:
        """Everything up to the tagged response."""
        *untagged, last = self.until(tag + b" ")
        return Answer(untagged, last.octets)

    def run(self, command: str | bytes) -> Answer:
        """Send a command and return its answer, whatever it is."""
        tag = self.tag()
        self.send(
            tag + b" " + (command.encode() if isinstance(command, str) else command) + b"\r\n"
        )
        return self.answer(tag)

    def ok(self, command: str | bytes) -> Answer:
        """Send a command that has to succeed."""
        answer = self.run(command)
        assert answer.is_ok, answer.tagged
        return answer

    def refused(self, command: str | bytes) -> bytes:
        """Send a command that has to fail; returns the tagged line without its tag."""
        answer = self.run(command)
        assert not answer.is_ok, answer.tagged
        return answer.tagged.split(b" ", 1)[1].rstrip()

    def append(self, message: bytes, arguments: str = "INBOX") -> Answer:
        """APPEND with a non-synchronising literal."""
        return self.run(b"APPEND %b {%d+}\r\n%b" % (arguments.encode(), len(message), message))

    def greet(self) -> bytes:
        """Read the greeting."""
        greeting = self.response().octets
        assert greeting.startswith(b"* OK "), greeting
        return greeting

    def log_in(self, account: tuple[str, str]) -> bytes:
        """Log in as core does; returns the tagged line."""
        return self.ok(f"LOGIN {quoted(account[0])} {quoted(account[1])}").tagged

    def select(self, mailbox: str = "INBOX") -> Answer:
        """SELECT."""
        return self.ok(f'SELECT "{mailbox}"')

    def compress(self) -> None:
        """COMPRESS."""
        self.ok("COMPRESS DEFLATE")
        self.start_deflate()

    def idle(self) -> bytes:
        """Enter IDLE; returns its tag. Nothing may come before the `+`."""
        tag = self.tag()
        self.send(tag + b" IDLE\r\n")
        first = self.response().octets
        assert first.startswith(b"+ "), first
        return tag

    def done(self, tag: bytes) -> Answer:
        """Leave IDLE."""
        self.send(b"DONE\r\n")
        answer = self.answer(tag)
        assert answer.is_ok
        return answer

    def idle_line(self) -> bytes:
        """The next line that a client in IDLE is told, keepalives aside."""
        while (line := self.response().skeleton.rstrip()).startswith(b"* OK Still"):
            pass
        return line


def quoted(text: str) -> str:
    """A quoted string as core writes it."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def capabilities(line: bytes) -> list[str]:
    """The capabilities in the response code of a line."""
    found = _CAPABILITIES.search(line)
    assert found is not None, line
    return found[1].decode().split(" ")


def client(relay: Relay, account: tuple[str, str], mailbox: str | None = None) -> RawImap:
    """A client that is logged in, in a mailbox if one is named."""
    raw = RawImap(relay)
    try:
        raw.greet()
        raw.log_in(account)
        if mailbox is not None:
            raw.select(mailbox)
    except BaseException:
        raw.close()
        raise
    return raw


def newcomer(relay: Relay) -> tuple[str, str]:
    """An account that exists and has seen its INBOX."""
    account = relay.credentials()
    client(relay, account, "INBOX").close()
    return account


# --- mail ----------------------------------------------------------------------------------------


class Sender:
    """An account that sends over one connection."""

    def __init__(self, relay: Relay) -> None:
        self.address, self.password = relay.credentials()
        self._smtp = wire.smtp(relay, self.address, self.password)

    def __enter__(self) -> Sender:
        return self

    def __exit__(self, *_: object) -> None:
        self._smtp.close()

    def send(self, *to: str, size: int = 1000) -> str:
        """Send one message; returns its Message-ID."""
        message_id, octets = wire.encrypted(self.address, size)
        assert self._smtp.sendmail(self.address, list(to), octets) == {}
        return message_id


def fill(
    relay: Relay, account: tuple[str, str], count: int, size: int = 300, distinct: int = 50
) -> None:
    """Put `count` messages into an INBOX: some by APPEND, the others as copies of them."""
    with client(relay, account, "INBOX") as box:
        seeds = min(count, distinct)
        for _ in range(seeds):
            assert box.append(wire.encrypted(account[0], size)[1]).is_ok
        have = seeds
        while have < count:
            more = min(have, count - have)
            box.ok(f"COPY 1:{more} INBOX")
            have += more


# --- the relay from outside ----------------------------------------------------------------------


@dataclass
class TunedRelay(Relay):
    """A relay with more settings: lines for [limits], and whole sections."""

    limits: str = ""
    sections: str = ""

    def write_config(self) -> None:
        super().write_config()
        text = self.config.read_text().replace("[limits]\n", f"[limits]\n{self.limits}\n")
        self.config.write_text(f"{text}{self.sections}\n")


@contextlib.contextmanager
def running(relay: Relay) -> Iterator[Relay]:
    """Start a relay; it has to stop cleanly and may not have logged a crash."""
    relay.start()
    try:
        yield relay
    finally:
        code = relay.stop()
    assert code == 0, "\n".join(relay.errors[-20:])
    crashes = [line for line in relay.errors if "Traceback" in line or "connection_failed" in line]
    assert not crashes, "\n".join(relay.errors[-40:])


def in_parallel(jobs: Sequence[Callable[[], object]]) -> None:
    """Run jobs at the same instant; raises what the first failing one raised."""
    gate = threading.Barrier(len(jobs))

    def run(job: Callable[[], object]) -> None:
        gate.wait(TIMEOUT_S)
        job()

    with ThreadPoolExecutor(len(jobs)) as pool:
        for outcome in [pool.submit(run, job) for job in jobs]:
            outcome.result()


def smtp_auth(relay: Relay, account: tuple[str, str], mechanism: str = "PLAIN") -> int:
    """Log in at submission with octets of our own making; returns the reply code."""

    def encoded(octets: bytes) -> str:
        return base64.b64encode(octets).decode()

    address, password = (text.encode() for text in account)
    with smtplib.SMTP_SSL(
        "127.0.0.1", relay.ports["submissions"], context=wire.tls(), timeout=TIMEOUT_S
    ) as smtp:
        smtp.ehlo("[127.0.0.1]")
        if mechanism == "PLAIN":
            return smtp.docmd("AUTH", "PLAIN " + encoded(b"\0" + address + b"\0" + password))[0]
        assert smtp.docmd("AUTH", "LOGIN") == (334, b"VXNlcm5hbWU6")
        assert smtp.docmd(encoded(address)) == (334, b"UGFzc3dvcmQ6")
        return smtp.docmd(encoded(password))[0]


def local_name() -> str:
    """A new local part of nine characters."""
    return secrets.token_hex(5)[:9]

"""Peers on loopback with real TLS, and what the way out needs to reach them."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from chatmail.adapters.outbound.connect import Connector, TlsClient
from chatmail.adapters.outbound.mxdeliv import MxdelivTransport
from chatmail.adapters.outbound.patience import Patience
from chatmail.adapters.outbound.smtp import SmtpTransport
from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.federation import Hop, HopResult, RecipientFate, TlsRule, TransportKind
from chatmail.domain.ports.remote import DnsFault, Letter, MxAnswer

DELIVERED, TEMPORARY, PERMANENT = RecipientFate
HOST = "peer.example"
PATIENCE = Patience(
    stagger=0.02,
    tls=10.0,
    http_connect=10.0,
    http_stall=10.0,
    http_answer=10.0,
    smtp_connect=10.0,
    smtp_command=10.0,
    smtp_stall=10.0,
    smtp_verdict=10.0,
)
HASTE = attrs.evolve(
    PATIENCE,
    tls=0.6,
    http_connect=0.6,
    http_stall=0.6,
    http_answer=0.6,
    smtp_connect=0.6,
    smtp_command=0.6,
    smtp_stall=0.6,
    smtp_verdict=0.6,
)


class FakeResolver:
    """Every name is on loopback, unless it says otherwise."""

    def __init__(self, **hosts: Sequence[str] | DnsFault) -> None:
        self.hosts = hosts
        self.asked: list[str] = []

    async def mx(self, domain: str) -> MxAnswer | DnsFault:
        return DnsFault.NO_DATA

    async def addresses(self, host: str) -> tuple[str, ...] | DnsFault:
        self.asked.append(host)
        found = self.hosts.get(host.partition(".")[0], ("127.0.0.1",))
        return found if isinstance(found, DnsFault) else tuple(found)

    async def txt(self, name: str) -> tuple[bytes, ...] | DnsFault:
        return DnsFault.NO_DATA


# --- certificates --------------------------------------------------------------------------------


@attrs.frozen
class Authority:
    """A certificate authority in a folder; `file` is its certificate."""

    folder: Path
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def file(self) -> Path:
        return self.folder / "ca.pem"

    def server(self, *names: str) -> ssl.SSLContext:
        """Return a server's context with a certificate for these names."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _certificate(names, key.public_key(), self.certificate.subject, self.key)
        stem = self.folder / names[0].replace(":", "_")
        _write(stem.with_suffix(".pem"), certificate)
        stem.with_suffix(".key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(stem.with_suffix(".pem"), stem.with_suffix(".key"))
        return context


def make_authority(folder: Path) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
    certificate = (
        _builder(name, name, key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write(folder / "ca.pem", certificate)
    return Authority(folder, key, certificate)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
    )


def _certificate(
    names: Sequence[str],
    key: ec.EllipticCurvePublicKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    return (
        _builder(subject, issuer, key)
        .add_extension(x509.SubjectAlternativeName([_san(name) for name in names]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
        .sign(issuer_key, hashes.SHA256())
    )


def _san(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _write(path: Path, certificate: x509.Certificate) -> None:
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


# --- peers ---------------------------------------------------------------------------------------


class PeerStream:
    """The peer's end: buffered reading, TLS on demand."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream: Any = stream
        self.buffer = b""
        self.heard: list[str] = []

    async def until(self, mark: bytes) -> bytes:
        """Read up to and with a mark; `b""` at the end of the stream."""
        while mark not in self.buffer:
            if not await self._more():
                return b""
        end = self.buffer.index(mark) + len(mark)
        taken, self.buffer = self.buffer[:end], self.buffer[end:]
        return taken

    async def exactly(self, count: int) -> bytes:
        while len(self.buffer) < count:
            if not await self._more():
                break
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    async def line(self) -> str:
        """Read one line without its end."""
        line = (await self.until(b"\r\n"))[:-2].decode()
        if line:
            self.heard.append(line)
        return line

    async def to_the_end(self) -> bytes:
        while await self._more():
            pass
        taken, self.buffer = self.buffer, b""
        return taken

    async def send(self, octets: bytes | str) -> None:
        await self.stream.send_all(octets.encode() if isinstance(octets, str) else octets)

    async def start_tls(self, context: ssl.SSLContext) -> None:
        self.buffer = b""
        tls = trio.SSLStream(self.stream, context, server_side=True, https_compatible=True)
        self.stream = tls
        await tls.do_handshake()

    async def _more(self) -> bool:
        try:
            octets = await self.stream.receive_some()
        except trio.BrokenResourceError:
            return False
        self.buffer += octets
        return bool(octets)


class Peer:
    """A listener on loopback; each connection runs `script`."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.connections: list[PeerStream] = []

    @property
    def heard(self) -> list[str]:
        """The lines of all connections."""
        return [line for connection in self.connections for line in connection.heard]


Script = Callable[[PeerStream], Awaitable[None]]


@asynccontextmanager
async def peer(
    *scripts: Script, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[Peer]:
    """Run a peer; the first connection gets the first script, later ones the last."""
    (listener,) = await trio.open_tcp_listeners(0, host=host)
    served = Peer(listener.socket.getsockname()[1])

    async def handle(stream: trio.SocketStream) -> None:
        connection = PeerStream(stream)
        script = scripts[min(len(served.connections), len(scripts) - 1)]
        served.connections.append(connection)
        try:
            if tls is not None:
                await connection.start_tls(tls)
            await script(connection)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            with trio.move_on_after(0.5, shield=True):
                await trio.aclose_forcefully(connection.stream)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, handle, [listener])
        yield served
        nursery.cancel_scope.cancel()


# --- the way out ---------------------------------------------------------------------------------


def connector(
    patience: Patience = PATIENCE, resolver: FakeResolver | None = None, bind: str = ""
) -> Connector:
    return Connector(resolver or FakeResolver(), lambda *_: True, bind=bind, patience=patience)


def smtp_transport(
    ca_file: Path | None = None,
    patience: Patience = PATIENCE,
    resolver: FakeResolver | None = None,
) -> SmtpTransport:
    return SmtpTransport(
        connector(patience, resolver), TlsClient(ca_file), lambda: "relay.example", patience
    )


def mxdeliv_transport(
    ca_file: Path | None = None,
    patience: Patience = PATIENCE,
    resolver: FakeResolver | None = None,
) -> MxdelivTransport:
    return MxdelivTransport(
        connector(patience, resolver), TlsClient(ca_file), "chatmail/1", patience
    )


def smtp_hop(port: int, tls: TlsRule = TlsRule.VERIFY, host: str = HOST) -> Hop:
    return Hop(transport=TransportKind.SMTP, host=host, port=port, tls=tls)


def http_hop(port: int, tls: TlsRule = TlsRule.VERIFY, host: str = HOST) -> Hop:
    kind = TransportKind.HTTP if tls is TlsRule.NONE else TransportKind.HTTPS
    return Hop(transport=kind, host=host, port=port, tls=tls)


CONTENT = b"Subject: hello\r\n\r\nHello.\r\n.\r\n..dots\r\n"
SENDER = EmailAddress("alice", "relay.example")


def rcpt(name: str = "bob") -> EmailAddress:
    return EmailAddress(name, HOST)


def letter(
    *names: str,
    content: bytes = CONTENT,
    prefix: bytes = b"",
    sender: EmailAddress | None = SENDER,
    is_eight_bit: bool = True,
) -> Letter:
    async def read(offset: int, length: int) -> bytes:
        return content[offset : offset + length]

    return Letter(
        reverse_path=sender,
        recipients=tuple(rcpt(name) for name in names or ("bob",)),
        prefix=prefix,
        size=len(content),
        read=read,
        is_eight_bit=is_eight_bit,
    )


def fates(result: HopResult) -> dict[str, RecipientFate]:
    return {outcome.recipient.local: outcome.fate for outcome in result.outcomes}

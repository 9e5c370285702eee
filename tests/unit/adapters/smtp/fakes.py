"""A stream over memory, and services that do as they are told."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import attrs
import trio
from trio.testing import MemoryReceiveStream, MemorySendStream, memory_stream_one_way_pair

from chatmail.adapters.smtp.server import serve_connection
from chatmail.adapters.smtp.services import SmtpServices
from chatmail.domain.formats.body_digest import BodyDigests
from chatmail.domain.model.account import Account, AccountId, Credentials
from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.federation import Source
from chatmail.domain.model.mailbox import MailboxId
from chatmail.domain.model.message import Door, Envelope
from chatmail.domain.model.settings import (
    FederationSettings,
    IdentitySettings,
    LimitSettings,
    SettingsSnapshot,
)
from chatmail.domain.model.verdict import RefusalReason, Refuse
from chatmail.domain.wire.smtp.sequence import Role

USER = "alice@relay.example"
AUTH = b"AUTH PLAIN " + base64.b64encode(f"\0{USER}\0secret".encode()) + b"\r\n"


class MemoryStream:
    """The server's end of a connection."""

    peer_host = "192.0.2.7"

    def __init__(
        self, receive: MemoryReceiveStream, send: MemorySendStream, *, is_tls: bool
    ) -> None:
        self._receive = receive
        self._send = send
        self.is_tls = is_tls
        self.writes: list[bytes] = []
        self.is_stalled = False

    async def receive_some(self) -> bytes:
        return bytes(await self._receive.receive_some(65536))

    async def send_all(self, data: bytes) -> None:
        self.writes.append(data)
        if self.is_stalled:
            await trio.sleep_forever()
        await self._send.send_all(data)

    async def start_tls(self) -> None:
        await trio.lowlevel.checkpoint()
        self.is_tls = True


@attrs.frozen
class LoginRefusal:
    reason: RefusalReason
    delay_s: float


@attrs.frozen
class Accepted:
    queue_id: str


class Drain:
    """A drain signal that the test pulls."""

    def __init__(self) -> None:
        self._callbacks: list[Callable[[], None]] = []
        self._is_set = False

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        self._is_set = True
        for callback in self._callbacks:
            callback()

    @contextmanager
    def subscribe(self, callback: Callable[[], None]) -> Iterator[None]:
        self._callbacks.append(callback)
        try:
            yield
        finally:
            self._callbacks.remove(callback)

    @property
    def subscribers(self) -> int:
        return len(self._callbacks)


class Sessions:
    """Live sessions of one account."""

    def __init__(self) -> None:
        self.open: dict[object, Callable[[], None]] = {}

    def admit(self, account: AccountId, face: str, limit: int, close: Callable[[], None]) -> object:
        assert face == "smtp"
        if len(self.open) >= limit:
            return None
        ticket = object()
        self.open[ticket] = close
        return ticket

    def leave(self, ticket: object) -> None:
        del self.open[ticket]

    def close_all(self, account: AccountId) -> None:
        for close in list(self.open.values()):
            close()


class Sink:
    """A collector that keeps everything and counts how it was used."""

    def __init__(self, log: list[str], failure: Exception | None) -> None:
        self.chunks: list[bytes] = []
        self._log = log
        self._failure = failure

    async def feed(self, chunk: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.chunks.append(chunk)
        if self._failure is not None:
            raise self._failure

    async def __aenter__(self) -> Sink:
        self._log.append("opened")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._log.append("left")


@attrs.define
class World:
    """All services, and what was done with them."""

    limits: LimitSettings = attrs.field(factory=LimitSettings)
    login: Callable[[Credentials], Any] | None = None
    sender_verdict: Refuse | None = None
    outcome: Any = Accepted("7x")
    feed_failure: Exception | None = None
    before_commit: Callable[[], Any] | None = None
    has_room: bool = True
    hashes: BodyDigests | None = None
    collected_with: list[dict[str, Any]] = attrs.field(factory=list)
    touched: int = 0
    senders: list[Account] = attrs.field(factory=list)
    logins: list[tuple[Credentials, str]] = attrs.field(factory=list)
    admitted: list[EmailAddress | None] = attrs.field(factory=list)
    sources: list[Source] = attrs.field(factory=list)
    federation: FederationSettings = attrs.field(factory=FederationSettings)
    messages: list[tuple[Door, Envelope, bytes]] = attrs.field(factory=list)
    doors: list[tuple[Door, int]] = attrs.field(factory=list)
    sinks: list[str] = attrs.field(factory=list)
    logged: list[tuple[str, dict[str, object]]] = attrs.field(factory=list)
    drain: Drain = attrs.field(factory=Drain)
    sessions: Sessions = attrs.field(factory=Sessions)

    def settings(self) -> SettingsSnapshot:
        identity = IdentitySettings(
            mail_domain="relay.example",
            local_domains=frozenset({"relay.example", "[127.0.0.1]"}),
            hostname="mx.relay.example",
        )
        return SettingsSnapshot(identity=identity, limits=self.limits, federation=self.federation)

    def info(self, event: str, **fields: object) -> None:
        self.logged.append((event, fields))

    async def authenticate(self, credentials: Credentials, source: str, /) -> Any:
        await trio.lowlevel.checkpoint()
        self.logins.append((credentials, source))
        if self.login is not None:
            return self.login(credentials)
        return Account(
            id=AccountId(1),
            address=EmailAddress.parse(credentials.login),
            inbox=MailboxId(1),
            secret="",
        )

    def collect(self, door: Door, max_bytes: int, **options: Any) -> Sink:
        self.doors.append((door, max_bytes))
        self.collected_with.append(options)
        return Sink(self.sinks, self.feed_failure)

    def digests(self, envelope: Envelope, /) -> BodyDigests | None:
        return self.hashes

    def admit(self, account: Account, reverse_path: EmailAddress | None, /) -> Refuse | None:
        self.admitted.append(reverse_path)
        return self.sender_verdict

    async def __call__(
        self, account: Account, envelope: Envelope, message: Sink, digests: BodyDigests | None, /
    ) -> Any:
        assert digests is self.hashes
        self.senders.append(account)
        return await self.store(Door.SUBMISSION, envelope, message)

    async def store(self, door: Door, envelope: Envelope, message: Sink) -> Any:
        await trio.lowlevel.checkpoint()
        if self.before_commit is not None:
            await self.before_commit()
        if isinstance(self.outcome, Exception):
            raise self.outcome
        if isinstance(self.outcome, Accepted):
            self.messages.append((door, envelope, b"".join(message.chunks)))
        return self.outcome

    def services(self) -> SmtpServices:
        return SmtpServices(
            authenticate=Logins(self),
            submit=self,
            receive=Relays(self),
            collect=self.collect,
            sessions=self.sessions,
            settings=self.settings,
            drain=self.drain,
            log=self,
            has_room=lambda: self.has_room,
        )


@attrs.frozen
class Logins:
    """The door of logins to a world."""

    world: World

    async def __call__(self, credentials: Credentials, source: str, /) -> Any:
        return await self.world.authenticate(credentials, source)

    async def touch_daily(self, account: Account, /) -> Account:
        self.world.touched += 1
        return attrs.evolve(account, last_login_day=self.world.touched)


@attrs.frozen
class Relays:
    """The door of other relays to a world."""

    world: World

    def admit(self, reverse_path: EmailAddress | None, /) -> Refuse | None:
        self.world.admitted.append(reverse_path)
        return self.world.sender_verdict

    async def __call__(self, envelope: Envelope, message: Sink, source: Source, /) -> Any:
        self.world.sources.append(source)
        return await self.world.store(Door.SMTP_INBOUND, envelope, message)


class Client:
    """The peer: says octets, reads replies."""

    def __init__(self, send: MemorySendStream, receive: MemoryReceiveStream) -> None:
        self._send = send
        self._receive = receive
        self._buffer = b""

    async def say(self, octets: bytes) -> None:
        await self._send.send_all(octets)

    async def reply(self) -> bytes:
        """Read one whole reply, multi-line ones included."""
        whole = b""
        while True:
            while b"\r\n" not in self._buffer:
                octets = await self._receive.receive_some(65536)
                if not octets:
                    return whole + self._buffer
                self._buffer += octets
            line, _, self._buffer = self._buffer.partition(b"\r\n")
            whole += line + b"\r\n"
            if line[3:4] == b" ":
                return whole

    async def ask(self, octets: bytes, count: int = 1) -> bytes:
        await self.say(octets)
        return b"".join([await self.reply() for _ in range(count)])

    async def rest(self) -> bytes:
        """Read to the end of the stream."""
        octets = self._buffer
        while more := await self._receive.receive_some(65536):
            octets += more
        return octets

    def leave(self) -> None:
        self._send.close()


@attrs.define
class Connection:
    client: Client
    stream: MemoryStream
    world: World
    done: trio.Event
    cancel: trio.CancelScope

    async def log_in(self) -> None:
        await self.client.reply()
        assert (await self.client.ask(b"EHLO [127.0.0.1]\r\n")).endswith(b"250 8BITMIME\r\n")
        assert await self.client.ask(AUTH) == b"235 2.7.0 Authentication successful\r\n"


def connect(
    nursery: trio.Nursery, world: World, role: Role = Role.SUBMISSION, *, tls: bool = True
) -> Connection:
    """Start a server on a new connection."""
    client_send, server_receive = memory_stream_one_way_pair()
    server_send, client_receive = memory_stream_one_way_pair()
    stream = MemoryStream(server_receive, server_send, is_tls=tls)
    connection = Connection(
        Client(client_send, client_receive), stream, world, trio.Event(), trio.CancelScope()
    )

    async def run() -> None:
        with connection.cancel:
            await serve_connection(stream, world.services(), role)
        server_send.close()
        connection.done.set()

    nursery.start_soon(run)
    return connection

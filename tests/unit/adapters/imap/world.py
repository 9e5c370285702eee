"""A small relay around the IMAP face: memory stores, memory streams, a client that reads lines."""

from __future__ import annotations

import re
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
import trio.testing

from chatmail.adapters.imap.server import serve_connection
from chatmail.adapters.imap.services import ImapServices
from chatmail.adapters.imap.spree import Spree
from chatmail.adapters.net.errors import PeerGone
from chatmail.adapters.net.turns import Turns
from chatmail.domain.model.account import Account, AccountId
from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.mailbox import MailboxId, Uid
from chatmail.domain.model.message import Body
from chatmail.domain.model.settings import IdentitySettings, SettingsSnapshot
from chatmail.domain.ports.intake import Delivery, IntakeBatch
from chatmail.domain.usecases.change_mailbox import ChangeMailbox
from chatmail.domain.usecases.service_metadata import ServiceMetadata
from tests.unit.adapters.imap.services import (
    FakeAppend,
    FakeAuthenticate,
    FakeDrain,
    FakeLog,
    FakeSessions,
)
from tests.unit.fakes.intake import MemoryIntake
from tests.unit.fakes.mailstate import MemoryState
from tests.unit.fakes.mailstore import MemoryMailStore, MemoryObjectIds
from tests.unit.fakes.tokens import MemoryDeviceTokens

NOW_S = 1_767_225_600  # 2026-01-01T00:00:00Z
ADDRESS = "ann@relay.test"
PASSWORD = b"secret-password"
MESSAGE = (
    b"From: ann@relay.test\r\nTo: bob@relay.test\r\nSubject: [...]\r\n"
    b"Message-ID: <m1@relay.test>\r\n"
    b"Date: Thu, 01 Jan 2026 00:00:00 +0000\r\nChat-Version: 1.0\r\n\r\nhello\r\n"
)
SETTINGS = SettingsSnapshot(
    identity=IdentitySettings(
        mail_domain="relay.test",
        local_domains=frozenset(("relay.test",)),
        hostname="relay.test",
    )
)


class FakeClock:
    def now_s(self) -> float:
        return float(NOW_S)

    def monotonic_s(self) -> float:
        return trio.current_time()


class MemoryStream:
    """The face's end of a memory stream pair, with the surface of `adapters.net`."""

    def __init__(self, stream: trio.StapledStream, is_tls: bool) -> None:
        self._stream = stream
        self.is_tls = is_tls
        self.peer_host = "192.0.2.1"
        self._inflater = None
        self._deflater = None
        self._may_send = True
        self.writes: list[bytes] = []
        self.reads = 0
        self.is_full = False  # as if the kernel took nothing
        self._rest = b""

    async def receive_some(self) -> bytes:
        self.reads += 1
        octets = bytes(await self._stream.receive_some(65536))
        if self._inflater is None or not octets:
            return octets
        self._may_send = True
        return self._inflater.decompress(octets)

    async def send_all(self, data: bytes) -> None:
        data, self._rest = self._rest + data, b""
        self.writes.append(bytes(data))
        if self._deflater is not None:
            assert self._may_send, "compressed octet before the client's first"
            data = self._deflater.compress(data) + self._deflater.flush(zlib.Z_SYNC_FLUSH)
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise PeerGone("gone") from None

    def send_now(self, data: bytes) -> bool:
        if self.is_full:
            self._rest += data
            return False
        self.writes.append(bytes(data))
        if self._deflater is not None:
            assert self._may_send, "compressed octet before the client's first"
            data = self._deflater.compress(data) + self._deflater.flush(zlib.Z_SYNC_FLUSH)
        sender = self._stream.send_stream
        try:
            sender._outgoing.put(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return False
        sender.close_hook()  # a memory stream's pump, without a checkpoint
        return True

    async def start_tls(self) -> None:
        await trio.lowlevel.checkpoint()
        self.is_tls = True

    def start_deflate(self) -> None:
        self._inflater = zlib.decompressobj(-15)
        self._deflater = zlib.compressobj(3, zlib.DEFLATED, -13)
        self._may_send = False

    async def aclose(self) -> None:
        await self._stream.aclose()


_LITERAL = re.compile(rb"\{(\d+)\}\r\n\Z")


class Client:
    """Reads whole response lines (literals included) and remembers nothing else."""

    def __init__(self, stream: trio.StapledStream, server: MemoryStream) -> None:
        self._stream = stream
        self.server = server
        self._buffer = b""
        self._tag = 0
        self._inflater = None
        self._deflater = None

    def start_deflate(self) -> None:
        assert not self._buffer
        self._inflater = zlib.decompressobj(-15)
        self._deflater = zlib.compressobj(3, zlib.DEFLATED, -15)

    async def send(self, octets: bytes) -> None:
        if self._deflater is not None:
            octets = self._deflater.compress(octets) + self._deflater.flush(zlib.Z_SYNC_FLUSH)
        await self._stream.send_all(octets)

    async def _more(self) -> bool:
        octets = bytes(await self._stream.receive_some(65536))
        if not octets:
            return False
        self._buffer += octets if self._inflater is None else self._inflater.decompress(octets)
        return True

    async def line(self) -> bytes:
        """Return the next response with its literals, without the final CRLF; b"" at the end."""
        at = 0
        while True:
            end = self._buffer.find(b"\r\n", at) + 2
            if end == 1:
                if not await self._more():
                    assert not self._buffer, f"torn line {self._buffer!r}"
                    return b""
                continue
            literal = _LITERAL.search(self._buffer, at, end)
            if literal is None:
                line, self._buffer = self._buffer[: end - 2], self._buffer[end:]
                return line
            at = end + int(literal[1])
            while len(self._buffer) < at:
                if not await self._more():
                    raise EOFError("torn literal")

    async def until(self, tag: bytes) -> list[bytes]:
        """Return lines up to the tagged one, which is the last."""
        lines = []
        while True:
            line = await self.line()
            lines.append(line)
            if line.startswith(tag + b" ") or not line:
                return lines

    async def cmd(self, command: bytes) -> list[bytes]:
        """Send one command; return the responses, the tagged one (without tag) last."""
        self._tag += 1
        tag = b"A%04d" % self._tag
        await self.send(tag + b" " + command + b"\r\n")
        lines = await self.until(tag)
        lines[-1] = lines[-1].removeprefix(tag + b" ")
        return lines

    async def ok(self, command: bytes) -> list[bytes]:
        """Send a command that has to succeed; return its untagged responses."""
        *lines, last = await self.cmd(command)
        assert last.startswith(b"OK"), last
        return lines

    async def login(self) -> None:
        await self.line()
        await self.ok(b'LOGIN "ann@relay.test" "secret-password"')

    async def select(self, name: bytes = b"INBOX") -> list[bytes]:
        return await self.ok(b'SELECT "%b"' % name)

    async def quiet(self) -> bool:
        """Say whether the server has sent nothing and sends nothing now."""
        await trio.testing.wait_all_tasks_blocked()
        # A deadline that is over already would cancel the read before it looks.
        with trio.move_on_after(0.05):
            await self._more()
        return not self._buffer

    async def close(self) -> None:
        await self._stream.aclose()


class World:
    """Everything around the face."""

    def __init__(self, settings: SettingsSnapshot = SETTINGS) -> None:
        self.settings = settings
        self.state = MemoryState()
        self.state.are_large = True
        self.store = MemoryMailStore(self.state)
        self.intake = MemoryIntake(self.state)
        self.tokens = MemoryDeviceTokens()
        self.sessions = FakeSessions()
        self.drain = FakeDrain()
        self.log = FakeLog()
        self.spree = Spree()
        self.authenticate = FakeAuthenticate()
        self.append = FakeAppend(self.state, self.intake)
        self.clock = FakeClock()
        self.turns = Turns()
        self.inbox = self.state.add_account(AccountId(1))
        self.account = Account(
            id=AccountId(1), address=EmailAddress.parse(ADDRESS), inbox=self.inbox, secret="x"
        )
        self.authenticate.accounts[ADDRESS, PASSWORD] = self.account
        self.metadata = ServiceMetadata(
            tokens=self.tokens, settings=lambda: self.settings, clock=self.clock
        )

    def services(self) -> ImapServices:
        return ImapServices(
            authenticate=self.authenticate,
            store=self.store,
            append=self.append,
            collect=self.append.collect,
            change_mailbox=ChangeMailbox(self.store, lambda: self.settings, self.clock),
            metadata=self.metadata,
            object_ids=MemoryObjectIds(),
            hints=self.state.hints,
            sessions=self.sessions,
            settings=lambda: self.settings,
            clock=self.clock,
            drain=self.drain,
            log=self.log,
            turns=self.turns,
            spree=self.spree,
        )

    def deliver(
        self, message: bytes = MESSAGE, *flags: str, mailbox: MailboxId | None = None
    ) -> Uid:
        """Commit one message; returns its UID."""
        header, gap, rest = message.partition(b"\r\n\r\n")
        (receipt,) = self.intake.commit_now(
            IntakeBatch(
                body=Body(header + gap, (rest,), len(rest)),
                internal_date_s=NOW_S,
                deliveries=(Delivery(mailbox or self.inbox, frozenset(flags)),),
            )
        )
        assert receipt is not None
        return receipt.uid

    @asynccontextmanager
    async def connect(self, *, is_tls: bool = True) -> AsyncIterator[Client]:
        """Serve one connection while the context is open."""
        ours, theirs = trio.testing.memory_stream_pair()
        stream = MemoryStream(theirs, is_tls)

        async def serve() -> None:
            await serve_connection(stream, self.services())
            await stream.aclose()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            client = Client(ours, stream)
            yield client
            await client.close()

    @asynccontextmanager
    async def session(self, mailbox: bytes = b"INBOX") -> AsyncIterator[Client]:
        """A session that is logged in and has a mailbox selected."""
        async with self.connect() as client:
            await client.login()
            await client.select(mailbox)
            yield client

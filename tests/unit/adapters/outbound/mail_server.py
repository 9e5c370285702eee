"""Peers that speak SMTP as told, and one attempt to deliver to them."""

from __future__ import annotations

import ssl

import trio

from chatmail.adapters.outbound.patience import Patience
from chatmail.domain.model.federation import HopResult, TlsRule
from chatmail.domain.ports.remote import Letter
from tests.unit.adapters.outbound.rig import (
    PATIENCE,
    Authority,
    PeerStream,
    Script,
    letter,
    peer,
    smtp_hop,
    smtp_transport,
)


class MailServer:
    """A server that keeps what it gets. `replies` overrides by command, in order of use."""

    def __init__(
        self,
        context: ssl.SSLContext | None = None,
        capabilities: tuple[str, ...] = ("PIPELINING", "SIZE 20000000", "8BITMIME"),
        **replies: list[str],
    ) -> None:
        self.context = context
        self.capabilities = capabilities
        self.replies = {name.upper(): list(lines) for name, lines in replies.items()}
        self.contents: list[bytes] = []
        self.sessions = 0
        self.resumed: list[bool] = []
        self.says_goodbye_at: int | None = None

    def _reply(self, command: str, otherwise: str) -> str:
        waiting = self.replies.get(command)
        return waiting.pop(0) if waiting else otherwise

    async def __call__(self, stream: PeerStream) -> None:
        self.sessions += 1
        await stream.send(self._reply("GREETING", "220 peer.example ready") + "\r\n")
        while line := await stream.line():
            command = line.partition(" ")[0].upper()
            match command:
                case "EHLO":
                    await self._ehlo(stream)
                case "STARTTLS":
                    reply = self._reply("STARTTLS", "220 go")
                    await stream.send(reply + "\r\n")
                    if reply.startswith("220"):
                        assert self.context is not None
                        await stream.start_tls(self.context)
                        self.resumed.append(bool(stream.stream.session_reused))
                case "DATA":
                    reply = self._reply("DATA", "354 go")
                    await stream.send(reply + "\r\n")
                    if reply.startswith("354"):
                        await self._content(stream)
                case "QUIT":
                    await stream.send("221 bye\r\n")
                    return
                case _:
                    await stream.send(self._reply(command, "250 2.0.0 ok") + "\r\n")

    async def _ehlo(self, stream: PeerStream) -> None:
        names = list(self.capabilities)
        if self.context is not None and not isinstance(stream.stream, trio.SSLStream):
            names.append("STARTTLS")
        lines = ["peer.example", *names]
        last = len(lines) - 1
        for number, text in enumerate(lines):
            await stream.send(f"250{' ' if number == last else '-'}{text}\r\n")

    async def _content(self, stream: PeerStream) -> None:
        first = await stream.until(b"\r\n")
        octets = first if first == b".\r\n" else first + await stream.until(b"\r\n.\r\n")
        self.contents.append(octets)
        await stream.send(self._reply("VERDICT", "250 2.0.0 queued") + "\r\n")


async def attempt(
    server: Script,
    mail: Letter | None = None,
    *,
    tls: TlsRule = TlsRule.NONE,
    authority: Authority | None = None,
    patience: Patience = PATIENCE,
    host: str = "peer.example",
) -> HopResult:
    transport = smtp_transport(authority and authority.file, patience)
    try:
        async with peer(server) as served:
            return await transport.attempt(smtp_hop(served.port, tls, host), mail or letter())
    finally:
        transport.pool.close()


def breaking(at: str, *, reset: bool = False) -> Script:
    """A server that closes when it has read so far."""

    async def serve(stream: PeerStream) -> None:
        if at == "connect":
            return
        await stream.send("220 peer.example\r\n")
        await stream.line()
        if at == "ehlo":
            return
        await stream.send("250-peer.example\r\n250 PIPELINING\r\n")
        for _ in range(3):
            await stream.line()
        if at == "envelope":
            return
        await stream.send("250 ok\r\n250 ok\r\n354 go\r\n")
        if at == "content":
            await stream.exactly(10)
            return
        await stream.until(b"\r\n.\r\n")

    return serve

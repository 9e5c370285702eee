"""A peer that answers posted messages as told, and one attempt to deliver to it."""

from __future__ import annotations

import ssl

import attrs
import trio

from chatmail.adapters.outbound.patience import Patience
from chatmail.domain.model.federation import HopResult, TlsRule
from chatmail.domain.ports.remote import Letter
from tests.unit.adapters.outbound.rig import (
    PATIENCE,
    Authority,
    PeerStream,
    Script,
    http_hop,
    letter,
    mxdeliv_transport,
    peer,
)

OK = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 14\r\n\r\n250 2.0.0 OK\r\n"


@attrs.define
class Request:
    head: str
    body: bytes

    @property
    def fields(self) -> list[tuple[str, str]]:
        lines = self.head.split("\r\n")[1:-2]
        return [(name, value) for name, _, value in (line.partition(": ") for line in lines)]


class WebServer:
    """A server that keeps what it gets; the last answer is for all that follow."""

    def __init__(self, *answers: str | bytes) -> None:
        self.answers = answers or (OK,)
        self.requests: list[Request] = []
        self.connections = 0
        self.resumed: list[bool] = []
        self.versions: list[str | None] = []

    async def __call__(self, stream: PeerStream) -> None:
        self.connections += 1
        if isinstance(stream.stream, trio.SSLStream):
            self.resumed.append(bool(stream.stream.session_reused))
            self.versions.append(stream.stream.selected_alpn_protocol())
        while head := (await stream.until(b"\r\n\r\n")).decode():
            length = int(head.partition("Content-Length: ")[2].partition("\r\n")[0])
            answer = self.answers[min(len(self.requests), len(self.answers) - 1)]
            self.requests.append(Request(head, await stream.exactly(length)))
            await stream.send(answer)
            if isinstance(answer, str) and ("Connection: close" in answer or "/1.0 " in answer):
                return


def answer(status: str, body: str = "", *fields: str) -> str:
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *fields]
    return "\r\n".join(head) + "\r\n\r\n" + body


async def attempt(
    server: Script,
    mail: Letter | None = None,
    *,
    tls: ssl.SSLContext | None = None,
    rule: TlsRule = TlsRule.NONE,
    authority: Authority | None = None,
    patience: Patience = PATIENCE,
    host: str = "peer.example",
    takes_one: bool = False,
) -> HopResult:
    transport = mxdeliv_transport(authority and authority.file, patience)
    try:
        async with peer(server, tls=tls) as served:
            hop = attrs.evolve(http_hop(served.port, rule, host), takes_one=takes_one)
            return await transport.attempt(hop, mail or letter())
    finally:
        transport.pool.close()

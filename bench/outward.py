"""CPU per message handed to another relay on kept connections, and messages per second.

    python bench/outward.py [messages] [octets]

A child process is the peer, so the figures of CPU are those of the way out alone. The goals are
4 ms of CPU per message of 20 kB over SMTP, and 200 messages per second over `/mxdeliv`.
"""

from __future__ import annotations

import contextlib
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import trio

from chatmail.adapters.acme.selfsigned import ensure_self_signed
from chatmail.adapters.outbound.resolver import TrioResolver
from chatmail.adapters.outbound.transports import Outward
from chatmail.adapters.system.clock import SystemClock
from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.federation import Hop, TlsRule, TransportKind
from chatmail.domain.ports.remote import Letter

CONNECTIONS = 4
SENDER = EmailAddress("alice", "relay.example")
RECIPIENT = EmailAddress("bob", "[127.0.0.1]")


# --- the peer, in a child process ----------------------------------------------------------------


class Reader:
    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.buffer = bytearray()

    async def until(self, mark: bytes) -> bytes:
        start = 0
        while (end := self.buffer.find(mark, max(start, 0))) < 0:
            start = len(self.buffer) - len(mark)
            octets = await self.stream.receive_some(65536)
            if not octets:
                return b""
            self.buffer += octets
        taken = bytes(self.buffer[: end + len(mark)])
        del self.buffer[: end + len(mark)]
        return taken


async def smtp_peer(context: ssl.SSLContext, plain: trio.SocketStream) -> None:
    await plain.send_all(b"220 peer\r\n")
    reader = Reader(plain)
    while line := await reader.until(b"\r\n"):
        verb = line[:4].upper()
        if verb == b"EHLO":
            names = b"250-peer\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SIZE 70000000\r\n"
            await reader.stream.send_all(names + b"250 STARTTLS\r\n")
        elif verb == b"STAR":
            await reader.stream.send_all(b"220 go\r\n")
            reader = Reader(trio.SSLStream(plain, context, server_side=True))
        elif verb == b"DATA":
            await reader.stream.send_all(b"354 go\r\n")
            await reader.until(b"\r\n.\r\n")
            await reader.stream.send_all(b"250 2.0.0 queued\r\n")
        elif verb == b"QUIT":
            await reader.stream.send_all(b"221 bye\r\n")
            return
        else:
            await reader.stream.send_all(b"250 ok\r\n")


async def http_peer(context: ssl.SSLContext, plain: trio.SocketStream) -> None:
    reader = Reader(trio.SSLStream(plain, context, server_side=True, https_compatible=True))
    while head := await reader.until(b"\r\n\r\n"):
        left = int(head.partition(b"Content-Length: ")[2].partition(b"\r")[0])
        left -= len(reader.buffer)
        reader.buffer.clear()
        while left > 0:
            left -= len(await reader.stream.receive_some(65536))
        await reader.stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK")


async def serve(folder: Path) -> None:
    pair = ensure_self_signed(folder, ["127.0.0.1"], time.time())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.chain, pair.key)

    async def handle(
        peer: Callable[[ssl.SSLContext, trio.SocketStream], Awaitable[None]],
        stream: trio.SocketStream,
    ) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await peer(context, stream)

    async with trio.open_nursery() as nursery:
        for peer in (smtp_peer, http_peer):
            (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, partial(handle, peer), [listener])
            print(listener.socket.getsockname()[1], flush=True)


# --- the way out ---------------------------------------------------------------------------------


def letter(octets: int) -> Letter:
    content = b"Subject: ...\r\n\r\n" + (b"x" * 62 + b"\r\n") * (octets // 64)

    async def read(offset: int, length: int) -> bytes:
        return content[offset : offset + length]

    return Letter(
        reverse_path=SENDER,
        recipients=(RECIPIENT,),
        prefix=b"DKIM-Signature: " + b"x" * 600 + b"\r\n",
        size=len(content),
        read=read,
    )


async def measure(hop: Hop, mail: Letter, messages: int) -> None:
    clock = SystemClock()
    outward = Outward(
        TrioResolver((), clock, ipv6=True, prefers_ipv6=lambda: False),
        ca_file=None,
        bind="",
        may_connect=lambda *_: True,
        hello_name=lambda: "relay.example",
        user_agent="chatmail/1",
    )
    left = messages

    async def worker() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            result = await outward.attempt(hop, mail)
            assert result.fault is None, result

    for count in (CONNECTIONS, messages):  # the first round opens connections
        left = count
        wall, cpu = time.perf_counter(), time.process_time()
        async with trio.open_nursery() as nursery:
            for _ in range(CONNECTIONS):
                nursery.start_soon(worker)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(
        f"{hop.transport.value:5}  {cpu / messages * 1000:6.2f} ms CPU per message"
        f"  {messages / wall:7.0f} messages/s"
    )


def main() -> None:
    messages = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    octets = int(sys.argv[2]) if len(sys.argv) > 2 else 20_000
    with tempfile.TemporaryDirectory() as folder:
        child = subprocess.Popen(
            [sys.executable, __file__, "--serve", folder], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        try:
            for kind in (TransportKind.SMTP, TransportKind.HTTPS):
                port = int(child.stdout.readline())
                hop = Hop(transport=kind, host="127.0.0.1", port=port, tls=TlsRule.ENCRYPT)
                trio.run(measure, hop, letter(octets), messages)
        finally:
            child.kill()
            child.wait()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        trio.run(serve, Path(sys.argv[2]))
    else:
        main()

"""CPU per TLS echo and memory per idle TLS connection of `adapters.net`, in a child process.

    python bench/tls_echo.py [idle connections] [echoes]

The child serves; this process is the client, so both figures are the server's alone.
"""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
import tempfile
import time
import zlib
from functools import partial
from pathlib import Path

import trio

from chatmail.adapters.acme.selfsigned import ensure_self_signed
from chatmail.adapters.net.binding import bind
from chatmail.adapters.net.crowds import ConnectionLimits, Crowd
from chatmail.adapters.net.handshakes import handshake_turns
from chatmail.adapters.net.listeners import Face, FaceListener, TlsMode, serve_listener
from chatmail.adapters.net.streams import Stream
from chatmail.adapters.net.tls import TlsKeeper, TlsPurpose

ACTIVE = 32
PAYLOAD = b"x" * 200


class Log:
    def warning(self, event: str, **fields: object) -> None:
        print(event, fields, file=sys.stderr)


async def echo(stream: Stream, *, deflate: bool) -> None:
    if deflate:
        stream.start_deflate()
    while octets := await stream.receive_some():
        await stream.send_all(octets)


async def serve(state: Path, *, deflate: bool) -> None:
    keeper = TlsKeeper(ensure_self_signed(state, ["127.0.0.1"], time.time()), now_s=time.time)
    listener = FaceListener(
        name="imaps",
        tls=TlsMode.IMPLICIT,
        purpose=TlsPurpose.IMAP,
        face=Face(
            handler=partial(echo, deflate=deflate),
            crowd=Crowd(lambda: ConnectionLimits(100_000)),
        ),
    )
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(
            serve_listener,
            bind("127.0.0.1:0"),
            listener,
            keeper,
            handshake_turns(),
            nursery,
            Log(),
        )
        print(addresses[0][1], flush=True)


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def pss_kb(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise RuntimeError("no Pss")


async def connect(port: int) -> trio.SSLStream[trio.SocketStream]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    stream = trio.SSLStream(await trio.open_tcp_stream("127.0.0.1", port), context)
    await stream.do_handshake()
    return stream


async def talk(stream: trio.SSLStream[trio.SocketStream], rounds: int, payload: bytes) -> None:
    for _ in range(rounds):
        await stream.send_all(payload)
        await stream.receive_some()


async def measure(pid: int, port: int, name: str, payload: bytes, idle: int, echoes: int) -> None:
    # The first hundred fill caches and arenas that all connections share.
    streams = [await connect(port) for _ in range(100)]
    memory, cpu = pss_kb(pid), cpu_s(pid)
    for _ in range(idle):
        streams.append(await connect(port))
    shaken = (cpu_s(pid) - cpu) / idle * 1e3
    print(f"{name}: {shaken:.2f} ms CPU per accept and handshake")
    print(f"{name}: {(pss_kb(pid) - memory) / idle:.1f} kB PSS per idle connection, fresh")
    async with trio.open_nursery() as nursery:
        for stream in streams:
            nursery.start_soon(talk, stream, 5, payload)
    print(f"{name}: {(pss_kb(pid) - memory) / idle:.1f} kB PSS after five echoes each")
    cpu, began = cpu_s(pid), time.monotonic()
    async with trio.open_nursery() as nursery:
        for stream in streams[:ACTIVE]:
            nursery.start_soon(talk, stream, echoes // ACTIVE, payload)
    spent, took = cpu_s(pid) - cpu, time.monotonic() - began
    print(f"{name}: {spent / echoes * 1e6:.0f} us CPU per echo, {echoes / took:.0f} echoes/s")


def packed() -> bytes:
    compressor = zlib.compressobj(6, zlib.DEFLATED, -15)
    return compressor.compress(PAYLOAD) + compressor.flush(zlib.Z_FULL_FLUSH)


def run(name: str, payload: bytes, idle: int, echoes: int) -> None:
    # A fresh program, not a fork: pages shared with this process would falsify PSS.
    server = subprocess.Popen(
        [sys.executable, __file__, "--serve", name], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        trio.run(measure, server.pid, port, name, payload, idle, echoes)
    finally:
        server.kill()
        server.wait()


def main() -> None:
    if sys.argv[1:2] == ["--serve"]:
        with tempfile.TemporaryDirectory() as state:
            trio.run(partial(serve, Path(state), deflate=sys.argv[2] == "tls+deflate"))
    idle = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    echoes = int(sys.argv[2]) if len(sys.argv) > 2 else 32000
    run("tls", PAYLOAD, idle, echoes)
    run("tls+deflate", packed(), idle, echoes)


if __name__ == "__main__":
    main()

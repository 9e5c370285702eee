"""Connections to our own public names."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from chatmail.adapters.acme.selfsigned import ensure_self_signed
from chatmail.adapters.dns import probes
from chatmail.adapters.dns.probes import NetworkProbes
from chatmail.domain.formats.mtasts import render_policy
from chatmail.domain.formats.zone import RecordType, ZoneFacts
from chatmail.domain.ports.remote import DnsFault
from chatmail.domain.ports.zone import ProbeResult
from tests.unit.fakes.zone import MemoryZone

NAMES = ("chat.example", "mta-sts.chat.example")
FACTS = ZoneFacts(domains=("chat.example",), hostname="chat.example", sts_id="1")
GREETING = b"220 chat.example ESMTP\r\n"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    pair = ensure_self_signed(tmp_path_factory.mktemp("tls"), NAMES, 1_750_000_000.0)
    return pair.chain, pair.key


class World:
    """A relay on loopback under names that only we resolve."""

    def __init__(self, certificate: tuple[Path, Path]) -> None:
        self.zone = MemoryZone()
        for name in NAMES:
            self.zone.found[name, RecordType.A] = ("127.0.0.1",)
        self.ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ours.load_cert_chain(*certificate)
        self.ca_file = certificate[0]
        self.status = {b"POST": 400, b"GET": 200}
        self.policy = render_policy(["chat.example"]).decode()
        self.greeting = GREETING
        self.starttls = b"220 go\r\n"

    def probes(self, https_port: int, smtp_port: int) -> NetworkProbes:
        return NetworkProbes(
            zone=self.zone,
            tls=partial(ssl.create_default_context, cafile=str(self.ca_file)),
            https_port=https_port,
            smtp_port=smtp_port,
        )

    async def https(self, stream: trio.SocketStream) -> None:
        tls = trio.SSLStream(stream, self.ours, server_side=True, https_compatible=True)
        try:
            head = await tls.receive_some(4096)
            if head:
                method = head.split(b" ")[0]
                body = self.policy if method == b"GET" else "x"
                answer = f"HTTP/1.1 {self.status[method]} Word\r\nX: y\r\n\r\n{body}"
                await tls.send_all(answer.encode())
            await tls.aclose()
        except (trio.BrokenResourceError, OSError):
            await stream.aclose()

    async def smtp(self, stream: trio.SocketStream) -> None:
        try:
            await stream.send_all(self.greeting)
            for answer in (b"250-chat.example\r\n250 STARTTLS\r\n", self.starttls):
                if not await stream.receive_some(1000):
                    return
                await stream.send_all(answer)
            await trio.SSLStream(stream, self.ours, server_side=True).do_handshake()
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            pass

    async def look(
        self, facts: ZoneFacts = FACTS, outbound_host: str = ""
    ) -> dict[str, ProbeResult]:
        async with served(self.https) as https_port, served(self.smtp) as smtp_port:
            found = await self.probes(https_port, smtp_port).look(facts, outbound_host)
            return {one.name.replace(f":{smtp_port}", ""): one for one in found}


@asynccontextmanager
async def served(handler: Callable[[trio.SocketStream], Awaitable[None]]) -> AsyncIterator[int]:
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, handler, [listener])
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


HTTPS, MXDELIV = "https://chat.example", "POST https://chat.example/mxdeliv"
STARTTLS, STS = "STARTTLS on chat.example", "https://mta-sts.chat.example/.well-known/mta-sts.txt"


@pytest.fixture
def world(certificate: tuple[Path, Path]) -> World:
    return World(certificate)


async def test_a_healthy_relay_passes_every_probe(world: World) -> None:
    found = await world.look()
    assert {name: one.is_ok for name, one in found.items()} == {
        HTTPS: True,
        MXDELIV: True,
        STARTTLS: True,
        STS: True,
    }
    assert found[HTTPS].detail.startswith("certificate until ")
    assert found[STARTTLS].detail.startswith("certificate until ")


async def test_a_certificate_nobody_can_verify_is_named(world: World, tmp_path: Path) -> None:
    other = ensure_self_signed(tmp_path, ("other.example",), 1_750_000_000.0)
    world.ca_file = other.chain
    found = await world.look()
    assert [found[name].is_ok for name in (HTTPS, STARTTLS)] == [False, False]
    assert found[HTTPS].detail.startswith("certificate: ")
    assert found[STARTTLS].detail.startswith("certificate: ")


async def test_a_foreign_web_server_in_front_is_noticed(world: World) -> None:
    world.status[b"POST"] = 405
    world.policy = "version: STSv1\r\nmode: none\r\n"
    found = await world.look()
    assert "answered 405" in found[MXDELIV].detail
    assert "another policy" in found[STS].detail
    world.status[b"GET"] = 404
    assert "answered 404" in (await world.look())[STS].detail


async def test_a_door_that_is_no_mail_server_is_noticed(world: World) -> None:
    world.greeting = b"554 go away\r\n"
    assert "554 go away" in (await world.look())[STARTTLS].detail
    world.greeting = GREETING
    world.starttls = b"454 not now\r\n"
    assert "454 not now" in (await world.look())[STARTTLS].detail
    world.greeting = b"x" * 5000
    assert (await world.look())[STARTTLS].is_ok is False


async def test_a_name_without_address_and_a_closed_port_are_told(world: World) -> None:
    world.zone.found.clear()
    assert "has no address" in (await world.look())[HTTPS].detail
    for kind in (RecordType.A, RecordType.AAAA):
        world.zone.found["chat.example", kind] = DnsFault.TIMEOUT
    assert "no name server answered" in (await world.look())[HTTPS].detail
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    world.zone.found["chat.example", RecordType.A] = ("127.0.0.1",)
    results = await world.probes(port, port).look(FACTS)
    assert f"no connection to 127.0.0.1 port {port}" in results[0].detail


async def test_an_alias_is_followed_but_not_for_ever(world: World) -> None:
    world.zone.found["mta-sts.chat.example", RecordType.A] = ()
    world.zone.found["mta-sts.chat.example", RecordType.CNAME] = ("chat.example",)
    assert (await world.look())[STS].is_ok is True
    world.zone.found["mta-sts.chat.example", RecordType.CNAME] = ("mta-sts.chat.example",)
    assert (await world.look())[STS].is_ok is False


async def test_the_way_out_and_reverse_names_are_looked_at(world: World) -> None:
    world.zone.found["far.example", RecordType.A] = ("127.0.0.1",)
    world.zone.found["1.0.0.127.in-addr.arpa", RecordType.PTR] = ("host.example",)
    facts = ZoneFacts(
        domains=("chat.example",), hostname="chat.example", addresses=("127.0.0.1", "192.0.2.1")
    )
    found = await world.look(facts, "far.example")
    assert STS not in found
    outbound = next(one for name, one in found.items() if "far.example" in name)
    assert (outbound.is_ok, outbound.detail) == (True, "mail can leave by port 25")
    assert (found["PTR of 127.0.0.1"].is_ok, found["PTR of 127.0.0.1"].detail) == (
        None,
        "host.example",
    )
    assert found["PTR of 192.0.2.1"].detail.startswith("none")


async def test_silence_ends(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "PROBE_S", 0.2)

    async def mute(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    async with served(mute) as port:
        results = await world.probes(port, port).look(FACTS)
    assert {one.is_ok for one in results} == {False}
    assert results[0].detail == "no answer in time"

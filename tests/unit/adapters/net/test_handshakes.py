from __future__ import annotations

import ssl
import time

import pytest
import trio
from trio.testing import MockClock

from chatmail.adapters.net.certificates import CertificatePair
from chatmail.adapters.net.errors import PeerGone
from chatmail.adapters.net.handshakes import CONCURRENT, Handshaker, Turns, handshake_turns
from chatmail.adapters.net.tls import TlsKeeper, TlsPolicy, TlsPurpose
from chatmail.adapters.net.tls_stream import TlsStream
from tests.unit.adapters.net.rig import client_context, tcp_pair, tls_client, tracked


class Rig:
    def __init__(
        self, keeper: TlsKeeper, purpose: TlsPurpose = TlsPurpose.IMAP, *spoken: str
    ) -> None:
        self.turns = handshake_turns()
        self.handshaker = Handshaker(keeper, purpose, self.turns, spoken)

    async def connect(self) -> tuple[TlsStream, trio.SocketStream]:
        sock, client = await tcp_pair()
        stream = self.handshaker.wrap(sock)
        tracked(stream.socket)
        return stream, client

    async def shake(self, context: ssl.SSLContext, name: str | None = "127.0.0.1") -> TlsStream:
        stream, transport = await self.connect()
        client = tls_client(transport, context, name=name)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.do_handshake)
            await self.handshaker.handshake(stream)
        return stream


def client_hello(pair: CertificatePair) -> bytes:
    outgoing = ssl.MemoryBIO()
    client = client_context(pair).wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="127.0.0.1")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("sent", [1, 100, 10_000])
async def test_a_flood_of_half_handshakes_leaves_others_served_at_once(
    keeper: TlsKeeper, autojump_clock: MockClock, sent: int
) -> None:
    rig = Rig(keeper, TlsPurpose.IMAP, "imap")
    half = client_hello(keeper.pair)[:sent]
    failed_at: list[float] = []
    began = trio.current_time()

    async def hang() -> None:
        stream, client = await rig.connect()
        await client.send_all(half)
        with pytest.raises(PeerGone):
            await rig.handshaker.handshake(stream)
        failed_at.append(trio.current_time() - began)

    async with trio.open_nursery() as nursery:
        for _ in range(4 * CONCURRENT):
            nursery.start_soon(hang)
        await trio.testing.wait_all_tasks_blocked()
        await rig.shake(client_context(keeper.pair))
        assert trio.current_time() == began
        assert not failed_at
    assert max(failed_at) == pytest.approx(10)
    assert rig.turns.free == CONCURRENT


async def test_silent_peers_take_no_turn(keeper: TlsKeeper, autojump_clock: MockClock) -> None:
    rig = Rig(keeper, TlsPurpose.IMAP, "imap")
    began = trio.current_time()

    async def be_silent() -> None:
        stream, _client = await rig.connect()
        with pytest.raises(PeerGone):
            await rig.handshaker.handshake(stream)
        assert trio.current_time() - began == pytest.approx(10)

    async with trio.open_nursery() as nursery:
        for _ in range(2 * CONCURRENT):
            nursery.start_soon(be_silent)
        await trio.testing.wait_all_tasks_blocked()
        await rig.shake(client_context(keeper.pair))
        assert trio.current_time() == began


async def test_a_slow_handshake_finishes_without_its_turn(
    keeper: TlsKeeper, autojump_clock: MockClock
) -> None:
    rig = Rig(keeper, TlsPurpose.IMAP, "imap")
    stream, transport = await rig.connect()

    class SlowTransport(trio.abc.Stream):
        async def send_all(self, data: bytes | bytearray | memoryview) -> None:
            for octets in (data[:50], data[50:]):
                await trio.sleep(2)
                await transport.send_all(octets)

        async def wait_send_all_might_not_block(self) -> None:
            await transport.wait_send_all_might_not_block()

        async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
            return await transport.receive_some(max_bytes)

        async def aclose(self) -> None:
            await transport.aclose()

    client = trio.SSLStream(
        SlowTransport(), client_context(keeper.pair), server_hostname="127.0.0.1"
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.do_handshake)
        nursery.start_soon(rig.handshaker.handshake, stream)
        await trio.sleep(3.5)  # its turn is over, the handshake is not
        assert rig.turns.free == CONCURRENT
    assert stream.tls_version == "TLSv1.3"


async def test_a_handshake_that_trickles_ends_after_ten_seconds(
    keeper: TlsKeeper, autojump_clock: MockClock
) -> None:
    rig = Rig(keeper, TlsPurpose.IMAP, "imap")
    stream, transport = await rig.connect()

    async def trickle() -> None:
        for octet in client_hello(keeper.pair)[:60]:
            await transport.send_all(bytes([octet]))
            await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trickle)
        began = trio.current_time()
        with pytest.raises(PeerGone):
            await rig.handshaker.handshake(stream)
        assert trio.current_time() - began <= 10.1
        nursery.cancel_scope.cancel()


PORTS = {
    "993": (TlsPurpose.IMAP, ("imap",)),
    "465": (TlsPurpose.SUBMISSION, ("smtp",)),
    "25": (TlsPurpose.RELAY, ("smtp",)),
    "443": (TlsPurpose.HTTPS, ("imap", "smtp", "h2", "http/1.1")),
    "443-without-mail": (TlsPurpose.HTTPS, ("h2", "http/1.1")),
}


@pytest.mark.parametrize(
    ("port", "offered", "outcome"),
    [
        ("993", (), None),
        ("993", ("imap",), "imap"),
        ("993", ("smtp",), "refused"),
        ("993", ("http/1.1",), "refused"),
        ("993", ("h2", "http/1.1"), "refused"),
        ("993", ("h2", "imap"), "imap"),
        ("993", ("xmpp-client",), None),
        ("465", (), None),
        ("465", ("smtp",), "smtp"),
        ("465", ("imap",), "refused"),
        ("465", ("h2",), "refused"),
        ("465", ("unknown/1",), None),
        ("25", (), None),
        ("25", ("smtp",), "smtp"),
        ("25", ("unknown/1",), None),
        ("25", ("http/1.1",), "refused"),
        ("443", (), None),
        ("443", ("imap",), "imap"),
        ("443", ("smtp",), "smtp"),
        ("443", ("http/1.1",), "http/1.1"),
        ("443", ("h2",), "h2"),
        ("443", ("http/1.1", "h2"), "h2"),
        ("443", ("imap", "smtp"), "imap"),
        ("443", ("unknown/1",), None),
        ("443-without-mail", ("imap",), "refused"),
        ("443-without-mail", ("h2",), "h2"),
        ("443-without-mail", (), None),
    ],
)
async def test_alpn(
    keeper: TlsKeeper, port: str, offered: tuple[str, ...], outcome: str | None
) -> None:
    purpose, spoken = PORTS[port]
    rig = Rig(keeper, purpose, *spoken)
    context = client_context(keeper.pair, offered)
    if outcome == "refused":
        with pytest.raises(BaseExceptionGroup) as caught:
            await rig.shake(context)
        assert caught.value.split(PeerGone)[0] is not None
    else:
        stream = await rig.shake(context)
        assert stream.selected_alpn_protocol() == outcome


@pytest.mark.parametrize(
    ("port", "offered", "is_served"),
    [
        ("993", (), False),
        ("465", (), False),
        ("25", (), True),
        ("443", ("h2",), True),
        ("443", (), True),
        ("443", ("imap",), False),
        ("443", ("smtp",), False),
    ],
)
async def test_tls_1_2_is_for_port_25_and_http_only(
    keeper: TlsKeeper, port: str, offered: tuple[str, ...], is_served: bool
) -> None:
    purpose, spoken = PORTS[port]
    rig = Rig(keeper, purpose, *spoken)
    context = client_context(keeper.pair, offered)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    if is_served:
        assert (await rig.shake(context)).tls_version == "TLSv1.2"
    else:
        with pytest.raises(BaseExceptionGroup) as caught:
            await rig.shake(context)
        assert caught.value.split(PeerGone)[0] is not None


async def test_the_lowest_version_for_mail_can_be_lowered(pair: CertificatePair) -> None:
    policy = TlsPolicy(submission_min=ssl.TLSVersion.TLSv1_2)
    rig = Rig(TlsKeeper(pair, now_s=time.time, policy=policy), TlsPurpose.HTTPS, "imap")
    context = client_context(pair, ["imap"])
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    assert (await rig.shake(context)).tls_version == "TLSv1.2"


async def test_a_client_without_sni_is_served(keeper: TlsKeeper) -> None:
    rig = Rig(keeper, TlsPurpose.IMAP, "imap")
    context = client_context(keeper.pair)
    context.check_hostname = False
    assert (await rig.shake(context, name=None)).tls_version == "TLSv1.3"


async def test_who_has_begun_goes_first_and_newcomers_are_not_kept_out() -> None:
    turns = Turns(1)
    order: list[str] = []

    async def step(name: str, has_begun: bool) -> None:
        async with turns.one(has_begun=has_begun):
            order.append(name)

    async with trio.open_nursery() as nursery, turns.one(has_begun=False):
        for _ in range(3):
            nursery.start_soon(step, "n", False)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(6):
            nursery.start_soon(step, "B", True)
        await trio.testing.wait_all_tasks_blocked()
        assert not order
    assert "".join(order) == "BBBnBBBnn"
    assert turns.free == 1


async def test_whoever_stops_waiting_takes_no_turn_with_them() -> None:
    turns = Turns(1)
    async with turns.one(has_begun=False):
        for has_begun in (False, True):
            with trio.move_on_after(0) as scope:
                async with turns.one(has_begun=has_begun):
                    pass
            assert scope.cancelled_caught
        assert turns.free == 0
    assert turns.free == 1
    with pytest.raises(ValueError, match="step"):
        async with turns.one(has_begun=True):
            raise ValueError("step")
    assert turns.free == 1

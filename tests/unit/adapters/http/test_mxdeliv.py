"""`/mxdeliv`: its framing. What is said of messages: tests/unit/adapters/inbound."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from chatmail.adapters.http import mxdeliv
from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.model.federation import TransportKind
from chatmail.domain.model.settings import IdentitySettings
from tests.builders import make_message
from tests.unit.adapters.http.asgi import Site
from tests.unit.adapters.http.serving import Connection, read_answer, read_to_end, running
from tests.unit.adapters.inbound.surfaces import Surfaces
from tests.unit.domain.usecases.inbound import ANN, BOB, NOBODY, InboundRelay
from tests.unit.domain.usecases.relay import DOMAIN

MESSAGE = make_message(sender=ANN)
CAROL = f"carol@{DOMAIN}"


@pytest.fixture
def surfaces() -> Surfaces:
    surfaces = Surfaces()
    surfaces.relay.accounts.add(BOB)
    surfaces.relay.accounts.add(CAROL)
    return surfaces


def recipients(surfaces: Surfaces) -> list[int]:
    return [one.mailbox for one in surfaces.relay.intake.committed[-1].deliveries]


async def test_it_answers_in_one_line(surfaces: Surfaces) -> None:
    answer = await surfaces.post(MESSAGE)
    assert (answer.status, answer.body) == (200, b"250 2.0.0 OK\r\n")
    assert answer.headers == {
        "content-type": "text/plain; charset=utf-8",
        "content-length": "14",
        "x-content-type-options": "nosniff",
    }


@pytest.mark.parametrize("path", ["/mxdeliv", "/mxdeliv/"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "OPTIONS", "DELETE"])
async def test_only_post_is_allowed(surfaces: Surfaces, method: str, path: str) -> None:
    answer = await surfaces.post(method=method, path=path)
    assert answer.status == 405
    assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize("path", ["/", "/mxdeliv/x", "/mxdeliver", "/Mxdeliv", "/x/mxdeliv"])
async def test_other_paths_are_not_its_business(surfaces: Surfaces, path: str) -> None:
    assert (await surfaces.post(MESSAGE, path=path)).status == 418


@pytest.mark.parametrize("kind", [None, "message/rfc822", "text/plain", "nonsense"])
async def test_any_content_type_will_do(surfaces: Surfaces, kind: str | None) -> None:
    more = [("Content-Type", kind)] if kind else []
    assert (await surfaces.post(MESSAGE, more=more)).status == 200


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param([("X-Mail-To", BOB), ("X-Mail-To", CAROL)], id="repeated"),
        pytest.param([("X-Mail-To", f"{BOB}, {CAROL}")], id="commas"),
        pytest.param([("X-Mail-To", f"<{BOB}>"), ("X-Mail-To", f" <{CAROL}> ")], id="brackets"),
        pytest.param([("X-Mail-To", f"{BOB},{BOB}"), ("X-Mail-To", CAROL)], id="twice"),
        pytest.param([("X-Mail-To", f"bob+x@{DOMAIN},{CAROL},{BOB}")], id="detail"),
        pytest.param([("X-Mail-To", f"{BOB},x@foreign.example,{CAROL}")], id="foreign-one"),
    ],
)
async def test_recipients(surfaces: Surfaces, fields: Sequence[tuple[str, str]]) -> None:
    answer = await surfaces.post(MESSAGE, fields=[("X-Mail-From", ANN), *fields])
    assert answer.status == 200
    assert recipients(surfaces) == [1, 2]


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param([("X-Mail-To", BOB)], id="no-sender"),
        pytest.param([("X-Mail-From", ANN)], id="no-recipient"),
        pytest.param([("X-Mail-From", ANN), ("X-Mail-To", "")], id="empty-recipient"),
        pytest.param([("X-Mail-From", "ann"), ("X-Mail-To", BOB)], id="odd-sender"),
        pytest.param([("X-Mail-From", ANN), ("X-Mail-To", "bob")], id="odd-recipient"),
        pytest.param([("X-Mail-From", ANN + "\x01"), ("X-Mail-To", BOB)], id="control"),
        pytest.param([("X-Mail-From", ANN), ("X-Mail-To", "x" * 330 + BOB)], id="long"),
        pytest.param(
            [("X-Mail-From", ANN), ("X-Mail-From", ANN), ("X-Mail-To", BOB)], id="two-senders"
        ),
    ],
)
async def test_an_envelope_that_is_none_is_refused(
    surfaces: Surfaces, fields: Sequence[tuple[str, str]], autojump_clock: object
) -> None:
    answer = await surfaces.post(MESSAGE, fields=fields)
    assert answer.status == 400
    assert answer.body.startswith(b"501 5.5.4 ")
    assert surfaces.relay.intake.committed == []


async def test_a_hundred_recipients_and_no_more(surfaces: Surfaces, autojump_clock: object) -> None:
    many = [f"r{number}@{DOMAIN}" for number in range(101)]
    assert (await surfaces.post(MESSAGE, to=many[:100])).status == 200
    answer = await surfaces.post(MESSAGE, to=many)
    assert (answer.status, answer.body) == (400, b"452 4.5.3 Too many recipients\r\n")


@pytest.mark.parametrize("value", ["", "<>", " "])
async def test_the_null_sender_is_an_empty_value(surfaces: Surfaces, value: str) -> None:
    answer = await surfaces.post(MESSAGE, fields=[("X-Mail-From", value), ("X-Mail-To", NOBODY)])
    assert answer.status == 200
    assert surfaces.relay.intake.committed[0].reports == ()


# --- plain HTTP ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("domain", "mode", "status"),
    [
        ("relay.test", "literal", 403),
        ("relay.test", "always", 200),
        ("[192.0.2.99]", "literal", 200),
        ("_relay.test", "literal", 200),
    ],
)
async def test_plain_http_is_for_relays_without_a_certificate(
    domain: str, mode: str, status: int, autojump_clock: object
) -> None:
    relay = InboundRelay()
    relay.change("federation", mxdeliv_http=mode)
    identity = IdentitySettings(
        mail_domain=domain, local_domains=frozenset({domain, DOMAIN}), hostname="h.test"
    )
    relay.settings = type(relay.settings)(identity=identity, federation=relay.settings.federation)
    answer = await Surfaces(relay).post(MESSAGE, scheme="http")
    assert answer.status == status
    if status == 403:
        assert answer.body == b"TLS required\r\n"
    assert (await Surfaces(relay).post(MESSAGE, scheme="https")).status == 200


# --- the body -----------------------------------------------------------------------------------


async def test_the_body_may_come_in_any_pieces(surfaces: Surfaces) -> None:
    pieces = [MESSAGE[at : at + 17] for at in range(0, len(MESSAGE), 17)]
    assert (await surfaces.post(pieces)).status == 200
    bob = (await surfaces.relay.accounts.resolve([EmailAddress.parse(BOB)]))[0]
    assert bob is not None
    (stored,) = await surfaces.relay.inbox(bob)
    assert stored == MESSAGE


@pytest.mark.parametrize("step", [1, 5, 100_000])
async def test_line_feeds_alone_become_line_ends(surfaces: Surfaces, step: int) -> None:
    bare = MESSAGE.replace(b"\r\n", b"\n")
    pieces = [bare[at : at + step] for at in range(0, len(bare), step)]
    assert (await surfaces.post(pieces)).status == 200
    bob = (await surfaces.relay.accounts.resolve([EmailAddress.parse(BOB)]))[0]
    assert bob is not None
    assert await surfaces.relay.inbox(bob) == [MESSAGE]


@pytest.mark.parametrize(
    "message",
    [
        MESSAGE.replace(b"\r\n", b"\n", 1),
        MESSAGE + b"x\n",
        MESSAGE.replace(b"\r\n", b"\n") + b"\r\n",
        MESSAGE + b"\r",
        MESSAGE.replace(b"\r\n", b"\r"),
    ],
    ids=["first", "last", "crlf-after-lf", "return-at-end", "returns"],
)
async def test_mixed_line_ends_are_refused(surfaces: Surfaces, message: bytes) -> None:
    answer = await surfaces.post(message)
    assert answer.status in (400, 403)
    assert surfaces.relay.intake.committed == []


async def test_a_length_that_is_too_much_is_refused_before_anything_is_read(
    surfaces: Surfaces, autojump_clock: object
) -> None:
    surfaces.relay.limit(max_message_bytes=1000)
    start = trio.current_time()
    answered_at = []

    async def receive() -> Any:
        answered_at.append(trio.current_time())
        return await trio.sleep_forever()

    answer = await surfaces.post(b"x" * 1001, receive=receive)
    assert answer.status == 413
    assert answer.headers["connection"] == "close"
    assert trio.current_time() - start == pytest.approx(mxdeliv.LINGER_S)


async def test_a_body_without_length_is_cut_at_the_limit(
    surfaces: Surfaces, autojump_clock: object
) -> None:
    surfaces.relay.limit(max_message_bytes=300_000)
    taken = 0

    async def endless() -> Any:
        nonlocal taken
        taken += 1
        await trio.sleep(0.01)
        return {"type": "http.request", "body": b"x" * 65_536, "more_body": True}

    start = trio.current_time()
    answer = await surfaces.post([b"", b""], receive=endless)
    assert answer.status == 413
    assert answer.body == b"552 5.3.4 message file too big\r\n"
    assert answer.headers["connection"] == "close"
    assert taken * 65_536 < 300_000 + mxdeliv.LINGER_OCTETS + 3 * 65_536
    assert trio.current_time() - start < mxdeliv.LINGER_S


async def test_a_peer_that_goes_leaves_nothing(surfaces: Surfaces) -> None:
    events = [
        {"type": "http.request", "body": MESSAGE, "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Any:
        return events.pop(0)

    assert (await surfaces.post([b"", b""], receive=receive)).status == 0
    assert surfaces.relay.intake.committed == []


async def test_a_peer_that_stalls_is_told_so(surfaces: Surfaces, autojump_clock: object) -> None:
    start = trio.current_time()
    answer = await surfaces.post([MESSAGE, b"x"], receive=trio.sleep_forever)
    assert answer.status == 408
    assert trio.current_time() - start == pytest.approx(mxdeliv.STALLED_S + mxdeliv.LINGER_S)


async def test_a_drip_ends_after_a_quarter_of_an_hour(
    surfaces: Surfaces, autojump_clock: object
) -> None:
    async def drip() -> Any:
        await trio.sleep(30)
        return {"type": "http.request", "body": b"x", "more_body": True}

    start = trio.current_time()
    assert (await surfaces.post([b"", b""], receive=drip)).status == 408
    assert trio.current_time() - start < 1000


async def test_a_store_that_takes_too_long_is_a_temporary_failure(
    surfaces: Surfaces, autojump_clock: object
) -> None:
    async def slow(*_: object) -> object:
        return await trio.sleep_forever()

    surfaces.relay.intake.commit = slow  # type: ignore[method-assign]
    answer = await surfaces.post(MESSAGE)
    assert (answer.status, answer.body) == (503, b"451 4.3.0 Temporary failure\r\n")


async def test_a_disk_that_fails_while_the_body_comes(surfaces: Surfaces) -> None:
    large = make_message(sender=ANN, size=400_000)
    pieces = [large[at : at + 65_536] for at in range(0, len(large), 65_536)]
    collect = surfaces.relay.collect

    class Broken:
        def __call__(self, *arguments: Any) -> Any:
            collector = collect(*arguments)

            async def feed(chunk: bytes) -> None:
                raise TransientFailure("full")

            collector.feed = feed  # type: ignore[method-assign]
            return collector

    services = surfaces.mxdeliv._services
    object.__setattr__(services, "collect", Broken())
    answer = await surfaces.post(pieces)
    assert answer.status == 503
    assert "connection" not in answer.headers  # it was read to its end


async def test_without_room_on_the_disk_nothing_is_read(
    surfaces: Surfaces, autojump_clock: object
) -> None:
    surfaces.has_room = False
    answer = await surfaces.post(MESSAGE)
    assert (answer.status, answer.body[:9]) == (503, b"452 4.3.1")
    assert surfaces.relay.intake.committed == []


# --- how many at once ---------------------------------------------------------------------------


async def in_flight(surfaces: Surfaces, peers: Sequence[str], then: str) -> tuple[int, str | None]:
    """Hold one request per peer open, ask once more."""
    async with trio.open_nursery() as nursery:
        for peer in peers:

            async def hold(peer: str = peer) -> None:
                await surfaces.post([b"", b""], peer=peer, receive=trio.sleep_forever)

            nursery.start_soon(hold)
        await trio.testing.wait_all_tasks_blocked()
        answer = await surfaces.post(MESSAGE, peer=then)
        nursery.cancel_scope.cancel()
    after = await surfaces.post(MESSAGE, peer=then)
    assert after.status == 200
    return answer.status, answer.headers.get("retry-after")


async def test_eight_of_one_source(surfaces: Surfaces, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mxdeliv, "LINGER_S", 0.0)
    assert await in_flight(surfaces, ["192.0.2.1"] * 8, "192.0.2.1") == (429, "30")
    assert await in_flight(surfaces, ["192.0.2.1"] * 8, "192.0.2.2") == (200, None)
    # As on port 25, loopback is exempt: a web server may stand in front.
    assert await in_flight(surfaces, ["127.0.0.1"] * 20, "127.0.0.1") == (200, None)
    network = [f"2001:db8::{number}" for number in range(8)]
    assert await in_flight(surfaces, network, "2001:db8::f:1") == (429, "30")
    assert await in_flight(surfaces, network, "2001:db8:0:1::1") == (200, None)


async def test_sixty_four_of_all(surfaces: Surfaces, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mxdeliv, "LINGER_S", 0.0)
    peers = [f"192.0.2.{number}" for number in range(64)]
    assert await in_flight(surfaces, peers, "198.51.100.1") == (503, "30")


# --- who is asking ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trusted", "host"), [((), "192.0.2.7"), (("192.0.2.0/24",), "203.0.113.9")]
)
async def test_the_source_is_that_of_trusted_proxies_alone(
    surfaces: Surfaces, trusted: tuple[str, ...], host: str
) -> None:
    relay = surfaces.relay
    relay.settings = attrs.evolve(relay.settings, trusted_proxies=trusted)
    relay.change("federation", literal_source="match")
    message = make_message(sender=f"ann@[{host}]")
    answer = await surfaces.post(message, sender=None, more=[("X-Forwarded-For", "203.0.113.9")])
    assert answer.status == 200
    other = make_message(sender="ann@[203.0.113.8]")
    answer = await surfaces.post(other, sender=None, more=[("X-Forwarded-For", "203.0.113.9")])
    assert answer.status == 400


async def test_the_transport_is_counted_as_http(surfaces: Surfaces) -> None:
    await surfaces.post(MESSAGE)
    assert [event.value for _, event in surfaces.relay.ledger.counted] == ["inbound_http"]
    assert TransportKind.HTTPS.value == "https"


# --- on Hypercorn -------------------------------------------------------------------------------


def head(length: int | None, *more: bytes) -> bytes:
    framing = b"Transfer-Encoding: chunked" if length is None else b"Content-Length: %d" % length
    fields = [b"POST /mxdeliv HTTP/1.1", b"Host: relay.test", b"X-Mail-From: " + ANN.encode()]
    return b"\r\n".join([*fields, b"X-Mail-To: " + BOB.encode(), *more, framing, b"", b""])


def site(surfaces: Surfaces) -> Site:
    return Site(mxdeliv=surfaces.mxdeliv._services)


async def test_two_messages_on_one_connection(surfaces: Surfaces) -> None:
    async with running(site(surfaces)) as there:
        stream = there.connect(is_tls=True)
        for _ in range(2):
            await stream.send_all(head(len(MESSAGE)) + MESSAGE)
            answer, body = await read_answer(stream)
            assert answer.startswith(b"HTTP/1.1 200")
            assert body == b"250 2.0.0 OK\r\n"
        await stream.send_all(head(None) + b"%x\r\n%b\r\n0\r\n\r\n" % (len(MESSAGE), MESSAGE))
        assert (await read_answer(stream))[1] == b"250 2.0.0 OK\r\n"
        await stream.send_all(b"HEAD /mxdeliv HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = bytes(await stream.receive_some())
        assert answer.startswith(b"HTTP/1.1 405")
        await stream.send_all(b"GET /robots.txt HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await read_answer(stream))[0].startswith(b"HTTP/1.1 200")
        await trio.testing.wait_all_tasks_blocked()
        assert there.face.requests_in_flight == 0
    assert len(surfaces.relay.intake.committed) == 3


async def test_a_body_with_two_ends_is_none(surfaces: Surfaces) -> None:
    """A proxy may have gone by the length: what follows it would be its next request."""
    async with running(site(surfaces)) as there:
        stream = there.connect(is_tls=True)
        both = head(len(MESSAGE), b"Transfer-Encoding: chunked")
        await stream.send_all(both + b"%x\r\n%b\r\n0\r\n\r\n" % (len(MESSAGE), MESSAGE))
        answer, body = await read_answer(stream)
        assert answer.startswith(b"HTTP/1.1 400")
        assert body == b"501 5.5.4 A length and chunks\r\n"
        assert await read_to_end(stream) == b""
    assert surfaces.relay.intake.committed == []


async def test_sixty_recipients_in_the_head(surfaces: Surfaces) -> None:
    more = [b"X-Mail-To: " + b"x" * 60 + b"%d@relay.test" % number for number in range(90)]
    async with running(site(surfaces)) as there:
        stream = there.connect(is_tls=True)
        await stream.send_all(head(len(MESSAGE), *more) + MESSAGE)
        assert (await read_answer(stream))[0].startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("length", [10**9, None], ids=["announced", "chunked"])
async def test_what_is_too_big_is_answered_and_the_connection_ends(
    surfaces: Surfaces, length: int | None, autojump_clock: trio.testing.MockClock
) -> None:
    surfaces.relay.limit(max_message_bytes=200_000)
    async with running(site(surfaces)) as there:
        stream = there.connect(is_tls=True)
        await stream.send_all(head(length))
        if length is None:
            for _ in range(5):
                await stream.send_all(b"10000\r\n" + b"x" * 65_536 + b"\r\n")
        answer, body = await read_answer(stream)
        assert answer.startswith(b"HTTP/1.1 413")
        assert body == b"552 5.3.4 message file too big\r\n"
        assert await stream.receive_some() == b""


async def test_a_peer_waits_for_the_store_and_not_the_memory(
    surfaces: Surfaces, autojump_clock: trio.testing.MockClock
) -> None:
    collect = surfaces.relay.collect

    class Stuck:
        def __call__(self, *arguments: Any) -> Any:
            collector = collect(*arguments)

            async def feed(chunk: bytes) -> None:
                await trio.sleep_forever()

            collector.feed = feed  # type: ignore[method-assign]
            return collector

    object.__setattr__(surfaces.mxdeliv._services, "collect", Stuck())
    sent = 0
    async with running(site(surfaces)) as there:
        ours, theirs = trio.testing.lockstep_stream_pair()
        there.nursery.start_soon(there.face.serve_connection, Connection(theirs, is_tls=True))
        await ours.send_all(head(20_000_000))
        with trio.move_on_after(30):
            while sent < 20_000_000:
                await ours.send_all(b"x" * 65_536)
                sent += 65_536
        assert sent < 2_000_000
        there.nursery.cancel_scope.cancel()


async def test_a_peer_that_asks_before_it_sends_is_told_to_go_on_or_not(
    surfaces: Surfaces, autojump_clock: trio.testing.MockClock
) -> None:
    asking = head(len(MESSAGE), b"Expect: 100-continue")
    async with running(site(surfaces)) as there:
        stream = there.connect(is_tls=True)
        await stream.send_all(asking)
        assert bytes(await stream.receive_some()).startswith(b"HTTP/1.1 100 ")
        await stream.send_all(MESSAGE)
        assert (await read_answer(stream))[1] == b"250 2.0.0 OK\r\n"
        surfaces.relay.limit(max_message_bytes=100)
        await stream.send_all(asking)
        answer = b""
        while b"552 5.3.4" not in answer:
            octets = bytes(await stream.receive_some())
            assert octets
            answer += octets
        assert b"HTTP/1.1 413 " in answer

"""`/mxdeliv`: its envelope. What is said of messages: tests/unit/adapters/inbound."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import pytest
import trio
import trio.testing

from chatmail.adapters.http import mxdeliv
from chatmail.domain.model.federation import TransportKind
from chatmail.domain.model.settings import IdentitySettings
from tests.builders import make_message
from tests.unit.adapters.http.posts import CAROL, MESSAGE, recipients
from tests.unit.adapters.inbound.surfaces import Surfaces
from tests.unit.domain.usecases.inbound import ANN, BOB, NOBODY, InboundRelay
from tests.unit.domain.usecases.relay import DOMAIN


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

"""Rates, literals, exemptions, and what tells a second arrival."""

from __future__ import annotations

import pytest

from chatmail.domain.formats.body_digest import BodyDigests, Canonicalization
from chatmail.domain.model.address import EmailAddress
from chatmail.domain.model.settings import FederationSettings
from chatmail.domain.policy import inbound

BOB = EmailAddress.parse("bob@relay.test")


@pytest.mark.parametrize(
    ("domain", "host", "result"),
    [
        ("[192.0.2.7]", "192.0.2.7", True),
        ("[192.0.2.7]", "192.0.2.8", False),
        ("[192.0.2.7]", "::ffff:192.0.2.7", True),
        ("[IPv6:2001:db8::1]", "2001:db8:0::1", True),
        ("[IPv6:fe80::1]", "fe80::1%eth0", True),
        ("[IPv6:2001:db8::1]", "2001:db8::2", False),
        ("peer.example", "192.0.2.7", False),
        ("[192.0.2.7]", "", False),
    ],
)
def test_literals_and_their_source(domain: str, host: str, result: bool) -> None:
    assert inbound.comes_from_itself(domain, host) is result


def test_an_unproven_literal_has_a_tenth_of_the_rate() -> None:
    full = inbound.message_rate("peer.example", comes_from_itself=False)
    tenth = inbound.message_rate("[192.0.2.7]", comes_from_itself=False)
    assert (full.per_s, full.burst) == (20, 500)
    assert (tenth.per_s, tenth.burst) == (full.per_s / 10, full.burst / 10)
    assert inbound.message_rate("[192.0.2.7]", comes_from_itself=True) == full
    assert tenth.kind != full.kind  # a forger does not use up what the literal itself has


def test_who_needs_no_signature() -> None:
    settings = FederationSettings(dkim_exempt=frozenset({"old.example"}))
    assert inbound.is_exempt_from_dkim("old.example", settings)
    assert not inbound.is_exempt_from_dkim("sub.old.example", settings)
    assert inbound.is_exempt_from_dkim("any.example", FederationSettings(require_dkim=False))


def test_reports_are_due_in_2_to_15_seconds() -> None:
    due = [inbound.report_due_s(100.9, bytes([chance])) for chance in range(256)]
    assert set(due) == set(range(102, 116))


def digests(body: bytes, *forms: Canonicalization) -> BodyDigests:
    made = BodyDigests(*forms)
    made.feed(body)
    return made


def test_what_tells_a_second_arrival() -> None:
    simple = digests(b"x\r\n", Canonicalization.SIMPLE)
    key = inbound.content_key(b"s", BOB, b"<1@x>", simple)
    assert key is not None
    assert len(key) == 16
    assert key == inbound.content_key(b"s", BOB, b"<1@x>", digests(b"x\r\n", *Canonicalization))
    others = [
        inbound.content_key(b"t", BOB, b"<1@x>", simple),
        inbound.content_key(b"s", EmailAddress.parse("eve@relay.test"), b"<1@x>", simple),
        inbound.content_key(b"s", BOB, b"<2@x>", simple),
        inbound.content_key(b"s", BOB, None, simple),
        inbound.content_key(b"s", BOB, b"<1@x>", digests(b"y\r\n", Canonicalization.SIMPLE)),
    ]
    assert len({key, *others}) == 6
    relaxed = digests(b"x\r\n", Canonicalization.RELAXED)
    assert inbound.content_key(b"s", BOB, b"<1@x>", relaxed)
    assert inbound.content_key(b"s", BOB, b"<1@x>", None) is None
    assert inbound.content_key(b"s", BOB, b"<1@x>", BodyDigests()) is None

"""Addresses and domains have one normal form."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmail.domain.model.address import AddressError, EmailAddress, is_literal, normalise_domain


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("User@Example.ORG", "user@example.org"),
        ("u@example.org.", "u@example.org"),
        ("u@1.2.3.4", "u@[1.2.3.4]"),
        ("u@[1.2.3.4]", "u@[1.2.3.4]"),
        ("u@01.2.3.004", "u@[1.2.3.4]"),
        ("u@[IPv6:2001:DB8::0:1]", "u@[IPv6:2001:db8::1]"),
        ("u@2001:db8::1", "u@[IPv6:2001:db8::1]"),
        ("u@_relay.test", "u@_relay.test"),
        ("u@bücher.example", "u@xn--bcher-kva.example"),
        ("a+tag@example.org", "a+tag@example.org"),
    ],
)
def test_spellings_meet_in_one_form(text: str, normal: str) -> None:
    assert str(EmailAddress.parse(text)) == normal


@pytest.mark.parametrize(
    "text",
    [
        "",
        "@",
        "u@",
        "@example.org",
        "x@y@example.org",
        "u v@example.org",
        "u\x00@example.org",
        "u\r\n@example.org",
        "ü@example.org",
        "u@256.1.1.1",
        "u@[1.2.3]",
        "u@[IPv6:xyz]",
        "u@[IPv6:fe80::1%a>b]",
        "u@-x.org",
        "u@a..b",
        "u@" + "a" * 64 + ".org",
        "l" * 65 + "@example.org",
        "u@" + ".".join(["abcdefgh"] * 30),
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(AddressError):
        EmailAddress.parse(text)


@given(st.text(max_size=80))
def test_parsing_is_total_and_idempotent(text: str) -> None:
    try:
        address = EmailAddress.parse(text)
    except AddressError:
        return
    assert EmailAddress.parse(str(address)) == address


def test_detail_is_dropped_only_behind_a_name() -> None:
    assert str(EmailAddress.parse("u+tag@d.org").without_detail()) == "u@d.org"
    assert str(EmailAddress.parse("+tag@d.org").without_detail()) == "+tag@d.org"


def test_literals_are_recognised() -> None:
    assert is_literal(normalise_domain("127.0.0.1"))
    assert not is_literal(normalise_domain("relay.test"))

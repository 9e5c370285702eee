"""Whose address counts."""

from __future__ import annotations

import pytest

from chatmail.adapters.http.client_address import client_address, is_loopback

TRUSTED = ("10.0.0.0/8", "::1")


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        pytest.param("203.0.113.9", "1.2.3.4", "203.0.113.9", id="peer-is-no-proxy"),
        pytest.param("10.0.0.1", None, "10.0.0.1", id="no-field"),
        pytest.param("10.0.0.1", "1.2.3.4", "1.2.3.4", id="proxy"),
        pytest.param("10.0.0.1", "9.9.9.9, 1.2.3.4, 10.0.0.7", "1.2.3.4", id="rightmost-untrusted"),
        pytest.param("10.0.0.1", "1.2.3.4, junk", "10.0.0.1", id="junk"),
        pytest.param("10.0.0.1", "10.0.0.2", "10.0.0.1", id="only-proxies"),
        pytest.param("::1", "2001:db8::5", "2001:db8::5", id="ipv6"),
        pytest.param("::ffff:10.0.0.1", "1.2.3.4", "1.2.3.4", id="mapped-proxy"),
        pytest.param("10.0.0.1", "1.2.3.4," * 10000, "10.0.0.1", id="long"),
    ],
)
def test_client_address(peer: str, forwarded: str | None, client: str) -> None:
    assert client_address(peer, forwarded, TRUSTED) == client


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("10.0.0.1", False),
        ("", False),
        ("localhost", False),
    ],
)
def test_is_loopback(address: str, expected: bool) -> None:
    assert is_loopback(address) is expected

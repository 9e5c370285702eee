"""Which origins may read our answers (spec realtime A.9)."""

from __future__ import annotations

import attrs
import pytest

from chatmail.adapters.http.cors import cors_headers
from tests.unit.adapters.http.asgi import DEMO

LISTED = attrs.evolve(DEMO, cors_origins=frozenset({"https://mail.example"}))
ECHOING = attrs.evolve(DEMO, echo_origins=True)


@pytest.mark.parametrize("origin", [None, "", "https://other.example", "https://mail.example.evil"])
def test_others_get_no_header(origin: str | None) -> None:
    assert cors_headers(origin, LISTED) == {}


def test_listed_origin_is_echoed_and_varies() -> None:
    headers = cors_headers("https://mail.example", LISTED)
    assert headers["Access-Control-Allow-Origin"] == "https://mail.example"
    assert headers["Vary"] == "Origin"
    assert headers["Access-Control-Allow-Methods"] == "GET, POST, PUT, DELETE, OPTIONS"
    assert headers["Access-Control-Allow-Headers"] == "Content-Type, X-Email, X-Password"
    assert headers["Access-Control-Max-Age"] == "86400"


def test_star_is_a_star() -> None:
    facts = attrs.evolve(DEMO, cors_origins=frozenset({"*"}))
    assert cors_headers("https://a.example", facts)["Access-Control-Allow-Origin"] == "*"
    assert cors_headers(None, facts) == {}


@pytest.mark.parametrize(
    ("origin", "is_allowed"),
    [("https://a.example", True), ("http://a.example", True), ("null", False), ("app://x", False)],
)
def test_web_origins_are_echoed_when_web_mail_is_on(origin: str, is_allowed: bool) -> None:
    assert bool(cors_headers(origin, ECHOING)) is is_allowed


def test_credentials_are_never_allowed() -> None:
    for facts in (LISTED, ECHOING, attrs.evolve(DEMO, cors_origins=frozenset({"*"}))):
        headers = cors_headers("https://mail.example", facts)
        assert headers
        assert "Access-Control-Allow-Credentials" not in headers

"""The MTA-STS policy and the public keys of DKIM."""

from __future__ import annotations

import attrs
import pytest

from tests.unit.adapters.http.asgi import DEMO, NAMED, Site

STS = "/.well-known/mta-sts.txt"
KEYS = {"opendkim": "v=DKIM1;k=rsa;p=AAAA;s=email;t=s"}


async def test_the_policy_names_our_host() -> None:
    relay = attrs.evolve(NAMED.relay, hostname="mx.chat.example.org")
    answer = await Site(attrs.evolve(NAMED, relay=relay)).ask("GET", STS)
    assert (answer.status, answer.headers["content-type"]) == (200, "text/plain; charset=utf-8")
    assert answer.text == (
        "version: STSv1\r\nmode: enforce\r\nmx: mx.chat.example.org\r\nmax_age: 2419200\r\n"
    )


async def test_there_is_no_policy_where_no_ca_vouches() -> None:
    underscored = attrs.evolve(NAMED.relay, mail_domain="_chat.example.org")
    for site in (DEMO, attrs.evolve(NAMED, relay=underscored)):
        assert (await Site(site).ask("GET", STS)).status == 404


async def test_the_policy_is_not_given_in_clear() -> None:
    answer = await Site(NAMED).ask("GET", STS, scheme="http")
    assert answer.status == 301


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_public_keys_are_given_to_whoever_asks(scheme: str) -> None:
    site = Site(NAMED, dkim_key=KEYS.get)
    answer = await site.ask("GET", "/.well-known/_domainkey/opendkim", scheme=scheme)
    assert (answer.status, answer.text) == (200, KEYS["opendkim"])
    assert answer.headers["cache-control"] == "public, max-age=86400"
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    head = await site.ask("HEAD", "/.well-known/_domainkey/opendkim", scheme=scheme)
    assert head.headers == answer.headers


@pytest.mark.parametrize(
    ("selector", "status"),
    [("other", 404), ("a" * 65, 400), ("a%20b", 400), ("%C3%A4", 400), ("x/y", 404)],
)
async def test_other_selectors_are_refused(selector: str, status: int) -> None:
    site = Site(NAMED, dkim_key=KEYS.get)
    assert (await site.ask("GET", f"/.well-known/_domainkey/{selector}")).status == status

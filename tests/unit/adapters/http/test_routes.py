"""Gates by host, scheme and path; header fields; errors."""

from __future__ import annotations

import gzip

import attrs
import pytest

from chatmail.adapters.http.in_flight import is_clean
from chatmail.adapters.system.redaction import Public
from tests.unit.adapters.http.asgi import DEMO, NAMED, Site

PAGES = ["/", "/new", "/invite", "/robots.txt", "/main.css", "/autoconfig", "/qr?data=ss:x"]


@pytest.mark.parametrize("target", PAGES)
async def test_head_works_where_get_does(target: str) -> None:
    site = Site()
    get = await site.ask("GET", target)
    head = await site.ask("HEAD", target)
    assert head.status == get.status == 200
    assert head.headers == get.headers


async def test_html_carries_its_security_fields() -> None:
    for target in ("/", "/nothing-here"):
        headers = (await Site().ask("GET", target)).headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'self'; img-src 'self' data:")
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "set-cookie" not in headers
        assert "server" not in headers


@pytest.mark.parametrize(
    "target",
    [
        "/unknown",
        "/index.html",
        "/templates/index.html",
        "//etc/passwd",
        "/..%2f..%2fetc/passwd",
        "/%2e%2e/main.css",
        "/x/../main.css",
        "/main.css%00",
        "/%5c..%5cmain.css",
        "/.git/config",
        "/.env",
        "/.well-known/../main.css",
        "/.well-known/",
        "/metrics",
        "/mxdeliv/",
    ],
)
async def test_everything_else_is_404(target: str) -> None:
    answer = await Site().ask("GET", target)
    assert answer.status == 404
    assert int(answer.headers["content-length"]) == len(answer.body)


@pytest.mark.parametrize("path", ["/", "/a", "/a/", "/.well-known/a", "/a/b.css", "/a.b"])
def test_clean_paths(path: str) -> None:
    assert is_clean(path)


@pytest.mark.parametrize(
    "path",
    ["", "*", "a", "//", "//a", "/a//b", "/..", "/a/..", "/.", "/.a", "/a/.b", "/\\", "/\x00"],
)
def test_unclean_paths(path: str) -> None:
    assert not is_clean(path)


async def test_wrong_method_is_405() -> None:
    answer = await Site().ask("DELETE", "/")
    assert answer.status == 405
    assert "GET" in answer.headers["allow"]


async def test_bug_in_a_page_is_a_page_without_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site()
    site.checks = None  # type: ignore[assignment]
    answer = await site.ask("GET", "/readyz", peer="127.0.0.1")
    assert answer.status == 500
    assert "Traceback" not in answer.text
    assert "NoneType" not in answer.text
    event, fields = site.log.events[0]
    assert event == "http_handler_failed"
    assert fields["error"] == Public("TypeError")


# --- compression ---


async def test_text_is_compressed_on_request() -> None:
    site = Site()
    plain = await site.ask("GET", "/")
    packed = await site.ask("GET", "/", {"accept-encoding": "br, gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert "Accept-Encoding" in packed.headers["vary"]
    assert int(packed.headers["content-length"]) == len(packed.body) < len(plain.body)
    assert gzip.decompress(packed.body) == plain.body


async def test_short_text_and_pictures_are_not_compressed() -> None:
    site = Site()
    for target in ("/robots.txt", "/qr?data=ss:x"):
        answer = await site.ask("GET", target, {"accept-encoding": "gzip"})
        assert "content-encoding" not in answer.headers


# --- port 80 and host names (D2) ---


async def test_plain_http_redirects_when_the_certificate_is_ca_issued() -> None:
    answer = await Site(NAMED).ask("GET", "/inv/T1?lang=ru", scheme="http")
    assert answer.status == 301
    assert answer.headers["location"] == "https://chat.example.org/inv/T1?lang=ru"
    assert int(answer.headers["content-length"]) == len(answer.body)


async def test_redirect_names_the_https_port_and_never_a_forged_host() -> None:
    relay = attrs.evolve(NAMED.relay, ports=attrs.evolve(NAMED.relay.ports, https=8443))
    answer = await Site(attrs.evolve(NAMED, relay=relay)).ask(
        "GET", "/", scheme="http", host="evil.example"
    )
    assert answer.headers["location"] == "https://chat.example.org:8443/"


async def test_redirect_cannot_split_the_header() -> None:
    answer = await Site(NAMED).ask("GET", "/%0d%0aSet-Cookie:%20a=b", scheme="http")
    assert "set-cookie" not in answer.headers
    assert "\r" not in answer.headers.get("location", "")


async def test_plain_http_is_served_when_self_signed() -> None:
    assert (await Site(DEMO).ask("GET", "/", scheme="http")).status == 200


async def test_plain_http_is_served_without_an_https_face() -> None:
    relay = attrs.evolve(NAMED.relay, ports=attrs.evolve(NAMED.relay.ports, https=None))
    site = Site(attrs.evolve(NAMED, relay=relay))
    assert (await site.ask("GET", "/", scheme="http")).status == 200


@pytest.mark.parametrize(
    "target", ["/mxdeliv", "/.well-known/_domainkey/x", "/relay", "/ping", "/generate_204"]
)
async def test_machines_on_plain_http_are_not_redirected(target: str) -> None:
    assert (await Site(NAMED).ask("GET", target, scheme="http")).status == 404


async def test_acme_challenge_is_answered_on_plain_http() -> None:
    site = Site(NAMED, acme_challenge={"tok-1": "tok-1.key"}.get)
    answer = await site.ask("GET", "/.well-known/acme-challenge/tok-1", scheme="http")
    assert (answer.status, answer.body) == (200, b"tok-1.key")
    for unknown in ("other", "a" * 200, "%0a"):
        target = f"/.well-known/acme-challenge/{unknown}"
        assert (await site.ask("GET", target, scheme="http")).status == 404


async def test_www_name_redirects() -> None:
    answer = await Site(NAMED).ask("GET", "/invite", host="WWW.chat.example.org:443")
    assert answer.status == 301
    assert answer.headers["location"] == "https://chat.example.org/invite"


async def test_mta_sts_name_has_no_pages() -> None:
    site = Site(NAMED, acme_challenge={"t": "t.k"}.get)
    host = "mta-sts.chat.example.org"
    assert (await site.ask("GET", "/", host=host)).status == 404
    challenge = await site.ask("GET", "/.well-known/acme-challenge/t", host=host)
    assert challenge.status == 200


async def test_mta_sts_name_serves_what_peers_ask_of_it() -> None:
    site = Site(NAMED, dkim_key={"sel": "v=DKIM1;k=rsa;p=AA"}.get)
    host = "mta-sts.chat.example.org"
    for target in ("/.well-known/mta-sts.txt", "/.well-known/_domainkey/sel"):
        assert (await site.ask("GET", target, host=host)).status == 200


async def test_unknown_host_is_served_as_the_domain() -> None:
    answer = await Site(NAMED).ask("GET", "/", host="203.0.113.80")
    assert answer.status == 200
    assert "DCACCOUNT:https://chat.example.org/new" in answer.text


# --- autoconfig ---


@pytest.mark.parametrize(
    "target",
    [
        "/.well-known/autoconfig/mail/config-v1.1.xml",
        "/mail/config-v1.1.xml?emailaddress=u%40chat.example.org",
        "/autoconfig",
    ],
)
async def test_autoconfig_routes(target: str) -> None:
    answer = await Site(NAMED).ask("GET", target, host="autoconfig.chat.example.org")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/xml; charset=utf-8"
    assert answer.headers["cache-control"] == "public, max-age=3600"
    assert '<clientConfig version="1.1">' in answer.text


# --- static files ---


async def test_static_file_is_revalidated_by_etag() -> None:
    site = Site()
    first = await site.ask("GET", "/main.css")
    assert first.headers["cache-control"] == "public, max-age=86400"
    again = await site.ask("GET", "/main.css", {"if-none-match": first.headers["etag"]})
    assert (again.status, again.body) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    other = await site.ask("GET", "/main.css", {"if-none-match": '"old"'})
    assert other.status == 200


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("main.css", "text/css; charset=utf-8"),
        ("main.js", "text/javascript; charset=utf-8"),
        ("logo.svg", "image/svg+xml"),
        ("favicon.ico", "image/x-icon"),
    ],
)
async def test_static_types(name: str, kind: str) -> None:
    assert (await Site().ask("GET", f"/{name}")).headers["content-type"] == kind


async def test_static_text_is_packed_once() -> None:
    answer = await Site().ask("GET", "/main.css", {"accept-encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    assert b"color-scheme" in gzip.decompress(answer.body)


async def test_robots() -> None:
    assert (await Site().ask("GET", "/robots.txt")).text == "User-agent: *\nDisallow: /\n"


# --- health (admin 7.3) ---


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/healthz"])
async def test_health_is_for_this_machine_only(path: str) -> None:
    site = Site(NAMED)
    for scheme in ("http", "https"):
        assert (await site.ask("GET", path, peer="127.0.0.1", scheme=scheme)).status == 200
        assert (await site.ask("GET", path, peer="::1", scheme=scheme)).status == 200
    for headers in ({"x-forwarded-for": "127.0.0.1"}, {"forwarded": "for=127.0.0.1"}):
        assert (await site.ask("GET", path, headers, peer="127.0.0.1")).status == 404
    outside = await site.ask("GET", path)
    unknown = await site.ask("GET", "/unknown")
    assert (outside.status, outside.body) == (unknown.status, unknown.body)


async def test_readiness_lists_checks_with_remedies() -> None:
    site = Site()
    bad = attrs.evolve(site.checks[0], name="disk", ok=False, detail="full", remedy="delete")
    site.checks.append(bad)
    answer = await site.ask("GET", "/readyz", peer="127.0.0.1")
    assert answer.status == 503
    assert answer.json() == {
        "status": "failing",
        "checks": [
            {"name": "database", "ok": True, "detail": "writable", "remedy": ""},
            {"name": "disk", "ok": False, "detail": "full", "remedy": "delete"},
        ],
    }
    brief = await site.ask("GET", "/healthz", peer="127.0.0.1")
    assert (brief.status, brief.json()) == (503, {"status": "failing"})
    assert (await site.ask("GET", "/livez", peer="127.0.0.1")).status == 200

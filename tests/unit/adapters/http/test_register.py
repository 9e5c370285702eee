"""`/new`: who gets an account, and what the others read."""

from __future__ import annotations

from ipaddress import ip_network

import attrs
import pytest

from chatmail.adapters.http.facts import NotRegistered, RefusalKind
from chatmail.domain.model.errors import TransientFailure
from tests.unit.adapters.http.asgi import DEMO, FAR, NAMED, Site

LINK = (
    "dclogin:abcdefghi@[127.0.0.1]?p=AAAABBBBCCCCDDDDEEEEFF&v=1&ih=127.0.0.1&ip=2993&is=ssl"
    "&sh=127.0.0.1&sp=2465&ss=ssl&ic=3"
)
UNDERSCORE = attrs.evolve(
    DEMO, relay=attrs.evolve(DEMO.relay, mail_domain="_x.test", hostname="_x.test")
)


@pytest.mark.parametrize("path", ["/new", "/cgi-bin/newemail.py"])
async def test_post_without_body_gives_credentials(path: str) -> None:
    site = Site()
    answer = await site.ask("POST", path)
    assert answer.status == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-length"] == str(len(answer.body))
    assert answer.json() == {
        "email": "abcdefghi@[127.0.0.1]",
        "password": "AAAABBBBCCCCDDDDEEEEFF",
        "dclogin_url": LINK,
    }
    assert site.register.calls == [(None, FAR)]


@pytest.mark.parametrize(
    ("target", "headers", "body"),
    [
        pytest.param("/new?token=T1", {}, b"", id="query-token"),
        pytest.param("/new?t=T1", {}, b"", id="query-t"),
        pytest.param("/new", {"content-type": "application/json"}, b'{"token": "T1"}', id="json"),
        pytest.param("/new", {}, b' {"token": "T1", "x": [1]}', id="json-untyped"),
        pytest.param(
            "/new", {"content-type": "application/x-www-form-urlencoded"}, b"token=T1", id="form"
        ),
        pytest.param(
            "/new",
            {"content-type": "multipart/form-data; boundary=b"},
            b'--b\r\nContent-Disposition: form-data; name="token"\r\n\r\nT1\r\n--b--\r\n',
            id="multipart",
        ),
        pytest.param("/new?token=T1", {}, b'{"token": "T2"}', id="query-comes-first"),
    ],
)
async def test_token_is_found(target: str, headers: dict[str, str], body: bytes) -> None:
    site = Site()
    assert (await site.ask("POST", target, headers, body)).status == 200
    assert site.register.calls == [("T1", FAR)]


@pytest.mark.parametrize(
    "body",
    [
        b"\xff\xfe\x00",
        b"{",
        b'{"token": 7}',
        b'{"token": null}',
        b"[]",
        b"{" * 60000,
        b'{"token":' + b"[" * 60000,
        b"token=",
        b"&".join(b"a=1" for _ in range(1000)),
        b"%%%",
    ],
)
async def test_malformed_body_is_ignored(body: bytes) -> None:
    site = Site()
    assert (await site.ask("POST", "/new", {}, body)).status == 200
    assert site.register.calls == [(None, FAR)]


async def test_malformed_multipart_is_ignored() -> None:
    site = Site()
    headers = {"content-type": "multipart/form-data"}
    assert (await site.ask("POST", "/new", headers, b"--x\r\nnothing")).status == 200


async def test_large_body_is_413() -> None:
    site = Site()
    answer = await site.ask("POST", "/new", {}, b"x" * 65537)
    assert answer.status == 413
    assert answer.json()["reason"]
    assert not site.register.calls


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (RefusalKind.CLOSED, 403),
        (RefusalKind.BAD_TOKEN, 403),
        (RefusalKind.RATE, 429),
        (RefusalKind.UNAVAILABLE, 503),
    ],
)
async def test_refusal_text_stands_under_both_names(kind: RefusalKind, status: int) -> None:
    site = Site()
    site.register.outcome = NotRegistered(kind, "Registration is closed")
    answer = await site.ask("POST", "/new")
    assert answer.status == status
    assert answer.json() == {
        "reason": "Registration is closed",
        "error": "Registration is closed",
    }
    assert answer.headers["cache-control"] == "no-store"


async def test_transient_failure_is_503_without_its_text() -> None:
    site = Site()
    site.register.outcome = TransientFailure("/var/lib/secret/path")
    answer = await site.ask("POST", "/new")
    assert answer.status == 503
    assert "secret" not in answer.text
    assert answer.headers["retry-after"]


async def test_bug_is_500_with_reason_and_logs_no_text() -> None:
    site = Site()
    site.register.outcome = RuntimeError("u@example.org had password hunter2")
    answer = await site.ask("POST", "/new")
    assert answer.status == 500
    assert answer.json()["reason"] == answer.json()["error"]
    assert "hunter2" not in answer.text
    assert [event for event, _ in site.log.events] == ["http_handler_failed"]
    assert "hunter2" not in str(site.log.events)


# --- GET (D3.7) ---


async def test_get_leads_to_the_app_when_the_certificate_is_ca_issued() -> None:
    site = Site(NAMED)
    answer = await site.ask("GET", "/new?token=T%2F1")
    assert answer.status == 302
    assert answer.headers["location"] == "dcaccount:https://chat.example.org/new?token=T%2F1"
    assert (await site.ask("GET", "/new")).headers["location"] == (
        "dcaccount:https://chat.example.org/new"
    )
    assert not site.register.calls


@pytest.mark.parametrize(
    "headers",
    [
        {"accept": "application/json"},
        {"sec-fetch-mode": "cors"},
        {"sec-fetch-mode": "same-origin"},
    ],
)
async def test_get_by_a_script_is_json_when_self_signed(headers: dict[str, str]) -> None:
    site = Site()
    answer = await site.ask("GET", "/new", headers)
    assert answer.json()["dclogin_url"] == LINK


@pytest.mark.parametrize("headers", [{}, {"sec-fetch-mode": "navigate", "accept": "text/html"}])
async def test_get_by_a_browser_or_preview_shows_the_page(headers: dict[str, str]) -> None:
    for facts in (DEMO, UNDERSCORE):
        site = Site(facts)
        answer = await site.ask("GET", "/new", headers)
        assert answer.status == 200
        assert answer.headers["content-type"].startswith("text/html")
        assert not site.register.calls


@pytest.mark.parametrize("target", ["/new?token=T", "/new"])
async def test_get_never_creates_a_row(target: str) -> None:
    site = Site(DEMO if "token" in target else attrs.evolve(DEMO, jit=False))
    answer = await site.ask("GET", target, {"accept": "application/json"})
    assert answer.status == 405
    assert "POST" in answer.headers["allow"]
    assert not site.register.calls


async def test_head_draws_nothing() -> None:
    site = Site()
    assert (await site.ask("HEAD", "/new", {"accept": "application/json"})).status == 200
    assert not site.register.calls


async def test_other_methods_are_405_with_reason() -> None:
    answer = await Site().ask("DELETE", "/new")
    assert answer.status == 405
    assert answer.json()["reason"]


# --- limits (D3.8) ---


async def test_sixth_request_of_a_source_is_429() -> None:
    site = Site()
    statuses = [(await site.ask("POST", "/new")).status for _ in range(6)]
    assert statuses == [200] * 5 + [429]
    assert (await site.ask("POST", "/new", peer="203.0.113.10")).status == 200


async def test_rate_answer_says_when_to_come_back() -> None:
    site = Site()
    answers = [await site.ask("POST", "/new") for _ in range(6)]
    assert answers[-1].json()["reason"] == answers[-1].json()["error"]
    assert int(answers[-1].headers["retry-after"]) > 0


async def test_ipv6_sources_count_by_64() -> None:
    site = Site()
    for host in range(5):
        await site.ask("POST", "/new", peer=f"2001:db8::{host + 1}")
    assert (await site.ask("POST", "/new", peer="2001:db8::ffff")).status == 429
    assert (await site.ask("POST", "/new", peer="2001:db8:0:1::1")).status == 200


async def test_loopback_is_exempt() -> None:
    site = Site()
    for _ in range(20):
        assert (await site.ask("POST", "/new", peer="127.0.0.1")).status == 200
    assert not site.budgets.taken


async def test_forwarded_address_counts_only_from_a_trusted_proxy() -> None:
    site = Site(attrs.evolve(DEMO, trusted_proxies=(ip_network("10.0.0.0/8"),)))
    forwarded = {"x-forwarded-for": "198.51.100.7, 10.0.0.2"}
    await site.ask("POST", "/new", forwarded, peer="10.0.0.1")
    await site.ask("POST", "/new", forwarded, peer=FAR)
    assert [source for _, source in site.register.calls] == ["198.51.100.7", FAR]


async def test_guessing_tokens_is_stopped_after_ten_failures() -> None:
    site = Site()
    site.register.outcome = NotRegistered(RefusalKind.BAD_TOKEN, "registration token not found")
    for _ in range(10):
        assert (await site.ask("POST", "/new?token=guess")).status == 403
        site.budgets.taken.pop(("new", FAR))
    assert (await site.ask("POST", "/new?token=guess")).status == 429
    assert len(site.register.calls) == 10
    assert (await site.ask("POST", "/new")).status == 403, "without a token it is no guess"


async def test_oversized_token_never_reaches_the_store() -> None:
    site = Site()
    answer = await site.ask("POST", "/new", {}, b"token=" + b"a" * 300)
    assert answer.status == 403
    assert not site.register.calls


# --- CORS (realtime A.9) ---


async def test_preflight_of_a_listed_origin_is_204() -> None:
    site = Site(attrs.evolve(DEMO, cors_origins=frozenset({"https://mail.example"})))
    answer = await site.ask("OPTIONS", "/new", {"origin": "https://mail.example"})
    assert answer.status == 204
    assert answer.headers["access-control-allow-origin"] == "https://mail.example"


@pytest.mark.parametrize("headers", [{}, {"origin": "https://evil.example"}])
async def test_preflight_of_others_is_403_without_cors(headers: dict[str, str]) -> None:
    answer = await Site().ask("OPTIONS", "/new", headers)
    assert answer.status == 403
    assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_error_answers_carry_cors_too() -> None:
    site = Site(attrs.evolve(DEMO, cors_origins=frozenset({"*"})))
    site.register.outcome = NotRegistered(RefusalKind.CLOSED, "Registration is closed")
    answer = await site.ask("POST", "/new", {"origin": "https://a.example"})
    assert answer.status == 403
    assert answer.headers["access-control-allow-origin"] == "*"


# --- a form without a script (D5.5) ---

BROWSER = {
    "accept": "text/html,application/xhtml+xml,*/*;q=0.8",
    "content-type": "application/x-www-form-urlencoded",
}


async def test_form_gets_a_page_with_link_and_code() -> None:
    site = Site()
    answer = await site.ask("POST", "/new", BROWSER, b"token=T1")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["cache-control"] == "no-store"
    assert LINK.replace("&", "&amp;") in answer.text
    assert "data:image/svg+xml;base64," in answer.text
    assert site.register.calls == [("T1", FAR)]


async def test_form_that_is_refused_gets_a_page_with_the_reason() -> None:
    site = Site()
    site.register.outcome = NotRegistered(RefusalKind.RATE, "Too <many> accounts")
    answer = await site.ask("POST", "/new", BROWSER)
    assert answer.status == 429
    assert "Too &lt;many&gt; accounts" in answer.text
    assert 'role="alert"' in answer.text


async def test_page_with_credentials_is_not_compressed() -> None:
    answer = await Site().ask("POST", "/new", {**BROWSER, "accept-encoding": "gzip"})
    assert "content-encoding" not in answer.headers

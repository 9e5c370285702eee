"""`/new`: who gets an account, and what the others read."""

from __future__ import annotations

import attrs
import pytest

from chatmail.adapters.http.replies import STATUS
from chatmail.domain.usecases.register import RegistrationProblem
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
    ("problem", "status"),
    [
        (RegistrationProblem.TOKEN_REQUIRED, 403),
        (RegistrationProblem.TOKEN_UNKNOWN, 403),
        (RegistrationProblem.CLOSED, 403),
        (RegistrationProblem.TOO_MANY, 429),
        (RegistrationProblem.SYSTEM_LIMIT, 503),
        (RegistrationProblem.TEMPORARY, 503),
    ],
)
async def test_refusal_text_stands_under_both_names(
    problem: RegistrationProblem, status: int
) -> None:
    site = Site()
    site.register.outcome = problem
    answer = await site.ask("POST", "/new")
    assert answer.status == status
    assert answer.json() == {"reason": problem.value, "error": problem.value}
    assert answer.headers["cache-control"] == "no-store"
    assert ("retry-after" in answer.headers) == (status != 403)


def test_table_of_problems_is_total() -> None:
    assert set(STATUS) == set(RegistrationProblem)


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


# --- who asks (admin 1.5) ---


async def test_forwarded_address_counts_only_from_a_trusted_proxy() -> None:
    site = Site(attrs.evolve(DEMO, trusted_proxies=("10.0.0.0/8",)))
    forwarded = {"x-forwarded-for": "198.51.100.7, 10.0.0.2"}
    await site.ask("POST", "/new", forwarded, peer="10.0.0.1")
    await site.ask("POST", "/new", forwarded, peer=FAR)
    assert [source for _, source in site.register.calls] == ["198.51.100.7", FAR]


async def test_oversized_token_is_cut() -> None:
    site = Site()
    await site.ask("POST", "/new", {}, b"token=" + b"a" * 3000)
    assert site.register.calls == [("a" * 256, FAR)]


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
    site.register.outcome = RegistrationProblem.CLOSED
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
    site.register.outcome = RegistrationProblem.TOO_MANY
    answer = await site.ask("POST", "/new", BROWSER)
    assert answer.status == 429
    assert RegistrationProblem.TOO_MANY.value in answer.text
    assert 'role="alert"' in answer.text


async def test_page_with_credentials_is_not_compressed() -> None:
    answer = await Site().ask("POST", "/new", {**BROWSER, "accept-encoding": "gzip"})
    assert "content-encoding" not in answer.headers

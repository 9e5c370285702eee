"""`/new`: a fresh account for whoever may have one (spec federation-web D3)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qs, quote

from quart import Response, g, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from chatmail.adapters.http.client_address import (
    budget_key,
    client_address,
    is_loopback,
    peer_address,
)
from chatmail.adapters.http.cors import cors_headers
from chatmail.adapters.http.facts import (
    HttpServices,
    NotRegistered,
    RefusalKind,
    Registered,
    SiteFacts,
)
from chatmail.adapters.http.pages import Pages
from chatmail.adapters.http.replies import STATUS, json_answer, json_error, redirect
from chatmail.domain.formats.account_links import dclogin_link, secure_url
from chatmail.domain.model.errors import TransientFailure

PATHS: Final = ("/new", "/cgi-bin/newemail.py")
MAX_BODY_OCTETS: Final = 65536
MAX_TOKEN_CHARS: Final = 256

NEW_PER_S: Final = 2.0
NEW_BURST: Final = 5.0
TOKEN_FAILURES_PER_S: Final = 10 / 60
TOKEN_FAILURES_BURST: Final = 10.0

TOO_FAST: Final = NotRegistered(RefusalKind.RATE, "Too many requests. Please try again soon.")
TOO_MANY_TOKENS: Final = NotRegistered(
    RefusalKind.RATE, "Too many wrong registration tokens. Please try again later."
)
NOT_NOW: Final = NotRegistered(
    RefusalKind.UNAVAILABLE, "The server is busy. Please try again later."
)
_UNKNOWN_TOKEN: Final = NotRegistered(RefusalKind.BAD_TOKEN, "registration token not found")

_MAX_FIELDS: Final = 20


class NewAccount:
    """The `/new` route and its alias."""

    def __init__(self, services: HttpServices, pages: Pages) -> None:
        self._register = services.register
        self._budgets = services.budgets
        self._pages = pages

    async def post(self) -> Response:
        """Make an account: JSON for clients, a page for a form sent by a browser."""
        site: SiteFacts = g.site
        try:
            token = await _token()
        except RequestEntityTooLarge:
            return json_error("Request is too large", 413)
        outcome = await self._attempt(token, site)
        if _wants_page():
            return self._pages.outcome(outcome, token)
        if isinstance(outcome, NotRegistered):
            return json_error(outcome.text, STATUS[outcome.kind])
        login = dclogin_link(site.relay, outcome.address, outcome.password)
        return json_answer(
            {"email": outcome.address, "password": outcome.password, "dclogin_url": login}
        )

    async def get(self) -> Response:
        """Lead a person to the app; never create anything that is kept (D3.7).

        Link previews fetch this, so only a script that asks for JSON gets credentials, and only
        where drawing them stores nothing.
        """
        site: SiteFacts = g.site
        token = _query_token()
        if site.relay.has_ca_certificate and not site.relay.is_literal and secure_url(site.relay):
            query = f"?token={quote(token, safe='')}" if token else ""
            return redirect(f"dcaccount:{secure_url(site.relay)}/new{query}", 302)
        if request.method == "HEAD" or not _is_script():
            return await self._pages.landing()
        if token or not site.jit:
            response = json_error("Use POST to create an account", 405)
            response.headers["Allow"] = "POST, OPTIONS"
            return response
        return await self.post()

    async def options(self) -> Response:
        """Answer a CORS preflight; the header fields are added for every answer of this path."""
        is_allowed = bool(cors_headers(request.headers.get("Origin"), g.site))
        return Response(b"", status=204 if is_allowed else 403)

    async def _attempt(self, token: str | None, site: SiteFacts) -> Registered | NotRegistered:
        peer = peer_address()
        forwarded = request.headers.get("X-Forwarded-For")
        source = client_address(peer, forwarded, site.trusted_proxies)
        refusal = self._limit(source, token)
        if refusal:
            return refusal
        if token and len(token) > MAX_TOKEN_CHARS:
            outcome: Registered | NotRegistered = _UNKNOWN_TOKEN
        else:
            outcome = await self._try_register(token, source)
        if isinstance(outcome, NotRegistered) and outcome.kind is RefusalKind.BAD_TOKEN:
            self._count_bad_token(source)
        return outcome

    async def _try_register(self, token: str | None, source: str) -> Registered | NotRegistered:
        try:
            return await self._register(token, source)
        except TransientFailure:
            return NOT_NOW

    def _limit(self, source: str, token: str | None) -> NotRegistered | None:
        if is_loopback(source):
            return None
        key = budget_key(source)
        if not self._budgets.take("new", key, per_s=NEW_PER_S, burst=NEW_BURST):
            return TOO_FAST
        may_guess = token is None or self._budgets.peek(
            "new_token_failure", key, per_s=TOKEN_FAILURES_PER_S, burst=TOKEN_FAILURES_BURST
        )
        return None if may_guess else TOO_MANY_TOKENS

    def _count_bad_token(self, source: str) -> None:
        if not is_loopback(source):
            self._budgets.take(
                "new_token_failure",
                budget_key(source),
                per_s=TOKEN_FAILURES_PER_S,
                burst=TOKEN_FAILURES_BURST,
            )


async def _token() -> str | None:
    """Find the token: query, JSON, form. A malformed body is no error (D3.1)."""
    body = await request.get_data(cache=True, as_text=False, parse_form_data=False)
    return _query_token() or _json_token(body) or await _form_token(body)


def _query_token() -> str | None:
    return request.args.get("token") or request.args.get("t") or None


def _json_token(body: bytes) -> str | None:
    if not body.lstrip().startswith(b"{"):
        return None
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return _text(value.get("token")) if isinstance(value, Mapping) else None


async def _form_token(body: bytes) -> str | None:
    if request.mimetype == "multipart/form-data":
        try:
            return _text((await request.form).get("token"))
        except (ValueError, HTTPException):
            return None
    try:
        fields = parse_qs(body.decode("utf-8", "replace"), max_num_fields=_MAX_FIELDS)
    except ValueError:
        return None
    return fields.get("token", [None])[0]


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _wants_page() -> bool:
    # Browsers name text/html when a form is sent; Delta Chat core sends no Accept, scripts `*/*`.
    accept = request.headers.get("Accept", "")
    return request.method == "POST" and "text/html" in accept and "json" not in accept


def _is_script() -> bool:
    wants_json = "application/json" in request.headers.get("Accept", "")
    return wants_json or request.headers.get("Sec-Fetch-Mode") in ("cors", "same-origin")

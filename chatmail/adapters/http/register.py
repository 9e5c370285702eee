"""`/new`: a fresh account for whoever may have one (spec federation-web D3)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qs, quote

from quart import Response, g, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from chatmail.adapters.http.client_address import client_address, peer_address
from chatmail.adapters.http.cors import cors_headers
from chatmail.adapters.http.facts import HttpServices, SiteFacts
from chatmail.adapters.http.pages import Outcome, Pages
from chatmail.adapters.http.replies import STATUS, json_answer, json_error, redirect
from chatmail.domain.formats.account_links import dclogin_link, secure_url
from chatmail.domain.usecases.register import RegistrationProblem

PATHS: Final = ("/new", "/cgi-bin/newemail.py")
MAX_BODY_OCTETS: Final = 65536
MAX_TOKEN_CHARS: Final = 256

_MAX_FIELDS: Final = 20


class NewAccount:
    """The `/new` route and its alias."""

    def __init__(self, services: HttpServices, pages: Pages) -> None:
        self._register = services.register
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
        if isinstance(outcome, RegistrationProblem):
            return json_error(outcome.value, STATUS[outcome])
        email = str(outcome.address)
        login = dclogin_link(site.relay, email, outcome.password)
        return json_answer({"email": email, "password": outcome.password, "dclogin_url": login})

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

    async def _attempt(self, token: str | None, site: SiteFacts) -> Outcome:
        forwarded = request.headers.get("X-Forwarded-For")
        source = client_address(peer_address(), forwarded, site.trusted_proxies)
        # Cut, not refused: it counts as a wrong guess like any other.
        return await self._register(source, token[:MAX_TOKEN_CHARS] if token else None)


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

"""Answers: one table problem → status, and the shapes every route uses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from quart import Response

from chatmail.domain.model.verdict import RefusalReason
from chatmail.domain.usecases.register import RegistrationProblem

STATUS: Final[Mapping[RegistrationProblem, int]] = MappingProxyType(
    {
        RegistrationProblem.TOKEN_REQUIRED: 403,
        RegistrationProblem.TOKEN_UNKNOWN: 403,
        RegistrationProblem.CLOSED: 403,
        RegistrationProblem.TOO_MANY: 429,
        RegistrationProblem.SYSTEM_LIMIT: 503,
        RegistrationProblem.TEMPORARY: 503,
    }
)

# Spec policy 1.11. To a peer 404 says "no /mxdeliv here": it is for those who have no such mailbox.
MXDELIV_STATUS: Final[Mapping[RefusalReason, int]] = MappingProxyType(
    {
        RefusalReason.ENCRYPTION_NEEDED: 403,
        RefusalReason.INVALID_FROM: 400,
        RefusalReason.NOT_OWNER: 403,
        RefusalReason.SPOOFED_DOMAIN: 403,
        RefusalReason.NO_DKIM: 400,
        RefusalReason.BAD_DKIM: 400,
        RefusalReason.DKIM_UNAVAILABLE: 503,
        RefusalReason.TOO_BIG: 413,
        RefusalReason.BAD_LINE: 400,
        RefusalReason.BAD_HEADER: 400,
        RefusalReason.TOO_MANY_HOPS: 400,
        RefusalReason.TOO_MUCH_MAIL: 429,
        RefusalReason.POLICY: 403,
        RefusalReason.OVER_QUOTA: 403,
        RefusalReason.UNKNOWN_RECIPIENT: 403,
        RefusalReason.REMOTE: 403,
        RefusalReason.RELAY_DENIED: 404,
        RefusalReason.TEMPORARY: 503,
        RefusalReason.QUEUE_FULL: 503,
        RefusalReason.MAIL_WAITS: 503,
        RefusalReason.BAD_CREDENTIALS: 403,
        RefusalReason.LOGIN_UNAVAILABLE: 503,
        RefusalReason.TOO_MANY_SESSIONS: 429,
        RefusalReason.TLS_REQUIRED: 403,
    }
)

NO_STORE: Final = "no-store"
NO_CACHE: Final = "no-cache"
DAY_CACHE: Final = "public, max-age=86400"
HOUR_CACHE: Final = "public, max-age=3600"

CSP: Final = (
    "default-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)

_RETRY_AFTER_S: Final = {429: "5", 503: "60"}


def answer(
    body: str | bytes, content_type: str, *, status: int = 200, cache: str = NO_CACHE
) -> Response:
    """Return a whole answer with its length known."""
    response = Response(body, status=status, content_type=content_type)
    response.headers["Cache-Control"] = cache
    if status in _RETRY_AFTER_S:
        response.headers["Retry-After"] = _RETRY_AFTER_S[status]
    return response


def page(body: str, *, status: int = 200, cache: str = NO_CACHE) -> Response:
    """Return an HTML page."""
    response = answer(body, "text/html; charset=utf-8", status=status, cache=cache)
    response.headers["Content-Security-Policy"] = CSP
    return response


def plain(body: str, *, status: int = 200, cache: str = NO_CACHE) -> Response:
    """Return plain text."""
    return answer(body, "text/plain; charset=utf-8", status=status, cache=cache)


def json_answer(value: object, *, status: int = 200) -> Response:
    """Return JSON that nobody keeps."""
    return answer(json.dumps(value), "application/json", status=status, cache=NO_STORE)


def json_error(text: str, status: int) -> Response:
    """Return an error Delta Chat core can show.

    `reason` is the member core reads; other clients read `error` (spec federation-web D3.4).
    """
    return json_answer({"reason": text, "error": text}, status=status)


def redirect(location: str, status: int) -> Response:
    """Return a redirect; `location` may have any scheme."""
    response = plain("", status=status, cache=NO_CACHE)
    response.headers["Location"] = location
    return response

"""`/livez`, `/readyz`, `/healthz`: for this machine only (spec admin 7.3)."""

from __future__ import annotations

import attrs
from quart import Response, abort, request

from chatmail.adapters.http.client_address import is_loopback, peer_address
from chatmail.adapters.http.facts import HttpServices
from chatmail.adapters.http.replies import json_answer

PATHS = frozenset({"/livez", "/readyz", "/healthz"})


class Health:
    """The three health routes."""

    def __init__(self, services: HttpServices) -> None:
        self._checks = services.checks

    async def livez(self) -> Response:
        """Answer at all: the event loop runs."""
        _require_local()
        return json_answer({"status": "ok"})

    async def readyz(self) -> Response:
        """Report every check with its remedy; 503 when one fails."""
        return self._report(with_details=True)

    async def healthz(self) -> Response:
        """Report like `readyz`, without details."""
        return self._report(with_details=False)

    def _report(self, *, with_details: bool) -> Response:
        _require_local()
        checks = self._checks()
        is_ready = all(check.ok for check in checks)
        report: dict[str, object] = {"status": "ok" if is_ready else "failing"}
        if with_details:
            report["checks"] = [attrs.asdict(check) for check in checks]
        return json_answer(report, status=200 if is_ready else 503)


def is_local_request() -> bool:
    """Say whether the request comes from this machine and not through a proxy on it."""
    is_forwarded = "X-Forwarded-For" in request.headers or "Forwarded" in request.headers
    return is_loopback(peer_address()) and not is_forwarded


def _require_local() -> None:
    # The same 404 as for any unknown path: the routes are invisible from outside.
    if not is_local_request():
        abort(404)

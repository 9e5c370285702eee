"""Machine-read routes: autoconfig and ACME HTTP-01."""

from __future__ import annotations

import re
from typing import Final

from quart import Response, abort, g

from chatmail.adapters.http.facts import AcmeChallenge, HttpServices
from chatmail.adapters.http.replies import HOUR_CACHE, NO_STORE, answer
from chatmail.domain.formats.account_links import autoconfig_xml

AUTOCONFIG_PATHS: Final = (
    "/.well-known/autoconfig/mail/config-v1.1.xml",
    "/mail/config-v1.1.xml",
    "/autoconfig",
)
ACME_PREFIX: Final = "/.well-known/acme-challenge/"

# RFC 8555 §8.3: base64url without padding.
_ACME_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{1,128}\Z")


class WellKnown:
    """Autoconfig and challenge routes."""

    def __init__(self, services: HttpServices) -> None:
        self._challenge: AcmeChallenge = services.acme_challenge

    async def autoconfig(self) -> Response:
        """Describe the bound listeners (spec federation-web D4)."""
        xml = autoconfig_xml(g.site.relay)
        return answer(xml, "application/xml; charset=utf-8", cache=HOUR_CACHE)

    async def acme_challenge(self, token: str) -> Response:
        """Answer a pending HTTP-01 order (RFC 8555 §8.3)."""
        authorization = self._challenge(token) if _ACME_TOKEN.match(token) else None
        if authorization is None:
            abort(404)
        return answer(authorization, "application/octet-stream", cache=NO_STORE)

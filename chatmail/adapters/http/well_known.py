"""Machine-read routes: autoconfig, ACME HTTP-01, the MTA-STS policy, public keys of DKIM."""

from __future__ import annotations

import re
from typing import Final

from quart import Response, abort, g

from chatmail.adapters.http.facts import AcmeChallenge, HttpServices, PublicKey
from chatmail.adapters.http.replies import DAY_CACHE, HOUR_CACHE, NO_STORE, answer, plain
from chatmail.domain.formats.account_links import autoconfig_xml
from chatmail.domain.formats.mtasts import render_policy

AUTOCONFIG_PATHS: Final = (
    "/.well-known/autoconfig/mail/config-v1.1.xml",
    "/mail/config-v1.1.xml",
    "/autoconfig",
)
ACME_PREFIX: Final = "/.well-known/acme-challenge/"
STS_PATH: Final = "/.well-known/mta-sts.txt"
DKIM_PREFIX: Final = "/.well-known/_domainkey/"

# RFC 8555 §8.3: base64url without padding.
_ACME_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{1,128}\Z")
_SELECTOR: Final = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")


class WellKnown:
    """The routes below `/.well-known`, and autoconfig's others."""

    def __init__(self, services: HttpServices) -> None:
        self._challenge: AcmeChallenge = services.acme_challenge
        self._dkim_key: PublicKey = services.dkim_key

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

    async def mta_sts(self) -> Response:
        """Say by which host and how mail reaches us (RFC 8461 §3.2, spec federation-web A12.2)."""
        relay = g.site.relay
        if not relay.has_ca_certificate or relay.is_literal or relay.mail_domain.startswith("_"):
            abort(404)
        return plain(render_policy([relay.hostname]).decode(), cache=HOUR_CACHE)

    async def dkim_key(self, selector: str) -> Response:
        """Give a public key to relays that DNS fails (spec federation-web A11.7)."""
        if not _SELECTOR.match(selector):
            abort(400)
        text = self._dkim_key(selector)
        if text is None:
            abort(404)
        return plain(text, cache=DAY_CACHE)

"""Cross-origin rule of `/new` and the web mail routes (spec realtime A.9)."""

from __future__ import annotations

from typing import Final

from chatmail.adapters.http.facts import SiteFacts

_ALLOWED: Final = {
    "Access-Control-Allow-Methods": "GET, POST, PUT, DELETE, OPTIONS",
    "Access-Control-Allow-Headers": "Content-Type, X-Email, X-Password",
    "Access-Control-Max-Age": "86400",
}


def cors_headers(origin: str | None, site: SiteFacts) -> dict[str, str]:
    """Return the header fields for a request of this Origin; empty: it gets none.

    Credentials are never allowed: there are no cookies, so an origin gains nothing that it could
    not send by itself.
    """
    if not origin:
        return {}
    if "*" in site.cors_origins:
        return {"Access-Control-Allow-Origin": "*", **_ALLOWED}
    is_web = site.echo_origins and origin.startswith(("http://", "https://"))
    if origin in site.cors_origins or is_web:
        return {"Access-Control-Allow-Origin": origin, "Vary": "Origin", **_ALLOWED}
    return {}

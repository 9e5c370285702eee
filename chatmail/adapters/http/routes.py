"""The app: which path is whose, gates by host and scheme, header fields of every answer."""

from __future__ import annotations

import gzip
import sys
import traceback
from types import TracebackType
from typing import Any, Final

import attrs
from quart import Response, g, request
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from chatmail.adapters.http import health, register
from chatmail.adapters.http.cors import cors_headers
from chatmail.adapters.http.facts import HttpServices, SiteFacts
from chatmail.adapters.http.health import Health, is_local_request
from chatmail.adapters.http.pages import Pages
from chatmail.adapters.http.register import MAX_BODY_OCTETS, NewAccount
from chatmail.adapters.http.replies import NO_STORE, json_error, redirect
from chatmail.adapters.http.static_files import MIN_GZIP_OCTETS, StaticFiles
from chatmail.adapters.http.well_known import (
    ACME_PREFIX,
    AUTOCONFIG_PATHS,
    DKIM_PREFIX,
    STS_PATH,
    WellKnown,
)
from chatmail.adapters.system.redaction import Public
from chatmail.domain.formats.account_links import secure_url
from chatmail.domain.ports.system import Log

BODY_S: Final = 30
ANSWER_S: Final = 120
"""An HTTP/2 peer that never opens its window gets no longer than this."""

# Other servers and validators speak plain http to these (spec federation-web D2, the ☉ rows).
_NEVER_REDIRECTED: Final = (
    ACME_PREFIX,
    DKIM_PREFIX,
    "/mxdeliv",
    "/relay",
    "/derp",
    "/ping",
    "/generate_204",
)
_ON_MTA_STS: Final = (ACME_PREFIX, STS_PATH, DKIM_PREFIX, "/mxdeliv")
"""What that host serves (spec federation-web D2)."""
_TEXT_TYPES: Final = ("text/", "application/json", "application/xml", "image/svg+xml")


class App(QuartTrio):
    """Quart with our log: no tracebacks, no request lines."""

    face_log: Log

    def log_exception(
        self,
        exception_info: tuple[type, BaseException, TracebackType] | tuple[None, None, None],
    ) -> None:
        """Name the error and the place it came from, never its text, which may hold anything."""
        kind, _, trace = exception_info
        frames = traceback.extract_tb(trace or sys.exc_info()[2])
        place = f"{frames[-1].name}:{frames[-1].lineno}" if frames else "unknown"
        name = kind.__name__ if kind else "unknown"
        self.face_log.warning("http_handler_failed", error=Public(name), place=Public(place))


def make_app(services: HttpServices) -> App:
    """Assemble the web app."""
    app = App(__name__, static_folder=None, template_folder=None)
    app.face_log = services.log
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_OCTETS
    app.config["BODY_TIMEOUT"] = BODY_S
    app.config["RESPONSE_TIMEOUT"] = ANSWER_S
    # `//etc/x` is refused, not redirected to `/etc/x`.
    app.url_map.merge_slashes = False
    files = StaticFiles()
    pages = Pages(files)
    _add_routes(app, services, pages, files)
    _add_gates(app, services)
    _add_error_answers(app, pages)
    return app


def _add_routes(app: App, services: HttpServices, pages: Pages, files: StaticFiles) -> None:
    new = NewAccount(services, pages)
    known = WellKnown(services)
    local = Health(services)

    def route(path: str, view: Any, *methods: str) -> None:
        name = f"{'-'.join(methods)} {path}"
        options = "OPTIONS" not in methods and path not in register.PATHS
        app.add_url_rule(path, name, view, methods=list(methods), provide_automatic_options=options)

    route("/", pages.landing, "GET")
    for path in register.PATHS:
        route(path, new.post, "POST")
        route(path, new.get, "GET")
        route(path, new.options, "OPTIONS")
    for path in ("/inv/<token>", "/invite", "/invite/<token>"):
        route(path, pages.invited, "GET")
    route("/qr", pages.qr_code, "GET")
    route("/qr-chatmail-invite-<domain>.png", pages.invite_qr, "GET")
    for path in AUTOCONFIG_PATHS:
        route(path, known.autoconfig, "GET")
    route(f"{ACME_PREFIX}<token>", known.acme_challenge, "GET")
    route(STS_PATH, known.mta_sts, "GET")
    route(f"{DKIM_PREFIX}<selector>", known.dkim_key, "GET")
    route("/livez", local.livez, "GET")
    route("/readyz", local.readyz, "GET")
    route("/healthz", local.healthz, "GET")
    route("/robots.txt", pages.robots, "GET")
    for name in files.names:
        app.add_url_rule(f"/{name}", name, files.send, defaults={"name": name})


def _add_gates(app: App, services: HttpServices) -> None:
    @app.before_request
    async def gate() -> Response | None:
        site = services.site()
        host = _host()
        g.site = _seen_from(site, host)
        if host == f"mta-sts.{site.relay.mail_domain}" and not request.path.startswith(_ON_MTA_STS):
            return Response(b"", status=404)
        return _moved(site, host)

    @app.after_request
    async def finish(response: Response) -> Response:
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        if request.path in register.PATHS:
            response.headers.update(cors_headers(request.headers.get("Origin"), g.site))
        return await _pack(response)


def _add_error_answers(app: App, pages: Pages) -> None:
    @app.errorhandler(HTTPException)
    async def refused(error: HTTPException) -> Response:
        status = error.code or 500
        if request.path in register.PATHS:
            response = json_error(error.name, status)
        else:
            response = pages.problem(status)
        if status == 405:
            allowed = getattr(error, "valid_methods", None) or ()
            response.headers["Allow"] = ", ".join(sorted(allowed))
        return response


def _moved(site: SiteFacts, host: str) -> Response | None:
    """Send people to the one address; not machines that were told to use plain http."""
    base = secure_url(site.relay)
    if base is None or request.path.startswith(_NEVER_REDIRECTED):
        return None
    if request.path in health.PATHS and is_local_request():
        return None
    is_alias = host == f"www.{site.relay.mail_domain}"
    if is_alias or (request.scheme == "http" and site.relay.has_ca_certificate):
        raw_path = request.scope["raw_path"].decode("latin-1")
        query = request.query_string.decode("latin-1")
        return redirect(f"{base}{raw_path}{'?' + query if query else ''}", 301)
    return None


def _seen_from(site: SiteFacts, host: str) -> SiteFacts:
    """Make links name the address the visitor came by, where it is one of ours (D2.1)."""
    if not site.relay.is_literal or host not in site.own_hosts:
        return site
    return attrs.evolve(site, relay=attrs.evolve(site.relay, hostname=host))


def _host() -> str:
    name = request.headers.get("Host", "").lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.partition(":")[0].rstrip(".")


async def _pack(response: Response) -> Response:
    """Compress text, except what holds credentials (its length must not tell about them)."""
    if not response.content_type.startswith(_TEXT_TYPES) or "Content-Encoding" in response.headers:
        return response
    if response.status_code != 200 or response.headers.get("Cache-Control") == NO_STORE:
        return response
    response.vary.add("Accept-Encoding")
    content = await response.get_data(as_text=False)
    if len(content) >= MIN_GZIP_OCTETS and "gzip" in request.headers.get("Accept-Encoding", ""):
        response.set_data(gzip.compress(content, compresslevel=5, mtime=0))
        response.headers["Content-Encoding"] = "gzip"
    return response

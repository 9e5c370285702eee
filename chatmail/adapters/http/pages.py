"""The public page: what this relay is, and the way in."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any, Final, TypeAlias

import attrs
from jinja2 import FileSystemLoader, StrictUndefined
from jinja2.sandbox import SandboxedEnvironment
from quart import Response, abort, g, request

from chatmail.adapters.http import qr
from chatmail.adapters.http.facts import SiteFacts
from chatmail.adapters.http.replies import (
    DAY_CACHE,
    NO_CACHE,
    NO_STORE,
    STATUS,
    answer,
    page,
    plain,
)
from chatmail.adapters.http.static_files import StaticFiles
from chatmail.adapters.http.texts import LANGUAGES, Catalogue, choose_language, load_catalogues
from chatmail.domain.formats.account_links import (
    Endpoint,
    bare_host,
    dcaccount_link,
    dclogin_link,
    imap_endpoints,
    mail_host,
    submission_endpoints,
)
from chatmail.domain.usecases.register import Registered, RegistrationProblem

Outcome: TypeAlias = Registered | RegistrationProblem

_TEMPLATES: Final = Path(__file__).parent / "templates"
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")


@attrs.frozen(kw_only=True)
class Fresh:
    """A new account as the page shows it."""

    link: str
    qr: str
    address: str
    password: str = attrs.field(repr=False)
    host: str
    imap: Endpoint | None
    smtp: Endpoint | None


@attrs.frozen(kw_only=True)
class View:
    """Everything the template shows that is no text.

    `invite`: a link that needs no credentials; None: the page makes an account on request.
    """

    domain: str
    site: SiteFacts
    is_open: bool
    token: str | None = None
    invite: str | None = None
    invite_qr: str | None = None
    fresh: Fresh | None = None
    alert: str | None = None


class Pages:
    """Renders the public page in its states."""

    def __init__(self, files: StaticFiles) -> None:
        self._files = files
        self._catalogues = load_catalogues()
        self._environment = SandboxedEnvironment(
            loader=FileSystemLoader(_TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )

    async def landing(self) -> Response:
        """Show the page (spec federation-web D5)."""
        return self._page(_view(g.site, None), cache=NO_CACHE)

    async def invited(self, token: str = "") -> Response:
        """Show the page with a registration token bound to its way in; never uses it up."""
        if token and not _TOKEN.match(token):
            abort(404)
        return self._page(_view(g.site, token or None), cache=NO_STORE if token else NO_CACHE)

    def outcome(self, outcome: Outcome, token: str | None) -> Response:
        """Show what came of a form sent without a script."""
        site: SiteFacts = g.site
        known_token = token if token and _TOKEN.match(token) else None
        view = _view(site, known_token)
        if isinstance(outcome, RegistrationProblem):
            view = attrs.evolve(view, alert=outcome.value)
            return self._page(view, status=STATUS[outcome], cache=NO_STORE)
        return self._page(attrs.evolve(view, fresh=_fresh(site, outcome)), cache=NO_STORE)

    async def robots(self) -> Response:
        """Keep search engines out."""
        return plain("User-agent: *\nDisallow: /\n", cache=DAY_CACHE)

    async def qr_code(self) -> Response:
        """Draw a QR code of one of our kinds of link (spec federation-web D2, `/qr`)."""
        data = request.args.get("data", "")
        if not qr.may_encode(data):
            return plain("This text cannot be made a QR code here.\n", status=400)
        cache = NO_STORE if qr.is_secret(data) else DAY_CACHE
        if request.args.get("format") == "svg":
            return answer(qr.svg(data), "image/svg+xml", cache=cache)
        return answer(qr.png(data), "image/png", cache=cache)

    async def invite_qr(self, domain: str) -> Response:
        """Draw the invite link under the path that printed pages already name."""
        site: SiteFacts = g.site
        link = dcaccount_link(attrs.evolve(site.relay, host_style=False))
        if link is None or domain != site.relay.mail_domain:
            abort(404)
        return answer(qr.png(link), "image/png", cache=DAY_CACHE)

    def problem(self, status: int) -> Response:
        """Show an error page."""
        texts = self._texts()
        heading = texts("not_found") if status == 404 else texts("went_wrong")
        return self._render("problem.html", texts, status=status, code=status, heading=heading)

    def _page(self, view: View, *, status: int = 200, cache: str) -> Response:
        return self._render("index.html", self._texts(), status=status, cache=cache, view=view)

    def _render(
        self,
        template: str,
        texts: Catalogue,
        *,
        status: int = 200,
        cache: str = NO_CACHE,
        **values: Any,
    ) -> Response:
        site: SiteFacts = g.site
        body = self._environment.get_template(template).render(
            t=texts,
            languages=[self._catalogues[language] for language in LANGUAGES],
            asset=self._files.url,
            title=site.title or bare_host(site.relay.mail_domain),
            **values,
        )
        response = page(body, status=status, cache=cache)
        response.headers["Content-Language"] = texts.language
        if site.language == "auto":
            response.headers["Vary"] = "Accept-Language"
        return response

    def _texts(self) -> Catalogue:
        asked = request.args.get("lang")
        accepted = request.headers.get("Accept-Language")
        return self._catalogues[choose_language(g.site.language, asked, accepted)]


def _view(site: SiteFacts, token: str | None) -> View:
    is_open = token is not None or (site.registration_open and not site.require_token)
    invite = dcaccount_link(site.relay, token) if is_open else None
    return View(
        domain=bare_host(site.relay.mail_domain),
        site=site,
        is_open=is_open,
        token=token,
        invite=invite,
        invite_qr=_data_uri(qr.public_svg(invite) if not token else qr.svg(invite))
        if invite
        else None,
    )


def _fresh(site: SiteFacts, account: Registered) -> Fresh:
    address = str(account.address)
    link = dclogin_link(site.relay, address, account.password)
    return Fresh(
        link=link,
        qr=_data_uri(qr.svg(link)),
        address=address,
        password=account.password,
        host=mail_host(site.relay),
        imap=next(iter(imap_endpoints(site.relay)), None),
        smtp=next(iter(submission_endpoints(site.relay)), None),
    )


def _data_uri(svg: str) -> str:
    # In the page itself: an address with the password in its query would end up in caches.
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()

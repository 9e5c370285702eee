"""The public page in a real browser: looks, scripts, and codes a real reader can read."""

from __future__ import annotations

import io
import os
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import PIL.Image
import pytest
import trio
import zxingcpp
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from chatmail.adapters.http.facts import HttpServices, ShownLimits, SiteFacts
from chatmail.adapters.http.serve import HttpFace
from chatmail.adapters.net.socket_stream import SocketStream
from chatmail.adapters.net.streams import Stream
from chatmail.domain.formats.account_links import (
    BoundPorts,
    CertificateKind,
    RelayFacts,
    dclogin_link,
)
from chatmail.domain.model.address import EmailAddress
from chatmail.domain.usecases.register import Registered, RegistrationProblem
from tests.patience import PATIENCE_S

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not shutil.which(CHROMIUM), reason="needs a Chromium"),
]

LIMITS = ShownLimits(
    message_bytes=31457280,
    mailbox_bytes=524288000,
    retention_days=20,
    large_retention_days=7,
    inactive_days=90,
)
DEMO = SiteFacts(
    relay=RelayFacts(
        mail_domain="[127.0.0.1]",
        hostname="127.0.0.1",
        certificate=CertificateKind.SELF_SIGNED,
        ports=BoundPorts(
            imaps=2993, imap=2143, submissions=2465, submission=2587, https=2443, http=2080
        ),
    ),
    contact="team@example.org",
    limits=LIMITS,
)
NAMED = attrs.evolve(
    DEMO,
    relay=RelayFacts(
        mail_domain="chat.example.org",
        hostname="chat.example.org",
        certificate=CertificateKind.CA,
        ports=BoundPorts(imaps=993, imap=143, submissions=465, submission=587, https=443, http=80),
    ),
)
INVITE = "DCACCOUNT:https://chat.example.org/new"


class Quiet:
    """A log nobody reads."""

    def info(self, event: str, **fields: object) -> None:
        """Say nothing."""

    warning = debug = info


@attrs.define
class Relay:
    """The web face on a loopback port, in a thread of its own; `facts` may change at any time."""

    facts: SiteFacts = DEMO
    problem: RegistrationProblem | None = None
    made: int = 0
    url: str = ""
    _stop: Any = None

    async def register(
        self, source: str, token: str | None = None
    ) -> Registered | RegistrationProblem:
        if self.problem:
            return self.problem
        self.made += 1
        address = EmailAddress.parse(f"person{self.made:03}@{self.facts.relay.mail_domain}")
        return Registered(address=address, password="AAAABBBBCCCCDDDDEEEEFF", is_stored=False)

    def link(self) -> str:
        address = f"person{self.made:03}@{self.facts.relay.mail_domain}"
        return dclogin_link(self.facts.relay, address, "AAAABBBBCCCCDDDDEEEEFF")

    async def serve(self, ready: threading.Event) -> None:
        services = HttpServices(
            site=lambda: self.facts, register=self.register, checks=list, log=Quiet()
        )
        face = HttpFace(services)
        async with trio.open_nursery() as nursery:
            await nursery.start(face.run)
            (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
            host, port = listener.socket.getsockname()
            self.url = f"http://{host}:{port}"
            token = trio.lowlevel.current_trio_token()
            self._stop = lambda: token.run_sync_soon(nursery.cancel_scope.cancel)

            async def connection(raw: trio.SocketStream) -> None:
                # As behind a proxy that ends TLS: https without a certificate to be trusted.
                plain = socket.socket(fileno=raw.socket.detach())
                plain.setblocking(False)
                is_tls = self.facts.relay.has_ca_certificate
                await face.serve_connection(
                    Stream(SocketStream(plain), "203.0.113.9", 1, is_tls=is_tls)
                )

            nursery.start_soon(trio.serve_listeners, connection, [listener])
            ready.set()

    def stop(self) -> None:
        self._stop()


@pytest.fixture(scope="module")
def server() -> Iterator[Relay]:
    relay = Relay()
    ready = threading.Event()
    thread = threading.Thread(target=trio.run, args=(relay.serve, ready))
    thread.start()
    assert ready.wait(PATIENCE_S)
    yield relay
    relay.stop()
    thread.join()


@pytest.fixture
def relay(server: Relay) -> Relay:
    server.facts, server.problem, server.made = DEMO, None, 0
    return server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=FLAGS, timeout=PATIENCE_S * 1000
        )
        yield browser
        browser.close()


class Visit:
    """One page with everything that went wrong on it."""

    def __init__(self, context: BrowserContext, relay: Relay) -> None:
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page: Page = context.new_page()
        self.page.set_default_timeout(PATIENCE_S * 1000)
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on(
            "request", lambda request: self.requests.append(f"{request.method} {request.url}")
        )
        self.page.goto(relay.url)

    def read_code(self) -> str:
        self.page.wait_for_function(
            "() => [...document.querySelectorAll('.qr img')]"
            ".every(image => image.complete && image.naturalWidth)"
        )
        shot = self.page.locator(".qr img").screenshot()
        return zxingcpp.read_barcodes(PIL.Image.open(io.BytesIO(shot)))[0].text


@pytest.fixture(params=[(320, "light"), (320, "dark"), (1280, "light"), (1280, "dark")], ids=str)
def context(request: pytest.FixtureRequest, browser: Browser) -> Iterator[BrowserContext]:
    width, scheme = request.param
    with browser.new_context(
        viewport={"width": width, "height": 800}, color_scheme=scheme
    ) as context:
        yield context


def keep(page: Page, name: str, folder: Path) -> None:
    """Take a screenshot; CHATMAIL_SCREENSHOTS names a folder where it stays."""
    size = page.viewport_size
    assert size
    dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    target = Path(os.environ.get("CHATMAIL_SCREENSHOTS", folder))
    file = target / f"{name}-{size['width']}-{'dark' if dark else 'light'}.png"
    page.screenshot(path=file, full_page=True)
    assert file.stat().st_size > 10000
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]


def test_invite_page(relay: Relay, context: BrowserContext, tmp_path: Path) -> None:
    relay.facts = NAMED
    visit = Visit(context, relay)
    assert visit.page.get_by_role("link", name="Open in Delta Chat").get_attribute("href") == INVITE
    assert visit.read_code() == INVITE
    keep(visit.page, "invite", tmp_path)
    assert visit.complaints == []
    assert all(request.startswith(f"GET {relay.url}/") for request in visit.requests)


def test_create_page(relay: Relay, context: BrowserContext, tmp_path: Path) -> None:
    visit = Visit(context, relay)
    keep(visit.page, "create", tmp_path)
    assert relay.made == 0
    assert not [request for request in visit.requests if "/new" in request]
    visit.page.get_by_role("button", name="Create account").click()
    button = visit.page.get_by_role("link", name="Open in Delta Chat")
    button.wait_for()
    assert relay.made == 1
    assert button.get_attribute("href") == relay.link()
    assert visit.read_code() == relay.link()
    visit.page.get_by_text("Enter it by hand").click()
    visit.page.get_by_text("person001@[127.0.0.1]", exact=True).wait_for()
    keep(visit.page, "fresh", tmp_path)
    assert visit.complaints == []


def test_form_works_without_a_script(relay: Relay, browser: Browser) -> None:
    with browser.new_context(java_script_enabled=False) as context:
        visit = Visit(context, relay)
        visit.page.get_by_role("button", name="Create account").click()
        visit.page.get_by_role("link", name="Open in Delta Chat").wait_for()
        assert relay.made == 1
        assert visit.read_code() == relay.link()
        assert visit.complaints == []


def test_refusal_is_shown_beside_the_button(relay: Relay, browser: Browser) -> None:
    relay.problem = RegistrationProblem.TOO_MANY
    with browser.new_context() as context:
        visit = Visit(context, relay)
        button = visit.page.get_by_role("button", name="Create account")
        button.click()
        visit.page.get_by_role("alert").wait_for()
        assert visit.page.get_by_role("alert").inner_text() == RegistrationProblem.TOO_MANY.value
        assert button.is_enabled()


def test_link_is_copied(relay: Relay, browser: Browser) -> None:
    relay.facts = NAMED
    permissions = ["clipboard-read", "clipboard-write"]
    with browser.new_context(permissions=permissions) as context:
        visit = Visit(context, relay)
        visit.page.get_by_role("button", name="Copy").click()
        visit.page.get_by_role("button", name="Copied").wait_for()
        assert visit.page.evaluate("navigator.clipboard.readText()") == INVITE


@pytest.mark.parametrize("language", ["en", "fa", "ru", "es"])
def test_every_language_fits(
    relay: Relay, context: BrowserContext, tmp_path: Path, language: str
) -> None:
    relay.facts = attrs.evolve(NAMED, language=language)
    visit = Visit(context, relay)
    keep(visit.page, f"language-{language}", tmp_path)
    assert visit.read_code() == INVITE
    assert visit.complaints == []


def test_closed_page(relay: Relay, context: BrowserContext, tmp_path: Path) -> None:
    relay.facts = attrs.evolve(NAMED, registration_open=False)
    visit = Visit(context, relay)
    assert visit.page.get_by_role("heading", name="Registration is closed").is_visible()
    assert visit.page.locator(".button").count() == 0
    keep(visit.page, "closed", tmp_path)
    assert visit.complaints == []

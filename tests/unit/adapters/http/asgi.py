"""Ask the app as Hypercorn would, without sockets; fakes of what the face needs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import attrs
import trio

from chatmail.adapters.http.facts import (
    Check,
    HttpServices,
    ShownLimits,
    SiteFacts,
)
from chatmail.adapters.http.in_flight import InFlight
from chatmail.adapters.http.mxdeliv import Mxdeliv
from chatmail.adapters.http.routes import make_app
from chatmail.domain.formats.account_links import BoundPorts, CertificateKind, RelayFacts
from chatmail.domain.model.address import EmailAddress
from chatmail.domain.usecases.register import Registered, RegistrationProblem

FAR = "203.0.113.9"

NAMED = SiteFacts(
    relay=RelayFacts(
        mail_domain="chat.example.org",
        hostname="chat.example.org",
        certificate=CertificateKind.CA,
        ports=BoundPorts(
            imaps=993, imap=143, submissions=465, submission=587, https=443, http=80, alpn_mux=True
        ),
    ),
    limits=ShownLimits(
        message_bytes=31457280,
        mailbox_bytes=524288000,
        retention_days=20,
        large_retention_days=7,
        inactive_days=90,
    ),
)
DEMO = SiteFacts(
    relay=RelayFacts(
        mail_domain="[127.0.0.1]",
        hostname="127.0.0.1",
        certificate=CertificateKind.SELF_SIGNED,
        ports=BoundPorts(
            imaps=2993, imap=2143, submissions=2465, submission=2587, https=2443, http=2080
        ),
    )
)


@attrs.define
class Log:
    events: list[tuple[str, Mapping[str, object]]] = attrs.field(factory=list)

    def info(self, event: str, **fields: object) -> None:
        self.events.append((event, fields))

    warning = debug = info


CREDENTIALS = Registered(
    address=EmailAddress.parse("abcdefghi@[127.0.0.1]"),
    password="AAAABBBBCCCCDDDDEEEEFF",
    is_stored=False,
)


@attrs.define
class Registrar:
    """The register use case, as told."""

    outcome: Registered | RegistrationProblem | Exception = CREDENTIALS
    calls: list[tuple[str | None, str]] = attrs.field(factory=list)

    async def __call__(
        self, source: str, token: str | None = None
    ) -> Registered | RegistrationProblem:
        self.calls.append((token, source))
        await trio.lowlevel.checkpoint()
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


@attrs.frozen
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        assert self.headers["content-type"] == "application/json"
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()


class Site:
    """The app with its fakes."""

    def __init__(self, facts: SiteFacts = DEMO, **services: Any) -> None:
        self.facts = facts
        self.register = Registrar()
        self.log = Log()
        self.checks = [Check(name="database", ok=True, detail="writable")]
        self.services = HttpServices(
            site=lambda: self.facts,
            register=self.register,
            checks=lambda: self.checks,
            log=self.log,
            **services,
        )
        self.raw = make_app(self.services)
        app: Any = self.raw
        mxdeliv = self.services.mxdeliv
        self.app = InFlight(Mxdeliv(mxdeliv, app) if mxdeliv else app)

    async def ask(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        *,
        peer: str = FAR,
        scheme: str = "https",
        host: str = "chat.example.org",
    ) -> Answer:
        path, _, query = target.partition("?")
        all_headers = {"host": host, **(headers or {})}
        if body and "content-length" not in all_headers:
            all_headers["content-length"] = str(len(body))
        scope = {
            "type": "http",
            "http_version": "1.1",
            "asgi": {"spec_version": "2.1", "version": "3.0"},
            "method": method,
            "scheme": scheme,
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(k.lower().encode(), v.encode()) for k, v in all_headers.items()],
            "client": (peer, 4711),
            "server": ("", 0),
            "extensions": {},
        }
        sent: list[Any] = []
        requests = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Any:
            if requests:
                return requests.pop()
            return await trio.sleep_forever()

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        start = sent[0]
        names = [name.decode().lower() for name, _ in start["headers"]]
        assert len(names) == len(set(names)), "a header field was sent twice"
        return Answer(
            start["status"],
            {name.decode().lower(): value.decode() for name, value in start["headers"]},
            b"".join(message.get("body", b"") for message in sent[1:]),
        )

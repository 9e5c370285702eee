"""An HTTP client that follows nothing and hides nothing."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import Any

from tests.e2e import wire
from tests.e2e.relay import Relay
from tests.patience import PATIENCE_S


@dataclass(frozen=True)
class Answer:
    """One answer, its body read."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        assert self.headers["content-type"].startswith("application/json")
        return json.loads(self.body)


@dataclass
class Web:
    """Speaks to one face; a new connection per request."""

    relay: Relay
    face: str = "https"
    host: str = "127.0.0.1"

    def ask(self, method: str, path: str, body: bytes | None = None, **fields: str) -> Answer:
        """Send a request; `X_Y` names the field `X-Y`."""
        port = self.relay.ports[self.face]
        connection: http.client.HTTPConnection
        if self.face == "https":
            connection = http.client.HTTPSConnection(
                self.host, port, timeout=PATIENCE_S, context=wire.tls()
            )
        else:
            connection = http.client.HTTPConnection(self.host, port, timeout=PATIENCE_S)
        try:
            names = {name.replace("_", "-"): value for name, value in fields.items()}
            connection.request(method, path, body, names)
            answer = connection.getresponse()
            headers = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, headers, answer.read())
        finally:
            connection.close()

    def get(self, path: str, **fields: str) -> Answer:
        return self.ask("GET", path, **fields)

    def post(self, path: str, body: bytes = b"", **fields: str) -> Answer:
        return self.ask("POST", path, body, **fields)

"""Messages that other relays post, and requests that carry them."""

from __future__ import annotations

from tests.builders import make_message
from tests.unit.adapters.http.asgi import Site
from tests.unit.adapters.inbound.surfaces import Surfaces
from tests.unit.domain.usecases.inbound import ANN, BOB
from tests.unit.domain.usecases.relay import DOMAIN

MESSAGE = make_message(sender=ANN)
CAROL = f"carol@{DOMAIN}"


def recipients(surfaces: Surfaces) -> list[int]:
    return [one.mailbox for one in surfaces.relay.intake.committed[-1].deliveries]


def head(length: int | None, *more: bytes) -> bytes:
    framing = b"Transfer-Encoding: chunked" if length is None else b"Content-Length: %d" % length
    fields = [b"POST /mxdeliv HTTP/1.1", b"Host: relay.test", b"X-Mail-From: " + ANN.encode()]
    return b"\r\n".join([*fields, b"X-Mail-To: " + BOB.encode(), *more, framing, b"", b""])


def site(surfaces: Surfaces) -> Site:
    return Site(mxdeliv=surfaces.mxdeliv._services)

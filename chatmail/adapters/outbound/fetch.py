"""GET of small public documents: MTA-STS policies, DKIM keys.

Names have to prove themselves by a certificate, literals and names with an underscore cannot;
redirects lead nowhere (RFC 8461 §3.3).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

import attrs
import h11
import trio

from chatmail.adapters.outbound.connect import (
    STREAM_ERRORS,
    ByteStream,
    Connector,
    HopError,
    TlsClient,
)
from chatmail.adapters.outbound.mxdeliv import MAX_INTERIM, host_field
from chatmail.adapters.outbound.patience import Patience
from chatmail.adapters.outbound.pool import close_now
from chatmail.domain.model.address import AddressError, is_literal, normalise_domain
from chatmail.domain.model.federation import TlsRule
from chatmail.domain.ports.remote import Fetched, FetchFault

_READ_OCTETS: Final = 16384
_OK: Final = 200


@attrs.frozen
class _Target:
    host: str
    port: int
    path: str
    tls: TlsRule


class HttpsFetcher:
    """`HttpFetcher`; every document on a connection of its own."""

    def __init__(
        self,
        connector: Connector,
        tls: TlsClient,
        user_agent: str,
        patience: Patience,
        port: Callable[[], int] = lambda: 443,
    ) -> None:
        """Args:  port: where other relays speak HTTPS, for URLs that do not say."""
        self._port = port
        self._connector = connector
        self._tls = tls
        self._user_agent = user_agent
        self._patience = patience

    async def get(
        self, url: str, *, max_octets: int, timeout_s: float, is_operators_word: bool = False
    ) -> Fetched | FetchFault:
        """Fetch a document; only `https` URLs are."""
        target = _target(url, self._port())
        if target is None:
            return FetchFault.UNREACHABLE
        with trio.move_on_after(timeout_s):
            try:
                return await self._get(target, max_octets, is_operators_word)
            except (HopError, h11.RemoteProtocolError, *STREAM_ERRORS):
                return FetchFault.UNREACHABLE
        return FetchFault.UNREACHABLE

    async def _get(
        self, target: _Target, max_octets: int, is_operators_word: bool
    ) -> Fetched | FetchFault:
        plain = await self._connector.connect(
            target.host,
            target.port,
            is_operators_word=is_operators_word,
            timeout_s=self._patience.http_connect,
        )
        try:
            stream = await self._tls.start(
                plain,
                target.host,
                target.port,
                target.tls,
                alpn="http/1.1",
                timeout_s=self._patience.tls,
            )
            return await self._exchange(stream, target, max_octets)
        finally:
            close_now(plain)

    async def _exchange(
        self, stream: ByteStream, target: _Target, max_octets: int
    ) -> Fetched | FetchFault:
        http = h11.Connection(h11.CLIENT)
        request = h11.Request(
            method="GET",
            target=target.path,
            headers=[
                ("Host", host_field(target.host, target.port, 443)),
                ("User-Agent", self._user_agent),
                ("Accept", "*/*"),
                ("Connection", "close"),
            ],
        )
        await stream.send_all((http.send(request) or b"") + (http.send(h11.EndOfMessage()) or b""))
        content_type = ""
        pieces: list[bytes] = []
        octets = 0
        interim = 0
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                http.receive_data(bytes(await stream.receive_some(_READ_OCTETS)))
            elif isinstance(event, h11.Response):
                if event.status_code != _OK:
                    return FetchFault.ABSENT
                fields = dict(event.headers)
                content_type = bytes(fields.get(b"content-type", b"")).decode("latin-1")
            elif isinstance(event, h11.Data):
                pieces.append(bytes(event.data))
                octets += len(event.data)
                if octets > max_octets:
                    return FetchFault.TOO_LARGE
            elif isinstance(event, h11.EndOfMessage):
                return Fetched(content_type, b"".join(pieces))
            elif isinstance(event, h11.InformationalResponse) and interim < MAX_INTERIM:
                interim += 1
            else:
                return FetchFault.UNREACHABLE


def _target(url: str, default_port: int) -> _Target | None:
    """Take a URL apart; None: not one to fetch."""
    try:
        parts = urlsplit(url)
        port = parts.port or default_port
        host = normalise_domain(parts.hostname or "")
    except (ValueError, AddressError):
        return None
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if parts.scheme != "https" or parts.username is not None or not _is_plain(path):
        return None
    can_prove = not is_literal(host) and not host.startswith("_")
    bare = host.removeprefix("[").removesuffix("]").removeprefix("IPv6:")
    return _Target(bare, port, path, TlsRule.VERIFY if can_prove else TlsRule.ENCRYPT)


def _is_plain(path: str) -> bool:
    return path.isascii() and path.isprintable() and " " not in path

"""The way out as one object: every transport, the fetcher, and what they share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import trio

from chatmail.adapters.outbound.connect import Connector, MayConnect, TlsClient
from chatmail.adapters.outbound.fetch import HttpsFetcher
from chatmail.adapters.outbound.mxdeliv import MxdelivTransport
from chatmail.adapters.outbound.patience import Patience
from chatmail.adapters.outbound.smtp import SmtpTransport
from chatmail.domain.model.federation import Hop, HopResult, TransportKind
from chatmail.domain.ports.remote import HttpFetcher, Letter, Resolver

_SWEEP_S = 5.0


class Outward:
    """`RemoteTransport` for every kind of hop; `fetcher` is the `HttpFetcher`.

    `serve` has to run while it is used: it closes what was idle for too long.
    """

    def __init__(
        self,
        resolver: Resolver,
        *,
        ca_file: Path | None,
        bind: str,
        may_connect: MayConnect,
        hello_name: Callable[[], str],
        user_agent: str,
        https_port: Callable[[], int] = lambda: 443,
        patience: Patience | None = None,
    ) -> None:
        """Args:  ca_file: trust anchors besides the system's. bind: IP address to connect from,
            "" any. may_connect: asked before each connection. hello_name: our name for EHLO.
            https_port: of other relays, for what is fetched.

        Raises:  OSError: `ca_file` cannot be read, or has no certificate.
        """
        patience = patience or Patience()
        self._tls = tls = TlsClient(ca_file)
        connector = Connector(resolver, may_connect, bind=bind, patience=patience)
        self.fetcher: HttpFetcher = HttpsFetcher(connector, tls, user_agent, patience, https_port)
        self._smtp = SmtpTransport(connector, tls, hello_name, patience)
        self._mxdeliv = MxdelivTransport(connector, tls, user_agent, patience)

    async def attempt(self, hop: Hop, letter: Letter) -> HopResult:
        """Try one hop (see `RemoteTransport`)."""
        if hop.transport is TransportKind.SMTP:
            return await self._smtp.attempt(hop, letter)
        return await self._mxdeliv.attempt(hop, letter)

    def trust(self, ca_file: Path | None) -> None:
        """Load trust anchors anew, the system's too. Sync.

        Raises:  OSError: the file cannot be read, or has no certificate; nothing is changed.
        """
        self._tls.trust(ca_file)

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Close idle connections in time, until cancelled; then all of them."""
        try:
            task_status.started()
            while True:
                await trio.sleep(_SWEEP_S)
                self._smtp.pool.sweep()
                self._mxdeliv.pool.sweep()
        finally:
            self._smtp.pool.close()
            self._mxdeliv.pool.close()

"""Counts what happens between this relay and its peers (federation-web.md A13).

Domains only: what a peer says of a person is cut before it is kept. Off with `federation.stats`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

import attrs

from chatmail.domain.model.federation import (
    HopResult,
    LedgerEvent,
    RecipientFate,
    TransportKind,
)
from chatmail.domain.model.settings import SettingsSnapshot
from chatmail.domain.ports.federation import PeerLedger
from chatmail.domain.ports.system import Clock

_OK: Final = {
    TransportKind.HTTPS: LedgerEvent.OK_HTTPS,
    TransportKind.HTTP: LedgerEvent.OK_HTTP,
    TransportKind.SMTP: LedgerEvent.OK_SMTP,
}
_FAIL: Final = {
    TransportKind.HTTPS: LedgerEvent.FAIL_HTTPS,
    TransportKind.HTTP: LedgerEvent.FAIL_HTTP,
    TransportKind.SMTP: LedgerEvent.FAIL_SMTP,
}
_ADDRESS: Final = re.compile(r"\S*@\S*")


@attrs.frozen(kw_only=True)
class CountPeers:
    """Writes the ledger of peers. Sync."""

    ledger: PeerLedger
    clock: Clock
    settings: Callable[[], SettingsSnapshot]

    def attempted(self, domain: str, results: Sequence[HopResult], age_s: float) -> None:
        """Count one attempt: each step on its own transport.

        Args:  age_s: since the message was queued; the latency, if it is delivered now.
        """
        if not self._is_on():
            return
        now_s = self.clock.now_s()
        for result in results:
            kind = result.hop.transport
            if any(one.fate is RecipientFate.DELIVERED for one in result.outcomes):
                latency_ms = max(0, round(age_s * 1000))
                self.ledger.delivered(domain, _OK[kind], now_s, latency_ms)
            else:
                self.ledger.count(domain, _FAIL[kind], now_s, _reason(result))

    def bounced(self, domain: str) -> None:
        """Count a message that came back."""
        self._count(domain, LedgerEvent.BOUNCED)

    def dismissed(self, domain: str) -> None:
        """Count a message that was discarded as the operator wishes."""
        self._count(domain, LedgerEvent.DISMISSED)

    def received(self, domain: str, kind: TransportKind) -> None:
        """Count an accepted message of a peer."""
        is_smtp = kind is TransportKind.SMTP
        self._count(domain, LedgerEvent.INBOUND_SMTP if is_smtp else LedgerEvent.INBOUND_HTTP)

    def _count(self, domain: str, event: LedgerEvent) -> None:
        if self._is_on():
            self.ledger.count(domain, event, self.clock.now_s())

    def _is_on(self) -> bool:
        return self.settings().federation.keeps_stats


def _reason(result: HopResult) -> str:
    reply = result.reply or (result.outcomes[0].reply if result.outcomes else "")
    return _ADDRESS.sub("<...>", reply)

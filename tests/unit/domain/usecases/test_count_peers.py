"""Counters of peers (A13)."""

from __future__ import annotations

from chatmail.domain.model.federation import LedgerEvent, TransportKind
from tests.unit.domain.usecases.abroad import PEER, RelayAbroad


def test_accepted_mail_counts_by_its_door() -> None:
    relay = RelayAbroad()
    for kind in (TransportKind.SMTP, TransportKind.HTTPS, TransportKind.HTTP):
        relay.count.received(PEER, kind)
    relay.count.bounced(PEER)
    (record,) = relay.ledger.records()
    assert record.counts == {
        LedgerEvent.INBOUND_SMTP: 1,
        LedgerEvent.INBOUND_HTTP: 2,
        LedgerEvent.BOUNCED: 1,
    }


def test_nothing_is_counted_when_statistics_are_off() -> None:
    relay = RelayAbroad()
    relay.federate(keeps_stats=False)
    relay.count.received(PEER, TransportKind.SMTP)
    relay.count.dismissed(PEER)
    assert relay.ledger.records() == []

"""A relay with one message for a peer, and what its hops may say of each recipient."""

from __future__ import annotations

from chatmail.domain.model.federation import (
    Hop,
    HopResult,
    RecipientFate,
    RecipientOutcome,
    TransportKind,
)
from chatmail.domain.ports.remote import Letter
from tests.unit.domain.usecases.abroad import PEER, RelayAbroad

HTTPS, SMTP = TransportKind.HTTPS, TransportKind.SMTP
HOUR = 3600
ERIN = f"erin@{PEER}"
FRANK = f"frank@{PEER}"


def relay_with_mx(*hosts: str) -> RelayAbroad:
    relay = RelayAbroad()
    relay.resolver.add_mx(PEER, *(hosts or ("mx.peer.test",)))
    return relay


def each(**fates: tuple[RecipientFate, str]):  # type: ignore[no-untyped-def]
    """A peer that says something else of each recipient, by local part."""

    def behaviour(hop: Hop, letter: Letter) -> HopResult:
        outcomes = tuple(RecipientOutcome(one, *fates[one.local]) for one in letter.recipients)
        return HopResult(hop=hop, outcomes=outcomes)

    return behaviour


DELIVERED = (RecipientFate.DELIVERED, "250 2.1.5 OK")
UNKNOWN = (RecipientFate.PERMANENT, "550 5.1.1 User unknown")
GREYLISTED = (RecipientFate.TEMPORARY, "450 4.2.0 Greylisted")
